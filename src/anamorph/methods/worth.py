"""Whether a deformation is worth having, or a linear start says all that two scans tell."""

from __future__ import annotations

import numpy as np

from anamorph.features.intensity import IntensityKind
from anamorph.geometry.grid import Grid
from anamorph.methods.descriptors import DescribedPair
from anamorph.methods.start.remarks import GIVE_IT
from anamorph.methods.start.volumes import WEAK_UNLIKE
from anamorph.methods.working_frame import Scan
from anamorph.optimise.velocity import data_term
from anamorph.runtime.device import to_device
from anamorph.transforms.maps import Composite, Displacement, Transform
from anamorph.types import GraveWarning

LEAST_EXPLAINED = 0.2
"""A start that explains less is not deformed without a guide: between such scans chance leads a deformation astray."""
NOT_DEFORMED = (
    "the scans explain too little of each other to be deformed, so that the result is the linear start alone; "
    "where that is right, keep_doubtful=true deforms from there"
)
UNRELATED = GraveWarning(
    "nothing shows that these scans belong together: the start had to be searched for, explains no more of them than "
    f"unrelated scans do, and no deformation adds to that; {GIVE_IT}, or other scans"
)
WEAK_LEFT = 0.6
"""Of the mismatch: a deformation between scans whose start explains little has to leave less."""
DOUBTFUL = (
    "the scans explain little of each other after the start that was given ({explained:.2f} of 1), so that the "
    "deformation may follow chance: look at the result"
)
KEPT_BY = "; keep_doubtful=true keeps it"
ONLY_NOISE = "not deformed: a deformation would explain no more than noise ({left:.2f} of the mismatch is left)"
LEAST_REMOVED, LEAST_REMOVED_NOISY = 0.1, 0.2
"""Of what one scan leaves open about the other in small blocks, a deformation has to settle this share: both in blocks
of single voxels and of voxels twice as large, or, of noisy scans, more and of the latter alone."""
LEAST_REMOVED_BETWEEN_CONTRASTS = 0.02
"""The share in blocks of single voxels between two contrasts, which agree little there at best."""
NOISY = 0.5
"""Share of the variance within blocks from which on noise hides what single voxels show."""
TOO_FINE = 2.0
"""Voxels of a scan that are so many times as thick as those in which it is compared show nothing in blocks of the
latter but how they were read between."""
NOTHING_LEFT = (
    "not deformed: after the start, a deformation would explain nothing ({left:.2f} of the differences are left)"
)
BLOCK = 3
"""Voxels along each axis of a block."""
FLAT = 0.01
"""Standard deviation, of scaled intensities, below which a block shows nothing."""
FEWEST_BLOCKS, FEW_BLOCKS = 700, 200
"""In smaller scans too few blocks tell what a deformation explains; between the two numbers both sizes have to agree
that it explains next to nothing."""
NEXT_TO_NOTHING = 0.05
"""A share: exact maps of noisy phantoms settle 0.011 at most in blocks of either size, right deformations 0.085 and
more in single voxels and 0.17 and more in larger ones."""
MOST_VOXELS = 4e5
"""Larger scans are compared on slices spread over them."""
FEWEST_SLICES = 8
GOLDEN = 0.618
"""Pieces of slices lie so much of the width further from one slice to the next, which spreads them evenly."""


def may_be_noise(explained: float, kind: IntensityKind) -> bool:
    """Whether a deformation may follow noise: intensities do not compare, and the linear start explains little."""
    return kind == "none" and explained < WEAK_UNLIKE


def noise_followed(
    pair: DescribedPair, grid: Grid, deformation: Displacement, explained: float, kind: IntensityKind
) -> str | None:
    """A line for a deformation that follows noise alone, None for one that is worth having.

    Only deformations between scans whose intensities do not compare and whose start explains little are doubted.

    Args:
        pair: both scans after the linear start, described.
        grid: of their descriptors.
        deformation: of the fixed frame.
        explained: by the linear start.
        kind: how the intensities compare.
    """
    if not may_be_noise(explained, kind):
        return None
    left = mismatch_left(pair, deformation.displacement_on(grid).disp_vox.astype(np.float32, copy=False))
    return ONLY_NOISE.format(left=left) if left > WEAK_LEFT else None


