"""A smooth field through the probable displacements of every control point: the instance optimisation of PDD-Net.

Heinrich, MICCAI 2019 ("+inst"): the network's probabilities stay as they are, so an iteration costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from anamorph.geometry.frames import to_grid_sample_order

if TYPE_CHECKING:
    from torch import Tensor


PUBLISHED_CONTROL = 32
"""Control points along an axis for which PDD-Net's weights of smoothness were chosen."""


def roughness(field: Tensor) -> Tensor:
    """The sum over the axes of the mean squared difference of neighbours that are 1/31 of the extent apart.

    With 32 points along each axis these are the neighbours themselves, as published; the slope between fewer points is
    the same one seen from further away, so a weight means the same for any number.

    Args:
        field: ``(..., I, J, K)``.
    """
    import torch

    parts = [
        (field.diff(dim=axis) * ((field.shape[axis] - 1) / (PUBLISHED_CONTROL - 1))).square().mean()
        for axis in (-3, -2, -1)
    ]
    return torch.stack(parts).sum()


def fit_to_probabilities(
    probabilities: Tensor,
    disp: Tensor,
    reach: Tensor,
    iterations: int = 50,
    diffusion: float = 1.5,
    rate: float = 0.02,
) -> tuple[Tensor, list[float]]:
    """Maximise the mean probability of a field's displacements, less ``diffusion`` times its roughness.

    The field is smoothed by two averages over 3 x 3 x 3 control points; of those beyond the border none is counted (the
    published program counts them as zeros, which halves the field there).

    Args:
        probabilities: ``(I, J, K, A, B, C)`` of the control points and labels.
        disp: ``(3, I, J, K)``: the field to start from, in shares of half the mean extent of the scan.
        reach: ``(3,)``: the largest displacements of the window, in that unit.
        iterations: of Adam.
        diffusion: weight of the roughness.
        rate: of Adam.

    Returns:
        the field, and the objective per iteration.
    """
    import torch
    from torch.nn.functional import avg_pool3d, grid_sample

    def smoothed(field: Tensor) -> Tensor:
        for _ in range(2):
            field = avg_pool3d(field, 3, stride=1, padding=1, count_include_pad=False)
        return field

    volumes = probabilities.flatten(0, 2)[:, None]
    parameters = disp.detach().clone().requires_grad_()
    optimiser = torch.optim.Adam([parameters], lr=rate)
    trace = []
    with torch.enable_grad():
        for _ in range(iterations):
            field = smoothed(parameters)
            # Beyond the window its border is read: the other axes keep a slope there.
            places = to_grid_sample_order((field / reach[:, None, None, None]).movedim(0, -1)).reshape(-1, 1, 1, 1, 3)
            probability = grid_sample(volumes, places, padding_mode="border", align_corners=True).mean()
            objective = diffusion * roughness(field) - probability
            optimiser.zero_grad()
            objective.backward()
            optimiser.step()
            trace.append(float(objective.detach()))
    with torch.no_grad():
        return smoothed(parameters), trace


def local_means(probabilities: Tensor, disp: Tensor, reach: Tensor, width: float = 1.0) -> Tensor:
    """The mean displacement of every control point near the one it has, weighted by a Gaussian around that one.

    Where probabilities have several maxima, a field says which one counts; where they have one, their mean says more
    than their largest value, which is known to a label only.

    Args:
        probabilities: ``(I, J, K, A, B, C)`` of the control points and labels.
        disp: ``(3, I, J, K)``: a displacement per control point.
        reach: ``(3,)``: the largest displacements of the window, in the unit of ``disp``.
        width: standard deviation of the Gaussian, distances of neighbouring labels.
    """
    import torch

    labels = [
        torch.linspace(-1, 1, n, device=disp.device) * end
        for n, end in zip(probabilities.shape[3:], reach, strict=True)
    ]
    weighted = probabilities.clone()
    for axis, along in enumerate(labels):
        apart = (along - disp[axis, ..., None]) / (width * (along[1] - along[0]))
        shape = [len(along) if other == axis else 1 for other in range(3)]
        weighted *= torch.exp(-apart.square() / 2).reshape(*disp.shape[1:], *shape)
    others = [(4, 5), (3, 5), (3, 4)]
    total = weighted.sum(dim=(3, 4, 5)).clamp_min(1e-30)
    return torch.stack(
        [(weighted.sum(dim=o) * along).sum(dim=-1) / total for o, along in zip(others, labels, strict=True)]
    )
