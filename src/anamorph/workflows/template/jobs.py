"""One scan registered to the template: as a field for the next mean, or as the result that is handed out."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anamorph.batch.registration import RegistrationSettings, register_scans
from anamorph.batch.store import Kept
from anamorph.data import Case
from anamorph.image.read import read_grid, read_image
from anamorph.methods.base import Progress
from anamorph.registration.folder import RESULT
from anamorph.registration.request import Request, mask_on
from anamorph.registration.result import Result
from anamorph.registration.run import run_to_folder
from anamorph.transforms.files import write_transform

ORIGIN = "template"
"""Key of ``result.json`` under which a delivered scan tells what it was made of."""


@dataclass(frozen=True)
class ScanJob:
    """Register a scan to the template.

    Args:
        case: the moving scan.
        template: the fixed one.
        support: its weights; None where all are 1.
        wanted: how.
        folder: of the results of all scans.
        origin: all that the result depends on.
    """

    case: Case
    template: Path
    support: Path | None
    wanted: RegistrationSettings
    folder: Path
    origin: dict[str, Any]

    @property
    def name(self) -> str:
        """The key of the scan."""
        return self.case.key

    def peak_bytes(self) -> int:
        """Predicted memory."""
        return self.wanted.peak_bytes(read_grid(self.template), read_grid(self.case.image))


class FieldJob(ScanJob):
    """The map of the template to a scan, on the grid of the template: what the next mean is made of."""

    @property
    def field(self) -> Path:
        """The file of the map."""
        return self.folder / f"{self.case.key}.h5"

    def find(self) -> dict[str, Any] | None:
        """The record of a field of the same files and settings."""
        return self._kept().find()

    def do(self, progress: Progress | None = None) -> dict[str, Any]:
        """Write the field, and last its record."""
        template, scan = read_image(self.template), read_image(self.case.image)
        start = time.perf_counter()
        result = register_scans(
            self.wanted,
            template,
            scan,
            fixed_mask=mask_on(template, self.support),
            moving_mask=mask_on(scan, self.case.mask) if self.wanted.masks else None,
            progress=progress,
        )
        write_transform(result.fixed_to_moving.displacement_on(template.grid), self.field, "itk-h5", template.grid)
        return self._kept().keep([self.field], {"seconds": round(time.perf_counter() - start, 2)})

    def _kept(self) -> Kept:
        return Kept(self.field.with_suffix(".json"), self.folder, self.origin)


class ResultJob(ScanJob):
    """What ``anamorph register`` writes of a scan and the final template: what is handed out."""

    @property
    def result(self) -> Path:
        """The folder."""
        return self.folder / self.case.key

    def find(self) -> dict[str, Any] | None:
        """The ``result.json`` of the same files and settings."""
        return self._kept().find()

    def do(self, progress: Progress | None = None) -> dict[str, Any]:
        """Write the folder, with check sums in ``result.json``."""

        def stamp(folder: Path, result: Result) -> dict[str, Any]:
            files = [path for path in sorted(folder.iterdir()) if path.is_file()]
            return {ORIGIN: Kept(folder / RESULT, folder, self.origin).stamp(files)}

        case, wanted = self.case, self.wanted
        request = Request(
            fixed=str(self.template),
            moving=str(case.image),
            fixed_mask=None if self.support is None else str(self.support),
            moving_labels=None if case.label is None else str(case.label),
            moving_mask=str(case.mask) if wanted.masks and case.mask is not None else None,
            method=wanted.method,
            preset=wanted.preset,
            settings=wanted.settings,
            device=wanted.device,
            seed=wanted.seed,
        )
        run_to_folder(request, self.result, overwrite=True, extras=stamp)
        return self._kept().find() or {}

    def _kept(self) -> Kept:
        return Kept(self.result / RESULT, self.result, self.origin, under=ORIGIN)
