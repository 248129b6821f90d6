"""What corrects a linear start by the images: landmarks and outlines that pull, a guide, labels that pull."""

from __future__ import annotations

from anamorph.methods.base import Pair, Run
from anamorph.methods.guide import LEFT_OUT, NONE, Guide
from anamorph.methods.linear_start import given_start, linear_model
from anamorph.methods.start.search import ALIKE, Start
from anamorph.methods.start.settings import AS_NAMED, StartConfig
from anamorph.methods.working_frame import Scan, within
from anamorph.transforms.maps import Affine, Transform

SEEN_BY_GUIDE = "middles or sizes of the labels that the guide sees"
PULLING_LABELS = "middles or sizes of the labels that pull"
BY_MARKS = "the landmarks or outlines that pull, which the start below leaves far apart"
FAR_FROM_MARKS = (
    "the start that was found or asked for leaves the landmarks or outlines that pull far apart, and was left for "
    "theirs: see whether these are right"
)


def started_by_marks(config: StartConfig, pair: Pair, scans: tuple[Scan, Scan], found: Start, run: Run) -> Start:
    """The start that was found, or that of landmarks or outlines that pull where it leaves these far apart."""
    by_marks = pair.marks and pair.marks.start(found.transform, scans[0].grid, linear_model(config.init))
    if not by_marks:
        return found
    run.provenance["start"].insert(0, BY_MARKS)
    # The others speak of a start that is not taken.
    run.warnings = [*(line for line in run.warnings if line not in found.warnings), FAR_FROM_MARKS]
    return given_start(*scans, by_marks, config.start_weight)


def guide_of(config: StartConfig, pair: Pair, start: Transform, explained: float | None, run: Run) -> Guide | None:
    """What a guide sees in both scans; None where there is none, or where it is sure of nothing in both.

    Scans that are alike, as of one patient, tell more of each other than a network knows: they need no guide.
    """
    if config.guide == NONE or (explained is not None and explained > ALIKE):
        return None
    shown = within(pair.fixed, pair.fixed_mask), within(pair.moving, pair.moving_mask)
    guide = Guide.of(config.guide, *shown, run.device, start)
    if guide is None:
        told = run.provenance["start"] if config.guide.endswith(NONE) else run.warnings
        told.append(LEFT_OUT)
    else:
        run.warnings += guide.doubts
    return guide


def moved_start(config: StartConfig, labels: Guide, pair: Pair, start: Transform, run: Run, told: str) -> Transform:
    """A start that was searched for, corrected by labels where that brings them clearly better upon each other."""
    if pair.start is not None or config.init in AS_NAMED or not isinstance(start, Affine):
        return start
    moved = labels.moved(start, may_scale=linear_model(config.init) == "affine")
    if moved is not start:
        run.provenance["start"].insert(0, told)
    return moved
