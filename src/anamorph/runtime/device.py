"""The device that computes, and arrays moved there and back."""

from __future__ import annotations

import os
from typing import Any, Literal

import numpy as np

from anamorph.errors import UserError


def resolve_device(device: str) -> Literal["cpu", "cuda"]:
    """The device of a name: ``auto`` is a GPU if there is one that PyTorch can use.

    Raises:
        UserError: ``"cuda"`` without such a GPU, or an unknown device.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise UserError(f"there is no device '{device}'; choose auto, cpu or cuda")
    if device == "cpu" or (device == "auto" and not _has_nvidia_driver()):
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if device == "cuda":
        raise UserError("there is no CUDA GPU that PyTorch can use here; use --device cpu or auto")
    return "cpu"


def _has_nvidia_driver() -> bool:
    """Look for the driver's library, so that machines without a GPU do not wait for PyTorch to be imported."""
    import ctypes

    try:
        ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    except OSError:
        return False
    return True


def to_device(array: np.ndarray, device: str) -> Any:
    """A float32 array for the CPU kernels, or a tensor on another device."""
    array = np.ascontiguousarray(array, np.float32)
    if device == "cpu":
        return array
    import torch

    return torch.from_numpy(array).to(device)


def to_numpy(array: Any) -> np.ndarray:
    """The array, or the tensor brought back."""
    return array if isinstance(array, np.ndarray) else array.cpu().numpy()


def beside(other: Any, array: np.ndarray) -> Any:
    """A float32 array as it is where the other one is an array, or as a tensor on the device of that one."""
    array = np.ascontiguousarray(array, np.float32)
    if isinstance(other, np.ndarray):
        return array
    import torch

    return torch.from_numpy(array).to(other.device)
