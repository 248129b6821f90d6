"""How the loop runs, whatever is trained, and the settings of a training from presets and ``--set``."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_type_hints

from anamorph.errors import UserError
from anamorph.methods.base import setting
from anamorph.registry import closest
from anamorph.settings import parse_settings
from anamorph.training.fabric import Precision

if TYPE_CHECKING:
    import torch

Course = Literal["constant", "cosine", "plateau"]


@dataclass(frozen=True)
class LoopSettings:
    """Settings of the loop of one training, kept in the run folder; a resumed run goes on with them."""

    epochs: int = setting(100, "how often everything is visited")
    batch_size: int = setting(4, "items per step of the optimiser, over all passes and processes")
    accumulate: int = setting(1, "passes into which the batch of a process is split, to save memory")
    max_memory_gb: float | None = setting(None, "choose accumulation and checkpointing to stay below it", "GB")
    checkpointing: bool = setting(False, "recompute activations on the way back: less memory, about a third more time")
    precision: Precision = setting(
        "auto", "precision of the network; auto is half where the device has instructions for it"
    )
    gradient_clip: float = setting(1.0, "largest norm of the gradient; 0 for none")
    schedule: Course = setting("constant", "learning rate over the epochs: cosine falls to 1 % over all")
    warmup_steps: int = setting(0, "steps over which the learning rate rises")
    plateau_patience: int = setting(5, "validations without a better score before the rate falls (plateau)")
    plateau_factor: float = setting(0.3, "factor of the rate when it falls (plateau)")
    validate_every: int = setting(1, "epochs between validations; the last epoch is always validated")
    validate_first: bool = setting(True, "validate before the first step, for numbers to compare with")
    patience: int = setting(0, "validations without a better score before the training ends; 0 for never")
    min_improvement: float = setting(0.0, "difference by which a score must be better to count")
    checkpoint_every_s: float = setting(120.0, "most that a killed run loses; also at the end of every epoch", "s")
    average_decay: float = setting(0.0, "decay of the average of the weights that is validated and kept; 0 for none")
    seed: int = setting(0, "seed of every random choice")

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulate", "validate_every"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("gradient_clip", "warmup_steps", "plateau_patience", "patience", "checkpoint_every_s"):
            if getattr(self, name) < 0:
                raise UserError(f"{name} must not be negative, not {getattr(self, name)}")
        if not 0 <= self.average_decay < 1 or not 0 < self.plateau_factor < 1:
            raise UserError("average_decay must be in [0, 1) and plateau_factor in (0, 1)")


def make_settings(
    task: type, preset: str, given: Iterable[str] = (), stored: dict[str, Any] | None = None
) -> tuple[Any, LoopSettings]:
    """The config of a task and the settings of the loop: defaults, then the preset, then what was asked for.

    Args:
        task: a :class:`~anamorph.training.task.Task` class.
        preset: one of ``task.presets``, or ``default`` for none.
        given: strings such as ``learning_rate=1e-4``; a name belongs to the task or to the loop.
        stored: all settings of an earlier session, which then take the place of the preset.

    Raises:
        UserError: an unknown preset or setting, or a value that cannot be used.
    """
    config = task.Config  # type: ignore[attr-defined]
    kinds, loop_kinds = get_type_hints(config), get_type_hints(LoopSettings)
    both = dataclasses.make_dataclass("Both", [*(kinds | loop_kinds).items()])
    name: str = task.name  # type: ignore[attr-defined]
    presets: dict[str, dict[str, Any]] = {"default": {}} | task.presets  # type: ignore[attr-defined]
    if preset not in presets:
        near = closest(preset, presets)
        raise UserError(f"'{name}' has no preset '{preset}'{near}; choose one of: {', '.join(presets)}")
    base = presets[preset] if stored is None else parse_settings(both, stored, name)
    values = dict(base) | parse_settings(both, given, name)
    try:
        return (
            config(**{key: value for key, value in values.items() if key in kinds}),
            LoopSettings(**{key: value for key, value in values.items() if key in loop_kinds}),
        )
    except ValueError as error:
        raise UserError(f"--set: {error}") from error


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
