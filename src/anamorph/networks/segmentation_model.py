"""A trained segmentation network, from a scan to a label map on the scan's own grid."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from anamorph.errors import UserError
from anamorph.geometry import Grid
from anamorph.image import Image, Labels
from anamorph.networks.model import Model
from anamorph.transforms import Affine

KIND = "segment"
CHANNELS_HELD = 10
"""Volumes at full resolution that a pass holds, in widths of its first stage (measured: 318 bytes per voxel at 8)."""


class SegmentationModel(Model):
    """A network that is called with one scan and gives scores of the background and its labels."""

    @property
    def labels(self) -> list[int]:
        """What it can tell apart, in the order of its channels after the background."""
        return sorted(self.card.labels)

    def predict(self, image: Image, known: Labels | None = None, annotated: Collection[int] = ()) -> Labels:
        """The most probable label of every voxel; what is known goes before what is predicted.

        Args:
            image: a scan.
            known: its own label map, on its grid.
            annotated: labels that ``known`` holds completely: they are never predicted, as wherever they are not known
                to be they are not.

        Raises:
            UserError: other channels than in the training, no contrast, or labels on another grid.
        """
        if known is not None and known.grid.shape != image.grid.shape:
            raise UserError(f"{known.name} is not on the grid of {image.name}; resample it first")
        probabilities = self.probabilities(image)
        for channel, label in enumerate(self.labels, start=1):
            if label in annotated:
                probabilities[channel] = 0
        values = np.array([0, *self.labels], np.uint8)[probabilities.argmax(axis=0)]
        if known is not None:
            truth = np.where(np.isin(known.data[0], [*annotated]), known.data[0], 0)
            values = np.where(truth > 0, truth, values).astype(np.uint8)
        return Labels(values, image.grid, image.name)

    def probabilities(self, image: Image) -> np.ndarray:
        """``(1 + labels, I, J, K)`` on the grid of the scan; all 0 where the network saw nothing.

        Raises:
            UserError: other channels than in the training, or no contrast.
        """
        import torch

        self.check(image)
        assert self.network is not None
        device = next(self.network.parameters()).device
        frame = self.frame(image.grid)
        channels = self.preprocessing.channels(image, frame)
        with torch.inference_mode():
            found = self.network(torch.from_numpy(channels)[None].to(device)).softmax(1)[0]
        seen = Image(found.cpu().numpy(), frame)
        return Affine.identity().warp_image(seen, image.grid, background=0).data

    def frame(self, grid: Grid) -> Grid:
        """Where the network sees a scan: as in training, and larger where the scan is."""
        return self.preprocessing.frame(grid, self.shape_for(grid))

    def peak_memory_bytes(self, grid: Grid) -> int:
        """Peak memory of segmenting a scan on a grid."""
        seen, width = int(np.prod(self.shape_for(grid))), 4 * int(self.architecture["mult"])
        return 4 * seen * CHANNELS_HELD * width + 4 * int(np.prod(grid.shape)) * (len(self.labels) + 1)
