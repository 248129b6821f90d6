"""A linear start that labels correct: those that a guide sees, or those that pull."""

from __future__ import annotations

from anamorph.methods.base import Pair, Run
from anamorph.methods.guide import LEFT_OUT, NONE, Guide
from anamorph.methods.start.search import ALIKE
from anamorph.methods.start.settings import StartConfig, linear_model
from anamorph.methods.working_frame import within
from anamorph.transforms.maps import Affine, Transform

SEEN_BY_GUIDE = "middles or sizes of the labels that the guide sees"
PULLING_LABELS = "middles or sizes of the labels that pull"


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
    """A start that is no given map, corrected by labels where that brings them clearly better upon each other."""
    if pair.start is not None or not isinstance(start, Affine):
        return start
    moved = labels.moved(start, may_scale=linear_model(config.init) == "affine")
    if moved is not start:
        run.provenance["start"].insert(0, told)
    return moved
