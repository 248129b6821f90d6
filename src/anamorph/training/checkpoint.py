"""Complete and atomic checkpoints, and the running average of the weights that they keep."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from anamorph.errors import UserError
from anamorph.image.atomic import atomic_path

if TYPE_CHECKING:
    from torch import Tensor, nn


FORMAT = 1


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint of tensors and plain values, so that an earlier one stays until this one is complete."""
    with atomic_path(path) as temporary:
        torch.save({"format": FORMAT} | content, temporary)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU; it may hold tensors and plain values only, so no code is run.

    Raises:
        UserError: no such file, damaged, or of another version.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: there is no checkpoint; start the training without --resume") from None
    except Exception as error:
        reason = str(error).splitlines()[0][:120]
        raise UserError(f"{path}: is no checkpoint that can be read ({reason}); restore it or start again") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"{path}: is no checkpoint of this version of anamorph; go on with the version that wrote it")
    return content


def random_states() -> dict[str, Any]:
    """The state of every global generator of this process."""
    name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": [name, torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, gauss],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_states(states: dict[str, Any]) -> None:
    """Bring every global generator back; those of GPUs only if there are as many."""
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, position, has_gauss, cached = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(states["torch"])
    if len(states["cuda"]) == torch.cuda.device_count() > 0:
        torch.cuda.set_rng_state_all(states["cuda"])


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
