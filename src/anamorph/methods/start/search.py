"""A linear start for any pair: several hypotheses, judged alike, and the best one made exact."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import product

import numpy as np

from anamorph.methods.start.contrast import Comparison
from anamorph.methods.start.hypotheses import TURNED, Hypothesis, Name, Rules, mirror_warning
from anamorph.methods.start.matching import Matched, Stage, match, polish
from anamorph.methods.start.remarks import AS_MUCH, Contest, little_warning, turn_warning
from anamorph.methods.start.rotations import VOXELS, Pose, PoseSearch
from anamorph.methods.start.translations import NOT_TRIED, Translations, translation_grids
from anamorph.methods.start.volumes import Judge, ScanPair, weak_share
from anamorph.transforms.affine import RESIZING, LinearModel, nearest_similarity
from anamorph.transforms.maps import Affine

PEAKS = 3
APART_VOX = 4
SAME_VOX = 3.0
"""Places closer than this lead to the same map, but for slabs, through which matching does not move."""
DENSE = 0.5
"""Exponent of the overlap by which one more peak is looked for: a little that fits well."""
HOPELESS = 0.15
"""A translation that explains so much less than the best one, before matching, is not followed."""
ENOUGH = 0.92
"""Where so much is explained no rotation is tried."""
SURE = 0.5
"""Where less is explained rotations are refined even if none of the coarse covering explains more than no rotation."""
TURN_LEAST, TURN_LEAST_UNLIKE = 0.4, 0.5
"""What a turned scan must explain at least, in CT and elsewhere: among so many rotations chance finds some that explain
a third."""
FURTHER_DEG = (30.0, 20.0, 10.0)
"""Turns that are tried about the best hypotheses, one after the other."""
FURTHER_MOST = 4
"""So many hypotheses are turned at the most."""
FURTHER_GAIN = 0.01
"""What such a turn must explain more."""
WORTH_MATCHING = 0.15
"""A turn that explains so much less before it is matched is not matched."""
HALF_TURNED = 2
"""Translations that are followed after half a turn."""
THIN = 0.2
"""Shortest side of a scan beside its longest one: of thinner ones the coarsest volumes have a layer or two."""
MOST_TURNS = 6
PROMISING = 0.1
"""Rotations that explain so much less than the best one before matching are not followed."""
STANDS_OUT = 5.0
"""Standard deviations of chance: a rotation that explains so much more than what is not turned is followed alone."""
CLEAR_GAIN = 1.0
"""Standard deviations of chance that matching must gain where little is explained, or a hypothesis stays as it was."""
ROUGH = Stage(28, 3, (4, 2))
AFFINE = Stage(28, 3, (2,))
LARGER = Stage(28, 3, (2, 2, 2))
"""Further rounds for bodies of another size."""
FINE = Stage(40, 4, (2,))
LEAST_REFINEMENT = 0.8
"""A stage whose voxels are hardly smaller than the last one's, as in small images, is left out."""
IDENTICAL = 0.9999
"""Nothing is left to improve."""
ALIKE = 0.7
"""From this on the scans are so alike that Gauss-Newton steps on fine grids make the map exact."""
EXACT = (28, 56, 112)
"""Voxels along the longest axis, for the last steps between scans that are alike."""
EXACT_ROUNDS = (15, 8, 4)
"""Gauss-Newton steps on a grid at the most, the coarsest first."""
OF_ANOTHER_SIZE = 1.2
"""A change of size along each axis from which on one body has grown out of the other, as no affine map describes: that
fits the outlines, and turns the inside too far."""
SHEAR_IS_WORTH = 0.06
"""What an affine map of such bodies must explain more than one that changes all sizes alike."""
UNSHEARED = "all sizes changed alike, as the bodies differ much in size and an affine map explains hardly more"
NOT_COMPARED = Comparison("none")


