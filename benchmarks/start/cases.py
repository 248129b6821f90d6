"""The list of cases: which pair, which disturbance, which parameter. A name says it all, and seeds every choice."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np

from . import disturb
from .disturb import View
from .sources import LISTED, Source, Split, Subject, sources, split_of

ANY_MAP = ("brain_ms_mr", "ct_mr")
"""Sets with a reference map between real contrasts."""
OTHER_SPACING = 0.93
"""Of a scan that is moved by an exact map, so that its voxels are not those of the other."""
SETS = (*LISTED, "hearts", "prostate_mr_us", *ANY_MAP, "phantom", "unrelated")


@dataclass(frozen=True)
class Case:
    """One disturbance of one pair."""

    dataset: str
    disturbance: str
    parameter: str
    number: int
    split: Split

    @property
    def name(self) -> str:
        """Such as ``abdomen_ct/rotate/axis03/090/pair2``."""
        return f"{self.dataset}/{self.disturbance}/{self.parameter}/pair{self.number}"

    @property
    def source(self) -> Source:
        """The pair that is disturbed."""
        if self.dataset == "unrelated":
            return unrelated()[self.number]
        return next(one for one in sources(self.dataset) if one.number == self.number)

    def views(self, subject: Subject) -> tuple[View, View]:
        """The two scans as they are registered."""
        views = {"fixed": View.of(subject.fixed), "moving": View.of(subject.moving)}
        disturbance = _DISTURBANCES.get(self.disturbance)
        if disturbance is not None:
            rng = np.random.default_rng(zlib.crc32(self.name.encode()))
            disturbance(views, self.parameter.split("/"), self.split, rng)
        return views["fixed"], views["moving"]


Views = dict[str, View]
Disturbance = Callable[[Views, list[str], Split, np.random.Generator], None]


def _rotate(views: Views, words: list[str], split: Split, rng: np.random.Generator) -> None:
    axis = axes(split)[int(words[0].removeprefix("axis"))]
    views["moving"] = disturb.rotated(views["moving"], axis, float(words[1]))


def _rotate_resampled(views: Views, words: list[str], split: Split, rng: np.random.Generator) -> None:
    _rotate(views, words, split, rng)
    views["moving"] = disturb.resampled(views["moving"])


def _known_map(views: Views, words: list[str], split: Split, rng: np.random.Generator) -> None:
    _rotate(views, words, split, rng)
    views["moving"] = disturb.shifted(views["moving"], float(words[2].removesuffix("mm")) * _direction(rng))


def _crop(views: Views, words: list[str], split: Split, rng: np.random.Generator) -> None:
    side, axis, end, percent = words
    views[side] = disturb.cropped(views[side], int(axis.removeprefix("axis")), end, int(percent) / 100)


def _crop_lost(views: Views, words: list[str], split: Split, rng: np.random.Generator) -> None:
    _crop(views, words, split, rng)
    views[words[0]] = disturb.without_header(views[words[0]])


def _pad(views: Views, words: list[str], split: Split, rng: np.random.Generator) -> None:
    side, percent, word = words
    value = float(views[side].image.data.min()) if word == "minimum" else float(word.replace("minus", "-"))
    views[side] = disturb.padded(views[side], int(percent) / 100, value, rng)


def _lost_header(views: Views, words: list[str], split: Split, rng: np.random.Generator) -> None:
    for side in ("fixed", "moving") if words[0] == "both" else words[:1]:
        views[side] = disturb.without_header(views[side])


def _wrong_header(views: Views, words: list[str], split: Split, rng: np.random.Generator) -> None:
    views["moving"] = disturb.shifted(views["moving"], float(words[0].removesuffix("mm")) * _direction(rng))


def _contrast(views: Views, words: list[str], split: Split, rng: np.random.Generator) -> None:
    views["moving"] = disturb.recoloured(views["moving"], words[0], rng)


def _exact(views: Views, words: list[str], split: Split, rng: np.random.Generator) -> None:
    """The moving scan is the fixed one under a known map, read between its voxels unless nothing is changed."""
    view = views["fixed"]
    linear = np.eye(3)
    if words[0] in ("rotation", "affine"):
        linear = disturb.rotation(_direction(rng), rng.uniform(5, 20))
    if words[0] == "affine":
        linear = linear @ (np.eye(3) + rng.uniform(-0.08, 0.08, (3, 3)))
    if words[0] != "identity":
        centre, longest = view.image.grid.centre_mm, view.image.grid.longest_mm
        offset = rng.uniform(0.03, 0.08) * longest * _direction(rng)
        grid = view.image.grid
        view = disturb.shifted(disturb.moved(view, disturb.about(centre, linear)), offset)
        view = disturb.resampled(view, grid.directions, OTHER_SPACING * grid.spacing_mm)
    views["moving"] = view


def _direction(rng: np.random.Generator) -> np.ndarray:
    vector = rng.standard_normal(3)
    return vector / np.linalg.norm(vector)


_DISTURBANCES: dict[str, Disturbance] = {
    "rotate": _rotate, "rotate_resampled": _rotate_resampled, "known_map": _known_map, "crop": _crop,
    "crop_lost_header": _crop_lost, "pad": _pad, "lost_header": _lost_header, "wrong_header": _wrong_header,
    "contrast": _contrast, "exact": _exact,
}  # fmt: skip


@cache
def axes(split: Split) -> np.ndarray:
    """``(12, 3)`` well spread axes: the world's and nine that repel each other, for proof all turned together."""
    rng = np.random.default_rng(12)
    found = np.concatenate([np.eye(3), rng.standard_normal((9, 3))])
    for step in np.geomspace(0.2, 0.002, 400):
        found /= np.linalg.norm(found, axis=1, keepdims=True)
        both = np.concatenate([found, -found])
        apart = found[:, None] - both[None]
        distance = np.linalg.norm(apart, axis=-1, keepdims=True)
        push = np.where(distance > 0, apart / np.maximum(distance, 1e-9) ** 3, 0).sum(axis=1)
        push -= (push * found).sum(axis=1, keepdims=True) * found
        found[3:] += step * push[3:] / np.linalg.norm(push[3:], axis=1, keepdims=True)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    turn = np.eye(3) if split == "dev" else disturb.rotation(np.array([1.0, -1.0, 2.0]), 130)
    return found @ turn.T


