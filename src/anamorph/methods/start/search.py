"""A linear start for any pair: several hypotheses, judged alike, and the best one made exact."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from anamorph.methods.start.hypotheses import Hypothesis, Name, choose
from anamorph.methods.start.matching import Matched, Stage, match, polish
from anamorph.methods.start.rotations import PoseSearch
from anamorph.methods.start.translations import NOT_TRIED, Translations, translation_grids
from anamorph.methods.start.volumes import Judge, ScanPair
from anamorph.transforms import Affine
from anamorph.transforms.affine_parts import AffineParts
from anamorph.transforms.least_trimmed_squares import LinearModel

PEAKS = 3
APART_VOX = 4
SAME_VOX = 3.0
"""Places closer than this lead to the same map, but for slabs, through which matching does not move."""
DENSE = 0.5
"""Exponent of the overlap by which one more peak is looked for: a little that fits well."""
HOPELESS = 0.15
"""A translation that explains so much less than the best one, before matching, is not followed."""
CLOSE = 0.05
"""Of hypotheses that explain the same to within this the next, finer stage decides."""
ENOUGH = 0.85
"""Where so much is explained no rotation is tried."""
WEAK, WEAK_UNLIKE = 0.35, 0.5
"""Between scans of one kind, and of intensities that do not compare: where an affine map explains less, nothing tells
a true change of size or shape from chance, and the map stays rigid."""
ROUGH = Stage(28, 3, (4, 2))
AFFINE = Stage(28, 3, (2,))
LARGER = Stage(28, 3, (2, 2, 2))
"""Further rounds for bodies of another size."""
FINE = (Stage(44, 4, (2, 2)), Stage(72, 6, (2,)))
LEAST_REFINEMENT = 0.8
"""A stage whose voxels are hardly smaller than the last one's, as in small images, is left out."""
IDENTICAL = 0.9999
"""Nothing is left to improve."""
ALIKE = 0.7
"""From this on the scans are so alike that Gauss-Newton steps make the map exact."""
POLISH_ROUNDS = 5
EXACT_VOXELS = 112
"""Along the longest axis, for the last steps between scans that are alike."""


@dataclass
class Start:
    """A linear start, what it explains beyond chance, its cost after each stage, and how it was reached."""

    transform: Affine
    explained: float = 1.0
    costs: list[float] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def find_start(pair: ScanPair, model: LinearModel, any_pose: bool, world_is_known: bool) -> Start:
    """Find a linear map of fixed points to moving points.

    Args:
        pair: both scans, prepared.
        model: which maps are allowed.
        any_pose: try all rotations even where the scans are explained without.
        world_is_known: False where a header says nothing about the position of its scan.
    """
    here, there = translation_grids(pair.fixed.grid, pair.moving.grid)
    translations = Translations.of(pair, pair.fixed_on(here), pair.moving_on(there))
    spread = translations.chance_spread
    places = _places(pair, translations)
    rough = Judge.of(pair, translations.fixed, translations.moving).on(ROUGH.voxels)
    tried = [_matched(rough, name, place, model) for name, place in places]
    if tried[0].name == "world" and tried[0].explained > IDENTICAL:
        return _told(pair, tried[0], tried[:1], [tried[0].matched.cost])
    can_turn = model != "translation" and not (pair.fixed.grid.is_2d or pair.is_slab)
    if can_turn and (any_pose or max(one.explained for one in tried) < ENOUGH):
        tried += [_matched(rough, "pose", pose.transform, model) for pose in PoseSearch(pair).better()]
    winner = choose(tried, spread, world_is_known)
    if winner.explained < _least_for_affine(pair) and model == "affine":
        model = "rigid"
    if model == "affine":
        tried = [replace(one, matched=match(rough, one.matched, LARGER, model)) for one in _rivals(winner, tried, pair)]
        winner = choose(tried, spread, world_is_known)
    costs = [winner.matched.cost]
    spacing = rough.fixed.grid.finest_mm
    for stage in FINE:
        level = rough.on(stage.voxels)
        if level.fixed.grid.finest_mm > LEAST_REFINEMENT * spacing:
            break
        spacing = level.fixed.grid.finest_mm
        tried = [_refined(level, one, stage, model) for one in _rivals(winner, tried, pair)]
        winner = choose(tried, spread, world_is_known)
        costs.append(winner.matched.cost)
    if winner.explained > ALIKE:
        level = rough.on(EXACT_VOXELS)
        winner = replace(
            winner, matched=polish(level, Matched.of(level, winner.matched.transform), model, POLISH_ROUNDS)
        )
        costs.append(winner.matched.cost)
    return _told(pair, winner, tried, costs)


