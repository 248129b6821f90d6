"""Notice when numba compiles, which it does once per machine, and let :mod:`~anamorph.runtime.kernel_cache` keep it."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from typing import Any

_DISPATCHER = "numba.core.dispatcher"
_OWN = "anamorph."


def keep_kernels() -> None:
    """Have numba keep the kernels of this package in :mod:`anamorph.runtime.kernel_cache`, from when it is imported.

    Importing it takes a second, so it is not done here; that is what the hook is for.
    """
    if _DISPATCHER in sys.modules:
        _use_cache()
    elif not any(isinstance(finder, _WhenImported) for finder in sys.meta_path):
        sys.meta_path.insert(0, _WhenImported())


def _use_cache() -> None:
    sys.modules[_DISPATCHER].FunctionCache = _cache_of  # type: ignore[attr-defined]


def _cache_of(function: Callable[..., Any]) -> Any:
    """The cache of a function that numba compiles; numba's own for functions of other packages."""
    if not function.__module__.startswith(_OWN):
        from numba.core.caching import FunctionCache

        return FunctionCache(function)
    from anamorph.runtime.kernel_cache import KernelCache

    return KernelCache(function)


class _WhenImported:
    """Calls :func:`_use_cache` once numba's dispatcher is loaded, and finds nothing itself."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name != _DISPATCHER:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_use(module: Any) -> None:
                execute(module)
                _use_cache()

            spec.loader.exec_module = execute_and_use  # type: ignore[method-assign]
        return spec


@dataclass
class Compilation:
    """Seconds spent compiling kernels; loading them from the cache does not count."""

    seconds: float = 0.0


@contextmanager
def watch_compilation(announce: Callable[[], None] | None = None) -> Iterator[Compilation]:
    """Measure compilation inside the block, and call ``announce`` when the first kernel is compiled."""
    from numba.core import event

    total = Compilation()

    class Watch(event.Listener):
        def __init__(self) -> None:
            self.starts: list[float] = []  # compilations nest: the outermost counts
            self.announced = False

        def on_start(self, _: Any) -> None:
            self.starts.append(time.perf_counter())
            if announce is not None and not self.announced:
                self.announced = True
                announce()

        def on_end(self, _: Any) -> None:
            start = self.starts.pop()
            if not self.starts:
                total.seconds += time.perf_counter() - start

    with event.install_listener("numba:compile", Watch()):
        yield total
