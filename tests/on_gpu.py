"""The GPU that tests marked ``gpu`` compute on."""

from __future__ import annotations

import os

import pytest

DEVICE = "ANAMORPH_GPU_TESTS"
"""Names another device to try the tests themselves where there is no GPU: ``ANAMORPH_GPU_TESTS=cpu pytest -m gpu``."""


def gpu_or_skip() -> str:
    """The device; the test is skipped where there is none."""
    torch = pytest.importorskip("torch")
    device = os.environ.get(DEVICE, "cuda")
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    return device