def mismatch_left(pair: DescribedPair, disp_vox: np.ndarray) -> float:
    """The mismatch under a field ``(3, I, J, K)`` as a share of the mismatch without one; 1 where there is none."""
    here = disp_vox if isinstance(pair.fixed, np.ndarray) else to_device(disp_vox, pair.fixed.device.type)
    before, after = (data_term(pair.fixed, pair.fixed_weight, pair.moving, u)[0] for u in (0 * here, here))
    return after / before if before > 0 else 1.0


def nothing_left(
    fixed: Scan, moving: Scan, start: Transform, deformation: Displacement, grid: Grid, of_one_contrast: bool = True
) -> str | None:
    """A line for a deformation after which small structures agree no better than after the start, else None.

    What was optimised are smooth descriptors on a coarser grid. Whether the right structures lie upon each other shows
    in single voxels: a right deformation between people, or of one who breathes, settles 0.14 to 0.34 of what was open
    there; one that fits noise, or that brings anything smooth upon anything smooth, less than 0.1. One that fits how
    thick slices were resampled settles much in single voxels, and nothing in larger ones. Noisy scans are asked in
    larger voxels alone, and so are scans whose slices are much thicker than the voxels. Where there are few blocks of
    these, both sizes are asked, and where there are too few, nothing is said. Between two contrasts a right deformation
    settles 0.03 to 0.34 in single voxels, and none where the start is right.

    Args:
        fixed: prepared scan.
        moving: prepared scan.
        start: of fixed to moving points.
        deformation: of the fixed frame.
        grid: of the fixed frame, on which to compare: the finest.
        of_one_contrast: whether intensities compare as those of one contrast do.
    """
    maps = start, Composite.of(deformation, start)
    left, noise, count = _left(fixed, moving, maps, grid)
    least = LEAST_REMOVED if noise <= NOISY else LEAST_REMOVED_NOISY
    asked = least if of_one_contrast else LEAST_REMOVED_BETWEEN_CONTRASTS
    is_too_fine = _thickest(fixed.grid, grid) > TOO_FINE or _thickest(moving.grid, grid, start.inverse()) > TOO_FINE
    if noise > NOISY or is_too_fine or left <= 1 - asked:
        asked, single = least, left
        left, _, count = _left(fixed, moving, maps, grid.pooled((2,) * 3))
        if FEW_BLOCKS <= count < FEWEST_BLOCKS:
            return NOTHING_LEFT.format(left=left) if min(single, left) > 1 - NEXT_TO_NOTHING else None
    return NOTHING_LEFT.format(left=left) if count >= FEWEST_BLOCKS and left > 1 - asked else None


def _thickest(scan: Grid, grid: Grid, onto: Transform | None = None) -> float:
    """How many times as thick as the voxels of a grid those of a scan are where they are thickest, after a map."""
    thickness_mm = np.where(np.array(scan.shape) > 1, scan.spacing_mm, 0)  # that of a slice alone is no resolution
    if not thickness_mm.any():
        return 1.0
    step = scan.affine[:3, thickness_mm.argmax()]
    if onto is not None:
        ends = onto.map_world(scan.centre_mm + np.outer((-0.5, 0.5), step))
        step = ends[1] - ends[0]
    return float(step @ step / np.linalg.norm(grid.directions.T @ step * grid.spacing_mm))


