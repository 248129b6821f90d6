from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from anamorph.evaluation.gates import Gate, change, loss, named
from anamorph.evaluation.label_regions import voxel_counts
from anamorph.evaluation.measured import Measured
from anamorph.evaluation.metrics.metric import Metric
from anamorph.evaluation.numbers import Numbers
from anamorph.image.image import Labels

if TYPE_CHECKING:
    from anamorph.evaluation.measure import RegisteredPair

MISSED = 0.01
"""A label below overlaps with its counterpart by chance at most."""
LABEL_LOSS = 0.1


def dice(fixed: Labels, warped: Labels, labels: Iterable[int] | None = None) -> dict[int, float]:
    """Overlap ``2 |A and B| / (|A| + |B|)`` of each label, between 0 and 1 (Dice 1945).

    Args:
        fixed: the reference.
        warped: the other label map on the same grid.
        labels: which labels to compare; those of ``fixed`` by default. One that occurs in neither map is left out, one
            that was warped to nothing scores 0.

    Raises:
        ValueError: the shapes differ.
    """
    a, b = fixed.data[0], warped.data[0]
    if a.shape != b.shape:
        raise ValueError(f"label maps of shapes {a.shape} and {b.shape} are not on the same grid")
    in_a, in_b, in_both = voxel_counts(a), voxel_counts(b), voxel_counts(np.where(a == b, a, 0))
    wanted = sorted(in_a if labels is None else labels)
    totals = {name: in_a.get(name, 0) + in_b.get(name, 0) for name in wanted}
    return {name: 2 * in_both.get(name, 0) / total for name, total in totals.items() if total}


def _measure(pair: RegisteredPair) -> dict[int, float]:
    assert pair.fixed_labels is not None
    return dice(pair.fixed_labels, pair.warped_labels, pair.shared_labels)


def _lowest(values: dict[int, float]) -> tuple[int, float]:
    return min(values.items(), key=lambda item: item[1])


def _phrase(after: Numbers) -> str:
    label, value = _lowest(after.labels("dice"))
    return f"mean Dice {after.mean('dice'):.3f} (lowest {value:.3f}, label {label})"


def _missed(metrics: Measured) -> list[int]:
    """Labels of both scans that end without overlap."""
    return [label for label, value in sorted(metrics.after.labels("dice").items()) if value < MISSED]


def _missed_percent(metrics: Measured) -> float | None:
    after = metrics.after.labels("dice")
    return 100 * len(_missed(metrics)) / len(after) if after else None


def _label_losses(metrics: Measured) -> dict[int, float]:
    before, after = metrics.before.labels("dice"), metrics.after.labels("dice")
    return {label: before[label] - after[label] for label in sorted(before.keys() & after.keys())}


def _largest_label_loss(metrics: Measured) -> float | None:
    losses = _label_losses(metrics)
    return max(0.0, *losses.values()) if losses else None


def _lost_much(metrics: Measured) -> str:
    before, after = metrics.before.labels("dice"), metrics.after.labels("dice")
    losers = [label for label, lost in _label_losses(metrics).items() if lost > LABEL_LOSS]
    worst = max(losers, key=lambda label: before[label] - after[label])
    return f"{named(losers)} lost overlap: {change(f'Dice of label {worst}', before[worst], after[worst])}"


def _dice_after(metrics: Measured) -> str:
    values = metrics.after.labels("dice")
    label, lowest = _lowest(values)
    if len(values) == 1:
        return f"Dice of label {label} is {lowest:.3f}"
    mean = metrics.after.mean("dice")
    return f"mean Dice of {len(values)} labels is {mean:.3f}, the lowest {lowest:.3f} (label {label})"


def _dice_change(metrics: Measured) -> str:
    return change("mean Dice", metrics.before.mean("dice") or 0.0, metrics.after.mean("dice") or 0.0)


DICE = Metric(
    name="dice",
    title="Dice",
    better="higher",
    measure=_measure,
    needs=("labels",),
    per="label",
    meaning="mean Dice of the labels in both scans, moving labels interpolated linearly",
    prominence="tile",
    phrase=_phrase,
    gates=(
        Gate(
            name="dice_loss",
            question="signs of failure",
            meaning="loss of mean Dice",
            warn=0.005,
            fail=0.05,
            measure=lambda m: loss(m.before.mean("dice"), m.after.mean("dice")),
            good=lambda m, v: _dice_change(m),
            bad=lambda m, v: f"the labels overlap less than before registration: {_dice_change(m)}",
            low_is_bad=False,
        ),
        Gate(
            name="label_loss",
            question="signs of failure",
            meaning="largest loss of Dice of one label",
            warn=LABEL_LOSS,
            fail=math.inf,
            measure=_largest_label_loss,
            good=lambda m, v: "no label lost much overlap",
            bad=lambda m, v: _lost_much(m),
            low_is_bad=False,
        ),
        Gate(
            name="labels_lost",
            question="signs of failure",
            meaning="labels that vanish when warped",
            warn=0,
            fail=math.inf,
            measure=lambda m: float(len(m.labels_lost)) if m.after.labels("dice") else None,
            good=lambda m, v: "no label vanishes when warped",
            bad=lambda m, v: f"{named(m.labels_lost)} vanish{'es' * (v == 1)} when warped",
            low_is_bad=False,
        ),
        Gate(
            name="mean_dice",
            question="accuracy",
            meaning="mean Dice after registration",
            warn=0.5,
            fail=0.3,
            good=lambda m, v: _dice_after(m),
            bad=lambda m, v: f"the labels overlap little: {_dice_after(m)}",
        ),
        Gate(
            name="labels_missed",
            question="accuracy",
            meaning=f"labels of both scans that end without overlap (Dice below {MISSED})",
            unit="%",
            warn=0,
            fail=50.0,
            measure=_missed_percent,
            good=lambda m, v: "every label overlaps",
            bad=lambda m, v: (
                f"{len(_missed(m))} of {len(m.after.labels('dice'))} labels end without overlap: {named(_missed(m))}"
            ),
            low_is_bad=False,
        ),
    ),
)
