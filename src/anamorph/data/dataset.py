"""A data set in memory: scans, the pairs to register, and how the scans are split."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import numpy as np

from anamorph.errors import UserError

Split = Literal["training", "validation", "test"]
PairSplit = Literal["val", "test", "training"]
POINT_KINDS = ("keypoints", "landmarks")
REMARK = "remark"
"""Key of an entry for what a person should look at."""
FILE_KINDS = ("label", "mask", *POINT_KINDS)
TISSUE_KINDS = ("keep_rigid", "keep_volume", "stiffness", "sliding", "no_partner")
KNOWN_KINDS = (*TISSUE_KINDS, "outlines")
"""What a registration may be given of a scan beside masks, labels and points."""
Sources = tuple[tuple[Path, float | None], ...]
"""Files, each with its weight if it has one."""
TO_ONE = "to:"
"""Before the id of a scan that is paired with others."""
_MOST_NAMED = 5


@dataclass(frozen=True)
class Case:
    """One scan with what is known about it.

    Args:
        subject: whose scan it is: ``0001`` of ``TASK_0001_0000.nii.gz``; no subject is in two splits.
        modality: four digits, the modality or time point: ``0000`` of ``TASK_0001_0000.nii.gz``.
        image: absolute path; every other file is absolute and exists, or is None.
        label: label map on the grid of the image.
        mask: where the scan counts, on the grid of the image.
        keypoints: automatic points, voxel indices of the image, in the same order in the other scan of a pair.
        landmarks: points set by people, likewise.
        split: ``training``, ``validation`` or ``test``.
        extra: further keys of the entry, kept on writing; a string under a name such as ``keypoints02`` (points for the
            pairs of the modalities 0 and 2) is a :class:`~pathlib.Path`.
        known: absolute files by kind, one of :data:`KNOWN_KINDS`.
    """

    subject: str
    modality: str
    image: Path
    label: Path | None = None
    mask: Path | None = None
    keypoints: Path | None = None
    landmarks: Path | None = None
    split: Split = "training"
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)
    known: Mapping[str, Sources] = field(default_factory=dict, hash=False)

    @property
    def key(self) -> str:
        """Subject and modality: ``0001_0000``."""
        return f"{self.subject}_{self.modality}"

    @property
    def source(self) -> str:
        """What the scan was called before it was numbered, else the name of its file."""
        return str(self.extra.get("source") or self.image.name)

    def file(self, kind: str) -> Path | None:
        """The file of a kind: ``image``, ``label``, ``mask``, ``keypoints`` or ``landmarks``."""
        path: Path | None = getattr(self, kind)
        return path


@dataclass(frozen=True)
class Pair:
    """Two scans to register; the field maps points of the fixed one to the moving one."""

    fixed: Case
    moving: Case

    @property
    def key(self) -> str:
        """How Learn2Reg's results name the pair: ``FFFF_ffff<--MMMM_mmmm``."""
        return f"{self.fixed.key}<--{self.moving.key}"

    @property
    def disp_names(self) -> dict[str, str]:
        """Stems of the field's file: ``long`` with the modalities, ``short`` without."""
        return {
            "long": f"disp_{self.fixed.key}_{self.moving.key}",
            "short": f"disp_{self.fixed.subject}_{self.moving.subject}",
        }

    def points(self, kind: str) -> tuple[Path | None, Path | None]:
        """The fixed and moving ``keypoints`` or ``landmarks``: made for these two modalities, else each scan's own.

        Sets with three time points hold several files per scan, in folders such as ``keypoints01Tr`` and
        ``keypoints02Tr``, because corresponding points differ from pair to pair.
        """
        ids = "".join(sorted(str(int(case.modality)) for case in (self.fixed, self.moving)))
        fixed, moving = (case.extra.get(f"{kind}{ids}") or case.file(kind) for case in (self.fixed, self.moving))
        return fixed, moving


