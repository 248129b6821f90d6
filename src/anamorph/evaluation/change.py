"""What changed between two scans of one patient, against the noise of the pair.

The scans are compared voxel by voxel once the moving one lies on the fixed one: its brightness is fitted to that of the
fixed scan, and the difference is divided by how much unchanged tissue of the same brightness, as close to an edge,
differs. An edge that is off by a small part of a voxel differs much, and counts for little.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anamorph.errors import UserError
from anamorph.evaluation.uncertainty import inside_body
from anamorph.image.image import Image
from anamorph.transforms.maps import Transform

DETAIL_MM = 1.5
"""Standard deviation of the Gaussian that takes noise out of the difference; no less than half a voxel."""
FIELD_MM = 25.0
"""The same, for the brightness that differs from place to place by the coils and not by tissue."""
BRIGHTNESSES, TISSUES, EDGES = 64, 10, 12
"""Steps in which brightness is fitted, and classes of brightness and of edges that noise is measured in."""
ROUNDS, OUTLIER = 3, 3.0
"""Of the fit; voxels that differ by so many standard deviations have no part in the next round."""
FEWEST = 50
"""Voxels that the noise of a class can be measured in."""
MAD = 1.4826
"""Standard deviations of a normal distribution in a median absolute deviation."""


@dataclass(frozen=True, eq=False)
class Change:
    """How far two scans differ.

    Args:
        map: differences on the fixed grid in standard deviations of the noise, positive where the moving scan is
            brighter; 0 where one of the scans shows no body.
        inside: ``(I, J, K)`` where both do.
    """

    map: Image
    inside: np.ndarray

    def volume_ml(self, least: float) -> tuple[float, float]:
        """The volumes that became brighter and darker by at least so many standard deviations."""
        voxel_ml = abs(float(np.linalg.det(self.map.grid.affine[:3, :3]))) / 1000
        values = self.map.data[0]
        return float((values >= least).sum()) * voxel_ml, float((values <= -least).sum()) * voxel_ml


def find_change(fixed: Image, moving: Image, fixed_to_moving: Transform) -> Change:
    """Compare two scans of one patient and one kind of contrast after registration.

    Args:
        fixed: the earlier scan.
        moving: the later one.
        fixed_to_moving: the map that was found.

    Raises:
        UserError: several channels, or nothing of the fixed body is in view of the moving scan.
    """
    if fixed.channels != 1 or moving.channels != 1:
        raise UserError("change is looked for between scans of one channel; give the two of one contrast")
    seen = Image(np.ones(moving.grid.shape, np.uint8), moving.grid)
    warped = fixed_to_moving.warp_image(moving, fixed.grid)
    inside = fixed_to_moving.warp_image(seen, fixed.grid, 0, "nearest").data[0] > 0
    inside &= inside_body(fixed, fixed.grid) & inside_body(warped, fixed.grid)
    if np.count_nonzero(inside) < FEWEST * TISSUES:
        raise UserError(f"{moving.name} shows nothing of the body in {fixed.name}; register them first")
    before = fixed.data[0].astype(np.float32)
    after = _fitted(warped.data[0].astype(np.float32), before, inside, fixed.grid.spacing_mm)
    spacing = fixed.grid.spacing_mm
    values = _noise_units(before, after, inside, np.maximum(DETAIL_MM / spacing, 0.5), spacing)
    return Change(Image(np.where(inside, values, 0).astype(np.float32), fixed.grid, "change"), inside)


def _fitted(after: np.ndarray, before: np.ndarray, inside: np.ndarray, spacing_mm: np.ndarray) -> np.ndarray:
    """A scan with the brightness of another: a smooth factor over space, then a rising curve of brightness."""
    from scipy.ndimage import gaussian_filter

    weight = inside.astype(np.float32)
    fitted = after
    for _ in range(ROUNDS):
        reach = FIELD_MM / spacing_mm
        here, there = (gaussian_filter(values * weight, reach) for values in (before, after))
        even = after * np.where(there > 0, here / np.maximum(there, 1e-6), 1)
        steps = np.unique(np.quantile(even[inside], np.linspace(0, 1, BRIGHTNESSES + 1)))
        place = np.digitize(even[inside], steps[1:-1])
        used = np.unique(place)
        given, wanted = ([np.median(values[inside][place == n]) for n in used] for values in (even, before))
        beyond = even - np.clip(even, given[0], given[-1])  # where the curve goes on straight
        slope = (wanted[-1] - wanted[0]) / max(given[-1] - given[0], 1e-9)
        fitted = (np.interp(even, given, np.maximum.accumulate(wanted)) + slope * beyond).astype(np.float32)
        apart = np.abs(fitted - before)
        weight = (inside & (apart <= OUTLIER * MAD * max(float(np.median(apart[inside])), 1e-9))).astype(np.float32)
    return fitted


def _noise_units(
    before: np.ndarray, after: np.ndarray, inside: np.ndarray, detail_vox: np.ndarray, spacing_mm: np.ndarray
) -> np.ndarray:
    """The difference in standard deviations of that of other voxels as bright and as close to an edge."""
    from scipy.ndimage import gaussian_filter, gaussian_gradient_magnitude

    difference, mean = gaussian_filter(after - before, detail_vox), (before + after) / 2
    edge = gaussian_gradient_magnitude(mean, np.maximum(1 / spacing_mm, 0.5))
    classes = np.zeros(int(inside.sum()), int)
    for values, count in ((gaussian_filter(mean, np.maximum(1 / spacing_mm, 0.5)), TISSUES), (edge, EDGES)):
        limits = np.quantile(values[inside], np.linspace(0, 1, count + 1)[1:-1])
        classes = classes * count + np.digitize(values[inside], limits)
    found, everywhere = difference[inside], MAD * float(np.median(np.abs(difference[inside])))
    units = np.zeros_like(found)
    for one in np.unique(classes):
        here = classes == one
        middle = float(np.median(found[here]))
        spread = MAD * float(np.median(np.abs(found[here] - middle))) if here.sum() >= FEWEST else everywhere
        units[here] = (found[here] - middle) / max(spread, 1e-3 * everywhere, 1e-9)
    out = np.zeros(before.shape, np.float32)
    out[inside] = units
    return out
