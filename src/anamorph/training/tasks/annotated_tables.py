"""Which labels the scans of a training annotate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from anamorph.training.cache import Cohort


def annotated_tables(cohorts: Sequence[Cohort], labels: Sequence[int]) -> list[Tensor]:
    """For each cohort ``(N, L)``: true where the scan of a row annotates a label."""
    return [
        torch.tensor([[label in known for label in labels] for known in cohort.annotated_by_row], dtype=torch.bool)
        for cohort in cohorts
    ]


def annotated_in_both(tables: Sequence[Tensor], pairs: Sequence[tuple[int, int, int]]) -> Tensor:
    """``(B, L)``: true where both scans of ``(cohort, fixed, moving)`` annotate a label."""
    return torch.stack([tables[cohort][fixed] & tables[cohort][moving] for cohort, fixed, moving in pairs])
