"""What a training tells while it runs and when it ends."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Ending = Literal["finished", "no improvement", "time budget", "SIGTERM", "SIGINT"]


@dataclass(frozen=True)
class Status:
    """What a display shows after a step, within a validation and after it; ``validated`` is the share that is done."""

    stage: Literal["training", "validating"]
    epoch: int
    epochs: int
    batch: int
    batches: int
    step: int
    loss: float
    learning_rate: float
    remaining_s: float | None
    metrics: dict[str, float] = field(default_factory=dict)
    best: dict[str, float] = field(default_factory=dict)
    validated: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """How a session of a training ended, and the best validation so far; no model before the first step."""

    ending: Ending
    epoch: int
    step: int
    best: dict[str, float]
    best_epoch: int
    seconds: float
    model: Path | None


@dataclass
class Position:
    """Where a training is: the next batch of an epoch, what the epoch has seen, and how long a validation took."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    seconds: float = 0.0
    validation_s: float = 0.0
    sums: dict[str, float] = field(default_factory=dict)
