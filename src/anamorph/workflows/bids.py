"""A data set of BIDS registered, scan by scan, to a template or to another session: what a BIDS App does."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anamorph.batch.registration import RegistrationSettings
from anamorph.batch.run import Ran, run_jobs
from anamorph.batch.store import Contents, Kept, origin_of
from anamorph.data.bids import BidsScan
from anamorph.errors import UserError
from anamorph.image.atomic import write_text
from anamorph.image.read import read_grid
from anamorph.reading import read_own_record
from anamorph.registration.derivatives import Derivatives, write_dataset, write_derivatives
from anamorph.registration.request import Request
from anamorph.registration.run import run
from anamorph.types import Progress

RECORDS = ".anamorph"
"""Hidden, so that no program takes records for data: one for each registration, written last."""
GROUP = "group_registrations.tsv"


@dataclass(frozen=True)
class BidsJob:
    """One registration.

    Args:
        names: of its files, which say which scans.
        settings: of the method.
        same_patient: two dates of one patient.
        origin: all that the result depends on.
    """

    names: Derivatives
    settings: RegistrationSettings
    same_patient: bool
    origin: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Scan, and both spaces."""
        return self.names.name

    def find(self) -> dict[str, Any] | None:
        """The record of an earlier run with the same scans and settings whose files are undamaged."""
        return self._kept().find()

    def do(self, progress: Progress | None = None) -> dict[str, Any]:
        """Register, and write the derivatives, the record last.

        Raises:
            UserError: the scans cannot be used.
            RegistrationFailure: the run failed.
        """
        wanted = self.settings
        request = Request(
            self.names.fixed_path,
            self.names.moving_path,
            method=wanted.method,
            preset=wanted.preset,
            settings=list(wanted.settings),
            device=wanted.device,
            seed=wanted.seed,
            same_patient=self.same_patient,
        )
        result, kept = run(request, progress=progress), self._kept()
        files, saved = write_derivatives(result, self.names, before=kept.forget)
        told = {key: saved.record[key] for key in ("verdict", "metrics", "warnings")}
        return kept.keep(files, {"scan": self.names.moving.text, "space": self.names.target, **told})

    def peak_bytes(self) -> int:
        """Predicted memory, from the headers."""
        return self.settings.peak_bytes(read_grid(self.names.fixed_path), read_grid(self.names.moving_path))

    def _kept(self) -> Kept:
        return Kept(self.names.root / RECORDS / f"{self.name}.json", self.names.root, self.origin)


def register_dataset(
    pairs: Sequence[tuple[Path, BidsScan]],
    raw: Path,
    out: Path,
    settings: RegistrationSettings,
    *,
    space: str | None = None,
    same_patient: bool = False,
    workers: int | str = 1,
    progress: Progress | None = None,
    on_failure: Callable[[str, str], None] | None = None,
) -> Ran:
    """Register scans of a data set; what an earlier run finished stays.

    Args:
        pairs: of a fixed scan, or template, and a scan of the data set.
        raw: the data set.
        out: folder of the derivatives.
        settings: of the method.
        space: what the space of all fixed scans is called; by their names by default.
        same_patient: the pairs are two dates of one patient.
        workers: processes, or where else the work is done, see :func:`~anamorph.batch.run.run_jobs`.
        progress: called with the stage and the fraction done.
        on_failure: called at once with what failed, and the reason.

    Raises:
        UserError: the settings are wrong, or two results would have one name.
        RegistrationFailure: a worker was stopped from outside.
    """
    out.mkdir(parents=True, exist_ok=True)
    (out / RECORDS).mkdir(exist_ok=True)
    write_dataset(out, raw)
    contents, described = Contents(), settings.described()
    contents.look(path for fixed, scan in pairs for path in (fixed, scan.path))
    jobs: dict[str, BidsJob] = {}
    for fixed, scan in pairs:
        names = Derivatives.of(out, fixed, scan.path, space=space, raw=raw)
        scans = {"fixed": contents[fixed], "moving": contents[scan.path]}
        origin = origin_of(run=described, inputs=scans, same_patient=same_patient)
        if names.name in jobs:
            raise UserError(f"two results would be named {names.name}; choose scans with --entity, such as run=1")
        jobs[names.name] = BidsJob(names, settings, same_patient, origin)
    return run_jobs([*jobs.values()], workers, noun="scan", progress=progress, on_failure=on_failure)


def write_group(out: Path) -> tuple[Path, list[dict[str, str]]]:
    """Write the table of all registrations of a folder of derivatives, and return its rows.

    Raises:
        UserError: there are none.
    """
    rows = []
    for path in sorted((out / RECORDS).glob("*.json")):
        record = read_own_record(path)
        verdict = record.get("verdict", {})
        row = {"registration": path.stem, "scan": str(record.get("scan", "")), "space": str(record.get("space", ""))}
        row |= {"verdict": str(verdict.get("status", "n/a")), "reason": "; ".join(verdict.get("reasons", []))}
        rows.append(row | _numbers(record.get("metrics", {})))
    if not rows:
        raise UserError(f"{out} holds no registrations; run the level participant first")
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="n/a", delimiter="\t", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(out / GROUP, text.getvalue())
    return out / GROUP, rows


def _numbers(metrics: Mapping[str, Any]) -> dict[str, str]:
    """Numbers of a record, those within others by both names."""
    found: dict[str, str] = {}
    for key, value in metrics.items():
        if isinstance(value, Mapping):
            found |= {f"{key}_{name}": number for name, number in _numbers(value).items()}
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            found[key] = f"{value:.6g}"
    return found
