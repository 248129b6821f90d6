"""PDD-Net: learned features, a cost for every displacement of a window, mean-field smoothing, the mean displacement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn
from torch.nn.functional import interpolate

from anamorph.discrete.correlation import correlate
from anamorph.discrete.labels import expectation, label_probabilities
from anamorph.discrete.mean_field import mean_field, relax_labels
from anamorph.networks.obelisk import Convention, Obelisk, displacements, half_extent, in_map, points
from anamorph.networks.pdd_search import Search

if TYPE_CHECKING:
    from torch import Tensor

FIRST_ALPHAS = (1.0, 0.1, 1.0, 1.0, 0.1, 1.0)
"""As published: factor and offset of the costs, their weight, that of the messages, an offset, the inverse temperature.
The two offsets, the second and the fifth, cancel in the softmax and are never learned."""


class Found(NamedTuple):
    """What a search of one direction finds; B scans of ``(I, J, K)`` voxels, N control points, L displacements.

    Attributes:
        probabilities: ``(B, N, L)``.
        control_disp_vox: ``(B, 3, *control)``: the mean displacement, voxels of the scan.
        points: ``(N, 3)``: the control points, voxels of the scan.
        labels: ``(L, 3)``: the displacements, voxels.
        half: ``(3,)``: half the extent of the scan, voxels.
        shape: of the scan.
        sampling: where control points lie.
    """

    probabilities: Tensor
    control_disp_vox: Tensor
    points: Tensor
    labels: Tensor
    half: Tensor
    shape: tuple[int, int, int]
    sampling: Convention

    @property
    def disp_vox(self) -> Tensor:
        """``(B, 3, I, J, K)``: the field at every voxel."""
        return self.between(self.control_disp_vox)

    def between(self, control: Tensor) -> Tensor:
        """``(B, C, I, J, K)``: values of the control points ``(B, C, *control)`` brought to the voxels, linear."""
        corners = self.sampling in ("corner", "two-warps")
        return interpolate(control, self.shape, mode="trilinear", align_corners=corners)


class PddNetwork(nn.Module):
    """Probabilistic dense displacements (Heinrich, MICCAI 2019).

    Without mean field each control point decides by itself, after its costs were smoothed over displacements.

    Args:
        inputs: channels of a scan.
        channels: features of a place: 16 (120,780 parameters) or 24 (270,772), and 6 for the mean field.
        control: control points of the search along each axis (:class:`~anamorph.networks.pdd_search.Search`).
        width: displacements of the search along each axis, odd.
        reach: largest displacement of the search, half extents.
        mean_field: let neighbouring control points agree, in two iterations.
        feature_spacing: voxels between the places at which features are computed.
        pooled: halve the resolution before the first convolution.
        sampling: where features and control points lie (:data:`~anamorph.networks.obelisk.Convention`).
        divisor: divides the values of a scan; the published networks want HU / 500.
    """

    def __init__(
        self,
        inputs: int = 1,
        channels: int = 16,
        control: Sequence[int] = (32, 32, 32),
        width: int = 15,
        reach: float = 0.4,
        mean_field: bool = True,
        feature_spacing: int = 3,
        pooled: bool = True,
        sampling: Convention = "voxel",
        divisor: float = 1.0,
    ) -> None:
        super().__init__()
        self.features = Obelisk(inputs, channels, feature_spacing, pooled, sampling)
        self.alphas = nn.Parameter(torch.tensor(FIRST_ALPHAS))
        self.search = Search(tuple(control), width, reach)  # type: ignore[arg-type]
        self.mean_field, self.sampling, self.divisor = mean_field, sampling, divisor

    def forward(self, fixed: Tensor, moving: Tensor, both: bool = True) -> list[Found]:
        """Search from the fixed to the moving scans, and back; ``(B, C, I, J, K)`` each."""
        # One call for both: the norms then see the same statistics of either.
        here, there = self.describe(torch.cat([fixed, moving])).chunk(2)
        shape = fixed.shape[2:]
        found = [self.find(here, there, shape)]
        return [*found, self.find(there, here, shape)] if both else found

    def describe(self, images: Tensor) -> Tensor:
        """Features of ``(B, C, I, J, K)`` scans, in single precision."""
        features: Tensor = self.features(images / self.divisor)
        return features.float()

    def find(self, here: Tensor, there: Tensor, shape: Sequence[int], search: Search | None = None) -> Found:
        """Search for the features of one scan in those of the other.

        Args:
            here: ``(B, F, i, j, k)`` of :meth:`describe`.
            there: the same.
            shape: of the scans.
            search: another than that of the training.
        """
        search = search or self.search
        i, j, k = shape
        device = here.device
        places = points(search.control, shape, self.sampling).to(device)
        labels = displacements(search.width, search.reach, shape, self.sampling).to(device)
        cells = here.shape[2:]
        centres = in_map(places, shape, cells, self.sampling)
        zero = in_map(torch.zeros_like(labels), shape, cells, self.sampling)
        steps = in_map(labels, shape, cells, self.sampling) - zero
        with torch.autocast(device.type, enabled=False):
            each = [self._probabilities(*pair, centres, steps, search) for pair in zip(here, there, strict=True)]
            # The costs are what fills memory: a single pair is not copied.
            probabilities = torch.stack(each) if len(each) > 1 else each[0][None]
            mean = expectation(probabilities, labels).reshape(len(here), *search.control, 3).movedim(-1, 1)
        half = half_extent(shape, self.sampling).to(device)
        return Found(probabilities, mean, places, labels, half, (i, j, k), self.sampling)

    def _probabilities(self, here: Tensor, there: Tensor, centres: Tensor, steps: Tensor, search: Search) -> Tensor:
        """``(N, L)`` for one pair."""
        factor, _, own, message, _, inverse_temperature = self.alphas.unbind()
        costs = factor * correlate(here, there, centres, steps)
        window = [search.width] * 3
        if self.mean_field:
            costs = mean_field(costs.reshape(*search.control, -1), torch.stack([own, message]), window).flatten(0, 2)
        else:
            costs = relax_labels(costs, window)
        return label_probabilities(costs, 1 / inverse_temperature, in_place=True)
