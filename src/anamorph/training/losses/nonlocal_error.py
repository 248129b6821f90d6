from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from anamorph.discrete.correlation import sample_features
from anamorph.discrete.in_parts import in_parts

if TYPE_CHECKING:
    from anamorph.networks.pdd_network import Found

AT_ONCE = 2**24


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


def expected_values(volume: Tensor, probabilities: Tensor, points: Tensor, labels: Tensor) -> Tensor:
    """``(N, C)``: the mean of a ``(C, I, J, K)`` volume around points under their probabilities ``(N, L)``."""

    def expected(part: Tensor) -> Tensor:
        where, share = part[:, :3], part[:, 3:]
        return torch.einsum("cnl,nl->nc", sample_features(volume, where[:, None] + labels), share)

    both = torch.cat([points, probabilities], dim=1)
    return in_parts(expected, both, len(volume) * len(labels), at_once=AT_ONCE)