_AXES = tuple(f"axis{n:02d}" for n in range(12))
_NUMBERS: dict[str, dict[Split, tuple[int, ...]]] = {
    "degrees": {"dev": tuple(range(15, 181, 15)), "test": (*range(22, 180, 15), 180)},
    "kept %": {"dev": (25, 50, 75), "test": (30, 45, 60)},
    "padded %": {"dev": (10, 20, 30, 40, 50, 60), "test": (15, 25, 35, 45, 55)},
    "moved mm": {"dev": (10, 20, 40, 80), "test": (15, 30, 60, 75)},
    "map mm": {"dev": (0, 20), "test": (10, 30)},
}


def _parameters(disturbance: str, dataset: str, split: Split) -> Iterator[str]:
    def numbers(kind: str) -> list[str]:
        return [f"{n:03d}" for n in _NUMBERS[kind][split]]

    match disturbance:
        case "undisturbed" | "swapped":
            words: list[tuple[str, ...]] = [("as_is",)]
        case "rotate" | "rotate_resampled":
            words = list(product(_AXES, numbers("degrees")))
        case "known_map":
            words = list(product(_AXES, numbers("degrees"), [f"{n}mm" for n in numbers("map mm")]))
        case "crop" | "crop_lost_header":
            axis_names = ("axis0", "axis1") if dataset in ("cardiac_mr", "hearts") else ("axis0", "axis1", "axis2")
            words = list(product(("fixed", "moving"), axis_names, ("low", "high"), numbers("kept %")))
        case "pad":
            values = ("minimum", "0", *(("minus1024", "minus2000") if dataset.endswith("_ct") else ()))
            words = list(product(("fixed", "moving"), numbers("padded %"), values))
        case "lost_header":
            words = [("both",), ("fixed",), ("moving",)]
        case "wrong_header":
            words = list(product((f"{n}mm" for n in numbers("moved mm")), (f"direction{n}" for n in range(4))))
        case "contrast":
            words = [("inverted",), *product(("gamma", "monotone", "wavy"), ("curve0", "curve1"))]
        case "exact":
            words = [("identity",), ("translation",), ("rotation",), ("affine",)]
        case _:
            raise ValueError(f"no disturbance {disturbance!r}")
    return map("/".join, words)


def _disturbances(dataset: str) -> tuple[str, ...]:
    plain = ("undisturbed", "swapped")
    if dataset in LISTED:
        return (*plain, *(name for name in _DISTURBANCES if name != "known_map"))
    return (*plain, "known_map") if dataset in ANY_MAP else plain


def all_cases() -> Iterator[Case]:
    """Every case, always in the same order."""
    for dataset in SETS:
        if dataset == "unrelated":
            for number, _ in enumerate(unrelated()):
                yield Case(dataset, "unrelated", "as_is", number, _unrelated_split(number))
            continue
        split = split_of(dataset)
        for source in sources(dataset):
            side = split[source.number]
            if dataset == "phantom":
                yield Case(dataset, "exact_phantom", source.fixed, source.number, side)
                continue
            for disturbance in _disturbances(dataset):
                for parameter in _parameters(disturbance, dataset, side):
                    yield Case(dataset, disturbance, parameter, source.number, side)


def sampled(cases: list[Case], count: int, seed: int) -> list[Case]:
    """So many of the cases, as evenly from every set and disturbance as they last, in the order of the list."""
    rng = random.Random(seed)
    strata: dict[tuple[str, str], list[Case]] = {}
    for case in cases:
        strata.setdefault((case.dataset, case.disturbance), []).append(case)
    groups = list(strata.values())
    rng.shuffle(groups)
    for group in groups:
        rng.shuffle(group)
    chosen: set[str] = set()
    while len(chosen) < min(count, len(cases)):
        for group in groups:
            if group and len(chosen) < count:
                chosen.add(group.pop().name)
    return [case for case in cases if case.name in chosen]


@cache
def unrelated() -> tuple[Source, ...]:
    """Scans of different parts of the body, each set against each other one, a pair drawn from either."""
    rng = random.Random(7)
    pairs = [(a, b) for a, b in product(LISTED, LISTED) if a != b]
    found = []
    for number, (a, b) in enumerate(pairs):
        one, other = (
            rng.choice([s for s in sources(name) if split_of(name)[s.number] == _unrelated_split(number)])
            for name in (a, b)
        )
        found.append(Source("unrelated", number, one.fixed, other.moving, (a, b)))
    return tuple(found)


def _unrelated_split(number: int) -> Split:
    return "dev" if number % 2 == 0 else "test"