@dataclass(frozen=True)
class Dataset:
    """A data set: its scans and the pairs that its makers list.

    Args:
        path: of the JSON.
        root: the folder that the paths of the JSON start from.
        name: of the task.
        modalities: name by four-digit modality: ``{"0000": "CT"}``.
        labels: name by value, without background; may be empty.
        cases: all scans.
        listed_pairs: what the file lists under ``training``, ``val`` and ``test``; a missing key is no list.
        pairings: ``paired``: the scans of a pair are of one subject; ``unpaired``: of two.
        direction: modality of the fixed and of the moving scans.
        extra: all keys of the file that are not interpreted, kept on writing.
        missing: files that the JSON names and that do not exist, as (case key, kind, path).
        remarks: what the JSON says about itself and is not so.
    """

    path: Path
    root: Path
    name: str
    modalities: Mapping[str, str]
    labels: Mapping[int, str]
    cases: tuple[Case, ...]
    listed_pairs: Mapping[str, tuple[Pair, ...]] = field(default_factory=dict)
    pairings: Literal["paired", "unpaired"] = "unpaired"
    direction: tuple[str, str] = ("0000", "0000")
    extra: Mapping[str, Any] = field(default_factory=dict)
    missing: tuple[tuple[str, str, Path], ...] = ()
    remarks: tuple[str, ...] = ()

    def pairs(self, split: PairSplit = "val") -> tuple[Pair, ...]:
        """The pairs of a split.

        ``val`` and ``test`` are the lists of the file. ``training`` is the list of the file without the pairs of
        ``val`` and ``test``, which some sets repeat there; without a list it is all there is: for paired sets the scans
        of each training subject, else every two training subjects once, in the registration direction.

        Raises:
            UserError: there is no such split, or the file lists no pairs for it.
        """
        if split not in ("val", "test", "training"):
            raise UserError(f"there is no split '{split}'; choose val, test or training")
        listed = self.listed_pairs.get(split, ())
        if split == "training":
            evaluated = {pair.key for name in ("val", "test") for pair in self.listed_pairs.get(name, ())}
            return tuple(pair for pair in listed or self._all_training_pairs() if pair.key not in evaluated)
        if not listed:
            raise UserError(f"{self.path.name} lists no pairs under registration_{split}; choose another split")
        return listed

    def scan(self, name: str, asked: str = "") -> Case:
        """The scan that a name means: its key, or the subject alone, also ``38`` for ``0038``, if that is enough.

        Args:
            name: of the scan.
            asked: where the name was given, such as ``--reference``, for the message.

        Raises:
            UserError: no scan has this name, or several have.
        """
        found = [case for case in self.cases if case.key == name]
        found = found or [case for case in self.cases if case.subject in (name, name.zfill(4))]
        if len(found) != 1:
            examples = some(case.key for case in found or self.cases)
            raise UserError(
                f"{asked + ': ' if asked else ''}{len(found) or 'no'} scans of {self.path.name} are called '{name}'; "
                f"name one by subject and modality: {examples}"
            )
        return found[0]

    def with_pairs(self, choice: str | None, split: PairSplit) -> Dataset:
        """The same with the pairs of one scan, the fixed one, and each other scan of a split, in place of the list.

        Args:
            choice: ``to:ID``; None leaves the list as it is.
            split: whose scans and whose list.

        Raises:
            UserError: the choice is something else, there is no such scan, or the split has no other.
        """
        if choice is None:
            return self
        if not choice.startswith(TO_ONE):
            raise UserError(f"--pairs wants {TO_ONE}ID, such as {TO_ONE}0038, not '{choice}'")
        fixed = self.scan(choice.removeprefix(TO_ONE), "--pairs")
        held_out: Split = "validation" if split == "val" else split
        pairs = tuple(Pair(fixed, case) for case in self.of_split(held_out) if case.image != fixed.image)
        if not pairs:
            raise UserError(f"--pairs {choice}: {self.path.name} has no other scan of the split {split}")
        return replace(self, listed_pairs={**self.listed_pairs, split: pairs})

    def files(self) -> list[Path]:
        """The manifest and every file that it names and that exists."""
        own = [case.file(kind) for case in self.cases for kind in ("image", *FILE_KINDS)]
        more = [value for case in self.cases for value in case.extra.values() if isinstance(value, Path)]
        return [self.path, *(path for path in (*own, *more) if path is not None)]

    def of_split(self, split: Split) -> tuple[Case, ...]:
        """The scans of a split."""
        return tuple(case for case in self.cases if case.split == split)

    def only(self, split: Split) -> Dataset:
        """The same with the scans of one split alone, and the pairs among them."""
        cases = self.of_split(split)
        kept = {case.image for case in cases}
        pairs = {
            name: tuple(pair for pair in listed if {pair.fixed.image, pair.moving.image} <= kept)
            for name, listed in self.listed_pairs.items()
        }
        missing = tuple(one for one in self.missing if one[0] in {case.key for case in cases})
        return replace(self, cases=cases, listed_pairs=pairs, missing=missing)

    def _all_training_pairs(self) -> tuple[Pair, ...]:
        return all_pairs(self.of_split("training"), self.pairings, self.direction)


