"""Freed memory stays with the process inside the block, and goes back to the system after it."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from anamorph.runtime.memory import freed_memory_kept

LARGE = 1 << 26


class _Counts(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in ("arena", "free", "small", "regions", *"abcdef")]


def _regions() -> int:
    """How many pieces of memory the system gave for one array each."""
    try:
        function = ctypes.CDLL(None).mallinfo2
    except (AttributeError, OSError, TypeError):
        pytest.skip("no glibc that tells")
    function.restype = _Counts
    return int(function().regions)


def test_large_arrays_are_taken_from_kept_memory_inside_the_block_alone() -> None:
    before = _regions()
    with freed_memory_kept():
        kept = np.empty(LARGE, np.uint8)
        assert _regions() == before
    own = np.empty(LARGE, np.uint8)
    assert _regions() == before + 1
    del kept, own
    assert _regions() == before
