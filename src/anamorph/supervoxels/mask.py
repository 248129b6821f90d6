"""Where a scan is cut into supervoxels: the body, or what lies near labelled organs."""

from __future__ import annotations

import numpy as np

from anamorph.errors import UserError
from anamorph.features.intensity import BODY_HU
from anamorph.image.background import looks_like_ct
from anamorph.image.image import Image, Labels, Mask

ORGAN_REACH_MM = 60.0
"""Of the published layers: 30 voxels of 2 mm."""
DIM = 0.1
"""A voxel darker than this share of the range of intensities is background (Smith 2002, BET)."""
OPENING_MM = 8.0
"""What is thinner, such as the table of a CT, is no part of the body."""


def body(image: Image) -> Mask:
    """The body in a scan: above a threshold, without thin structures, the largest piece, its holes filled.

    The threshold is -500 HU for CT, else a tenth of the range between the 2nd and the 98th percentile. Air inside the
    body is filled in three dimensions and plane by plane, since the ends of a scan cut lungs and bowel open.

    Args:
        image: the first channel counts.

    Returns:
        0 and 1 on the grid of the scan; the pieces of the mask touch across faces.

    Raises:
        UserError: there is nothing above the threshold.
    """
    from scipy.ndimage import binary_dilation, binary_fill_holes, binary_opening, generate_binary_structure

    bright = image.data[0] > _threshold(image)
    cross = generate_binary_structure(3, 1)
    steps = int(OPENING_MM // (2 * image.grid.finest_mm))
    if looks_like_ct(image) and steps > 0 and min(image.grid.shape) > 4 * steps:
        # Padded, so that a body that the border cuts is not opened from there.
        core = binary_opening(np.pad(bright, steps, mode="edge"), cross, iterations=steps)
        core = largest_piece(core[tuple(slice(steps, -steps) for _ in range(3))])
        bright = largest_piece(bright & binary_dilation(core, cross, iterations=steps))
    else:
        bright = largest_piece(bright)
    if not bright.any():
        raise UserError(f"{image.name}: no body is found in it; give a mask")
    filled = binary_fill_holes(bright)
    for axis in range(3):
        if min(n for a, n in enumerate(filled.shape) if a != axis) > 1:
            flat = np.expand_dims(generate_binary_structure(2, 1), axis)
            filled |= binary_fill_holes(bright, flat)
    return Mask(filled.astype(np.uint8), image.grid, f"body of {image.name}")


def near_organs(labels: Labels, reach_mm: float = ORGAN_REACH_MM) -> Mask:
    """What lies nearer to a labelled voxel than a distance, as the published layers have it.

    Raises:
        UserError: there is no label.
    """
    from scipy.ndimage import distance_transform_edt

    if not labels.data.any():
        raise UserError(f"{labels.name} holds no label, so nothing is near one; take the body instead")
    distance_mm = distance_transform_edt(labels.data[0] == 0, sampling=labels.grid.spacing_mm)
    return Mask((distance_mm < reach_mm).astype(np.uint8), labels.grid, f"near {labels.name}")


def largest_piece(mask: np.ndarray) -> np.ndarray:
    """The largest piece of an ``(I, J, K)`` mask whose voxels touch across faces."""
    from scipy.ndimage import label

    pieces, count = label(mask)
    if count < 2:
        return mask
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    largest: np.ndarray = pieces == sizes.argmax()
    return largest


def _threshold(image: Image) -> float:
    if looks_like_ct(image):
        return BODY_HU
    low, high = np.percentile(image.data[0], (2, 98))
    return float(low + DIM * (high - low))
