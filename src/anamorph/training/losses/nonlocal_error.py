from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from anamorph.discrete.correlation import sample_features
from anamorph.discrete.expected_values import expected_values

if TYPE_CHECKING:
    from anamorph.networks.pdd_network import Found


def nonlocal_error(found: Found, fixed: Tensor, moving: Tensor, weights: Tensor | None = None) -> Tensor:
    """How far what is expected at every displacement is from what is there: the non-local loss (Heinrich, MICCAI 2019).

    ``mean over k, c of w_c (sum_d p(d | k) M_c(k + d) - F_c(k))^2``. Unlike a warp through the mean displacement it
    tells two good displacements from the bad one between them.

    Args:
        found: probabilities of B pairs.
        fixed: ``(B, C, I, J, K)``: one-hot labels, or a descriptor.
        moving: the same.
        weights: ``(B, C)`` or ``(C,)``; one by default.
    """
    errors = []
    for probabilities, here, there in zip(found.probabilities, fixed, moving, strict=True):
        target = sample_features(here, found.points).T
        errors.append((expected_values(there, probabilities, found.points, found.labels) - target).square())
    squared = torch.stack(errors)
    return squared.mean() if weights is None else (squared * weights.unsqueeze(-2)).mean()
