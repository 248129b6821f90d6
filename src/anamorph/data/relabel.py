"""Other numbers and names for the labels of scans: renamed, merged, dropped, and split into left and right."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from anamorph.data.copy_files import copy_file
from anamorph.data.dataset import some
from anamorph.data.labels import same_name
from anamorph.data.scans import ScanFolder, Source
from anamorph.errors import UserError
from anamorph.geometry.grid import Grid
from anamorph.image.background import looks_like_ct
from anamorph.image.image import Image, Labels

_MOST_BYTES = 1_000_000
_HIGHEST = 2**31 - 1
_FORM = "--relabel wants OLD=NEW, such as liver=1,tumour=1, 1=6:liver, 3=drop or kidney=2:left kidney/3:right kidney"
_DROPPED = {"0", "drop", "background"}
_TISSUE_HU = -300.0
_SAMPLED_MM = 4.0
_CROSSING = 0.1
_PAIRED = 0.25


@dataclass(frozen=True)
class Target:
    """What becomes of a label.

    Args:
        left: its number, 0 to drop it; where ``right`` is given, the number of the part on the left.
        right: the number of the part on the right side of the body, or None for a label that stays whole.
    """

    left: int
    right: int | None = None

    @property
    def numbers(self) -> tuple[int, ...]:
        """All numbers that it gives."""
        return (self.left,) if self.right is None else (self.left, self.right)


@dataclass(frozen=True)
class Relabelling:
    """What becomes of every label, and what the new ones are called.

    Args:
        targets: by old number; a label that is not among them keeps its number.
        labels: name by new number; empty where the old ones had no names and none were given.
        rules: as they were given, for the manifest.
    """

    targets: Mapping[int, Target]
    labels: Mapping[int, str]
    rules: tuple[str, ...]


def parse_rules(texts: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """The ``(old, new)`` of each rule; a text is a list ``OLD=NEW,OLD=NEW``, or a JSON or TOML file ``{OLD: NEW}``.

    Raises:
        UserError: a text is neither, or a label is given twice.
    """
    rules: list[tuple[str, str]] = []
    for text in texts:
        if re.search(r"\.(json|toml)$", text, re.IGNORECASE):
            rules += _read_rules(Path(text))
            continue
        for part in text.split(","):
            old, equals, new = (piece.strip() for piece in part.partition("="))
            if not (old and equals and new):
                raise UserError(f"{_FORM}; not '{part.strip()}'")
            rules.append((old, new))
    twice = [old for n, (old, _) in enumerate(rules) if same_name(old) in {same_name(one) for one, _ in rules[:n]}]
    if twice:
        raise UserError(f"--relabel says twice what becomes of '{twice[0]}'; say it once")
    return tuple(rules)


def make_relabelling(texts: Sequence[str], labels: Mapping[int, str]) -> Relabelling:
    """Understand rules by the labels that there are.

    ``OLD`` is a number or a name. ``NEW`` is a number, a name, or ``number:name``; the name of another label merges the
    two, a new name keeps the number. ``LEFT/RIGHT`` splits a label by the side of the body; ``drop`` makes it
    background. The name of a label goes with it; of several that are merged, that of the one whose number stays counts,
    else that of the first.

    Args:
        texts: rules, as :func:`parse_rules` takes them.
        labels: name by old number; empty if they are not known.

    Raises:
        UserError: a rule is not understood, there is no such label, or labels would be merged that no rule speaks of.
    """
    rules = parse_rules(texts)
    olds = [_old_number(old, labels) for old, _ in rules]
    if len(set(olds)) < len(olds):
        raise UserError(f"--relabel says twice what becomes of label {max(olds, key=olds.count)}; say it once")
    plain = {old: new for old, (_, new) in zip(olds, rules, strict=True)}
    numbers = {same_name(labels[old]): old for old in labels}
    targets: dict[int, Target] = {}
    given: dict[int, str] = {}
    for old, new in plain.items():
        sides = [_new_number(side, old, plain, numbers) for side in new.split("/")]
        if len(sides) > 2 or (len(sides) == 2 and (sides[0][0] == sides[1][0] or 0 in (sides[0][0], sides[1][0]))):
            raise UserError(f"{_FORM}; '{new}' names no left and right label")
        targets[old] = Target(*(number for number, _ in sides))
        for number, name in sides:
            if name and same_name(given.setdefault(number, name)) != same_name(name):
                raise UserError(f"--relabel calls label {number} both '{given[number]}' and '{name}'; choose one")
    # A label that is merged into by its name is spoken of, and stays.
    named = [
        numbers[same_name(side)] for new in plain.values() for side in new.split("/") if same_name(side) in numbers
    ]
    targets |= {number: Target(number) for number in named if number not in targets}
    _refuse_unsaid_merges(targets, labels)
    return Relabelling(targets, _new_names(targets, labels, given), tuple(f"{old}={new}" for old, new in rules))


def _read_rules(path: Path) -> list[tuple[str, str]]:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise UserError(f"{path}: is larger than 1 MB; --relabel wants a short table of labels")
        text = path.read_text(encoding="utf-8-sig")
        content = tomllib.loads(text) if path.suffix.lower() == ".toml" else json.loads(text)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); --relabel names a file that exists") from error
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error).splitlines()[0]
        raise UserError(f'{path}: cannot be read ({reason}); write {{"liver": 1, "tumour": 1}}') from error
    if not isinstance(content, dict) or not content or not all(_is_rule(new) for new in content.values()):
        raise UserError(
            f'{path}: is no table of labels; write {{"1": "6:liver", "tumour": 0, "kidney": "2:left/3:right"}}'
        )
    return [(str(old).strip(), str(new).strip()) for old, new in content.items()]


def _is_rule(new: Any) -> bool:
    return (isinstance(new, int) and not isinstance(new, bool)) or (isinstance(new, str) and bool(new.strip()))


def _old_number(text: str, labels: Mapping[int, str]) -> int:
    found = [number for number, name in labels.items() if same_name(name) == same_name(text)]
    if len(found) > 1:
        raise UserError(f"--relabel: '{text}' is the name of the labels {some(map(str, found))}; write their numbers")
    if not found and _is_number(text) and (int(text) in labels or not labels):
        return int(text)
    if not found:
        known = some(f"{number} ({name})" for number, name in labels.items())
        raise UserError(
            f"--relabel: there is no label '{text}'; there are {known}"
            if labels
            else f"--relabel: '{text}' is no number; name the labels with --label-names first"
        )
    return found[0]


def _new_number(text: str, old: int, plain: Mapping[int, str], numbers: Mapping[str, int]) -> tuple[int, str]:
    """Number and, if one is given, name of one side of a rule."""
    text = text.strip()
    if text.casefold() in _DROPPED:
        return 0, ""
    number, colon, name = text.partition(":")
    if _is_number(number):
        if colon and not name.strip():
            raise UserError(f"{_FORM}; '{text}' gives no name")
        return int(number), name.strip()
    if colon or re.fullmatch(r"[-+.\d]*", text):
        raise UserError(f"{_FORM}; '{text}' is no label, which are whole numbers from 1")
    other = numbers.get(same_name(text))
    if other is None or other == old:
        return old, text  # another name
    becomes = plain.get(other, str(other)).partition(":")[0]
    if not _is_number(becomes):
        raise UserError(f"--relabel: '{text}' is label {other}, which becomes '{becomes}'; write a number in its place")
    return int(becomes), ""


def _is_number(text: str) -> bool:
    return bool(re.fullmatch(r"[0-9]{1,10}", text.strip())) and 0 < int(text) <= _HIGHEST


def _refuse_unsaid_merges(targets: Mapping[int, Target], labels: Mapping[int, str]) -> None:
    for old, target in targets.items():
        for number in target.numbers:
            if number in labels and number not in targets and number != old:
                raise UserError(
                    f"--relabel makes label {old} ({labels.get(old, old)}) label {number}, which is "
                    f"'{labels[number]}' already; to merge them write {old}={number},{number}={number}, else take "
                    "another number"
                )


def _new_names(targets: Mapping[int, Target], labels: Mapping[int, str], given: Mapping[int, str]) -> dict[int, str]:
    names = {number: name for number, name in labels.items() if number not in targets}
    for old in sorted(targets, key=lambda old: old not in targets[old].numbers):  # the one whose number stays first
        target = targets[old]
        name = labels.get(old, "")
        sides = (name,) if target.right is None else tuple(f"{side} {name}".strip() for side in ("left", "right"))
        for number, own in zip(target.numbers, sides, strict=True):
            if number and own:
                names.setdefault(number, own)
    return dict(sorted((names | dict(given)).items()))


def relabelled(found: ScanFolder, relabelling: Relabelling) -> ScanFolder:
    """The same scans, whose label maps are written with the new numbers; the manifest keeps the rules."""
    scans = [
        replace(scan, files={**scan.files, "label": partial(_write, scan.files["label"], relabelling)})
        if "label" in scan.files
        else scan
        for scan in found.scans
    ]
    record = {"rules": list(relabelling.rules), "labels_before": {str(n): name for n, name in found.labels.items()}}
    return replace(found, scans=tuple(scans), labels=relabelling.labels, extra={**found.extra, "relabelled": record})


def relabel(labels: Labels, image: Image, relabelling: Relabelling) -> tuple[Labels, str]:
    """A label map with the new numbers, and a remark on what a person should look at, or an empty string.

    Labels with the same left and right number are split together.

    Args:
        labels: with the old numbers.
        image: the scan, of which the middle of the body is taken where a label is split.
        relabelling: what becomes of every label.

    Raises:
        UserError: nothing but background is left, or a label that is split is not on the grid of its scan.
    """
    old = labels.data[0]
    values, places = np.unique(old, return_inverse=True)
    targets = [relabelling.targets.get(int(value), Target(int(value))) for value in values]
    taken = {number for target in relabelling.targets.values() for number in target.numbers if number}
    unsaid = [int(value) for value in values if int(value) in taken and int(value) not in relabelling.targets]
    if unsaid:
        raise UserError(
            f"{labels.name}: holds label {unsaid[0]}, into which --relabel would merge others without a word; add "
            f"{unsaid[0]}={unsaid[0]} to merge them, or take another number"
        )
    highest = max(number for target in targets for number in target.numbers)
    new = np.array([target.left for target in targets], np.min_scalar_type(highest))[places].reshape(old.shape)
    remarks = []
    for target in dict.fromkeys(target for target in targets if target.right is not None):
        inside = np.array([one == target for one in targets])[places].reshape(old.shape)
        right, remark = _right_of(inside, labels, image)
        new[right] = target.right
        remarks += [f"{_names(target, relabelling)}: {remark}"] if remark else []
    if not new.any():
        raise UserError(f"{labels.name}: --relabel leaves nothing but background; keep a label or leave the scan out")
    return Labels(new, labels.grid, labels.name), "; ".join(remarks)


def _right_of(inside: np.ndarray, labels: Labels, image: Image) -> tuple[np.ndarray, str]:
    from anamorph.data.relabel import on_the_right

    if image.grid.shape != labels.grid.shape:
        raise UserError(f"{labels.name}: is not on the grid of its scan {image.name}, so left and right are not known")
    return on_the_right(inside, Image(image.data, labels.grid, image.name))


def _names(target: Target, relabelling: Relabelling) -> str:
    return "/".join(relabelling.labels.get(number, str(number)) for number in target.numbers)


def _write(source: Source, relabelling: Relabelling, target: Path, image: Path) -> str:
    """Write a label map, and return the notes on it."""
    from anamorph.image.read import read_image, read_labels
    from anamorph.image.write import world_code, write_image

    if isinstance(source, Path):
        before = read_labels(source)
    else:
        copy_file(source, target, "label", "copy", image)
        before = read_labels(target)
    labels, remark = relabel(before, read_image(image), relabelling)
    write_image(labels, target, world_code(image))
    return remark


def on_the_right(inside: np.ndarray, image: Image) -> tuple[np.ndarray, str]:
    """Which voxels of a label are of the right one of two organs, and what a person should look at.

    Each connected component goes to the side of the body's middle on which its centroid lies (RAS: x rises to the
    right). A component of which 10 % or more lies on either side (kidneys that touch, a horseshoe kidney) is cut at the
    middle. The middle is the median x of the body (of a CT what is above -300 HU, else what is above the mean) in the
    slices that hold the label.

    Args:
        inside: ``(I, J, K)``, true in the label.
        image: the scan, on the same grid.

    Returns:
        ``(I, J, K)``, true in the right part; and a remark if a component was cut, if there is nothing on one side, or
        if two large components lie on one side; else an empty string.
    """
    from scipy import ndimage

    if not inside.any():
        return np.zeros(inside.shape, bool), ""
    x_mm = _world(image.grid, 0)
    middle_mm = _middle_mm(inside, image, x_mm)
    x_mm = np.broadcast_to(x_mm, inside.shape)
    components, count = ndimage.label(inside, np.ones((3, 3, 3)))
    numbers = np.arange(1, count + 1)
    sizes = np.bincount(components.ravel(), minlength=count + 1)[1:]
    beyond = np.bincount(components[x_mm > middle_mm], minlength=count + 1)[1:] / sizes
    is_right = ndimage.mean(x_mm, components, numbers) > middle_mm
    crosses = (beyond >= _CROSSING) & (beyond <= 1 - _CROSSING)
    right = np.concatenate([[False], is_right])[components]
    cut = np.concatenate([[False], crosses])[components]
    right = np.where(cut, x_mm > middle_mm, right)
    return right, _remark(right, inside, sizes, is_right, crosses, middle_mm)


def _remark(
    right: np.ndarray,
    inside: np.ndarray,
    sizes: np.ndarray,
    is_right: np.ndarray,
    crosses: np.ndarray,
    middle_mm: float,
) -> str:
    large = sizes >= _PAIRED * sizes.max()
    if crosses[large].any():
        return (
            f"a part crosses the middle of the body and was cut at x = {middle_mm:.0f} mm (touching, or a horseshoe?)"
        )
    share = np.count_nonzero(right) / np.count_nonzero(inside)
    side = "right" if share > 0.5 else "left"
    if large.sum() > 1 and len({*is_right[large].tolist()}) == 1:
        return f"{large.sum()} large parts all lie on the {side} of the body's middle at x = {middle_mm:.0f} mm"
    return f"everything lies on the {side} (a single organ?)" if share in (0.0, 1.0) else ""


def _middle_mm(inside: np.ndarray, image: Image, x_mm: np.ndarray) -> float:
    """Of the body, along x, in the slices of the label."""
    values = image.data[0]
    z_mm = _world(image.grid, 2)
    labelled = np.broadcast_to(z_mm, inside.shape)[inside]
    steps = tuple(slice(None, None, max(1, int(_SAMPLED_MM // spacing))) for spacing in image.grid.spacing_mm)
    seen, z = values[steps], np.broadcast_to(z_mm, inside.shape)[steps]
    body = seen > (_TISSUE_HU if looks_like_ct(image) else float(seen.mean()))
    near = (z >= labelled.min() - _SAMPLED_MM) & (z <= labelled.max() + _SAMPLED_MM)
    found = np.broadcast_to(x_mm, inside.shape)[steps][body & near]
    return float(np.median(found)) if found.size else float(image.grid.centre_mm[0])


def _world(grid: Grid, axis: int) -> np.ndarray:
    """One RAS coordinate of every voxel, mm; no array of positions is made where the grid is not oblique."""
    i, j, k = (
        (weight * np.arange(n)).reshape([-1 if m == a else 1 for m in range(3)]) if weight else np.zeros((1, 1, 1))
        for a, (n, weight) in enumerate(zip(grid.shape, grid.affine[axis, :3], strict=True))
    )
    return np.asarray(i + j + k + grid.affine[axis, 3], np.float32)
