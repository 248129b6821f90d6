"""Intensities of one scan as a function of those of another: what makes scans of two contrasts comparable."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from anamorph.features.intensity import IntensityKind
from anamorph.image.background import looks_like_ct
from anamorph.methods.working_frame import Scan
from anamorph.transforms.maps import Affine, Transform

VOXELS = 48
"""Along the longest axis of the grid on which intensities are compared."""
LEVELS = 32
"""So many equally frequent levels of intensity, and as many of equal width, each with its mean of the other scan."""
FEWEST_VOXELS = 16
"""Of a level."""
LEAST_SHARE = 0.3
"""Of the variance that a curve explains: MR and ultrasound of one prostate reach 0.18, hearts that do not meet 0.24."""
CLEARLY_LESS = 0.6
"""Of the variance that intensities as they are leave open a curve must leave less: between scans of one contrast it
leaves 0.7 and more, between T1, T2 and FLAIR 0.3 to 0.7."""
GAINS, LEAVES = 0.06, 0.8
"""A curve that explains so much more of the variance than intensities as they are, and leaves less than this share of
what they leave open, is one between two contrasts, though it may not be clear which value is which."""
OTHER_CONTRAST = 0.25
"""So much count intensities of two contrasts beside those of one, by a curve or as they are: what has one value in one
scan may have several in the other."""
UNITS_ARE_WORTH = 0.05
"""Of the same share: Hounsfield units are kept rather than brought to the scale of another scan."""
QUANTILES = 129
MOST_OF_IT = 0.75
"""Of what a scan shows: if so much of both lies in the other, both were scaled by the same anatomy."""


@dataclass(frozen=True)
class Curve:
    """What one scan shows where the other has a given intensity, and how much of its variance that explains.

    Args:
        levels: ``(N,)`` rising intensities of the scan that is changed.
        values: ``(N,)`` intensities of the other.
        of_fixed: whether the fixed scan is the one that is changed.
        kind: how the intensities compare once it is.
        share: of the variance of the other scan that is explained.
    """

    levels: np.ndarray
    values: np.ndarray
    of_fixed: bool
    kind: IntensityKind
    share: float = 0.0

    def of(self, scan: Scan) -> Scan:
        """A scan with its intensities changed."""
        channels = np.empty(scan.channels.shape, np.float32)
        for i in range(scan.grid.shape[0]):  # plane by plane: the interpolation is in double precision
            channels[:, i] = np.interp(scan.channels[:, i], self.levels, self.values)
        return Scan(channels, scan.weight, scan.grid, scan.is_placed, scan.name)

    def applied(self, fixed: Scan, moving: Scan) -> tuple[Scan, Scan]:
        """Both scans, one of them changed."""
        return (self.of(fixed), moving) if self.of_fixed else (fixed, self.of(moving))

    def exchanged(self) -> Curve:
        """The curve of the exchanged scans."""
        return replace(self, of_fixed=not self.of_fixed)


@dataclass(frozen=True)
class Comparison:
    """How the intensities of two scans compare.

    Args:
        kind: calibrated, scaled or not at all, once the curve is applied.
        counts: how much they count; 1 between scans of one contrast.
        curve: by which those of one scan are compared, where as they are they say less.
    """

    kind: IntensityKind
    counts: float = 1.0
    curve: Curve | None = None

    def exchanged(self) -> Comparison:
        """The comparison of the exchanged scans."""
        return replace(self, curve=self.curve and self.curve.exchanged())

    def translated(self, fixed: Scan, moving: Scan) -> tuple[Scan | None, Scan | None]:
        """The scan that is compared by the curve, changed, in its place of the two."""
        if self.curve is None:
            return None, None
        return (self.curve.of(fixed), None) if self.curve.of_fixed else (None, self.curve.of(moving))


def common_values(fixed: Scan, moving: Scan, transform: Transform) -> tuple[np.ndarray, np.ndarray]:
    """``(N,)`` each: the intensities of the first channels where both scans have data, on a coarse grid."""
    finest = fixed.grid.spacing_mm
    grid = fixed.grid.resampled(np.maximum(np.array(fixed.grid.shape) * finest / VOXELS, finest))
    here, there = fixed.onto(grid), moving.onto(grid, transform)
    both = (here.weight > 0.5) & (there.weight > 0.5)
    return here.channels[0][both], there.channels[0][both]


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Correlation of intensities ``(N,)``; 0 where there are too few, or no differences."""
    if len(one) < FEWEST_VOXELS or not (one.std() > 0 and other.std() > 0):
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])


