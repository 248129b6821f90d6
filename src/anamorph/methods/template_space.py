"""Methods whose network sees one scan at a time, in the frame of a template."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from anamorph.geometry.grid import Grid
from anamorph.image.image import Image
from anamorph.methods.base import Pair, Run
from anamorph.methods.learned import Found, Learned, Seen
from anamorph.networks.trained import Kind, TemplateModel
from anamorph.transforms.fields import compose
from anamorph.transforms.maps import Affine

LATTICE_VOXELS = 2.5
"""Spacing of the lattice on which splines are evaluated, voxels of the frame; five of the scans, as published."""


def lattice(frame: Grid) -> Grid:
    """The coarse grid of fields in a frame."""
    return frame.resampled(LATTICE_VOXELS * frame.spacing_mm)


def through_template(to_template: np.ndarray, from_template: np.ndarray) -> np.ndarray:
    """The field of a scan to another by way of the template; all on one lattice."""
    return compose(np.ascontiguousarray(to_template), np.ascontiguousarray(from_template))


@dataclass(frozen=True, eq=False)
class TemplatePair:
    """Both scans in the frame of a template: voxels of one index belong together after the start.

    Args:
        model: the loaded model.
        inputs: of the network, fixed and moving, ``(C, I, J, K)`` each.
        masks: ``(I, J, K)`` bool, fixed and moving, or None.
    """

    model: TemplateModel
    inputs: tuple[np.ndarray, np.ndarray]
    masks: tuple[np.ndarray | None, np.ndarray | None]

    @classmethod
    def of(cls, seen: Seen) -> TemplatePair:
        """Read both scans in the frame."""
        model, pair, frame = seen.model, seen.pair, seen.frame
        inputs = model.channels(pair.fixed, frame), model.channels(pair.moving, frame, seen.start)
        masks = (
            None if pair.fixed_mask is None else seen.scans[0].onto(frame, Affine.identity()).weight > 0,
            None if pair.moving_mask is None else seen.scans[1].onto(frame, seen.start).weight > 0,
        )
        return cls(model, inputs, masks)


class TemplateSpace(Learned):
    """A network that knows a template; the hook of a method is :meth:`match`."""

    name: ClassVar[Kind]

    @abstractmethod
    def match(self, pair: TemplatePair, run: Run) -> tuple[np.ndarray, np.ndarray]:
        """Fields ``(3, I, J, K)`` from fixed to moving and back, in voxels of the :func:`lattice` of the frame.

        What the network says of both scans is the stage ``network``, from 0.1, what follows ``match``, from 0.4.
        """

    def load(self, pair: Pair, device: Literal["cpu", "cuda"]) -> TemplateModel:
        model = TemplateModel.load(self.config.model, self.name, device)
        model.check(pair.fixed, pair.moving)
        return model

    def frame_of(self, model: TemplateModel, image: Image, pair: Pair) -> Grid:
        return model.frame_in(image)

    def fields(self, seen: Seen, run: Run) -> Found:
        with run.timed("network"):
            pair = TemplatePair.of(seen)
        forward, backward = self.match(pair, run)
        own, in_frame = seen.model.frame, lattice(seen.model.frame)
        grid = Grid(in_frame.shape, seen.frame.affine @ np.linalg.inv(own.affine) @ in_frame.affine)
        return Found(forward, backward, grid)

    def network_bytes(self, fixed: Grid, moving: Grid) -> int:
        outputs = int(np.prod(TemplateModel.describe(self.config.model, self.name).shape)) // 8
        # The hidden channels of the head twice, the coded features of two scans and one of a layer's scores.
        return 4 * outputs * (2 * 512 + 3 * 256 + 2 * 128)
