"""The scans of a template, and how it is built of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from anamorph.data.dataset import Case
from anamorph.data.manifest import parse_name
from anamorph.errors import UserError

MEAN = "mean"
"""The start that favours no scan."""
FEWEST = 2


@dataclass(frozen=True)
class TemplateSettings:
    """How a template is built.

    Args:
        start: ``mean`` for the mean of the scans with aligned centres, or the key, subject or file name of a scan.
        iterations: at most so many rounds of registering, averaging and moving to the mean shape.
        tolerance_mm: no further round once the mean field is smaller (root mean square); None is a tenth of the spread
            of the scans, the length of their own maps.
        sharpening: how much of what a smoothing by one voxel removes is added to the mean; 0 leaves the mean as it is.
        leave_out_failed: go on without scans that cannot be registered.

    Raises:
        UserError: a value out of its range.
    """

    start: str = MEAN
    iterations: int = 4
    tolerance_mm: float | None = None
    sharpening: float = 0.0
    leave_out_failed: bool = False

    def __post_init__(self) -> None:
        if self.iterations < 1:
            raise UserError(f"--iterations must be at least 1, not {self.iterations}")
        if self.tolerance_mm is not None and not self.tolerance_mm >= 0:
            raise UserError(f"--tolerance must not be negative, not {self.tolerance_mm}")
        if not 0 <= self.sharpening <= 2:
            raise UserError(f"--sharpen must lie in [0, 2], not {self.sharpening}")


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
