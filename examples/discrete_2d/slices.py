"""Slices of several patients for the tutorial: real scans where they are, the phantom elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from anamorph.geometry import Grid
from anamorph.image import Image, Labels
from anamorph.image.read import read_image, read_labels
from anamorph.phantom import LABEL_NAMES, make_pair
from anamorph.report.pictures import ct_window, robust_window, to_grey
from anamorph.transforms import Affine

SCANS = Path(__file__).parents[3] / "shared" / "data" / "hippocampus"
SHAPE = (104, 80, 1)
FINE_MM = 0.5
PHANTOM_SHAPE, PHANTOM_MM = (128, 104, 1), 3.0
HIPPOCAMPUS = {1: "anterior", 2: "posterior"}


@dataclass(frozen=True)
class Slices:
    """One axial slice of each of N patients.

    Args:
        images: grey values from 0 to 255, each on a grid of one voxel along the third axis.
        labels: one map per image, the organs numbered from 1.
        organs: names of the labels 1, 2, and so on.
    """

    images: list[Image]
    labels: list[Labels]
    organs: list[str]

    def grey(self, index: int) -> torch.Tensor:
        """``(1, I, J)`` in [0, 1]."""
        return torch.from_numpy(self.images[index].data[..., 0]).float() / 255

    def one_hot(self, index: int) -> torch.Tensor:
        """``(organs + 1, I, J)``, background first."""
        labels = torch.from_numpy(self.labels[index].data[0, ..., 0].astype(np.int64))
        return torch.nn.functional.one_hot(labels, len(self.organs) + 1).permute(2, 0, 1).float()


def load_slices(count: int) -> Slices:
    """Slices of the hippocampus of ``count`` patients, or axial slices of as many synthetic abdomens."""
    if SCANS.is_dir():
        files = sorted((SCANS / "images").iterdir())[:count]
        pairs = [_hippocampus_slice(read_image(f), read_labels(SCANS / "labels" / f.name)) for f in files]
        names = HIPPOCAMPUS
    else:
        phantoms = [make_pair(PHANTOM_SHAPE, PHANTOM_MM, seed) for seed in range(count)]
        pairs = [(phantom.fixed, phantom.fixed_labels) for phantom in phantoms]
        names = {label: name for label, name in LABEL_NAMES.items() if all(label in m.present() for _, m in pairs)}
    window = robust_window if SCANS.is_dir() else ct_window
    images = [image.with_data(to_grey(image.data, window([image.data]))) for image, _ in pairs]
    numbers = np.zeros(256, np.uint8)
    numbers[list(names)] = np.arange(1, len(names) + 1)
    return Slices(images, [labels.with_data(numbers[labels.data]) for _, labels in pairs], list(names.values()))


def _hippocampus_slice(scan: Image, labels: Labels) -> tuple[Image, Labels]:
    """The sagittal slice with most of the hippocampus, on a fine grid around the middle of the scan."""
    _, _, nj, nk = scan.data.shape
    i = int(np.argmax((labels.data[0] > 0).sum(axis=(1, 2))))
    # The slice's axes are the scan's second and third, its single voxel lies along the first.
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, 0, 1], [FINE_MM, 0, 0], [0, FINE_MM, 0]])
    centred = affine.copy()
    centred[:3, 3] = -affine[:3, :3] @ ((np.array(SHAPE) - 1) / 2)
    affine[:3, 3] = centred[:3, 3] + scan.grid.voxel_to_world(np.array([i, (nj - 1) / 2, (nk - 1) / 2]))
    grid, place = Grid(SHAPE, affine), Affine.identity()
    image = place.warp_image(scan.with_data(scan.data.astype(np.float32)), grid)
    organs = place.warp_labels(labels, grid)
    # Middle on middle: what is left is how patients differ.
    return Image(image.data, Grid(SHAPE, centred), scan.name), Labels(organs.data, Grid(SHAPE, centred), labels.name)
