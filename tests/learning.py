"""A few steps of a training without the loop around it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from anamorph.training.task import Task

CPU = torch.device("cpu")


def generators(count: int, seed: int = 0) -> list[torch.Generator]:
    """One per item, as the loop gives them."""
    return [torch.Generator().manual_seed(seed + n) for n in range(count)]


def trained(task: Task, steps: int, rate: float, items: list[Any]) -> nn.Module:
    """The network after some steps on the same items, at a rate that falls to 0."""
    torch.manual_seed(0)
    network = task.network()
    optimiser = torch.optim.Adam(network.parameters(), rate)
    for n in range(steps):
        optimiser.param_groups[0]["lr"] = rate * (1 + np.cos(np.pi * n / steps)) / 2
        loss = task.loss(network, task.batch(items, CPU, generators(len(items), n)))["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return network.eval()
