"""All numbers of one registered pair, before and after."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from anamorph.evaluation.metrics.metric import Column, all_columns
from anamorph.evaluation.numbers import Numbers, plain


@dataclass(frozen=True)
class Measured:
    """What is measured of a pair: the numbers of every metric before (identity of the world) and after registration.

    Labels of one scan alone are not compared, but listed in ``labels_only_fixed`` and ``labels_only_moving``;
    ``labels_lost`` vanished in warping. ``voxel_mm`` is the edge of a voxel of the coarser scan, the ruler of the
    limits that are in voxels. ``notes`` name metrics of other packages that failed. ``used`` are the numbers of the
    labels, landmarks and outlines that pulled, which say how far they were followed and nothing of accuracy.
    """

    before: Numbers = field(default_factory=Numbers)
    after: Numbers = field(default_factory=Numbers)
    labels_only_fixed: tuple[int, ...] = ()
    labels_only_moving: tuple[int, ...] = ()
    labels_lost: tuple[int, ...] = ()
    voxel_mm: float = 1.0
    notes: tuple[str, ...] = ()
    used: Measured | None = None

    def __repr__(self) -> str:
        told = [f"{c.heading} {self.after.mean(c.name):.4g}" for c in self.columns() if c.metric.prominence != "file"]
        return f"Measured({'; '.join(told)})"

    def columns(self) -> list[Column]:
        """The columns of which the pair has a number, in the order of reports."""
        return [column for column in all_columns() if self.after.mean(column.name) is not None]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; numbers that are not finite become None.

        ``before`` and ``after`` hold means (``mean_dice``) and the values by label or point (``dice``); what is of the
        map alone stands beside them.
        """
        found: dict[str, Any] = {"before": {}, "after": {}}
        for column in all_columns():
            metric = column.metric
            if column.points == "keypoints" and column.name not in self.after:
                continue
            if metric.group is None:
                for state, numbers in (("before", self.before), ("after", self.after)):
                    found[state] |= _told(column, numbers)
            elif metric.group:
                found.setdefault(metric.group, {})[column.key.removeprefix(f"{metric.group}_")] = _number(column, self)
            else:
                found[column.key] = _number(column, self)
        lists = ("labels_only_fixed", "labels_only_moving", "labels_lost", "voxel_mm")
        found |= {name: getattr(self, name) for name in lists}
        if self.used is not None:
            found["used"] = {state: {} for state in ("before", "after")}
            for column in self.used.columns():
                found["used"]["before"] |= _told(column, self.used.before)
                found["used"]["after"] |= _told(column, self.used.after)
        return plain(found | ({"notes": self.notes} if self.notes else {}))


def _number(column: Column, measured: Measured) -> float | None:
    return measured.after.mean(column.name)


def _told(column: Column, numbers: Numbers) -> dict[str, Any]:
    mean, key, per = numbers.mean(column.name), column.key, column.metric.per
    if per == "pair":
        return {key: mean}
    parts: Any = numbers.labels(column.name) if per == "label" else numbers.parts(column.name)
    return {key: parts} if per == "axis" else {f"mean_{key}": mean, key: parts}
