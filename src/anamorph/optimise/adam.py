"""Adam for arrays that are not torch parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

from anamorph.runtime.compiled import by_twin, kernels
from anamorph.runtime.threads import POINTS, over_slabs

if TYPE_CHECKING:
    import torch

    Array = TypeVar("Array", np.ndarray, torch.Tensor)
else:
    Array = TypeVar("Array")


class Adam(Generic[Array]):
    """Adam with the default decay rates (Kingma and Ba 2015), changing its parameters in place.

    Args:
        parameters: any shape, float32, contiguous.
    """

    def __init__(self, parameters: Array) -> None:
        self.parameters: Array = parameters
        self._first: Array = parameters * 0
        self._second: Array = parameters * 0
        self._step = 0

    def step(self, gradient: Array, rate: float) -> None:
        """Move the parameters against the gradient; no entry moves by much more than ``rate``."""
        self._step += 1
        if isinstance(gradient, np.ndarray):
            gradient = np.ascontiguousarray(gradient)
        state = (self.parameters, gradient, self._first, self._second)
        if not isinstance(self.parameters, np.ndarray):
            adam_step_torch(*state, self._step, rate)
        elif kernels is None:
            by_twin(adam_step_torch, *state, self._step, rate)
        else:
            flat = [array.reshape(-1) for array in state]
            over_slabs(kernels.adam_step, self.parameters.size, *flat, self._step, rate, least=POINTS)


def adam_step_torch(
    parameters: torch.Tensor, gradient: torch.Tensor, first: torch.Tensor, second: torch.Tensor, step: int, rate: float
) -> None:
    """The readable twin of the kernel: one step in place."""
    first.mul_(0.9).add_(gradient, alpha=0.1)
    second.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
    mean = first / (1 - 0.9**step)
    scale = (second / (1 - 0.999**step)).sqrt_().add_(1e-12)
    parameters.sub_(mean / scale, alpha=rate)
