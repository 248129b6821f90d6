"""The compiled kernels of ``src/kernels`` for this processor; where they were not built, their readable twins."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

INTERFACE = 3
"""Number of what this code expects of the kernels; those of a checkout may have been built from other sources."""


def _load() -> Any:
    if os.environ.get("ANAMORPH_KERNELS") == "twins":  # to compare with, and to test what happens without a compiler
        return None
    try:
        basic = import_module("anamorph._kernels")
    except ImportError:
        return None
    if getattr(basic, "interface", 1) != INTERFACE:
        raise ImportError("the compiled kernels are of another version of the code; run `make kernels`")
    wanted = os.environ.get("ANAMORPH_KERNELS", basic.instruction_set())
    try:
        return import_module(f"anamorph._kernels_{wanted}") if wanted not in ("", "plain") else basic
    except ImportError:  # built for one instruction set alone
        return basic


kernels: Any = _load()
"""The functions of ``src/kernels``; ``None`` where the package was built without a compiler."""

MISSING = "the compiled kernels are missing, so all takes many times as long; install a C++ compiler and anamorph again"


def variant() -> str:
    """The instruction set of the kernels in use: ``plain``, ``avx2`` or ``avx512``; ``twins`` where there are none."""
    return "twins" if kernels is None else kernels.__name__.removeprefix("anamorph._kernels").strip("_") or "plain"


def lanes() -> int:
    """How many float32 numbers one instruction of the kernels in use works on."""
    return {"avx512": 16, "avx2": 8}.get(variant(), 4)


def by_twin(twin: Callable[..., Any], *arguments: Any) -> Any:
    """What a function of torch tensors makes of arrays, as an array; arrays changed in place are changed."""
    import torch

    result = twin(*(torch.from_numpy(a) if isinstance(a, np.ndarray) else a for a in arguments))
    return result.numpy() if isinstance(result, torch.Tensor) else result
