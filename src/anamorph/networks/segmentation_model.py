"""A trained segmentation network, from a scan to a label map on the scan's own grid."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import torch

from anamorph.errors import UserError
from anamorph.geometry import Grid
from anamorph.image import Image, Labels
from anamorph.networks.known import build_network
from anamorph.networks.model_folder import ModelCard, load_model
from anamorph.networks.preprocessing import Preprocessing
from anamorph.networks.segmentation_network import SegmentationNetwork
from anamorph.transforms import Affine

KIND = "segment"
CHANNELS_HELD = 10
"""Volumes at full resolution that a pass holds, in widths of its first stage (measured: 318 bytes per voxel at 8)."""


@dataclass(frozen=True)
class SegmentationModel:
    """A model folder that is loaded."""

    card: ModelCard
    preprocessing: Preprocessing
    network: SegmentationNetwork

    @classmethod
    def load(cls, name_or_path: str, device: str) -> SegmentationModel:
        """Read the card and the weights.

        Raises:
            UserError: there is no such model, it is damaged, or the weights are not those of the architecture.
        """
        card, state = load_model(name_or_path, KIND)
        network = build_network(card, state)
        assert isinstance(network, SegmentationNetwork)
        return cls(card, Preprocessing.from_json(card.preprocessing), network.to(device))

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
        frame = frame_for(self.preprocessing, image.grid)
        channels = self.preprocessing.channels(image, frame)
        expected = int(self.card.architecture["inputs"])
        if len(channels) != expected:
            raise UserError(f"{image.name} has {len(channels)} channels, {self.card.name} was trained on {expected}")
        device = next(self.network.parameters()).device
        with torch.inference_mode():
            found = self.network(torch.from_numpy(channels)[None].to(device)).softmax(1)[0]
        seen = Image(found.cpu().numpy(), frame)
        return Affine.identity().warp_image(seen, image.grid, background=0).data


def frame_for(preprocessing: Preprocessing, grid: Grid) -> Grid:
    """Where a network sees a scan: as in training, and larger where the scan is."""
    own = dataclasses.replace(preprocessing, shape=None).covering_shape(grid)
    shape = np.maximum(own, preprocessing.shape or (1, 1, 1))
    return preprocessing.frame(grid, tuple(int(n) for n in shape))  # type: ignore[arg-type]


def prediction_bytes(card: ModelCard, grid: Grid) -> int:
    """Peak memory of segmenting a scan on a grid."""
    seen = int(np.prod(frame_for(Preprocessing.from_json(card.preprocessing), grid).shape))
    width = 4 * int(card.architecture["mult"])
    return 4 * seen * CHANNELS_HELD * width + 4 * int(np.prod(grid.shape)) * (len(card.labels) + 1)
