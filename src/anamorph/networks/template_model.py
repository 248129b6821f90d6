"""A trained network that finds the place in the template of every voxel of a scan."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

import numpy as np

from anamorph.errors import UserError
from anamorph.features.body import body_centre_mm
from anamorph.geometry import Grid
from anamorph.image import Image
from anamorph.image.background import looks_like_ct
from anamorph.networks.model import Model
from anamorph.reading import understood
from anamorph.transforms import Affine, Transform

Kind = Literal["slicreg", "regression"]
Centre = Literal["middle", "body"]
"""What lies in the middle of the frame: the middle of the field of view, or the centre of mass of the body."""


class TemplateModel(Model):
    """A network that is called with one scan in a frame of its own.

    All scans are read in frames of one shape and spacing, the axes near right, anterior and superior, so that voxels of
    two frames with the same index are about at the same place of the body.
    """

    @property
    def frame(self) -> Grid:
        """The grid of the network's input in mm of its own, shared by all scans; the template lies in it too."""
        spacing = np.broadcast_to(self.preprocessing.spacing_mm or 1.0, 3)
        return Grid(self.shape, np.diag([*spacing, 1.0]))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of the network's input."""
        i, j, k = (int(n) for n in self.preprocessing.shape or (1, 1, 1))
        return i, j, k

    @property
    def divisor(self) -> float:
        """By which values are divided after the preprocessing: 500 for HU."""
        return float(self.card.architecture["divisor"])

    def check(self, *images: Image) -> None:
        """See that scans have the channels of the training and several slices.

        Raises:
            UserError: one has not.
        """
        super().check(*images)
        for image in images:
            if image.grid.is_2d:
                raise UserError(f"{image.name} has a single slice; {self.card.name} registers volumes: take convex")

    def warnings_for(self, *images: Image) -> list[str]:
        """Scans of another modality than those of the training; their size is free."""
        ct = self.card.architecture["ct"]
        return [
            f"{image.name} {'does not look' if ct else 'looks'} like CT, {'' if ct else 'un'}like what "
            f"{self.card.name} was trained on"
            for image in images
            if looks_like_ct(image) != ct
        ]

    def frame_in(self, image: Image) -> Grid:
        """The frame placed in the world of a scan."""
        grid = self.preprocessing.frame(image.grid)
        if self.card.architecture["centre"] == "middle":
            return grid
        affine = grid.affine.copy()
        affine[:3, 3] += body_centre_mm(_coarse(image), looks_like_ct(image)) - grid.centre_mm
        return Grid(grid.shape, affine)

    def channels(self, image: Image, frame: Grid, transform: Transform | None = None) -> np.ndarray:
        """What the network sees: ``(C, I, J, K)``, the scan read in a frame through a transform.

        Raises:
            UserError: the scan has no contrast.
        """
        values: np.ndarray = self.preprocessing.channels(image, frame, transform) / np.float32(self.divisor)
        return values

    def _check_card(self) -> None:
        super()._check_card()
        with understood(Path(self.card.name), "the card describes no model of this kind", "copy it again"):
            if self.card.architecture["centre"] not in get_args(Centre):
                raise ValueError(f"centre is {self.card.architecture['centre']}")
            bool(self.card.architecture["ct"])
            if not 0 < self.divisor < float("inf"):
                raise ValueError(f"divisor is {self.divisor}")


def output_grid(frame: Grid) -> Grid:
    """Where the outputs of the networks lie in the frame of their input: on every second voxel, from the second one.

    As published: the labels that they learn are read there.
    """
    affine = frame.affine.copy()
    affine[:3, 3] = frame.voxel_to_world(np.ones(3))
    affine[:3, :3] *= 2
    i, j, k = (n // 2 for n in frame.shape)
    return Grid((i, j, k), affine)


def _coarse(image: Image) -> Image:
    """The scan at about 2 mm, at which the centre of the body is found as in the preprocessing."""
    grid = image.grid.resampled(np.maximum(image.grid.spacing_mm, 2.0))
    return image if grid == image.grid else Affine.identity().warp_image(image, grid)
