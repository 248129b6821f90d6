"""The linear start that every method asks for, by the name of its hypotheses, and its settings."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from anamorph.features.intensity import IntensityKind, comparable_intensities
from anamorph.features.mind_ssc import LANES, DescriptorSettings
from anamorph.geometry.grid import Grid
from anamorph.methods.base import Pair, Run
from anamorph.methods.start.contrast import (
    OTHER_CONTRAST,
    Comparison,
    Curve,
    common_values,
    correlation,
    curve_between,
    line_where_apart,
    quantiles_of_ct,
    relation,
)
from anamorph.methods.start.hypotheses import TITLES
from anamorph.methods.start.rotations import POSE_BYTES
from anamorph.methods.start.search import EXACT, Start, explained_by, find_start
from anamorph.methods.start.settings import AS_NAMED, INTENSITY_WEIGHT, Init, StartConfig, linear_model
from anamorph.methods.start.translations import translation_grids
from anamorph.methods.start.volumes import ScanPair, search_grid
from anamorph.methods.working_frame import Scan
from anamorph.transforms.affine import LinearModel
from anamorph.transforms.maps import Affine, Transform

FINER = 1.5
"""A scan whose voxels are smaller by this factor leads, whatever it shows."""
LEAST_CORRELATION = 0.3
"""Scaled intensities that correlate less than this after the linear start are of different kinds: not compared."""
WELL_EXPLAINED = 0.4
UNSURE_CORRELATION = 0.5
"""The same after a start that explains less: a search finds places where intensities correlate by chance."""
STRUCTURE_SHOWS = 0.2
"""A CT that lost its units still has its structure: two of people explain 0.3 and more by it alone."""
UNITS_CLEARLY = 0.03
"""A scan taken for a CT without units must explain so much more than structure alone does."""
CURVES = 2
"""So often the start is looked for by a curve between the intensities, which is better after a better start."""
LOST_SHARE = 0.02
"""A start that loses so much of what the curve before explained is not taken."""
OF_TWO_CONTRASTS = f"intensities count {OTHER_CONTRAST:g} of what they do between scans of one contrast"
DESCRIPTOR_BYTES = 4 * LANES
"""Of one voxel."""
GIVEN = "the map that was given"
BY_MARKS = "the landmarks or outlines that pull, which the start below leaves far apart"
FAR_FROM_MARKS = (
    "the start that was found or asked for leaves the landmarks or outlines that pull far apart, and was left for "
    "theirs: see whether these are right"
)
AS_ASKED_FOR = "{title}, as asked for (explains {explained:.2f} of 1)"
FOUND_BY_A_CURVE = "looked for by a curve between the intensities, which explains {share:.2f} of their variance"


def linear_start(fixed: Scan, moving: Scan, init: Init, intensity_weight: float = INTENSITY_WEIGHT) -> Start:
    """Find a linear map of fixed points to moving points without any assumption on the scans.

    Exchanging the scans inverts the map: the search always starts from the same one of the two.

    Args:
        fixed: prepared fixed scan.
        moving: prepared moving scan.
        init: which hypotheses to look at.
        intensity_weight: of intensities beside MIND-SSC.

    Returns:
        the start, with how the intensities compare after it.
    """
    if init in AS_NAMED:
        there = Affine.translation(moving.grid.centre_mm - fixed.grid.centre_mm if init == "centres" else np.zeros(3))
        return given_start(fixed, moving, there, intensity_weight, TITLES[init])
    kind = comparable_intensities(fixed.image, moving.image)
    if not leads(fixed, moving):
        start = linear_start(moving, fixed, init, intensity_weight)
        return replace(start, transform=start.transform.inverse(), comparison=start.comparison.exchanged())
    search = Search(linear_model(init), intensity_weight, init == "any-pose")
    return search.start(fixed, moving, kind)


@dataclass(frozen=True)
class Search:
    """The search for a start of a leading scan and another one: which maps, what intensities count, any rotation."""

    model: LinearModel
    intensity_weight: float
    any_pose: bool

    def start(self, fixed: Scan, moving: Scan, kind: IntensityKind) -> Start:
        """The start, with how the intensities compare after it; as they are they compare like ``kind`` at best."""
        start = self._found(fixed, moving, kind)
        least = LEAST_CORRELATION if (start.explained or 0) > WELL_EXPLAINED else UNSURE_CORRELATION
        if comparable_after(fixed, moving, start.transform, kind, least) != kind:
            kind = "none"
            start = self._found(fixed, moving, kind)
        if kind == "none":
            start = self._by_quantiles(fixed, moving, start)
        return self._by_a_curve(fixed, moving, start, kind)

    def _by_quantiles(self, fixed: Scan, moving: Scan, start: Start) -> Start:
        """The start of a CT and a scan that may be one without its units, or with all values reversed, if it is one."""
        if start.keeps_world or (start.explained or 0) < STRUCTURE_SHOWS:
            return start
        for reverse in (False, True):
            curve = quantiles_of_ct(fixed, moving, reverse)
            if curve is not None:
                other = self._found(*curve.applied(fixed, moving), curve.kind)
                if (other.explained or 0) > (start.explained or 0) + UNITS_CLEARLY:
                    start = other
        return start

    def _by_a_curve(self, fixed: Scan, moving: Scan, start: Start, kind: IntensityKind) -> Start:
        """The start looked for once more after the intensities of one scan are made those of the other."""
        if start.keeps_world:
            return replace(start, comparison=Comparison(kind))
        found, curve = relation(fixed, moving, start.transform, kind), None
        if found.counts < 1:
            less = replace(self, intensity_weight=found.counts * self.intensity_weight)
            if found.curve is None:
                start = less._found(fixed, moving, kind)
            else:
                start, curve = less._along(found.curve, fixed, moving, start)
        if comparable_intensities(fixed.image, moving.image) == "none":
            # Between people a start leaves tissue upon air, so that a curve knows no Hounsfield units for sure.
            curve = None
        elif curve is None and kind == "scaled":
            curve = line_where_apart(fixed, moving, start.transform)
        comparison = Comparison(kind if curve is None else curve.kind, found.counts, curve)
        told = [OF_TWO_CONTRASTS] if comparison.counts < 1 and comparison.kind != "none" else []
        return replace(start, comparison=comparison, steps=[*start.steps, *told])

    def _along(self, curve: Curve, fixed: Scan, moving: Scan, start: Start) -> tuple[Start, Curve | None]:
        """The start by a curve, and the curve there, as long as it explains no less; else the start before and None."""
        last = None
        for _ in range(CURVES):
            better = self._found(*curve.applied(fixed, moving), curve.kind)
            found = curve_between(fixed, moving, better.transform)
            if found is None or found.share < curve.share - LOST_SHARE:
                break
            told = [*better.steps, FOUND_BY_A_CURVE.format(share=found.share)]
            start, curve, last = replace(better, steps=told), found, found
        return start, last

    def _found(self, fixed: Scan, moving: Scan, kind: IntensityKind) -> Start:
        known = fixed.is_placed and moving.is_placed
        return find_start(self._pair(fixed, moving, kind), self.model, self.any_pose, known)

    def _pair(self, fixed: Scan, moving: Scan, kind: IntensityKind) -> ScanPair:
        return ScanPair(fixed, moving, kind, DescriptorSettings(1, 1, self.intensity_weight))


def leads(fixed: Scan, moving: Scan) -> bool:
    """Whether the fixed scan is the one in whose frame a pair is compared.

    The rule looks at the scans alone and never at their roles, so that exchanging them changes nothing but the
    direction: the clearly finer scan leads, else the one with the smaller field of view. Boxes count
    beside what they show, so that a scan that was turned in a larger box does not lead with its empty corners.
    """
    finer = np.log(moving.grid.voxel_mm / fixed.grid.voxel_mm)
    if abs(finer) > np.log(FINER):
        return bool(finer > 0)
    volumes = [_view_mm3(scan) for scan in (fixed, moving)]
    if not np.isclose(volumes[0], volumes[1], rtol=1e-5):
        return volumes[0] < volumes[1]
    return _content(fixed) <= _content(moving)


def _view_mm3(scan: Scan) -> float:
    """The volume of the box of a scan and that of what counts in it, as their geometric mean."""
    voxels = np.sqrt(scan.weight.sum(dtype=np.float64) * np.prod(scan.grid.shape))
    return float(voxels * np.prod(scan.grid.spacing_mm))


def _content(scan: Scan) -> tuple[float, ...]:
    """An order of scans of equal extent."""
    moments = float(scan.channels.sum(dtype=np.float64)), float(np.square(scan.channels).sum(dtype=np.float64))
    return (*moments, *scan.grid.origin_mm)


def comparable_after(
    fixed: Scan, moving: Scan, transform: Transform, kind: IntensityKind, least: float = LEAST_CORRELATION
) -> IntensityKind:
    """How far the intensities compare under a transform: scaled ones that do not correlate are not compared."""
    if kind != "scaled":
        return kind
    return "none" if correlation(*common_values(fixed, moving, transform)) < least else kind


def compared_at(fixed: Scan, moving: Scan, transform: Transform) -> Comparison:
    """How the intensities of two scans compare at a start that was given."""
    known = comparable_intensities(fixed.image, moving.image)
    found = relation(fixed, moving, transform, comparable_after(fixed, moving, transform, known))
    if known == "none":
        return Comparison("none", found.counts)
    if found.curve is None and found.kind == "scaled" and isinstance(transform, Affine):
        return replace(found, curve=line_where_apart(fixed, moving, transform))
    return found


def judged_at(fixed: Scan, moving: Scan, transform: Transform, intensity_weight: float) -> tuple[Comparison, float]:
    """How the intensities of two scans compare at a start that was given, and how much it explains beyond chance.

    Args:
        fixed: prepared scan.
        moving: prepared scan.
        transform: of fixed to moving points.
        intensity_weight: of intensities beside MIND-SSC.
    """
    compared = compared_at(fixed, moving, transform)
    if compared.curve is not None:
        fixed, moving = compared.curve.applied(fixed, moving)
    if not isinstance(transform, Affine):
        moving, transform = moving.onto(fixed.grid, transform), Affine.identity()
    settings = DescriptorSettings(1, 1, compared.counts * intensity_weight)
    return compared, explained_by(ScanPair(fixed, moving, compared.kind, settings), transform)


def given_start(fixed: Scan, moving: Scan, transform: Affine, intensity_weight: float, title: str = GIVEN) -> Start:
    """The start by an affine map that was given; arguments as of :func:`judged_at`, and what it is called."""
    compared, explained = judged_at(fixed, moving, transform, intensity_weight)
    steps = [AS_ASKED_FOR.format(title=title, explained=explained)]
    return Start(transform, explained, is_given=True, comparison=compared, steps=steps)


def started_by_marks(config: StartConfig, pair: Pair, scans: tuple[Scan, Scan], found: Start, run: Run) -> Start:
    """The start that was found, or that of landmarks or outlines that pull where it leaves these far apart."""
    by_marks = pair.marks and pair.marks.start(found.transform, scans[0].grid, linear_model(config.init))
    if not by_marks:
        return found
    run.provenance["start"].insert(0, BY_MARKS)
    # The others speak of a start that is not taken.
    run.warnings = [*(line for line in run.warnings if line not in found.warnings), FAR_FROM_MARKS]
    return given_start(*scans, by_marks, config.start_weight)


def linear_start_bytes(fixed: Grid, moving: Grid, init: str) -> int:
    """Predicted peak memory of :func:`linear_start` beside the prepared scans, for one channel."""
    if init == "frame":
        return 0
    # What judges a map: two descriptors and their differences.
    judged = max(6.5 * DESCRIPTOR_BYTES * np.prod(search_grid(grid, EXACT[-1]).shape) for grid in (fixed, moving))
    if init in AS_NAMED:
        return int(judged)
    return int(max(judged, POSE_BYTES, _search_bytes(fixed, moving), _search_bytes(moving, fixed)))


def _search_bytes(fixed: Grid, moving: Grid) -> float:
    """Memory of all translations: two descriptors, the square of one and their transforms."""
    here, there = translation_grids(fixed, moving)
    descriptors = DESCRIPTOR_BYTES * (np.prod(here.shape) + 2 * np.prod(there.shape))
    return float(descriptors + 110 * np.prod(np.add(here.shape, there.shape, dtype=float)))
