"""What changed between two scans of one patient, against the noise of the pair.

The scans are compared voxel by voxel once the moving one lies on the fixed one: its brightness is fitted to that of the
fixed scan, and the difference is divided by how much unchanged tissue of the same brightness, as close to an edge,
differs. An edge that is off by a small part of a voxel differs much, and counts for little.

How sure a region of change is follows from its size: by chance, a smooth map of noise has so many pieces as large above
a threshold (random field theory: Friston et al., Human Brain Mapping 1994). Tails heavier than those of a normal
distribution are taken from Student's, fitted to the bulk of the map.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from anamorph.errors import UserError
from anamorph.evaluation.no_partner import NAMED, Region
from anamorph.evaluation.uncertainty import inside_body
from anamorph.geometry.averaging import pool_volume
from anamorph.geometry.lengths import significant
from anamorph.geometry.sampling import identity_positions, sample
from anamorph.image.image import Image
from anamorph.methods.no_partner import MAD
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
THRESHOLD = 5.0
"""Standard deviations from which on voxels belong to a region of change."""
SIGNIFICANT = 0.05
"""Chance that a pair without change has one such region or more."""
BULK, DEGREES = 0.99, (2.5, 60.0)
"""Share of the voxels that the tails are extrapolated from, and the degrees of freedom that are looked among."""


@dataclass(frozen=True)
class ChangedRegion(Region):
    """A region of the fixed scan where two scans differ.

    Args:
        volume_ml: of the voxels beyond the threshold.
        middle_ras_mm: mean of its voxels.
        mean_sd: mean difference in standard deviations; positive where the moving scan is brighter.
        chance: that a pair without change has a region as large anywhere, two-sided.
    """

    mean_sd: float
    chance: float

    def __str__(self) -> str:
        return f"{'brighter' if self.mean_sd > 0 else 'darker'} {super().__str__()} (by chance {self.chance:.1g})"


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

    def regions(self, least: float = THRESHOLD, most_chance: float = SIGNIFICANT) -> list[ChangedRegion]:
        """Regions that chance does not explain, the surest first, then the largest.

        Args:
            least: standard deviations from which on voxels belong to a region.
            most_chance: how probable a region as large may be where nothing changed.
        """
        from scipy.ndimage import label

        values, grid = self.map.data[0], self.map.grid
        noise = _Noise.of(values, self.inside)
        voxel_ml = abs(float(np.linalg.det(grid.affine[:3, :3]))) / 1000
        found = []
        for sign in (1, -1):
            pieces, count = label(sign * values >= least)
            sizes = np.bincount(pieces.ravel(), minlength=count + 1)
            for piece in np.flatnonzero(sizes[1:] > 0) + 1:
                chance = noise.chance(least, int(sizes[piece]))
                if chance > most_chance:
                    continue
                at = np.argwhere(pieces == piece)
                x, y, z = grid.voxel_to_world(at.mean(axis=0)[None])[0].tolist()
                mean_sd = float(values[tuple(at.T)].mean())
                found.append(ChangedRegion(int(sizes[piece]) * voxel_ml, (x, y, z), mean_sd, chance))
        return sorted(found, key=lambda one: (one.chance, -one.volume_ml))

    @cached_property
    def sure(self) -> list[ChangedRegion]:
        """The regions by the usual limits."""
        return self.regions()

    @property
    def line(self) -> str:
        """A sentence on the moving scan."""
        if not self.sure:
            return f"change: no region that chance would give in less than {100 * SIGNIFICANT:.0f} % of pairs"
        more = ", ..." if len(self.sure) > NAMED else ""
        count = "1 region" if len(self.sure) == 1 else f"{len(self.sure)} regions"
        return f"change: {count} of the moving scan: {', '.join(map(str, self.sure[:NAMED]))}{more}"

    def as_dict(self) -> dict[str, Any]:
        """Plain values for ``result.json``."""
        regions = [
            {
                "volume_ml": significant(one.volume_ml, 4),
                "middle_ras_mm": [round(value, 2) for value in one.middle_ras_mm],
                "mean_sd": round(one.mean_sd, 2),
                "chance": significant(one.chance, 2),
            }
            for one in self.sure
        ]
        return {"threshold_sd": THRESHOLD, "most_chance": SIGNIFICANT, "regions": regions}


@dataclass(frozen=True)
class _Noise:
    """What a map of noise is like: its voxels, how smooth it is, and its tails.

    Args:
        voxels: of the map.
        slope: ``(3,)`` standard deviations of the slope of the map made normal, per voxel.
        degrees: of freedom of Student's distribution.
        scale: by which values are divided for it.
    """

    voxels: int
    slope: np.ndarray
    degrees: float
    scale: float

    @classmethod
    def of(cls, values: np.ndarray, inside: np.ndarray) -> _Noise:
        """From the bulk of a map ``(I, J, K)`` of which little is change."""
        from scipy.optimize import minimize_scalar
        from scipy.stats import norm, t

        shares = np.linspace(0.5, (1 + BULK) / 2, 20)[1:]
        seen = np.quantile(np.abs(values[inside]), 2 * shares - 1)

        def scale(degrees: float) -> float:
            return float(np.median(seen / t.ppf(shares, degrees)))

        def miss(degrees: float) -> float:
            return float(np.square(seen / (scale(degrees) * t.ppf(shares, degrees)) - 1).sum())

        degrees = float(minimize_scalar(miss, bounds=DEGREES, method="bounded").x)
        width = scale(degrees)
        beyond = np.quantile(np.abs(values[inside]), BULK)
        bulk = inside & (np.abs(values) <= beyond)
        normal = norm.ppf(t.cdf(np.clip(values, -beyond, beyond) / width, degrees))
        slopes = []
        for axis in range(3):
            near, far = (np.moveaxis(bulk, axis, 0)[part] for part in (slice(None, -1), slice(1, None)))
            steps = np.diff(np.moveaxis(normal, axis, 0), axis=0)[near & far]
            slopes.append(float(np.sqrt(np.mean(steps**2))) if len(steps) else 1.0)
        return cls(int(np.count_nonzero(inside)), np.maximum(slopes, 1e-3), degrees, width)

    def chance(self, threshold: float, voxels: int) -> float:
        """How probable one piece or more of so many voxels beyond a threshold is, of either sign."""
        from scipy.special import gamma
        from scipy.stats import norm, t

        tail = float(t.sf(threshold / self.scale, self.degrees))
        normal = float(norm.isf(tail))
        if normal <= 1:  # below, pieces are no longer apart
            return 1.0
        density = float(np.prod(self.slope)) * (normal**2 - 1) * np.exp(-(normal**2) / 2) / (2 * np.pi) ** 2
        pieces = self.voxels * density
        rate = (gamma(2.5) * pieces / (self.voxels * tail)) ** (2 / 3)
        return float(-np.expm1(-2 * pieces * np.exp(-rate * voxels ** (2 / 3))))


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
    weight = inside.astype(np.float32)
    fitted = after
    for _ in range(ROUNDS):
        reach = FIELD_MM / spacing_mm
        here, there = (_smoothed(values * weight, reach) for values in (before, after))
        even = after * np.where(there > 0, here / np.maximum(there, 1e-6), 1)
        steps = np.unique(np.quantile(even[inside], np.linspace(0, 1, BRIGHTNESSES + 1)))
        place = np.digitize(even[inside], steps[1:-1])
        order = np.argsort(place, kind="stable")
        parts = np.split(order, np.flatnonzero(np.diff(place[order])) + 1)
        given, wanted = ([np.median(seen[part]) for part in parts] for seen in (even[inside], before[inside]))
        beyond = even - np.clip(even, given[0], given[-1])  # where the curve goes on straight
        slope = (wanted[-1] - wanted[0]) / max(given[-1] - given[0], 1e-9)
        fitted = (np.interp(even, given, np.maximum.accumulate(wanted)) + slope * beyond).astype(np.float32)
        apart = np.abs(fitted - before)
        weight = (inside & (apart <= OUTLIER * MAD * max(float(np.median(apart[inside])), 1e-9))).astype(np.float32)
    return fitted


def _smoothed(values: np.ndarray, reach_vox: np.ndarray) -> np.ndarray:
    """A Gaussian average, taken over cells that are small beside it."""
    from scipy.ndimage import gaussian_filter

    i, j, k = (max(min(int(reach / 4), n), 1) for reach, n in zip(reach_vox, values.shape, strict=True))
    cell = np.array((i, j, k), np.float32)
    coarse = gaussian_filter(pool_volume(values[None], (i, j, k))[0], reach_vox / cell)
    places = (identity_positions(values.shape) - ((cell - 1) / 2)[:, None, None, None]) / cell[:, None, None, None]
    return sample(coarse[None], places)[0]


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
    order = np.argsort(classes, kind="stable")
    for here in np.split(order, np.flatnonzero(np.diff(classes[order])) + 1):
        middle = float(np.median(found[here]))
        spread = MAD * float(np.median(np.abs(found[here] - middle))) if len(here) >= FEWEST else everywhere
        units[here] = (found[here] - middle) / max(spread, 1e-3 * everywhere, 1e-9)
    out = np.zeros(before.shape, np.float32)
    out[inside] = units
    return out
