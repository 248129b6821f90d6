"""Weights kept in 8 bits, which take a quarter of the room, and what they stand for."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

SCALE = ".scale"
MOST = 127


def in_eight_bits(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Weights with several axes as whole numbers in [-127, 127], with the step of each slice of the first axis beside.

    Biases and whole numbers stay as they are. Symmetric quantisation per channel (Krishnamoorthi, arXiv:1806.08342).

    Args:
        state: arrays by their names.

    Raises:
        ValueError: a weight is not finite.
    """
    kept: dict[str, np.ndarray] = {}
    for name, value in state.items():
        if value.ndim < 2 or value.dtype.kind != "f":
            kept[name] = value
            continue
        if not np.isfinite(value).all():
            raise ValueError(f"{name} holds numbers that are not finite")
        step = np.abs(value).max(axis=tuple(range(1, value.ndim)), keepdims=True).astype(np.float32) / MOST
        step[step == 0] = 1  # a channel of zeros
        kept[name], kept[name + SCALE] = np.rint(value / step).astype(np.int8), step
    return kept


def from_eight_bits(kept: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The weights that :func:`in_eight_bits` kept, as float32, and all others as they are.

    Raises:
        ValueError: steps that are not those of the weight of their name.
    """
    state: dict[str, np.ndarray] = {}
    for name, value in kept.items():
        if name.endswith(SCALE) and name.removesuffix(SCALE) in kept:
            continue
        step = kept.get(name + SCALE)
        if step is None:
            state[name] = value
        elif value.dtype != np.int8 or step.shape != (*value.shape[:1], *(1,) * (value.ndim - 1)):
            raise ValueError(f"{name}{SCALE} holds no steps of {name}")
        else:
            state[name] = value * step.astype(np.float32)
    return state
