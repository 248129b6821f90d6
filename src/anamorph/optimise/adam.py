"""Adam for arrays that are not torch parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

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
        self.parameters = parameters
        self._first = parameters * 0
        self._second = parameters * 0
        self._step = 0

    def step(self, gradient: Array, rate: float) -> None:
        """Move the parameters against the gradient; no entry moves by much more than ``rate``."""
        self._step += 1
        if isinstance(self.parameters, np.ndarray):
            from anamorph.optimise import _adam_numba

            flat = (a.reshape(-1) for a in (self.parameters, np.ascontiguousarray(gradient), self._first, self._second))
            _adam_numba.adam_step(*flat, self._step, np.float32(rate))
        else:
            self._step_torch(gradient, rate)

    def _step_torch(self, gradient: torch.Tensor, rate: float) -> None:
        """The readable twin of the kernel."""
        self._first.mul_(0.9).add_(gradient, alpha=0.1)
        self._second.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
        mean = self._first / (1 - 0.9**self._step)
        scale = (self._second / (1 - 0.999**self._step)).sqrt_().add_(1e-12)
        self.parameters.sub_(mean / scale, alpha=rate)
