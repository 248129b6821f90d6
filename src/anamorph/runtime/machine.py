"""What a result depends on besides its inputs: versions, the machine, and the content of files by their hashes."""

from __future__ import annotations

import hashlib
import platform
import sys
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import anamorph
from anamorph.runtime.compiled import variant
from anamorph.runtime.threads import usable_cores


def file_hash(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def current_hash(path: Path) -> str:
    """SHA-256 of a file that many runs use; it is read again only once it was changed or replaced.

    Raises:
        OSError: there is no such file.
    """
    status = path.stat()
    return _remembered_hash(path, status.st_ino, status.st_mtime_ns, status.st_size)


@cache
def _remembered_hash(path: Path, inode: int, modified_ns: int, size: int) -> str:
    return file_hash(path)


def versions() -> dict[str, str]:
    """Versions of this package, Python and the libraries that compute or read; torch only if the run loaded it."""
    found = {"anamorph": anamorph.__version__, "python": platform.python_version()}
    found |= _installed()
    if "torch" in sys.modules:
        found["torch"] = str(sys.modules["torch"].__version__)
    return found


@cache
def _installed() -> dict[str, str]:
    """Looking them up takes 10 ms, longer than the registration of a small pair."""
    found = {}
    for package in ("numpy", "scipy", "nibabel", "SimpleITK"):
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def machine() -> dict[str, Any]:
    """Operating system, processor family, variant of the kernels, and number of cores this process may use."""
    return {
        "platform": platform.platform(),
        "processor": platform.machine(),
        "kernels": variant(),
        "cpu_count": usable_cores(),
    }


def peak_memory_mb() -> float:
    """Largest resident size of this process so far, in megabytes of 10^6 bytes; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 1e6
