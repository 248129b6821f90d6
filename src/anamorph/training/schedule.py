"""The learning rate over a training."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

from anamorph.training.settings import LoopSettings

if TYPE_CHECKING:
    import torch

LAST_SHARE = 0.01
"""Of the first rate at the end of the cosine."""


class Schedule:
    """Sets the rate of an optimiser before every step, from the number of the step and the validations so far.

    Args:
        optimiser: its rates are those of the start.
        loop: which schedule.
        total_steps: of all epochs.
    """

    def __init__(self, optimiser: torch.optim.Optimizer, loop: LoopSettings, total_steps: int) -> None:
        self.optimiser, self.loop, self.total_steps = optimiser, loop, total_steps
        self.first_rates = [group["lr"] for group in optimiser.param_groups]
        self.reductions = 0
        self.waited = 0

    def before_step(self, step: int) -> float:
        """Set the rate of a step, counted from 0, and return that of the first group."""
        factor = self.loop.plateau_factor**self.reductions
        if self.loop.schedule == "cosine":
            done = min(step / max(self.total_steps, 1), 1.0)
            factor *= LAST_SHARE + (1 - LAST_SHARE) * (1 + math.cos(math.pi * done)) / 2
        if step < self.loop.warmup_steps:
            factor *= (step + 1) / self.loop.warmup_steps
        for group, rate in zip(self.optimiser.param_groups, self.first_rates, strict=True):
            group["lr"] = rate * factor
        return float(self.optimiser.param_groups[0]["lr"])

    def after_validation(self, better: bool) -> None:
        """Lower the rate when the score has not become better for long (``plateau``)."""
        self.waited = 0 if better else self.waited + 1
        if self.loop.schedule == "plateau" and self.waited > self.loop.plateau_patience:
            self.reductions += 1
            self.waited = 0

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"first_rates": self.first_rates, "reductions": self.reductions, "waited": self.waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.first_rates = list(state["first_rates"])
        self.reductions, self.waited = state["reductions"], state["waited"]


class BestScore:
    """The best validation so far, and for how long there was no better one."""

    def __init__(self, name: str, direction: Literal["max", "min"], min_improvement: float = 0.0) -> None:
        self.name, self.sign, self.min_improvement = name, 1 if direction == "max" else -1, min_improvement
        self.metrics: dict[str, float] | None = None
        self.epoch = -1
        self.waited = 0

    def add(self, epoch: int, metrics: dict[str, float]) -> bool:
        """Take up a validation; whether it is the best. One whose score is not a number never is.

        The first always counts, so that there is always a best one.
        """
        new = self.sign * metrics[self.name]
        old = -math.inf if self.metrics is None else self.sign * self.metrics[self.name]
        better = self.metrics is None or math.isnan(old) or new > old + self.min_improvement
        if better:
            self.metrics, self.epoch = dict(metrics), epoch
        self.waited = 0 if better else self.waited + 1
        return better

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"metrics": self.metrics, "epoch": self.epoch, "waited": self.waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.metrics, self.epoch, self.waited = state["metrics"], state["epoch"], state["waited"]
