"""Tissue that must not deform: its masks and maps, read and checked, and the step after every method that keeps it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import TypeAlias, cast

import numpy as np

from anamorph.errors import UserError
from anamorph.geometry.grid import Grid
from anamorph.image.dicom.headers import SEPARATOR
from anamorph.image.image import Image, Labels
from anamorph.image.label_like import is_label_map
from anamorph.image.pieces import FEWEST_VOXELS, pieces_of
from anamorph.image.read import read_image, read_labels
from anamorph.image.types import ImageLike
from anamorph.methods.base import Outcome, Pair, Run
from anamorph.methods.tissue import NOTHING_KNOWN, Kept, Tissue
from anamorph.registration.grids import check_grid
from anamorph.registration.lungs import find_lungs, is_lungs
from anamorph.transforms.bodies import Body, Held, bodies_of, overlap_percent
from anamorph.transforms.maps import Affine
from anamorph.types import GraveWarning

KeepLike: TypeAlias = ImageLike | Sequence[ImageLike | tuple[ImageLike, float]]
"""A mask or label map, or several, each alone (exact) or with a weight (soft)."""
Source: TypeAlias = tuple[ImageLike, float | None]


def sources_of(keep: KeepLike | None) -> list[Source]:
    """The masks of an argument, each with its weight, or None where the property is to be exact."""
    if keep is None:
        return []
    given = keep if isinstance(keep, list | tuple) else [keep]
    return [one if isinstance(one, tuple) else (one, None) for one in cast(Sequence[ImageLike], given)]


def given_as(sources: Sequence[Source]) -> KeepLike:
    """The argument of some masks with their weights."""
    given = [one if weight is None else (one, weight) for one, weight in sources]
    first = given[0]
    return given if len(given) > 1 or isinstance(first, tuple) else first


def with_weight(text: str) -> Source:
    """A mask of the command line, ``FILE`` or ``FILE=WEIGHT``."""
    name, equals, weight = text.rpartition("=")
    if not equals or Path(text).exists():
        return text, None
    try:
        number = float(weight)
    except ValueError:
        if SEPARATOR in name:  # FILE::roi=Mandible
            return text, None
        raise UserError(f"{text}: '{weight}' is no weight; give FILE, or FILE=NUMBER such as bones.nii.gz=5") from None
    return name, _checked(number)


def read_tissue(
    scan: Image,
    rigid: KeepLike | None,
    volume: KeepLike | None,
    stiffness: ImageLike | None,
    sliding: ImageLike | None,
    resample: bool,
) -> Tissue:
    """The tissue of a scan.

    What moves rigidly keeps its volume: exactly rigid voxels are left out of the pieces that keep their volume.

    Args:
        scan: which it is of.
        rigid: masks of pieces that move rigidly.
        volume: masks of pieces that keep their volume.
        stiffness: factors of the smoothness, on the grid of the scan.
        sliding: mask of what slides along what is around it, or ``lungs``, which are found in a CT.
        resample: bring what lies on another grid to that of the scan.

    Raises:
        UserError: a mask cannot be read, is empty, lies elsewhere or shares voxels with another, or a weight is wrong.
    """
    if rigid is None and volume is None and stiffness is None and sliding is None:
        return NOTHING_KNOWN
    slides = None
    if sliding is not None:
        slides = _depth_mm(find_lungs(scan) if is_lungs(sliding) else _mask(sliding, scan, resample))
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
    volumes = tuple(_kept(*one) for one in kept if one[0].data.any())
    return Tissue(tuple(_kept(*one) for one in bones), volumes, stiff, slides)


def _mask(source: ImageLike, scan: Image, resample: bool) -> Labels:
    labels = read_labels(source, scan=scan)
    if not is_label_map(labels):
        raise UserError(f"{labels.name} is no mask: its values vary like those of an image; give 0 and 1, or labels")
    if not check_grid(labels, scan, resample, "mask"):
        labels = Affine.identity().warp_labels(labels, scan.grid)
    return labels.placed(scan.grid)


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


DEEPEST_MM = 30.0
"""Depths beyond do not matter."""
SMOOTHED_VOX = 1.5


def _depth_mm(mask: Labels) -> Image:
    """How deep each voxel lies below the surface of a mask, negative outside, without the steps of voxels."""
    from scipy.ndimage import binary_erosion, distance_transform_edt, gaussian_filter

    inside, grid = mask.data[0] != 0, mask.grid
    if inside.all():
        raise UserError(f"the mask {mask.name} fills its scan, so there is no surface along which it could slide")
    outermost = inside & ~binary_erosion(inside, border_value=1)
    apart = distance_transform_edt(~outermost, grid.spacing_mm).astype(np.float32)
    depth = np.where(inside, apart, -apart) + np.float32(grid.finest_mm / 2)
    depth = np.clip(depth, -DEEPEST_MM, DEEPEST_MM)
    return Image(gaussian_filter(depth, SMOOTHED_VOX * grid.finest_mm / grid.spacing_mm), grid, mask.name)


def _stiffness(source: ImageLike, scan: Image, resample: bool) -> Image:
    image = read_image(source)
    check_grid(image, scan, resample, "stiffness")
    if image.channels != 1 or not np.isfinite(image.data).all() or not image.data.min() > 0:
        raise UserError(f"{image.name}: stiffness must be one positive number per voxel, 1 for ordinary tissue")
    return image


TOUCHING_PERCENT, COLLIDING_PERCENT = 1.0, 10.0
"""Overlaps of two rigid pieces after they have moved: less than the first is the rounding of voxels."""
MOST_OUTSIDE = 0.5


def keep(outcome: Outcome, pair: Pair, run: Run) -> Outcome:
    """The outcome of a method with the exact properties of the tissue; what is wrong with them becomes a warning.

    Args:
        outcome: of any method.
        pair: the scans and what is known of their tissue.
        run: of the method.
    """
    tissues = pair.tissues
    if tissues == (NOTHING_KNOWN, NOTHING_KNOWN):
        return outcome
    for what in ("stiffness", "sliding"):
        if outcome.free is None and any(getattr(tissue, what) is not None for tissue in tissues):
            outcome.warnings.append(f"no field was refined, so the {what} had no say")
    rigid, volume = (_held([tissue.rigid for tissue in tissues]), _held([tissue.volume for tissue in tissues]))
    if not any((*rigid, *volume)):
        return outcome
    from anamorph.transforms.projection import project

    run.progress("tissue", 0.99)
    with run.timed("tissue"):
        free = outcome.free or (outcome.fixed_to_moving, outcome.moving_to_fixed)
        grids = pair.fixed.grid, pair.moving.grid
        bodies = bodies_of(rigid[0], rigid[1], outcome.fixed_to_moving, outcome.moving_to_fixed)
        outcome.warnings += _collisions(bodies)
        found = project(outcome.fixed_to_moving, outcome.moving_to_fixed, *grids, bodies, volume[0])
        onward, back, folded = found.onward, found.back, found.folded
        if volume[1]:
            other = project(back, onward, *grids[::-1], [body.inverse() for body in bodies], volume[1])
            onward, back, folded = other.back, other.onward, (*folded, *other.folded)
        pieces = zip((*rigid, *volume), (onward, back) * 2, grids[::-1] * 2, strict=True)
        outcome.warnings += [
            f"{piece.name} leaves the field of view of the other scan; leave it out, or mask what is not shown"
            for some, transform, grid in pieces
            for piece in (held.piece for held in some)
            if _outside(transform.map_world(piece.centres_mm), grid)
        ]
        outcome.warnings += [
            f"around {name} the map folds: it is not as the images ask; see the report" for name in folded
        ]
    return dataclasses.replace(outcome, fixed_to_moving=onward, moving_to_fixed=back, free=free)


def _held(kinds: Sequence[tuple[Kept, ...]]) -> list[list[Held]]:
    """The pieces of both scans with one property."""
    return [[Held(piece, kept.share) for kept in kind for piece in kept.pieces] for kind in kinds]


def _collisions(bodies: list[Body]) -> list[str]:
    found = []
    for first, second in combinations([body for body in bodies if body.share == 1], 2):
        shared = overlap_percent(first, second)
        if shared > TOUCHING_PERCENT:
            text = (
                f"{first.name} and {second.name} would overlap by {shared:.0f} % after moving; "
                "make them one piece, or give one of them a weight"
            )
            found.append(GraveWarning(text) if shared > COLLIDING_PERCENT else text)
    return found


def _outside(moved_mm: np.ndarray, grid: Grid) -> bool:
    return bool((~grid.contains(moved_mm)).mean() > MOST_OUTSIDE)
