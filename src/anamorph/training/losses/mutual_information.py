from __future__ import annotations

import torch
from torch import Tensor


def mutual_information(fixed: Tensor, warped: Tensor, bins: int = 32) -> Tensor:
    """Minus the mutual information of the intensities in nats, mean over batch and channels.

    The joint histogram has a box window for the fixed image and a cubic B-spline for the warped one, which makes it
    smooth where the field enters (Mattes et al., IEEE TMI 2003).

    Args:
        fixed: ``(B, C, I, J, K)`` in [0, 1]; values beyond count as 0 or 1.
        warped: the same shape.
        bins: of the histogram along each side, at least 5; a spline reaches over 4.
    """
    with torch.autocast(fixed.device.type, enabled=False):
        here, there = (image.float().flatten(2).flatten(0, 1).clamp(0, 1) for image in (fixed, warped))
        row = (here * bins).long().clamp_max(bins - 1)
        # All four knots that a value weighs on lie within the bins.
        place = 1 + there * (bins - 3)
        knot = place.detach().floor().clamp_max(bins - 3)
        image = torch.arange(len(row), device=row.device)[:, None]
        first = (image * bins + row) * bins + knot.long() - 1
        histogram = there.new_zeros(len(row) * bins * bins)
        for n, weight in enumerate(_spline(place - knot)):
            histogram = histogram.index_add(0, (first + n).flatten(), weight.flatten())
        joint = histogram.reshape(-1, bins, bins) / here.shape[1]
        apart = joint.sum(dim=2, keepdim=True) * joint.sum(dim=1, keepdim=True)
        return (
            -torch.where(joint > 0, joint * (joint.clamp_min(TINY) / apart.clamp_min(TINY)).log(), 0).sum((1, 2)).mean()
        )


TINY = 1e-12


def _spline(t: Tensor) -> list[Tensor]:
    """The weights of the four knots around a value, which lies ``t`` in [0, 1] behind the second."""
    rest = 1 - t
    return [rest**3 / 6, 2 / 3 - t**2 * (2 - t) / 2, 2 / 3 - rest**2 * (2 - rest) / 2, t**3 / 6]
