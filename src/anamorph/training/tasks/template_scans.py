"""The scans of a prepared data set as ``slicreg`` and ``regression`` learn from them."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from anamorph.errors import UserError
from anamorph.geometry import Grid
from anamorph.geometry.sampling import identity_positions_torch, sample
from anamorph.networks.template_model import output_grid
from anamorph.supervoxels import Layers
from anamorph.supervoxels.prepared import Prepared
from anamorph.transforms import Affine

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from anamorph.training.cache import Cohort

LARGEST_RATIO = 1.1
"""Of the voxel sizes of the layers and of what the network sees."""


class TemplateScans:
    """Layers and template positions of the scans of one cohort, in the frames in which the network sees them.

    Args:
        cohort: cached from a manifest that ``anamorph slicreg prepare`` wrote.

    Raises:
        UserError: the data set is not prepared.
    """

    def __init__(self, cohort: Cohort) -> None:
        self.cohort = cohort
        self.prepared = Prepared.of(cohort.dataset)
        rows = {case.key: row for row, case in enumerate(cohort.dataset.cases)}
        self.template = rows[self.prepared.template.key]
        others = [case for case in self.prepared.cases if case.key != self.prepared.template.key]
        self.training = [rows[case.key] for case in self.prepared.cases if case.split == "training"]
        self.validation = [rows[case.key] for case in others if case.split == "validation"]
        self._labels: dict[int, Tensor] = {}
        self._positions: dict[int, Tensor] = {}

    def check(self) -> None:
        """See that there is something to learn and to measure, and that the frames fit the layers.

        Raises:
            UserError: there is not, or they do not.
        """
        name = self.cohort.dataset.path.name
        for split, rows in (("training", self.training), ("validation", self.validation)):
            if not rows:
                raise UserError(f"{name}: no {split} scan has layers; prepare the data set with scans of both splits")
        wanted, seen = self.template_layers.grid.spacing_mm.max(), self.cohort.frames[0].spacing_mm.max()
        if not 1 / LARGEST_RATIO < wanted / seen < LARGEST_RATIO:
            raise UserError(
                f"{name}: the layers have voxels of {wanted:.3g} mm, the network would see {seen:.3g} mm; pass "
                f"--set spacing_mm={wanted:.3g}"
            )
        if any(n % 2 for n in self.cohort.shape):
            raise UserError(f"the network needs even numbers of voxels, not {self.cohort.shape}; pass --set shape=...")

    @property
    def frame(self) -> Grid:
        """All frames in mm of their own."""
        return Grid(self.cohort.shape, np.diag([*self.cohort.frames[0].spacing_mm, 1.0]))

    @property
    def classes(self) -> int:
        """Supervoxels of a layer and the background."""
        return self.template_layers.supervoxels + 1

    @cached_property
    def template_layers(self) -> Layers:
        """On the grid on which they were made."""
        return self.prepared.template_layers()

    @cached_property
    def template_labels(self) -> Tensor:
        """``(L, I, J, K)`` uint8 in the template's frame."""
        return _read_layers(self.template_layers, self.cohort.frames[self.template])

    def labels(self, row: int) -> Tensor:
        """``(L, I, J, K)`` uint8 in the scan's frame; read once."""
        if row not in self._labels:
            layers = self.prepared.layers(self.cohort.dataset.cases[row])
            self._labels[row] = _read_layers(layers, self.cohort.frames[row])
        return self._labels[row]

    def positions(self, row: int) -> Tensor:
        """``(3, I / 2, J / 2, K / 2)``: where in the template's frame the network's outputs belong, in its voxels."""
        if row not in self._positions:
            case = self.cohort.dataset.cases[row]
            grid = output_grid(self.cohort.frames[row])
            to_template = self.prepared.scan_to_template(case)
            found = to_template.moving_positions(grid, self.cohort.frames[self.template])
            self._positions[row] = torch.from_numpy(found)
        return self._positions[row]

    def image(self, row: int, device: torch.device, divisor: float) -> Tensor:
        """``(C, I, J, K)`` as the network sees it."""
        return self.cohort.load([row], device)[0][0] / divisor


def jittered_positions(shape: tuple[int, int, int], sigma: float, generator: Generator) -> Tensor:
    """``(3, I, J, K)`` voxels under a random affine map: every entry of its matrix is off by ``N(0, sigma^2)``.

    As published: the matrix acts on coordinates in which the frame is the cube from -1 to 1.
    """
    noise = sigma * torch.randn(3, 4, generator=generator, dtype=torch.float64)
    half = torch.tensor(shape, dtype=torch.float64) / 2
    matrix = torch.eye(3, dtype=torch.float64) + noise[:, :3] * half[:, None] / half
    middle = half - 0.5
    start = middle - matrix @ middle + noise[:, 3] * half
    places = identity_positions_torch(torch.empty(shape))
    return torch.einsum("ab,bijk->aijk", matrix.float(), places) + start.float()[:, None, None, None]


def at_outputs(positions: Tensor) -> Tensor:
    """Those of the voxels at which the network tells something."""
    return positions[:, 1::2, 1::2, 1::2]


def read_nearest(labels: Tensor, positions: Tensor) -> Tensor:
    """Labels ``(L, I, J, K)`` at positions ``(3, ...)`` of the same device; 0 outside."""
    shape = torch.tensor(labels.shape[1:], device=labels.device).reshape(3, *[1] * (positions.ndim - 1))
    index = torch.floor(positions + 0.5).long()
    inside = ((index >= 0) & (index < shape)).all(dim=0)
    i, j, k = torch.minimum(index.clamp(min=0), shape - 1)
    return labels[:, i, j, k] * inside


def _read_layers(layers: Layers, frame: Grid) -> Tensor:
    positions = Affine.identity().moving_positions(frame, layers.grid)
    return torch.from_numpy(sample(layers.labels, positions, "nearest", 0))
