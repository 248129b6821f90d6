"""The scans of a template: from a manifest or from a list of files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from anamorph.data import Case
from anamorph.data.manifest import parse_name
from anamorph.errors import UserError
from anamorph.groupwise.settings import MEAN

FEWEST = 2


def cases_of(scans: Sequence[Path]) -> tuple[Case, ...]:
    """Scans given as files, named after them."""
    return tuple(Case(*parse_name(path.name), path.absolute()) for path in scans)


def check_cases(cases: Sequence[Case]) -> None:
    """See that every scan is a file and has a name of its own.

    Raises:
        UserError: too few scans, one that is missing, or two of one name.
    """
    if len(cases) < FEWEST:
        raise UserError(f"a template needs at least {FEWEST} scans, not {len(cases)}; name more")
    for case in cases:
        if not case.image.is_file():
            what = "is a folder; convert it to a file first" if case.image.is_dir() else "no such file; check the path"
            raise UserError(f"{case.image}: {what}")
    name, count = Counter(case.key for case in cases).most_common(1)[0]
    if count > 1:
        raise UserError(f"{count} scans are called {name}; rename their files, or tell them apart in a data set")


def find_start(cases: Sequence[Case], start: str) -> Case | None:
    """The scan that ``start`` names by key, subject or file; None for the mean.

    Raises:
        UserError: it names none, or several.
    """
    if start == MEAN:
        return None
    file = Path(start).absolute()
    found = [case for case in cases if start in (case.key, case.subject, case.image.name) or case.image == file]
    if len(found) != 1:
        examples = ", ".join(case.key for case in (found or cases)[:3])
        raise UserError(f"--start {start} names {len(found)} scans; write {MEAN}, or a key such as {examples}")
    return found[0]