def _left(fixed: Scan, moving: Scan, maps: tuple[Transform, Transform], grid: Grid) -> tuple[float, float, int]:
    """Of what the first map leaves open in blocks of a grid, how much the second does; their noise and number."""
    opened, noise = [], []
    for part in _parts(grid):
        scans = fixed.onto(part), *(moving.onto(part, one) for one in maps)
        inside = np.all([_blocks(scan.weight[None] > 0).all(axis=0) for scan in scans], axis=0)
        here, *others = (_blocks(scan.channels)[:, np.tile(inside, len(scan.channels))] for scan in scans)
        shown = np.min([values.std(axis=0) for values in (here, *others)], axis=0) > FLAT
        opened.append([left_open(here[:, shown], other[:, shown]) for other in others])
        noise.append([noise_share(values[:, shown], _sizes(part.shape)) for values in (here, others[0])])
    before, after = np.concatenate(opened, axis=1)
    if len(before) == 0:
        return 1.0, 0.0, 0
    noisier = float(np.concatenate(noise, axis=1).mean(axis=1).max())
    return float(after.mean() / max(before.mean(), 1e-9)), noisier, len(before)


def left_open(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """``(N,)``: one minus the squared correlation of each column of two arrays ``(M, N)`` none of which is constant."""
    centred = [values - values.mean(axis=0) for values in (one, other)]
    shared, *own = (np.einsum("mn,mn->n", a, b) for a, b in (centred, centred[:1] * 2, centred[1:] * 2))
    return 1 - shared**2 / (own[0] * own[1])


def noise_share(blocks: np.ndarray, sizes: tuple[int, ...]) -> np.ndarray:
    """``(N,)``: the share of the variance of blocks ``(M, N)`` of given sizes that no quadratic surface explains."""
    position = np.stack(np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in sizes), indexing="ij"), axis=-1)
    terms = np.concatenate([np.ones((len(blocks), 1)), position.reshape(len(blocks), -1)], axis=1)
    products = np.einsum("ma,mb->mab", terms, terms)[:, *np.triu_indices(terms.shape[1])]
    surface, kept, _ = np.linalg.svd(products, full_matrices=False)
    surface = surface[:, kept > 1e-6 * kept[0]]
    centred = blocks - blocks.mean(axis=0)
    total = (centred**2).sum(axis=0)
    explained = np.einsum("mk,mn->kn", surface, centred)
    free = max(len(blocks) - surface.shape[1], 1)
    variance = np.maximum(total / max(len(blocks) - 1, 1), 1e-12)
    return np.maximum(total - (explained**2).sum(axis=0), 0) / free / variance


def _parts(grid: Grid) -> list[Grid]:
    """Slices of one block's thickness: all of a small grid, and as many of a larger one as are enough, or pieces."""
    rows, width = max(grid.shape[0] // BLOCK, 1), grid.shape[1]
    enough = MOST_VOXELS / (BLOCK * grid.shape[2])
    count = int(np.clip(enough / width, min(FEWEST_SLICES, rows), rows))
    width = min(width, max(int(enough / count), BLOCK))
    parts = []
    for number, row in enumerate(np.unique(np.linspace(0, rows - 1, count).astype(int))):
        first, aside = BLOCK * int(row), int((grid.shape[1] - width) * (number * GOLDEN % 1))
        box = slice(first, min(first + BLOCK, grid.shape[0])), slice(aside, aside + width), slice(0, grid.shape[2])
        parts.append(grid.cropped(box))
    return parts


def _blocks(channels: np.ndarray) -> np.ndarray:
    """``(M, C * N)``: the voxels of each whole block of channels ``(C, I, J, K)``, a column each."""
    sizes = _sizes(channels.shape[1:])
    whole = channels[(slice(None), *(slice(n - n % size) for n, size in zip(channels.shape[1:], sizes, strict=True)))]
    split = [m for n, size in zip(whole.shape[1:], sizes, strict=True) for m in (n // size, size)]
    return whole.reshape(-1, *split).transpose(2, 4, 6, 0, 1, 3, 5).reshape(int(np.prod(sizes)), -1)


def _sizes(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Voxels of a block along each axis."""
    return tuple(min(BLOCK, n) for n in shape)
