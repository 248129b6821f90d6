"""Every scan of a data set preprocessed."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from anamorph.batch.store import Contents, origin_of
from anamorph.data.dataset import Case, Dataset, Pair
from anamorph.data.manifest import read_dataset
from anamorph.geometry.grid import Grid
from anamorph.image.atomic import atomic_path, check_replaceable
from anamorph.image.image import Image, Labels, Mask
from anamorph.image.points import Points
from anamorph.image.read import read_grid, read_image, read_labels, read_points
from anamorph.image.write import write_image
from anamorph.methods.linear_start import linear_start
from anamorph.methods.working_frame import Scan
from anamorph.registration.grids import check_grid
from anamorph.registration.request import mask_on
from anamorph.runtime.memory import INTERPRETER_BYTES
from anamorph.transforms.files import write_transform
from anamorph.transforms.maps import Affine
from anamorph.types import Progress
from anamorph.workflows.preprocess.made import CaseJob, Preprocessed, make_dataset, work_folder
from anamorph.workflows.preprocess.record import (
    ScanRecord,
    Target,
    check_targets,
    moved,
    record_path,
    targets,
    transform_path,
)
from anamorph.workflows.preprocess.steps import (
    PreprocessSettings,
    apply_steps,
    intensity_steps,
    is_ct,
    resample,
    wanted_grid,
)

Reference = tuple[Scan, Grid]
BYTES_PER_VOXEL = (24, 40)
"""Peak per voxel of an original and of a preprocessed scan: values, averages, labels; positions, channels, labels."""


@dataclass(frozen=True)
class ScanJob(CaseJob):
    """What one scan needs besides: its modality by name, and the reference.

    ``reference_name`` is the data set of the reference where that is another one.
    """

    modality: str
    settings: PreprocessSettings
    reference: Case | None
    reference_modality: str
    reference_name: str | None

    @property
    def files(self) -> list[Path]:
        written = [target.path for target in targets(self.case, self.root)]
        return [*written, transform_path(self.case), record_path(self.case)]

    def do(self, progress: Progress | None = None) -> dict[str, Any]:
        """Write the new files of the scan, its record last.

        Raises:
            UserError: a file cannot be read, or the scan cannot be treated as asked.
        """
        case, settings = self.case, self.settings
        image = read_image(case.image)
        mask = mask_on(image, case.mask)
        ct = is_ct(image, self.modality)
        alignment: dict[str, Any] = {}
        if self.reference is None or self.reference.image == case.image:
            to_original, grid = Affine.identity(), wanted_grid(image, settings, ct)
        else:
            reference, grid = _prepared_reference(
                self.reference.image, self.reference.mask, self.reference_modality, settings
            )
            found = linear_start(reference, Scan.prepare(image, mask), settings.align)  # type: ignore[arg-type]
            to_original = found.transform
            alignment = {
                "model": settings.align,
                "reference": self.reference.key,
                **({} if self.reference_name is None else {"dataset": self.reference_name}),
                "steps": found.steps,
                "costs": [round(float(cost), 6) for cost in found.costs],
            }
        record = ScanRecord(case.key, image.grid, grid, to_original)
        steps = intensity_steps(image, mask, settings, ct)
        outside = _write_files(self, record, image, mask, steps)
        content = record.as_json() | {
            "source": str(case.image),
            "alignment": alignment,
            "intensity": steps,
            "points_outside": outside,
        }
        write_transform(to_original.inverse(), self.folder / transform_path(case), "itk-tfm", image.grid)
        return self.keep(content)

    def peak_bytes(self) -> int:
        """Predicted memory, from the headers."""
        grid, wanted = read_grid(self.case.image), self.settings.spacing_mm
        original = math.prod(grid.shape)
        original += 0 if self.reference is None else math.prod(read_grid(self.reference.image).shape)
        new = grid if wanted is None else grid.resampled(wanted)
        voxels = max(math.prod(new.shape), math.prod(self.settings.shape or (0,)))
        return INTERPRETER_BYTES + BYTES_PER_VOXEL[0] * original + BYTES_PER_VOXEL[1] * voxels


def _write_files(
    job: ScanJob, record: ScanRecord, image: Image, mask: Mask | None, steps: dict[str, Any]
) -> dict[str, int]:
    """Write everything but the record; how many points of each kind lie outside the new scan."""
    outside = {}
    for target in targets(job.case, job.root):
        path = job.folder / target.path
        if target.is_points:
            outside[target.kind] = _write_points(target, path, record)
        elif target.kind == "image":
            write_image(apply_steps(resample(image, record.to_original, record.preprocessed), steps), path)
        elif target.kind == "mask" and mask is not None:
            write_image(record.to_original.warp_image(mask, record.preprocessed, background=0), path)
        elif target.kind == "label":
            labels = read_labels(target.source)
            check_grid(labels, image, False, "labels")
            placed = Labels(labels.data, image.grid, labels.name)
            write_image(record.to_original.warp_labels(placed, record.preprocessed), path)
    return outside


def _write_points(target: Target, path: Path, record: ScanRecord) -> int:
    """Write points as Learn2Reg does: voxel indices of the new scan without a header, all of them, in their order."""
    points = read_points(target.source, grid=record.original)
    mapped = Points(record.to_original.inverse().map_world(points.positions_mm))
    with atomic_path(path) as temporary:
        np.savetxt(temporary, mapped.to_voxel(record.preprocessed), fmt="%.6f", delimiter=",")
    return int((~record.preprocessed.contains(mapped.positions_mm)).sum())


@lru_cache(maxsize=1)
def _prepared_reference(image: Path, mask: Path | None, modality: str, settings: PreprocessSettings) -> Reference:
    read = read_image(image)
    scan = Scan.prepare(read, mask_on(read, mask))
    return scan, wanted_grid(read, settings, is_ct(read, modality))


def preprocess_dataset(
    dataset: Dataset,
    settings: PreprocessSettings,
    out: Path,
    *,
    workers: int | str = 1,
    references: Dataset | None = None,
    inputs: Iterable[Path] = (),
    overwrite: bool = False,
    leave_out_failed: bool = False,
    progress: Progress | None = None,
    on_failure: Callable[[str, str], None] | None = None,
) -> Preprocessed:
    """Preprocess every scan of a data set with its labels, mask and points.

    Args:
        dataset: the manifest.
        settings: the steps.
        out: folder of the new data set. Until it is complete, finished scans are kept in ``<out>.partial`` and used
            again if neither settings nor files have changed.
        workers: processes, or where else the work is done, see :func:`~anamorph.batch.run.run_jobs`.
        references: the data set that ``settings.reference`` is a scan of, if it is another one: cohorts that are
            brought to one scan share its grid.
        inputs: what else is read besides the data sets, and not to be replaced.
        overwrite: replace an earlier data set once the new one is complete.
        leave_out_failed: make the data set without scans that fail and without their pairs.
        progress: called with the stage and the fraction done.
        on_failure: called with the key of each scan that fails, and the reason.

    Raises:
        UserError: the settings cannot work with this data set, or ``out`` may not be written.
        RegistrationFailure: scans failed; the others are kept.
    """
    manifest = f"{dataset.name}_dataset.json"
    read = [*inputs, *dataset.files(), *(references.files() if references is not None else ())]
    check_replaceable(out, overwrite, manifest, read)
    check_targets(dataset)
    work = work_folder(out)

    def new(kept: tuple[Case, ...], records: Mapping[str, dict[str, Any]]) -> Dataset:
        return _new_dataset(dataset, kept, work, settings, records)

    return make_dataset(
        dataset,
        _jobs(dataset, settings, work, references),
        out,
        new,
        workers=workers,
        inputs=read,
        overwrite=overwrite,
        leave_out_failed=leave_out_failed,
        progress=progress,
        on_failure=on_failure,
    )


def find_preprocessed(dataset: Dataset, settings: PreprocessSettings, out: Path) -> Dataset | None:
    """The data set that :func:`preprocess_dataset` made in ``out`` of these scans with these settings, if it is there.

    Raises:
        UserError: its manifest is damaged.
    """
    manifest = out / f"{dataset.name}_dataset.json"
    if not manifest.is_file() or any(job.find() is None for job in _jobs(dataset, settings, out)):
        return None
    return read_dataset(manifest)


def _jobs(
    dataset: Dataset, settings: PreprocessSettings, work: Path, references: Dataset | None = None
) -> list[ScanJob]:
    contents = Contents()
    contents.look(target.source for case in dataset.cases for target in targets(case, dataset.root))
    described: dict[str, Any] = {"settings": dataclasses.asdict(settings)}
    home = references or dataset
    reference = None if settings.reference is None else home.scan(settings.reference, "--reference")
    if reference is not None:
        described["reference"] = contents.of({"image": reference.image, "mask": reference.mask})
    theirs = "" if reference is None else home.modalities.get(reference.modality, "")
    name = None if references is None else references.name
    jobs = []
    for case in dataset.cases:
        files = {target.path.as_posix(): contents[target.source] for target in targets(case, dataset.root)}
        modality = dataset.modalities.get(case.modality, "")
        origin = origin_of(**described, modality=modality, files=files)
        jobs.append(ScanJob(case, dataset.root, work, origin, modality, settings, reference, theirs, name))
    return jobs


def _new_dataset(
    dataset: Dataset,
    kept: tuple[Case, ...],
    root: Path,
    settings: PreprocessSettings,
    records: Mapping[str, dict[str, Any]],
) -> Dataset:
    """The manifest of the new data set, with the pairs whose scans are both in it."""
    new = {case.image: moved(case, dataset.root, root) for case in kept}
    pairs = {
        split: tuple(
            Pair(new[pair.fixed.image], new[pair.moving.image])
            for pair in listed
            if pair.fixed.image in new and pair.moving.image in new
        )
        for split, listed in dataset.listed_pairs.items()
    }
    shapes: dict[str, list[int]] = {}
    for case in kept:
        shapes.setdefault(str(int(case.modality)), records[case.key]["preprocessed"]["shape"])
    extra = dict(dataset.extra) | {"tensorImageShape": shapes, "preprocessing": dataclasses.asdict(settings)}
    return replace(
        dataset,
        root=root,
        cases=tuple(new.values()),
        listed_pairs=pairs,
        extra=extra,
        missing=(),
    )
