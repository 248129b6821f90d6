"""The pairs that are disturbed, where their files are, and which of them are for tuning and which for proof."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from itertools import permutations
from pathlib import Path
from typing import Any, Literal

from anamorph.image import Image, Labels, Points
from anamorph.image.point_files import read_points
from anamorph.image.read import read_image, read_labels
from anamorph.phantom.pair import make_pair
from anamorph.transforms import Affine, Transform
from anamorph.transforms.files import read_transform

from ..peers.pairs import read_pairs

Split = Literal["dev", "test"]
LISTS = Path(__file__).parents[1] / "pairs"
LISTED = ("hippocampus", "abdomen_ct", "head_neck_ct", "cardiac_mr", "fetal_brain_mr", "lung_ct")
"""Data sets whose pairs are in ``benchmarks/pairs``: every disturbance is made of these."""
PHANTOMS: dict[str, dict[str, Any]] = {  # the limits that make_pair takes
    "identity": {"translation_mm": 0.0, "rotation_deg": 0.0, "scale": 0.0},
    "translation": {"translation_mm": 20.0, "rotation_deg": 0.0, "scale": 0.0},
    "rotation": {"translation_mm": 20.0, "rotation_deg": 15.0, "scale": 0.0},
    "affine": {"translation_mm": 20.0, "rotation_deg": 10.0, "scale": 0.1},
}
PHANTOM_SEEDS = (0, 1, 2, 3)
PHANTOM_SHAPE = (64, 52, 56)  # voxels of 5.9 mm


@dataclass(frozen=True)
class Subject:
    """Two scans, and whatever their registration can be judged by; ``truth`` maps fixed points to moving points."""

    fixed: Image
    moving: Image
    fixed_labels: Labels | None = None
    moving_labels: Labels | None = None
    fixed_points: Points | None = None
    moving_points: Points | None = None
    truth: Transform | None = None


@dataclass(frozen=True)
class Source:
    """A pair by the names of its files; ``number`` counts within its set, ``patients`` are those it shows.

    ``maps`` are reference affines in the order in which points go through them; an inverse one is marked with ``-``.
    """

    dataset: str
    number: int
    fixed: str
    moving: str
    patients: tuple[str, ...]
    companions: tuple[tuple[str, str], ...] = ()
    maps: tuple[str, ...] | None = None

    @property
    def key(self) -> tuple[str, int]:
        """What names the pair."""
        return self.dataset, self.number

    def load(self, root: Path) -> Subject:
        """Read the scans and what they are judged by."""
        if self.dataset == "phantom":
            seed = PHANTOM_SEEDS[self.number // len(PHANTOMS)]
            made = make_pair(PHANTOM_SHAPE, seed=seed, deformation_mm=0.0, **PHANTOMS[self.fixed])
            return Subject(made.fixed, made.moving, truth=made.true_fixed_to_moving)
        fixed, moving = read_image(root / self.fixed), read_image(root / self.moving)
        grids = {"fixed": fixed.grid, "moving": moving.grid}
        given: dict[str, Labels | Points] = {}
        for role, path in self.companions:
            side, kind = role.split("_")
            given[role] = read_labels(root / path) if kind == "labels" else read_points(root / path, grids[side])
        return Subject(fixed, moving, truth=self._truth(root), **given)  # type: ignore[arg-type]

    def _truth(self, root: Path) -> Transform | None:
        if self.maps is None:
            return None
        total: Transform = Affine.identity()
        for name in self.maps:
            one = read_transform(root / name.removeprefix("-"))
            total = (one.inverse() if name.startswith("-") else one) @ total
        return total


@cache
def sources(dataset: str) -> tuple[Source, ...]:
    """The pairs of a data set, always in the same order."""
    if dataset == "hearts":
        return _hearts()
    if dataset == "brain_ms_mr":
        return _brains()
    if dataset == "prostate_mr_us":
        return _prostates()
    if dataset == "phantom":
        kinds = enumerate(kind for _ in PHANTOM_SEEDS for kind in PHANTOMS)
        return tuple(
            Source(dataset, n, kind, kind, (f"phantom {PHANTOM_SEEDS[n // len(PHANTOMS)]}",)) for n, kind in kinds
        )
    return tuple(_listed(dataset))


def split_of(dataset: str) -> dict[int, Split]:
    """Which pairs are for tuning and which for proof: no patient is in both, as far as the set has enough of them.

    Groups of pairs that share a patient go to either side in turn. A set of one group is divided by patients in any
    order (``{a, b}`` is one group), and a set of one patient pair by pair.
    """
    found = sources(dataset)
    for groups in (_connected(found), _by(found, [frozenset(one.patients) for one in found]), [[n] for n in found]):
        if len(groups) > 1 or len(found) == 1:
            break
    return {one.number: "dev" if place % 2 == 0 else "test" for place, group in enumerate(groups) for one in group}


def _connected(found: Iterable[Source]) -> list[list[Source]]:
    groups: list[tuple[set[str], list[Source]]] = []
    for one in found:
        near = [group for group in groups if group[0] & set(one.patients)]
        names = set(one.patients).union(*(group[0] for group in near))
        members = [member for group in near for member in group[1]] + [one]
        groups = [group for group in groups if group not in near] + [(names, members)]
    return sorted((members for _, members in groups), key=lambda members: members[0].number)


def _by(found: Iterable[Source], keys: Iterable[frozenset[str]]) -> list[list[Source]]:
    groups: dict[frozenset[str], list[Source]] = {}
    for one, key in zip(found, keys, strict=True):
        groups.setdefault(key, []).append(one)
    return list(groups.values())


def _listed(dataset: str) -> Iterable[Source]:
    for number, pair in enumerate(read_pairs(LISTS / f"{dataset}.csv", Path())):
        names = pair.pair_id.split("__")
        patients = tuple(name.removesuffix("_ED").removesuffix("_ES").split("_CT")[0].split("_MR")[0] for name in names)
        if dataset == "lung_ct":
            patients = ("lung",)
        elif dataset == "fetal_brain_mr":
            patients = tuple(names)
        companions = tuple(
            (role, path.as_posix())
            for role, path in pair.files.items()
            if path and role.endswith(("_labels", "_points"))
        )
        if dataset == "ct_mr":  # already aligned; the tumour is too small a part to judge a map by
            yield Source(dataset, number, pair.fixed.as_posix(), pair.moving.as_posix(), patients, maps=())
        else:
            yield Source(dataset, number, pair.fixed.as_posix(), pair.moving.as_posix(), patients, companions)


def _hearts() -> tuple[Source, ...]:
    """End-diastole of one patient, end-systole of another one, both on the same side of the split of ``cardiac_mr``."""
    split = split_of("cardiac_mr")
    sides = [[one for one in sources("cardiac_mr") if split[one.number] == side] for side in ("dev", "test")]
    found: list[Source] = []
    for place in range(0, len(sides[0]), 2):
        for side in sides:
            for fixed, moving in permutations(side[place : place + 2]):
                companions = tuple(
                    (f"{role}_labels", dict(one.companions)[f"{role}_labels"])
                    for role, one in (("fixed", fixed), ("moving", moving))
                )
                patients = fixed.patients[:1] + moving.patients[:1]
                found.append(Source("hearts", len(found), fixed.fixed, moving.moving, patients, companions))
    return tuple(found)


def _brains() -> tuple[Source, ...]:
    """FLAIR to T1 and T2, T1 to T2, and FLAIR of the two dates; the files map FLAIR or the common space elsewhere."""
    found = []
    for study in ("patient01/study1", "patient01/study2", "patient03/study2"):
        base = f"brain_ms_mr/{study}"
        to = {scan: f"{base}_{scan}_intrastudy_to_FLAIR.txt" for scan in ("T1W", "T2W")}
        found += [
            ("FLAIR", base, "T1W", base, (to["T1W"],)),
            ("FLAIR", base, "T2W", base, (to["T2W"],)),
            ("T1W", base, "T2W", base, ("-" + to["T1W"], to["T2W"])),
        ]
    one, other = "brain_ms_mr/patient01/study1", "brain_ms_mr/patient01/study2"
    common = tuple(f"{base}_FLAIR_to_common_space.txt" for base in (one, other))
    found.append(("FLAIR", one, "FLAIR", other, ("-" + common[0], common[1])))
    return tuple(
        Source("brain_ms_mr", n, f"{here}_{a}.nii.gz", f"{there}_{b}.nii.gz", (here.split("/")[1],), maps=maps)
        for n, (a, here, b, there, maps) in enumerate(found)
    )


def _prostates() -> tuple[Source, ...]:
    found = []
    for n in range(11):
        files = {side: f"train_case{n:06d}_{scan}" for side, scan in (("fixed", "mr"), ("moving", "us"))}
        image, label = (
            {s: f"prostate_mr_us/{kind}/{f}.nii.gz" for s, f in files.items()} for kind in ("images", "labels")
        )
        companions = tuple((f"{side}_labels", path) for side, path in label.items())
        found.append(Source("prostate_mr_us", n, image["fixed"], image["moving"], (f"case {n}",), companions))
    return tuple(found)