def curve_between(fixed: Scan, moving: Scan, transform: Transform) -> Curve | None:
    """The better one of the curves of either scan under a transform; None where no curve says anything.

    The share of the variance that a function of the other scan explains is the correlation ratio (Roche et al. 1998).
    """
    here, there = common_values(fixed, moving, transform)
    if len(here) < FEWEST_VOXELS**2 or fixed.channels.shape[0] > 1 or not (here.std() > 0 and there.std() > 0):
        return None
    ct = looks_like_ct(fixed.image), looks_like_ct(moving.image)
    curves = []
    for of_fixed, levels, values, is_ct in ((True, here, there, ct[1]), (False, there, here, ct[0])):
        places, means, share = _regressed(levels, values)
        curves.append(Curve(places, means, of_fixed, "ct" if is_ct else "scaled", share))
    return max(curves, key=lambda one: one.share + UNITS_ARE_WORTH * (one.kind == "ct"))


def relation(fixed: Scan, moving: Scan, transform: Transform, kind: IntensityKind) -> Comparison:
    """How the intensities of two scans are related under a transform.

    Args:
        fixed: prepared scan.
        moving: prepared scan.
        transform: of fixed to moving points.
        kind: how the intensities compare as they are.

    Returns:
        by the curve between them if that says clearly more than the intensities as they are.
    """
    curve = None if kind == "ct" else curve_between(fixed, moving, transform)
    if curve is None or curve.share < LEAST_SHARE:
        return Comparison(kind)
    known = 0.0 if kind == "none" else correlation(*common_values(fixed, moving, transform)) ** 2
    left = (1 - curve.share) / max(1 - known, 1e-9)
    if kind == "none" or left < CLEARLY_LESS:
        return Comparison(curve.kind, OTHER_CONTRAST, curve)
    return Comparison(kind, OTHER_CONTRAST if left < LEAVES and curve.share > known + GAINS else 1.0)


def line_where_apart(fixed: Scan, moving: Scan, transform: Affine) -> Curve | None:
    """The line that gives both scans one brightness and contrast where they overlap, if that is a part of one of them.

    Each scan was scaled by all that it shows, so that a part of a body is brighter or darker than in the whole.
    """
    back = transform.inverse()
    shared = (
        moving.grid.contains(transform.map_world(_shown_mm(fixed))).mean(),
        fixed.grid.contains(back.map_world(_shown_mm(moving))).mean(),
    )
    here, there = common_values(fixed, moving, transform)
    if min(shared) > MOST_OF_IT or correlation(here, there) <= 0:
        return None
    slope = float(here.std() / there.std())
    places = np.array([-1.0, 3.0])
    return Curve(places, here.mean() + slope * (places - there.mean()), False, "scaled")


def _shown_mm(scan: Scan) -> np.ndarray:
    """``(N, 3)`` places, evenly spread, that a scan shows: of a body on a ground of one value those of the body."""
    places = scan.grid.sites_mm()
    if not scan.is_masked:
        return places
    i, j, k = np.rint(scan.grid.world_to_voxel(places)).astype(int).clip(0, np.array(scan.grid.shape) - 1).T
    body = scan.channels[0, i, j, k] > scan.channels[0].min()
    return places[body] if body.any() else places


def _regressed(levels: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """The mean of some values ``(N,)`` at equally frequent levels of others, and the share that it explains."""
    edges = np.union1d(np.quantile(levels, np.linspace(0, 1, LEVELS)), np.linspace(levels.min(), levels.max(), LEVELS))
    level = np.searchsorted(edges[1:-1], levels, side="right")
    size = np.bincount(level)
    enough = size >= FEWEST_VOXELS
    if not enough.any():
        return levels[:1], values[:1], 0.0
    places, means = (np.bincount(level, one)[enough] / size[enough] for one in (levels, values))
    left = values - np.interp(levels, places, means)
    return places, means, 1 - float(np.mean(left**2)) / float(values.var())


def quantiles_of_ct(fixed: Scan, moving: Scan, reverse: bool) -> Curve | None:
    """The curve that gives the scan without Hounsfield units those that are as frequent in the other, which has them.

    Args:
        fixed: prepared scan.
        moving: prepared scan.
        reverse: let the brightest become the darkest.

    Returns:
        None unless one of the two is a CT.
    """
    ct = looks_like_ct(fixed.image), looks_like_ct(moving.image)
    if ct[0] == ct[1]:
        return None
    units, unknown = (fixed, moving) if ct[0] else (moving, fixed)
    values, levels = (_quantiles(scan) for scan in (units, unknown))
    levels, inverse = np.unique(levels, return_inverse=True)
    means = np.bincount(inverse, values[::-1] if reverse else values) / np.bincount(inverse)
    return Curve(levels, means, ct[1], "ct")


def _quantiles(scan: Scan) -> np.ndarray:
    shown = scan.channels[0][scan.weight > 0.5]
    return np.quantile(shown[:: max(len(shown) // 200_000, 1)], np.linspace(0, 1, QUANTILES))
