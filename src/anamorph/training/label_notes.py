"""What a person should know of the labels before a training begins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anamorph.training.cache import Cohort


def label_notes(cohorts: Sequence[Cohort]) -> Iterator[str]:
    """Numbers that were changed to those of another data set, and labels that count as background where they lack."""
    for cohort in cohorts:
        name = cohort.dataset.path.name
        changed = [
            f"{own} ({cohort.dataset.labels[own]}) as {new}" for own, new in cohort.numbers.items() if own != new
        ]
        if changed:
            yield f"{name}: labels go by their names: {', '.join(changed)}"
        for label, count in cohort.taken_for_background().items():
            yield (
                f"{name}: {cohort.names[label]} ({label}) counts as background in {count} training scans that show "
                "none of it; where nobody looked for it, make the data set with `--unknown-if-absent`"
            )
