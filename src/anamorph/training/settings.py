"""How the loop runs, whatever is trained, and the settings of a training from presets and ``--set``."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_type_hints

from anamorph.errors import UserError
from anamorph.methods.base import setting
from anamorph.registry import closest
from anamorph.settings import parse_settings
from anamorph.training.fabric import Precision

Schedule = Literal["constant", "cosine", "plateau"]


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
    schedule: Schedule = setting("constant", "learning rate over the epochs: cosine falls to 1 % over all")
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
