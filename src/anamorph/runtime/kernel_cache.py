"""Where compiled kernels are kept: as numba does it, but neither a folder nor a file can make a command fail.

They are read from beside the source also where nobody may write, kept in a folder for temporary files where nothing
better can be written, and compiled again where a file is damaged. Built on ``numba.core.caching``.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
import os
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from numba.core.caching import (
    CompileResultCacheImpl,
    FunctionCache,
    IndexDataCacheFile,
    InTreeCacheLocator,
    UserProvidedCacheLocator,
    UserWideCacheLocator,
)

log = logging.getLogger(__name__)
_MARK = b"sha256:"
_REMEDY = "set NUMBA_CACHE_DIR to a folder that you may write to and that lasts"


class _TemporaryLocator(UserWideCacheLocator):
    """A folder of this user among the temporary files, shared by all processes until it is emptied."""

    def __init__(self, py_func: Callable[..., Any], py_file: str) -> None:
        super().__init__(py_func, py_file)
        self.folder = Path(tempfile.gettempdir(), f"anamorph-kernels-{os.getuid() if hasattr(os, 'getuid') else ''}")
        self._cache_path = str(self.folder / self.get_suitable_cache_subpath(py_file))

    def ensure_cache_path(self) -> None:
        self.folder.mkdir(mode=0o700, exist_ok=True)
        found = self.folder.lstat()
        # Kernels are code: nobody else may have made the folder, or write to it.
        if not stat.S_ISDIR(found.st_mode) or (
            hasattr(os, "getuid") and (found.st_uid, found.st_mode & 0o077) != (os.getuid(), 0)
        ):
            raise PermissionError(f"{self.folder} belongs to somebody else")
        super().ensure_cache_path()

    @classmethod
    def from_function(cls, py_func: Callable[..., Any], py_file: str) -> _TemporaryLocator | None:
        try:
            return super().from_function(py_func, py_file)
        except OSError:  # there is no folder for temporary files
            return None


class _NowhereLocator(InTreeCacheLocator):
    """Beside the source, where nothing can be kept."""

    def ensure_cache_path(self) -> None:
        raise PermissionError("kernels cannot be kept")

    @classmethod
    def from_function(cls, py_func: Callable[..., Any], py_file: str) -> _NowhereLocator:
        return cls(py_func, py_file)


class _KernelCacheImpl(CompileResultCacheImpl):
    _locator_classes = [*CompileResultCacheImpl._locator_classes, _TemporaryLocator, _NowhereLocator]  # noqa: RUF012  # as the class above declares it


class _CheckedFile(IndexDataCacheFile):
    """Files whose content is followed by its check sum, which numba passes over; without one they are taken as well."""

    def _dump(self, obj: Any) -> bytes:
        content: bytes = super()._dump(obj)
        return content + _MARK + hashlib.sha256(content).digest()

    def _load_data(self, name: str) -> Any:
        content, mark, digest = Path(self._data_path(name)).read_bytes().rpartition(_MARK)
        if mark and len(digest) == hashlib.sha256().digest_size and digest != hashlib.sha256(content).digest():
            raise ValueError(f"{name} is not what was written")
        return super()._load_data(name)


class KernelCache(FunctionCache):
    """The compiled versions of one function."""

    _impl_class = _KernelCacheImpl

    def __init__(self, py_func: Callable[..., Any]) -> None:
        super().__init__(py_func)
        beside = os.path.join(os.path.dirname(inspect.getfile(py_func)), "__pycache__")
        stamp = self._impl.locator.get_source_stamp()
        chosen = isinstance(self._impl.locator, UserProvidedCacheLocator)  # by NUMBA_CACHE_DIR, which is obeyed
        folders = dict.fromkeys((self._cache_path, *(() if chosen else (beside,))))
        self._files = [_CheckedFile(folder, self._impl.filename_base, stamp) for folder in folders]
        self._cache_file = self._files[0]

    def _load_overload(self, sig: Any, target_context: Any) -> Any:
        key = self._index_key(sig, target_context.codegen())
        for file in self._files:
            try:
                data = file.load(key)
                if data is not None:
                    return self._impl.rebuild(target_context, data)
            except Exception as error:  # a damaged file makes pickle and LLVM raise anything
                _say_once(
                    "DAMAGED", f"a compiled kernel cannot be read ({file._index_path}: {error}) and is compiled again"
                )
                with suppress(OSError):
                    file.flush()
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except Exception as error:  # a full disk, a folder that went away, a damaged index that cannot be replaced
            _say_once("LOST", f"compiled kernels cannot be kept ({error}), the next run compiles them again; {_REMEDY}")
            return
        locator = self._impl.locator
        if isinstance(locator, _TemporaryLocator):
            _say_once("TEMPORARY", f"compiled kernels are kept in {locator.folder} until that is emptied; {_REMEDY}")


def _say_once(what: str, text: str) -> None:
    """A warning in the log, once for this process and those it starts."""
    told = f"ANAMORPH_TOLD_KERNELS_{what}"
    if told not in os.environ:
        os.environ[told] = "1"
        log.warning("%s", " ".join(text.split()))