@dataclass
class Start:
    """A linear start, its cost after each stage, and how it was reached.

    ``explained`` is the share that it explains beyond chance; ``is_guess`` says that it was searched for, and explains
    no more than a wrong place may, ``keeps_world`` that it explains no more and is the world's, ``is_given`` that it
    was asked for.
    """

    transform: Affine
    explained: float | None = None
    is_guess: bool = False
    keeps_world: bool = False
    is_given: bool = False
    comparison: Comparison = NOT_COMPARED
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
    rough = Judge.of(pair, translations.fixed, translations.moving).on(ROUGH.voxels)
    places = _places(pair, translations)
    world_is_tried = any(name == "world" for name, _ in places)
    rules = Rules(
        translations.chance_spread, world_is_known, world_is_tried, weak_share(pair.kind), pair.shows_whole_bodies
    )
    tried = [_matched(rough, name, Matched.of(rough, place), model, rules) for name, place in places]
    if tried[0].name == "world" and tried[0].explained > IDENTICAL:
        return _told(pair, Contest(tried[0]), rules, [tried[0].matched.cost])
    can_turn = model != "translation" and not (pair.fixed.grid.is_2d or pair.is_slab)
    if can_turn and not world_is_known:
        tried += _half_turned(rough, translations, model, rules)
    best = max(one.explained for one in tried)
    if can_turn and (any_pose or best < ENOUGH):
        tried += _turned(rough, tried, model, rules, any_pose or not world_is_known or best < SURE)
    winner = rules.choose(tried)
    if can_turn and pair.shows_whole_bodies and rules.weak < winner.explained < ENOUGH:
        followed = sorted(tried, key=lambda one: -one.explained)[:FURTHER_MOST]
        least = followed[0].explained - PROMISING
        promising = {id(winner), *(id(one) for one in followed if one.explained > least)}
        tried = [_turned_further(rough, one, model) if id(one) in promising else one for one in tried]
        winner = rules.choose(tried)
    mirror = mirror_warning(rough, winner, ROUGH) if can_turn and winner.explained < ENOUGH else None
    if winner.explained < rules.weak and model in RESIZING:
        model = "rigid"
    grid = pair.fixed.grid
    contest = Contest.of(winner, tried, grid)
    if model in RESIZING:
        tried = [replace(one, matched=match(rough, one.matched, LARGER, model)) for one in contest.rivals()]
        winner = rules.choose(tried)
        contest = contest.after(winner, tried, grid)
    costs = [winner.matched.cost]
    levels = [rough]
    fine = rough.on(FINE.voxels)
    if not winner.stays and _is_finer(fine, rough):
        tried = [_refined(fine, one, model) for one in contest.rivals()]
        winner = rules.choose(tried)
        contest = contest.after(winner, tried, grid)
        costs.append(winner.matched.cost)
        levels.append(fine)
    told: list[str] = []
    if winner.explained > ALIKE or (winner.explained > SURE and model in RESIZING):
        levels = _finer(rough) if winner.explained > ALIKE else levels
        winner, told = _finished(winner, levels, model, costs)
        # A second that explains as much is judged at its end too: both may have come to one place.
        others = [_finished(one, levels, model, [])[0] for one in contest.rivals(AS_MUCH)[1:]]
        contest = contest.after(winner, [winner, *others], grid)
    start = _told(pair, contest, rules, costs)
    warnings = [*start.warnings, *([mirror] if mirror else [])]
    return replace(start, steps=[*start.steps, *told], warnings=warnings)


def explained_by(pair: ScanPair, transform: Affine) -> float:
    """How much a transform that was given explains beyond chance, as :func:`find_start` says it of what it finds."""
    here, there = translation_grids(pair.fixed.grid, pair.moving.grid)
    rough = Judge.of(pair, pair.fixed_on(here), pair.moving_on(there)).on(ROUGH.voxels)
    fine = rough.on(FINE.voxels)
    explained = Matched.of(fine if _is_finer(fine, rough) else rough, transform).explained
    return Matched.of(_finer(rough)[-1], transform).explained if explained > ALIKE else explained


def _places(pair: ScanPair, translations: Translations) -> list[tuple[Name, Affine]]:
    """The hypotheses without rotation that may win, at least one, no two of them at one place."""
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