def all_pairs(cases: tuple[Case, ...], pairings: str, direction: tuple[str, str]) -> tuple[Pair, ...]:
    """Every pair in the registration direction: within each subject if ``paired``, else each two subjects once.

    Between two modalities every fixed scan meets every moving scan of the other subjects.
    """
    fixed_modality, moving_modality = direction
    fixed = [case for case in cases if case.modality == fixed_modality]
    moving = [case for case in cases if case.modality == moving_modality]
    if pairings == "paired":
        return tuple(Pair(f, m) for f in fixed for m in moving if f.subject == m.subject and f.key != m.key)
    if fixed_modality == moving_modality:
        return tuple(Pair(f, m) for f, m in combinations(fixed, 2) if f.subject != m.subject)
    return tuple(Pair(f, m) for f in fixed for m in moving if f.subject != m.subject)


def named_subjects(rules: Sequence[str], numbers: Mapping[str, str]) -> dict[str, Split]:
    """The split of the patients that rules name, by number or by name.

    Args:
        rules: such as ``validation=1,4,7`` and ``test=2``.
        numbers: four digits by the name of the patient.

    Raises:
        UserError: a rule is not understood, names nobody, or gives a patient a second split.
    """
    found: dict[str, Split] = {}
    for rule in rules:
        split, _, names = (part.strip() for part in rule.partition("="))
        if split not in ("validation", "test") or not names:
            raise UserError(f"--ids wants validation=1,4,7 or test=2,5, not '{rule}'")
        for name in (part.strip() for part in names.split(",")):
            owners = [one for one in numbers if one == name] or [
                one for one, number in numbers.items() if number == name.zfill(4)
            ]
            if not owners:
                known = some(f"{int(number)} ({one})" for one, number in numbers.items())
                raise UserError(f"--ids: there is no patient '{name}'; there are {known}")
            if found.setdefault(owners[0], split) != split:  # type: ignore[arg-type]  # one of the two
                raise UserError(f"--ids puts '{name}' into validation and into test; choose one")
    return found


def split_subjects(
    subjects: Iterable[str], validation: float, test: float, *, seed: int = 0, fewest: int = 1
) -> dict[str, Split]:
    """Draw the split of every subject; the same subjects and seed give the same split, in whatever order they come.

    Args:
        subjects: patients, all of whose scans go to one split.
        validation: a share below 1, or a number of subjects; 0 for none.
        test: a share below 1, or a number of subjects; 0 for none.
        seed: of the draw.
        fewest: subjects that a split needs to hold a pair: 2 if the scans of a pair are of two subjects, else 1.

    Raises:
        UserError: a share is negative, or there are too few subjects.
    """
    names = sorted(set(subjects))
    counts = [
        _count(share, len(names), fewest, option) for share, option in ((validation, "validation"), (test, "test"))
    ]
    if sum(counts) > len(names):
        raise UserError(
            f"{len(names)} patients are too few for {counts[0]} in validation and {counts[1]} in test; "
            f"pass --validation and --test, for example --validation {len(names)} --test 0"
        )
    shuffled = [names[n] for n in np.random.default_rng(seed).permutation(len(names))]
    held = dict.fromkeys(shuffled[: counts[1]], "test") | dict.fromkeys(shuffled[counts[1] : sum(counts)], "validation")
    return {name: held.get(name, "training") for name in names}  # type: ignore[misc]


def _count(share: float, subjects: int, fewest: int, option: str) -> int:
    if share < 0 or (share >= 1 and share != int(share)):
        raise UserError(f"--{option} {share:g} is neither a share below 1 nor a number of patients; try --{option} 0.2")
    if share == 0:
        return 0
    count = max(round(share * subjects), fewest) if share < 1 else int(share)
    if count < fewest:
        raise UserError(f"--{option} {count} makes no pair of two patients; choose 0, or {fewest} or more")
    return count


def thin_pairs(pairs: Sequence[Pair], limit: int, *, seed: int = 0) -> tuple[Pair, ...]:
    """At most ``limit`` pairs in which every subject takes part about equally often, in their original order.

    The subjects are put on a ring in random order; pairs of neighbours come first, then those two apart, and so on.
    """
    if len(pairs) <= limit:
        return tuple(pairs)
    names = sorted({case.subject for pair in pairs for case in (pair.fixed, pair.moving)})
    place = dict(zip(names, np.random.default_rng(seed).permutation(len(names)).tolist(), strict=True))

    def far(n: int) -> tuple[int, int]:
        steps = (place[pairs[n].moving.subject] - place[pairs[n].fixed.subject]) % len(names)
        backwards = steps > len(names) / 2
        start = place[(pairs[n].moving if backwards else pairs[n].fixed).subject]
        return min(steps, len(names) - steps), start

    return tuple(pairs[n] for n in sorted(sorted(range(len(pairs)), key=far)[:limit]))


def some(names: Iterable[str]) -> str:
    """The first few of many names."""
    names = list(names)
    return ", ".join(names[:_MOST_NAMED]) + (
        f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    )
