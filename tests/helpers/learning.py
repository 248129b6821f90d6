"""A few steps of a training without the loop around it, and what a method does with what was learned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from anamorph.evaluation import dice
from anamorph.image.read import read_image, read_labels
from anamorph.methods.base import Method, Pair, Run
from anamorph.networks.model import ModelCard, save_model
from anamorph.training.cache import Cohort
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


def check_learned_by_heart(task: Any, cohort: Cohort, network: nn.Module, method: type[Method], folder: Path) -> None:
    """The first pair of a cohort is known in both directions, and the method finds what the training measures."""
    task.measured = [(0, 0, 1), (0, 1, 0)]
    with torch.no_grad():
        before, after = (task.validate(one, CPU) for one in (task.network().eval(), network))
    assert before["dice"] < 0.8
    assert after["dice"] > 0.95

    save_model(folder, network.state_dict(), ModelCard("blobs", **task.export(network)))
    case = [*cohort.dataset.cases[:2]]
    fixed, moving = (read_image(one.image) for one in case)
    here, there = (read_labels(one.label) for one in case)
    config: Any = method.Config
    found = method(config(model=str(folder), refine=False))(Pair(fixed, moving), Run("cpu"))
    overlap = dice(here, found.fixed_to_moving.warp_labels(there, here.grid))
    assert np.mean([*overlap.values()]) == pytest.approx(after["dice"], abs=0.02)
    back = dice(there, found.moving_to_fixed.warp_labels(here, there.grid))
    assert np.mean([*back.values()]) > 0.9
