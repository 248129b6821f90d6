"""Other numbers and names for the labels of scans: renamed, merged, dropped, and split into left and right."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anamorph.data.findings import some
from anamorph.data.label_names import same_name
from anamorph.errors import UserError

_MOST_BYTES = 1_000_000
_HIGHEST = 2**31 - 1
_FORM = "--relabel wants OLD=NEW, such as liver=1,tumour=1, 1=6:liver, 3=drop or kidney=2:left kidney/3:right kidney"
_DROPPED = {"0", "drop", "background"}


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
