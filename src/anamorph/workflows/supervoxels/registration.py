"""Scans registered to the template, or brought there by transforms that exist."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anamorph.batch.registration import RegistrationSettings, register_scans
from anamorph.batch.store import Contents, Kept, origin_of
from anamorph.data.dataset import Case
from anamorph.errors import UserError
from anamorph.evaluation.metrics.dice import dice
from anamorph.image.image import Image, Mask
from anamorph.image.read import read_grid, read_image, read_labels
from anamorph.registration.request import mask_on
from anamorph.report.cohort.thumbnail import thumbnail, write_thumbnail
from anamorph.report.page import drawn
from anamorph.runtime.memory import INTERPRETER_BYTES
from anamorph.supervoxels.files import transform_path
from anamorph.supervoxels.layers import layer_grid
from anamorph.transforms.files import read_transform, write_transform, written_files
from anamorph.transforms.maps import Affine, Transform
from anamorph.types import Progress
from anamorph.workflows.preprocess.record import RECORDS, field_of_view, read_record

BYTES_PER_VOXEL = 40
"""Of both scans, label maps, positions and a warped map, where nothing is registered."""
TRANSFORM_ENDINGS = (
    "_displacements.dat",
    *(".h5", ".hdf5", ".nii.gz", ".nii", ".npz", ".nrrd", ".mha", ".tfm", ".txt", ".mat"),
)
_IMAGE = re.compile(r"\.(nii\.gz|nii|mha|mhd|nrrd|mgz|mgh)$", re.IGNORECASE)


@dataclass(frozen=True)
class RegistrationJob:
    """What one scan needs.

    Args:
        case: the scan.
        template: what it is registered to.
        wanted: how.
        existing: a transform of the scan to the template, which is taken in place of a registration.
        spacing_mm: of the layers, on whose voxels the transform is kept.
        folder: the prepared folder.
        origin: all that the transform depends on.
    """

    case: Case
    template: Case
    wanted: RegistrationSettings
    existing: Path | None
    spacing_mm: float | None
    folder: Path
    origin: dict[str, Any]

    @property
    def transform(self) -> Path:
        """Where the transform goes."""
        return self.folder / transform_path(self.case.key)

    @property
    def picture(self) -> Path:
        """Where the picture of the scan and the warped template goes."""
        return self.transform.with_suffix(".jpg")

    @property
    def name(self) -> str:
        """The key of the scan."""
        return self.case.key

    def find(self) -> dict[str, Any] | None:
        """The record of a scan whose transform was made of the same files with the same settings."""
        record = self._kept().find()
        told = None if record is None else record.get("scan")
        return told if isinstance(told, dict) else None

    def do(self, progress: Progress | None = None) -> dict[str, Any]:
        """Write the transform of the scan to the template with a picture of the two, and what was found, last.

        Returns:
            ``how``, ``seconds``, ``warnings``, ``folding_percent``, and ``dice`` before (centres aligned) and after if
            both scans have labels.

        Raises:
            UserError: a file cannot be read, or the scans cannot be registered as asked.
            RegistrationFailure: the run failed.
        """
        self._kept().forget()
        fixed, moving = read_image(self.case.image), read_image(self.template.image)
        start = time.perf_counter()
        transform, warnings = _scan_to_template(self, fixed, moving, progress)
        seconds = time.perf_counter() - start
        grid = layer_grid(fixed.grid, self.spacing_mm)
        field = transform.displacement_on(grid)
        write_transform(field, self.transform, "itk-h5", grid)
        drawn(self.picture, lambda: write_thumbnail(self.picture, thumbnail(fixed, moving, field)))
        told: dict[str, Any] = {
            "how": self.wanted.method if self.existing is None else self.existing.name,
            "seconds": round(seconds, 2),
            "warnings": warnings,
            "folding_percent": round(float((field.jacobian_determinant() <= 0).mean() * 100), 4),
            "dice": _overlap(self, fixed, moving, transform),
        }
        self._kept().keep([self.transform], {"scan": told})
        return told

    def peak_bytes(self) -> int:
        """Predicted memory."""
        fixed, moving = read_grid(self.case.image), read_grid(self.template.image)
        if self.existing is None:
            return self.wanted.peak_bytes(fixed, moving)
        return INTERPRETER_BYTES + BYTES_PER_VOXEL * (math.prod(fixed.shape) + math.prod(moving.shape))

    def _kept(self) -> Kept:
        return Kept(self.transform.with_suffix(".json"), self.folder, self.origin)


def registration_jobs(
    cases: Sequence[Case],
    template: Case,
    wanted: RegistrationSettings,
    existing: Mapping[str, Path],
    spacing_mm: float | None,
    folder: Path,
) -> list[RegistrationJob]:
    """A job for each scan but the template; ``existing`` holds transforms by the key of the scan."""
    described, contents = wanted.described(), Contents()
    contents.look(path for case in (*cases, template) for path in (case.image, case.label) if path is not None)

    def files_of(case: Case) -> dict[str, str | None]:
        return contents.of({"image": case.image, "label": case.label, "mask": case.mask if wanted.masks else None})

    jobs = []
    for case in cases:
        file = existing.get(case.key)
        origin = origin_of(
            how=described if file is None else {"files": _transform_hashes(file, contents)},
            scan=files_of(case),
            template=files_of(template),
            layer_spacing_mm=spacing_mm,
        )
        if case.key != template.key:
            jobs.append(RegistrationJob(case, template, wanted, file, spacing_mm, folder, origin))
    return jobs


def existing_transform(folder: Path, case: Case) -> Path:
    """The file of a folder that maps a scan to the template.

    It is named after the key of the scan, its subject or its file: ``0001_0000_displacements.dat`` of deeds (with the
    ``_matrix.txt`` beside it), ``0001.h5``, ``Abdomen_0001_0000.nii.gz`` or any other transform that can be read.

    Raises:
        UserError: there is none, or there are several.
    """
    stems = {case.key, case.subject, _IMAGE.sub("", case.image.name)}
    found = [
        path
        for path in sorted(folder.iterdir())
        if path.name in {stem + end for stem in stems for end in TRANSFORM_ENDINGS}
    ]
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(
            f"{folder} holds {found[0].name} and {found[1].name} for the scan {case.key}; leave one of them"
        )
    raise UserError(
        f"{folder} holds no transform of the scan {case.key} to the template; name it {case.key}_displacements.dat "
        f"(deeds) or {case.key}.h5, or leave --transforms away to have it registered"
    )


def _transform_hashes(path: Path, contents: Contents) -> list[str]:
    """Of a transform, and for deeds of the matrix beside it."""
    files = written_files(path, "deeds") if path.suffix == ".dat" else (path,)
    return [contents[file] for file in files if file.is_file()]


def _scan_to_template(
    job: RegistrationJob, fixed: Image, moving: Image, progress: Progress | None
) -> tuple[Transform, list[str]]:
    if job.existing is not None:
        return read_transform(job.existing, grid=fixed.grid, moving_grid=moving.grid), []
    result = register_scans(
        job.wanted,
        fixed,
        moving,
        fixed_mask=_mask(job, job.case, fixed),
        moving_mask=_mask(job, job.template, moving),
        sources={"fixed": job.case.image, "moving": job.template.image},
        progress=progress,
    )
    return result.fixed_to_moving, result.warnings


def _mask(job: RegistrationJob, case: Case, image: Image) -> Mask | None:
    """What of a scan is compared: all but padding, whose edge would be matched with the edge of the other scan."""
    given = mask_on(image, case.mask) if job.wanted.masks else None
    record = job.folder / RECORDS / f"{case.key}.json"
    seen = field_of_view(read_record(record)) if record.is_file() else None
    if given is None or seen is None:
        return given or seen
    return Mask(given.data * seen.data, image.grid, given.name)


def _overlap(job: RegistrationJob, fixed: Image, moving: Image, transform: Transform) -> dict[str, float] | None:
    """Mean Dice over the labels that both scans have."""
    if job.case.label is None or job.template.label is None:
        return None
    here, there = read_labels(job.case.label), read_labels(job.template.label)
    common = sorted({*here.present()} & {*there.present()})
    if not common:
        return None
    centred = Affine.translation(moving.grid.centre_mm - fixed.grid.centre_mm)
    return {
        when: round(float(np.mean([*dice(here, by.warp_labels(there, here.grid), common).values()])), 4)
        for when, by in (("before", centred), ("after", transform))
    }
