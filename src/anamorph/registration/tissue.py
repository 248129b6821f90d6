"""What a request says of tissue, read and checked: masks of pieces with their weights, and maps of stiffness."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias, cast

import numpy as np

from anamorph.errors import UserError
from anamorph.image.image import Image, Labels
from anamorph.image.label_like import is_label_map
from anamorph.image.pieces import FEWEST_VOXELS, pieces_of
from anamorph.image.read import read_image, read_labels
from anamorph.image.types import ImageLike
from anamorph.methods.tissue import NOTHING_KNOWN, Kept, Tissue
from anamorph.registration.grids import check_grid
from anamorph.transforms.maps import Affine

KeepLike: TypeAlias = ImageLike | Sequence[ImageLike | tuple[ImageLike, float]]
"""A mask or label map, or several, each alone (exact) or with a weight (soft)."""
Source: TypeAlias = tuple[ImageLike, float | None]


def sources_of(keep: KeepLike | None) -> list[Source]:
    """The masks of an argument, each with its weight, or None where the property is to be exact."""
    if keep is None:
        return []
    given = keep if isinstance(keep, list | tuple) else [keep]
    return [one if isinstance(one, tuple) else (one, None) for one in cast(Sequence[ImageLike], given)]


def with_weight(text: str) -> Source:
    """A mask of the command line, ``FILE`` or ``FILE=WEIGHT``."""
    name, equals, weight = text.rpartition("=")
    if not equals or Path(text).exists():
        return text, None
    try:
        return name, float(weight)
    except ValueError:
        raise UserError(f"{text}: '{weight}' is no weight; give FILE, or FILE=NUMBER such as bones.nii.gz=5") from None


def read_tissue(
    scan: Image, rigid: KeepLike | None, volume: KeepLike | None, stiffness: ImageLike | None, resample: bool
) -> Tissue:
    """The tissue of a scan.

    What moves rigidly keeps its volume: exactly rigid voxels are left out of the pieces that keep their volume.

    Args:
        scan: which it is of.
        rigid: masks of pieces that move rigidly.
        volume: masks of pieces that keep their volume.
        stiffness: factors of the smoothness, on the grid of the scan.
        resample: bring what lies on another grid to that of the scan.

    Raises:
        UserError: a mask cannot be read, is empty, lies elsewhere or shares voxels with another, or a weight is wrong.
    """
    if rigid is None and volume is None and stiffness is None:
        return NOTHING_KNOWN
    stiff = None if stiffness is None else _stiffness(stiffness, scan, resample)
    bones = [(_mask(source, scan, resample), _checked(weight)) for source, weight in sources_of(rigid)]
    lesions = [(_mask(source, scan, resample), _checked(weight)) for source, weight in sources_of(volume)]
    for masks in (bones, lesions):
        _refuse_shared([labels for labels, _ in masks])
    solid = np.zeros(scan.grid.shape, bool)
    for labels, weight in bones:
        if weight is None:
            solid |= labels.data[0] != 0
    kept = [
        (labels if weight is not None else Labels(np.where(solid, 0, labels.data[0]), scan.grid, labels.name), weight)
        for labels, weight in lesions
    ]
    return Tissue(tuple(_kept(*one) for one in bones), tuple(_kept(*one) for one in kept if one[0].data.any()), stiff)


def _mask(source: ImageLike, scan: Image, resample: bool) -> Labels:
    labels = read_labels(source)
    if not is_label_map(labels):
        raise UserError(f"{labels.name} is no mask: its values vary like those of an image; give 0 and 1, or labels")
    if not check_grid(labels, scan, resample, "mask"):
        labels = Affine.identity().warp_labels(labels, scan.grid)
    return Labels(labels.data, scan.grid, labels.name)


def _checked(weight: float | None) -> float | None:
    if weight is not None and not (math.isfinite(weight) and weight > 0):
        raise UserError(f"the weight of a kept mask must be a positive number, not {weight:g}; leave it out for exact")
    return weight


def _kept(labels: Labels, weight: float | None) -> Kept:
    pieces, _ = pieces_of(labels)
    if not pieces:
        raise UserError(f"the mask {labels.name} has no piece of {FEWEST_VOXELS} voxels or more, so it keeps nothing")
    return Kept(tuple(pieces), weight)


def _refuse_shared(masks: list[Labels]) -> None:
    for number, labels in enumerate(masks):
        for other in masks[:number]:
            shared = int(np.count_nonzero((labels.data != 0) & (other.data != 0)))
            if shared:
                raise UserError(
                    f"{other.name} and {labels.name} share {shared} voxels, which cannot belong to two pieces; "
                    "take them out of one mask"
                )


def _stiffness(source: ImageLike, scan: Image, resample: bool) -> Image:
    image = read_image(source)
    check_grid(image, scan, resample, "stiffness")
    if image.channels != 1 or not np.isfinite(image.data).all() or not image.data.min() > 0:
        raise UserError(f"{image.name}: stiffness must be one positive number per voxel, 1 for ordinary tissue")
    return image
