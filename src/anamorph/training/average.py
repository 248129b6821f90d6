"""The running average of a network's weights, which often validates better than the weights themselves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor, nn


class WeightAverage:
    """Exponential average of all floating entries of a network's state; with a decay of 0 the weights themselves.

    The decay rises from 0 as ``(1 + n) / (10 + n)`` over the first steps, so that the fresh weights do not linger.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network, self.decay, self.steps = network, decay, 0
        self.state: dict[str, Tensor] = {}
        if decay > 0:
            self.state = {key: value.detach().clone() for key, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take up the weights after a step."""
        self.steps += 1
        share = 1 - min(self.decay, (1 + self.steps) / (10 + self.steps))
        for key, value in self.network.state_dict().items():
            if key in self.state:
                own = self.state[key]
                own.lerp_(value, share) if own.is_floating_point() else own.copy_(value)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Within the block the network has the averaged weights."""
        if not self.state:
            yield
            return
        own = {key: value.detach().clone() for key, value in self.network.state_dict().items()}
        self.network.load_state_dict(self.state)
        try:
            yield
        finally:
            self.network.load_state_dict(own)

    def load(self, state: dict[str, Tensor], steps: int) -> None:
        """Go on from a checkpoint."""
        self.steps = steps
        for key, value in self.state.items():
            value.copy_(state[key])
