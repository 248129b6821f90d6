"""Landmarks, outlines and labels that pull: read, paired and checked."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from anamorph.errors import UserError
from anamorph.image.image import Image, Labels
from anamorph.image.outlines import Outline, read_outlines
from anamorph.image.points import Points
from anamorph.image.types import PathLike
from anamorph.methods.base import SharedLabels
from anamorph.transforms.marks import Links, Marks, OutlinePair

OutlinesLike: TypeAlias = PathLike | Outline | Sequence[PathLike | Outline]
"""A file of curves or a mesh, an outline, or several of these."""
LabelChoice: TypeAlias = str | Sequence[int]
"""``"all"``, label values, or a text of either with a weight: ``"1,3=20"``."""
LABEL_WEIGHT = 3.0
"""Of labels that pull, beside MIND-SSC."""
MOST_LABELS = 32
"""Each takes a channel in all comparisons."""


def outline_sources(given: OutlinesLike | None) -> list[PathLike | Outline]:
    """The files and outlines of an argument."""
    if given is None:
        return []
    return [given] if isinstance(given, str | os.PathLike | Outline) else list(given)


def pair_outlines(
    fixed: OutlinesLike | None, moving: OutlinesLike | None, scans: tuple[Image, Image]
) -> tuple[tuple[Outline, Outline], ...]:
    """The outlines of two scans that belong together: by name where both have the same names, else by order.

    Raises:
        UserError: a file cannot be read, an outline lies outside its scan, or one has no partner.
    """
    sides = []
    for given, scan in zip((fixed, moving), scans, strict=True):
        one = [found for source in outline_sources(given) for found in _read(source)]
        for outline in one:
            if not scan.grid.contains(outline.positions_mm).any():
                Points(outline.positions_mm).check_inside(scan.grid, scan.name)
        sides.append(one)
    here, there = sides
    if len(here) != len(there):
        raise UserError(
            f"{len(here)} outlines of the fixed and {len(there)} of the moving scan; give each one in both, by "
            "--fixed-outlines and --moving-outlines"
        )
    named = {outline.name: outline for outline in there}
    if {outline.name for outline in here} == named.keys() and len(named) == len(there):
        there = [named[outline.name] for outline in here]
    return tuple(zip(here, there, strict=True))


def _read(source: PathLike | Outline) -> list[Outline]:
    return [source] if isinstance(source, Outline) else read_outlines(source)


def check_exactness_mm(sigma_mm: float, name: str) -> None:
    """See that a setting says how exactly points are known.

    Raises:
        UserError: it is no positive number.
    """
    if not (math.isfinite(sigma_mm) and sigma_mm > 0):
        raise UserError(f"{name} takes how exactly points are known, a positive number of mm, not {sigma_mm:g}")


def marks_of(
    points: tuple[Points | None, Points | None],
    outlines: Sequence[tuple[Outline, Outline]],
    sigma_mm: float | None,
) -> Marks | None:
    """Landmarks and outlines that pull, or None where they are to measure alone.

    Args:
        points: landmarks of the fixed and of the moving scan.
        outlines: pairs of both.
        sigma_mm: how exactly they are known, where their files do not say; None lets nothing pull.

    Raises:
        UserError: the distance is none, there is nothing to pull, or landmarks do not correspond.
    """
    if sigma_mm is None:
        return None
    check_exactness_mm(sigma_mm, "--use-points")
    fixed, moving = points
    if fixed is None or moving is None:
        if not outlines:
            raise UserError(
                "--use-points has nothing to use; give --fixed-points and --moving-points, or --fixed-outlines and "
                "--moving-outlines"
            )
        landmarks, names = Links.none(), tuple[str, ...]()
    else:
        fixed, moving = fixed.matched(moving)
        told = [one.sigma_mm for one in (fixed, moving) if one.sigma_mm is not None]
        sigmas = np.sqrt(np.square(told).sum(axis=0)) if told else np.full(len(fixed), sigma_mm)
        landmarks, names = Links(fixed.positions_mm, moving.positions_mm, sigmas), fixed.labels
    pairs = tuple(OutlinePair(here.positions_mm, there.positions_mm, sigma_mm) for here, there in outlines)
    return Marks(landmarks, names, pairs)


def labels_of(choice: LabelChoice | None, fixed: Labels | None, moving: Labels | None) -> SharedLabels | None:
    """Labels that pull, or None where they are to measure alone.

    Args:
        choice: which, and their weight.
        fixed: label map of the fixed scan.
        moving: label map of the moving scan.

    Raises:
        UserError: no label maps, a label that one of them lacks, too many, or a weight that is none.
    """
    if choice is None:
        return None
    if fixed is None or moving is None:
        raise UserError("--use-labels needs labels of both scans; give --fixed-labels and --moving-labels")
    wanted, weight = chosen_labels(choice)
    shared = sorted(set(fixed.present()) & set(moving.present()))
    if not shared:
        raise UserError(f"{fixed.name} and {moving.name} have no label in common, so none can pull")
    values = shared if wanted is None else wanted
    if missing := sorted(set(values) - set(shared)):
        raise UserError(
            f"--use-labels: label {missing[0]} is not in both {fixed.name} and {moving.name}; "
            f"both have {', '.join(map(str, shared[:20]))}"
        )
    if len(values) > MOST_LABELS:
        raise UserError(f"--use-labels: {len(values)} labels are more than the {MOST_LABELS} that can pull; name fewer")
    return SharedLabels(fixed, moving, tuple(values), weight)


def chosen_labels(choice: LabelChoice) -> tuple[list[int] | None, float]:
    """The label values of a choice, None for all, and their weight.

    Raises:
        UserError: the choice is neither all nor numbers, or the weight is none.
    """
    if not isinstance(choice, str):
        return sorted({int(value) for value in choice}), LABEL_WEIGHT
    names, equals, told = choice.partition("=")
    try:
        weight = float(told) if equals else LABEL_WEIGHT
        values = None if names.strip() == "all" else sorted({int(name) for name in names.split(",")})
    except ValueError:
        raise UserError(
            f"--use-labels takes all or numbers such as 1,3, with a weight 1,3=20, not '{choice}'"
        ) from None
    if not (math.isfinite(weight) and weight > 0):
        raise UserError(f"--use-labels: the weight must be a positive number, not {told}")
    return values, weight