def _half_turned(rough: Judge, translations: Translations, model: LinearModel, rules: Rules) -> list[Hypothesis]:
    """The best translations after half a turn about each axis of the moving scan.

    Where a header has lost its directions, the axes of a file lead right and forward, or left and back: half a turn.
    """
    pair, there = rough.pair, translations.moving.grid
    found = []
    for axis in pair.moving.grid.directions.T:
        turn = Affine.about(2 * np.outer(axis, axis) - np.eye(3), pair.moving.grid.centre_mm)
        turned = Translations.of(pair, translations.fixed, pair.moving_on(there, turn))
        for explained, place in turned.best(HALF_TURNED, APART_VOX):
            if explained > rules.weak - HOPELESS:
                laid = Matched.of(rough, Affine(turn.matrix @ place.matrix))
                found.append(_matched(rough, "half turn", laid, model, rules))
    return [one for one in found if one.explained > rules.weak]


def _turned(
    rough: Judge, tried: list[Hypothesis], model: LinearModel, rules: Rules, any_pose: bool
) -> list[Hypothesis]:
    """Rotations that explain enough after matching, on finer volumes where nothing does on coarse ones."""
    for voxels in _volume_sizes(rough.pair):
        poses = PoseSearch(rough.pair, model, voxels).better(any_pose)
        found = _followed(rough, poses, tried, model, rules)
        if any(one.explained > _least_turned(rough.pair) for one in (*tried, *found)):
            break
    return found


def _volume_sizes(pair: ScanPair) -> tuple[int, ...]:
    """Voxels along the longest axis of the volumes that are turned, one size after the other until one finds a pose.

    Any rotation of a whole body explains much, by its outline alone, so that its volumes are fine at once. Of other
    scans that are no CT, and are not thin, a finer volume has never found what a coarse one had missed.
    """
    if pair.kind != "ct" and pair.shows_whole_bodies:
        return VOXELS[1:]
    sides = np.array([grid.shape * grid.spacing_mm for grid in (pair.fixed.grid, pair.moving.grid)])
    is_thin = (sides.min(axis=1) < THIN * sides.max(axis=1)).any()
    return VOXELS if pair.kind == "ct" or is_thin else VOXELS[:1]


def _turned_further(rough: Judge, one: Hypothesis, model: LinearModel) -> Hypothesis:
    """The hypothesis turned a little more, as long as that explains more.

    The outline of a round body looks alike from any side, so that matching is stuck where it is 15 to 30 degrees wrong.
    """
    from scipy.spatial.transform import Rotation

    here, middle = one.matched, rough.fixed.body_middle_mm
    corners = np.array(list(product((-1, 1), repeat=3))) / np.sqrt(3)
    axes = np.concatenate([np.eye(3), -np.eye(3), corners])
    for turn_deg in FURTHER_DEG:
        laid = []
        for turn in Rotation.from_rotvec(np.deg2rad(turn_deg) * axes).as_matrix():
            about = Affine.about(turn, middle)
            laid.append(Matched.of(rough, Affine(here.transform.matrix @ about.matrix)))
        best = max(laid, key=lambda pose: pose.explained)
        if best.explained > here.explained - WORTH_MATCHING:
            found = match(rough, best, ROUGH, model if model in RESIZING else "rigid")
            here = found if found.explained > here.explained + FURTHER_GAIN else here
    return replace(one, matched=here)


def _least_turned(pair: ScanPair) -> float:
    return TURN_LEAST if pair.kind == "ct" else TURN_LEAST_UNLIKE


def _followed(
    rough: Judge, poses: list[Pose], tried: list[Hypothesis], model: LinearModel, rules: Rules
) -> list[Hypothesis]:
    """Hypotheses from the promising ones of some poses; no more are matched once one stands out."""
    found = [
        _matched(rough, "translation", Matched.of(rough, pose.transform), model, rules)
        for pose in poses
        if not pose.is_turned
    ]
    best = max(one.explained for one in (*tried, *found))
    laid = [Matched.of(rough, pose.transform) for pose in poses if pose.is_turned]
    laid.sort(key=lambda one: -one.explained)
    for pose in laid[:MOST_TURNS]:
        if pose.explained < laid[0].explained - PROMISING:
            break
        turned = _matched(rough, "pose", pose, model, rules)
        if turned.explained > _least_turned(rough.pair):
            found.append(turned)
        if turned.explained > best + STANDS_OUT * rules.chance_spread:
            break
    return found


