"""How far the moving scan is from the fixed one at control points: the non-local loss of PDD-Net, and the local one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from anamorph.discrete.correlation import expected_values, sample_features

if TYPE_CHECKING:
    from anamorph.networks.pdd_network import Found


def nonlocal_error(found: Found, fixed: Tensor, moving: Tensor, weights: Tensor | None = None) -> Tensor:
    """How far what is expected over all displacements is from what is there (Heinrich, MICCAI 2019).

    ``mean over k, c of w_c (sum_d p(d | k) M_c(k + d) - F_c(k))^2``. Unlike a warp through the mean displacement it
    tells two good displacements from the bad one between them.

    Args:
        found: probabilities of B pairs.
        fixed: ``(B, C, I, J, K)``: one-hot labels, or a descriptor.
        moving: the same.
        weights: ``(B, C)`` or ``(C,)``; one by default.
    """

    def expected(pair: int) -> Tensor:
        return expected_values(moving[pair], found.probabilities[pair], found.points, found.labels)

    return _error(found, fixed, expected, weights)


def local_error(found: Found, fixed: Tensor, moving: Tensor, weights: Tensor | None = None) -> Tensor:
    """The same at the mean displacement alone: ``mean over k, c of w_c (M_c(k + sum_d p(d | k) d) - F_c(k))^2``."""

    def at_the_mean(pair: int) -> Tensor:
        places = found.points + found.control_disp_vox[pair].flatten(1).T
        return sample_features(moving[pair], places).T

    return _error(found, fixed, at_the_mean, weights)


def _error(found: Found, fixed: Tensor, values: Callable[[int], Tensor], weights: Tensor | None) -> Tensor:
    """Squared differences of ``values(pair)``, ``(N, C)``, from the fixed scans at the control points."""
    there = torch.stack([values(pair) for pair in range(len(fixed))])
    here = torch.stack([sample_features(one, found.points).T for one in fixed])
    squared = (there - here).square()
    return squared.mean() if weights is None else (squared * weights.unsqueeze(-2)).mean()
