from __future__ import annotations

import locale
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from anamorph.runtime.threads import limit_threads

if workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0")):
    limit_threads(max((os.cpu_count() or 1) // workers, 1))  # before numba and PyTorch are imported


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        compile_no_kernel_twice()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.name.startswith("test_a_gpu_"):
            item.add_marker("gpu")


def compile_no_kernel_twice() -> None:
    """Let a process that needs a kernel which another one is compiling wait, and take it from the cache."""
    from numba.core.dispatcher import Dispatcher

    compile_at_once = Dispatcher.compile
    folder = Path(tempfile.gettempdir()) / f"anamorph-tests-{os.getuid() if hasattr(os, 'getuid') else 'kernels'}"
    folder.mkdir(exist_ok=True)

    def compile_in_turn(self: Any, signature: Any) -> Any:
        with FileLock(folder / f"{self.py_func.__module__}.{self.py_func.__qualname__}.lock"):
            return compile_at_once(self, signature)

    Dispatcher.compile = compile_in_turn


def pytest_runtest_setup(item: pytest.Item) -> None:
    if os.name != "posix" and item.get_closest_marker("posix"):
        pytest.skip("needs pipes or signals of POSIX systems")


@pytest.fixture(autouse=True)
def kept_locale() -> Iterator[None]:
    """ITK's DICOM writer, which some tests use, sets the locale of the process to C."""
    before = locale.setlocale(locale.LC_ALL)
    yield
    locale.setlocale(locale.LC_ALL, before)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real scans beside the repository; the test is skipped where it is absent."""
    folder = Path(__file__).parents[1].parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs the real scans in ../shared/data")
    return folder