def _matched(rough: Judge, name: Name, there: Matched, model: LinearModel, rules: Rules) -> Hypothesis:
    found = match(rough, there, ROUGH, "translation" if model == "translation" else "rigid")
    if model in RESIZING:
        shaped = match(rough, found, AFFINE, model)
        found = shaped if shaped.explained > rules.weak else found
    if found.explained < min(rules.weak, there.explained + CLEAR_GAIN * rules.chance_spread):
        return Hypothesis(name, there.explained, replace(there, explained=found.explained), stays=True)
    return Hypothesis(name, there.explained, found)


def _refined(level: Judge, one: Hypothesis, model: LinearModel) -> Hypothesis:
    there = Matched.of(level, one.matched.transform)
    return replace(one, matched=there if one.stays else match(level, there, FINE, model))


def _is_finer(level: Judge, than: Judge) -> bool:
    """Whether the voxels of a level are clearly smaller."""
    return level.fixed.grid.finest_mm < LEAST_REFINEMENT * than.fixed.grid.finest_mm


def _finer(rough: Judge) -> list[Judge]:
    """Finer and finer grids, as long as these have smaller voxels."""
    levels: list[Judge] = []
    for voxels in EXACT:
        level = rough.on(voxels)
        if levels and not _is_finer(level, levels[-1]):
            break
        levels.append(level)
    return levels


def _exact(winner: Hypothesis, levels: list[Judge], model: LinearModel, costs: list[float]) -> Hypothesis:
    """The winner after Gauss-Newton steps on finer and finer grids.

    Between different bodies they end at no better place than matching does, but always at the same one.
    """
    for level, rounds in zip(levels, EXACT_ROUNDS, strict=False):
        exact = polish(level, Matched.of(level, winner.matched.transform), model, rounds)
        winner = replace(winner, matched=exact, stays=False)
        costs.append(winner.matched.cost)
    return winner


def _finished(
    one: Hypothesis, levels: list[Judge], model: LinearModel, costs: list[float]
) -> tuple[Hypothesis, list[str]]:
    """A hypothesis made exact, without shear where that explains hardly less, and a line that says so."""
    one = _exact(one, levels, model, costs)
    unsheared = _unsheared(one, levels) if model == "affine" else None
    return (one, []) if unsheared is None else (unsheared, [UNSHEARED])


def _unsheared(winner: Hypothesis, levels: list[Judge]) -> Hypothesis | None:
    """The map without shear beside the winner where two bodies differ in size and it explains about as much."""
    size, plain = nearest_similarity(winner.matched.transform, levels[0].fixed.grid.centre_mm)
    if max(size, 1 / size) < OF_ANOTHER_SIZE:
        return None
    other = replace(winner, matched=Matched.of(levels[0], plain))
    other = _exact(other, levels, "similarity", [])
    return other if other.explained > winner.explained - SHEAR_IS_WORTH else None


def _told(pair: ScanPair, contest: Contest, rules: Rules, costs: list[float]) -> Start:
    """The start that won a contest, with what a reader should know about it."""
    winner = contest.winner
    little = little_warning(winner.explained, pair.kind)
    turned = turn_warning(winner.matched.transform, pair)
    is_guess = little is not None and winner.name in ("translation", *TURNED)
    keeps_world = little is not None and winner.name == "world"
    steps = [str(winner), *contest.lines(rules)]
    warnings = contest.warnings() + [one for one in (little, turned) if one is not None]
    return Start(
        winner.matched.transform, winner.explained, is_guess, keeps_world, costs=costs, steps=steps, warnings=warnings
    )