def _places(pair: ScanPair, translations: Translations) -> list[tuple[Name, Affine]]:
    """The hypotheses without rotation that may win, no two of them at one place."""
    world, centres = Affine.identity(), Affine.translation(pair.moving.grid.centre_mm - pair.fixed.grid.centre_mm)
    named: list[tuple[Name, Affine, float]] = [
        ("world", world, translations.near(world)),
        ("centres", centres, translations.near(centres)),
    ]
    peaks = translations.best(PEAKS, APART_VOX) + translations.best(1, APART_VOX, DENSE)
    named += [("translation", place, explained) for explained, place in peaks]
    top = max(explained for _, _, explained in named)
    same_mm = translations.fixed.grid.finest_mm * (1.0 if pair.is_slab else SAME_VOX)
    places: list[tuple[Name, Affine]] = []
    for name, place, explained in named:
        if explained < top - HOPELESS and (name == "translation" or explained == NOT_TRIED):
            continue
        if all(np.linalg.norm(place.matrix[:3, 3] - other.matrix[:3, 3]) > same_mm for _, other in places):
            places.append((name, place))
    return places


def _rivals(winner: Hypothesis, tried: list[Hypothesis], pair: ScanPair) -> list[Hypothesis]:
    """The winner, and the best of what lies elsewhere, if it explains the same."""
    close = [one for one in tried if one.explained > winner.explained - CLOSE]
    apart = sorted((one for one in close if one.is_apart(winner, pair.fixed.grid)), key=lambda one: -one.explained)
    return [winner, *apart[:1]]


def _matched(rough: Judge, name: Name, transform: Affine, model: LinearModel) -> Hypothesis:
    found = Matched.of(rough, transform)
    before = found.explained
    found = match(rough, found, ROUGH, "translation" if model == "translation" else "rigid")
    if model == "affine":
        shaped = match(rough, found, AFFINE, "affine")
        found = shaped if shaped.explained > _least_for_affine(rough.pair) else found
    return Hypothesis(name, before, found)


def _least_for_affine(pair: ScanPair) -> float:
    return WEAK_UNLIKE if pair.kind == "none" else WEAK


def _refined(level: Judge, one: Hypothesis, stage: Stage, model: LinearModel) -> Hypothesis:
    return replace(one, matched=match(level, Matched.of(level, one.matched.transform), stage, model))


def _told(pair: ScanPair, winner: Hypothesis, tried: list[Hypothesis], costs: list[float]) -> Start:
    """The start with what a reader should know about it."""
    start = Start(winner.matched.transform, winner.explained, costs, [str(winner)])
    others = [one for one in tried if one is not winner and one.is_apart(winner, pair.fixed.grid)]
    if others:
        second = max(others, key=lambda one: one.explained)
        away = f"{second.distance_mm(winner, pair.fixed.grid):.3g} mm away"
        start.steps.append(f"second: {second}, {away}")
        if second.explained > winner.explained - CLOSE / 2:
            start.warnings.append(
                f"two starts explain the scans equally well and lie far apart: {winner}; {second}, {away}; "
                "look at the result, or give the start that is right by init="
            )
    if winner.name == "pose":
        angle = AffineParts.of(winner.matched.transform, pair.fixed.grid.centre_mm).turn_deg
        start.warnings.append(
            f"the scans are turned by {angle:.0f} degrees against each other by their headers; "
            "they were registered so, but see whether a header is wrong"
        )
    return start
