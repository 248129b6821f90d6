"""How much memory there is, and sizes as people write them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from anamorph.errors import RegistrationFailure, UserError

INTERPRETER_BYTES = 300_000_000
"""Python with the libraries and kernels a run loads, measured."""
_MALLOC_OPTIONS = {-4: (0, 65536), -3: (2**25, 2**25), -1: (2**31 - 1, 2**26)}
"""M_MMAP_MAX, M_MMAP_THRESHOLD and M_TRIM_THRESHOLD: while memory is kept, and what glibc comes to by itself."""


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Keep the memory of arrays no longer needed for the next ones inside the block, if the C library is glibc.

    That gives much that is freed back to the system at once, which fills every page taken anew with zeros: a fifth of
    the processor seconds of a registration of large scans.
    """
    import ctypes

    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library
        yield
        return
    try:
        for option, (kept, _) in _MALLOC_OPTIONS.items():
            set_option(option, kept)
        yield
    finally:
        for option, (_, usual) in _MALLOC_OPTIONS.items():
            set_option(option, usual)


def check_memory(needed: int, limit: int | None = None) -> None:
    """Stop before the operating system has to.

    Raises:
        UserError: more is needed than ``limit`` allows.
        RegistrationFailure: more is needed than there is.
    """
    remedy = "crop the scans or resample them to larger voxels"
    if limit is not None and needed > limit:
        raise UserError(
            f"this pair needs about {gigabytes(needed)} but --max-memory is {gigabytes(limit)}; raise it, or {remedy}"
        )
    available = available_bytes()
    if available is not None and needed > available:
        raise RegistrationFailure(
            f"this pair needs about {gigabytes(needed)} of memory but {gigabytes(available)} are free; "
            f"lower --max-memory, close other programs, or {remedy}"
        )


def available_bytes() -> int | None:
    """Memory that can be had without swapping, control groups considered; None where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    free = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)
    group = Path("/sys/fs/cgroup")
    try:
        limit = (group / "memory.max").read_text(encoding="ascii").strip()
        usage = dict(line.split() for line in (group / "memory.stat").read_text(encoding="ascii").splitlines())
    except OSError:
        return free
    if limit == "max":
        return free
    left = max(int(limit) - int(usage["anon"]), 0)  # file caches are given up on demand
    return left if free is None else min(free, left)


def parse_size(text: str) -> int:
    """Bytes of a size such as ``1500M``, ``2G`` or ``2.5 GB``.

    Raises:
        UserError: it is none.
    """
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([KMGT])(i?B)?\s*", text, re.IGNORECASE)
    if match is None:
        raise UserError(f"--max-memory wants a size such as 1500M or 2G, not '{text}'")
    return int(float(match[1]) * 1000 ** ("KMGT".index(match[2].upper()) + 1))


def gigabytes(count: int) -> str:
    """A number of bytes as people read it."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
