"""From raw scans to layers of supervoxels on every scan, in one resumable run.

1. The scans are preprocessed into the folder.
2. Every scan is registered to the template, the scan fixed, so that maps of the template can be pulled to it.
3. The template is cut into layers, which are warped to every scan.
4. The manifest tells, last, that the data set is prepared.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from anamorph.batch.registration import RegistrationSettings
from anamorph.batch.run import part, run_jobs
from anamorph.data.dataset import Case, Dataset
from anamorph.data.manifest import read_dataset, write_dataset
from anamorph.errors import UserError
from anamorph.image.read import read_image
from anamorph.networks.model_folders import find_model
from anamorph.report.many_scans import LayersReport, ScanRow, write_layers_page
from anamorph.report.page import drawn
from anamorph.supervoxels.files import KEY, Prepared
from anamorph.supervoxels.layers import Layers
from anamorph.types import Progress
from anamorph.workflows.preprocess.run import find_preprocessed, preprocess_dataset
from anamorph.workflows.preprocess.steps import PreprocessSettings
from anamorph.workflows.supervoxels.layers import LayerSettings, cut_template, warp_to_scans
from anamorph.workflows.supervoxels.registration import RegistrationJob, existing_transform, registration_jobs

SPLITS = ("training", "validation")
"""Of the scans that get layers: what a network learns from, and what shows how well it does."""
PAGE = "layers.html"
STAGES = (0.0, 0.1, 0.85, 0.9, 0.97, 1.0)
"""Where in the progress each begins: scans, registrations, the layers of the template, those of the scans, the page."""
COLUMNS = ("split", "transform", "seconds", "folding, %", "Dice before", "Dice after")
NOTES = (
    "Dice: mean over the labels that a scan and the template have in common, centres aligned and after the "
    "registration. Nothing is learnt from labels.",
)


@dataclass(frozen=True)
class Preparation:
    """What came out: the prepared data set, the record of every registered scan, those left out with the reason.

    ``page_failure`` tells why the page could not be drawn, if so.
    """

    prepared: Prepared
    scans: dict[str, dict[str, Any]]
    failed: dict[str, str]
    reused: int
    page: Path
    page_failure: str | None = None


def prepare_dataset(
    dataset: Dataset,
    template: str,
    out: Path,
    *,
    preprocessing: PreprocessSettings | None,
    cutting: LayerSettings | None = None,
    registration: RegistrationSettings | None = None,
    transforms: Path | None = None,
    splits: Sequence[str] = SPLITS,
    workers: int | str = 1,
    overwrite: bool = False,
    leave_out_failed: bool = False,
    progress: Progress | None = None,
    on_failure: Callable[[str, str], None] | None = None,
) -> Preparation:
    """Prepare a data set for ``slicreg``.

    What an earlier run finished in ``out`` is used again if neither settings nor files have changed.

    Args:
        dataset: the manifest.
        template: key or subject of the scan to which the others are registered; of any split.
        out: folder of the prepared data set.
        preprocessing: of every scan; None takes the scans as they are, where they are.
        cutting: how the template is cut.
        registration: method and settings; ``deeds`` by default.
        transforms: folder of transforms of the scans to the template, which are taken in place of registrations. Files
            of deeds count in voxels of the preprocessed scans.
        splits: whose scans get layers.
        workers: processes, or where else the work is done, see :func:`~anamorph.batch.run.run_jobs`.
        overwrite: replace a data set in ``out`` that was made of other scans or otherwise.
        leave_out_failed: go on without scans that cannot be registered.
        progress: called with the stage and the fraction done.
        on_failure: called with the key of each scan that fails, and the reason.

    Raises:
        UserError: settings or files that cannot work.
        RegistrationFailure: scans failed; the others are kept.
    """
    cutting, wanted = cutting or LayerSettings(), registration or RegistrationSettings("deeds")
    described = wanted.described()
    source = dataset.scan(template, "--template")
    cutting.check(source)
    chosen = [case for case in dataset.cases if case.split in splits and case.key != source.key]
    if not chosen:
        raise UserError(
            f"{dataset.path} has no scan of {' or '.join(splits)} but the template; name others with --split"
        )
    scans, registration_part, cut, warp, page_part = (part(progress, first, last) for first, last in pairwise(STAGES))
    scans("checking scans", 0.0)
    existing = (
        {} if transforms is None else {case.key: existing_transform(transforms.absolute(), case) for case in chosen}
    )
    placed = scans_in(
        dataset,
        preprocessing,
        out,
        workers=workers,
        inputs=[*map(find_model, described["models"]), *([] if transforms is None else [transforms])],
        overwrite=overwrite,
        progress=scans,
        on_failure=on_failure,
    )
    goal = placed.scan(source.key)
    cases = [case for case in placed.cases if case.split in splits]
    jobs = registration_jobs(cases, goal, wanted, existing, cutting.spacing_mm, out.absolute())
    ran = run_jobs(jobs, workers, progress=registration_part, on_failure=on_failure)
    remedy = f"the others are kept in {out}: mend and run again, or pass --leave-out-failed"
    ran.check("scans", remedy, fewest=1 if leave_out_failed else None)
    kept = [case for case in cases if case.key not in ran.failed]
    layers = cut_template(goal, cutting, out, cut)
    warp_to_scans(layers, kept, goal, cutting.spacing_mm, out, warp)
    page_part("page", 0.0)
    page, by_key = out / PAGE, {job.case.key: job for job in jobs}
    page_failure = drawn(page, lambda: write_page(page, goal, layers, by_key, ran.records))
    told = {
        "template": goal.key,
        "scans": [case.key for case in kept],
        "cutting": dataclasses.asdict(cutting),
        "registration": described if transforms is None else {"transforms": str(transforms)},
    }
    write_dataset(replace(placed, extra=dict(placed.extra) | {KEY: told}), placed.path)
    prepared = Prepared.of(read_dataset(placed.path))
    return Preparation(prepared, ran.records, ran.failed, len(ran.reused), page, page_failure)


def scans_in(
    dataset: Dataset,
    preprocessing: PreprocessSettings | None,
    out: Path,
    *,
    workers: int | str = 1,
    inputs: Iterable[Path] = (),
    overwrite: bool = False,
    progress: Progress | None = None,
    on_failure: Callable[[str, str], None] | None = None,
) -> Dataset:
    """The data set in ``out``, made first if it is not there yet; it does not count as prepared.

    Args:
        dataset: the source.
        preprocessing: of every scan; None refers to the scans where they are.
        out: the folder.
        workers: processes, or where else the work is done, see :func:`~anamorph.batch.run.run_jobs`.
        inputs: what else is read, and not to be replaced.
        overwrite: replace a data set that was made of other scans or otherwise.
        progress: called with the stage and its fraction that is done.
        on_failure: called with the key of each scan that fails, and the reason.

    Raises:
        UserError: ``out`` holds something else, or the preprocessing cannot work.
        RegistrationFailure: scans cannot be preprocessed.
    """
    if out.resolve() == dataset.root.resolve():
        raise UserError(f"{out} is the folder of the data set itself; choose another output folder")
    if preprocessing is None:
        return _reference(dataset, out)
    found = find_preprocessed(dataset, preprocessing, out)
    if found is None:
        return preprocess_dataset(
            dataset,
            preprocessing,
            out,
            workers=workers,
            inputs=inputs,
            overwrite=overwrite,
            progress=progress,
            on_failure=on_failure,
        ).dataset
    return _write(found, found.path)


def _reference(dataset: Dataset, out: Path) -> Dataset:
    path = out / f"{dataset.name}_dataset.json"
    if out.exists() and any(out.iterdir()) and not path.is_file():
        raise UserError(f"{out} holds files but no {path.name}; choose another output folder")
    return _write(dataset, path)


def _write(dataset: Dataset, path: Path) -> Dataset:
    """Write the manifest to a folder without the key of a preparation."""
    extra = {name: value for name, value in dataset.extra.items() if name != KEY}
    write_dataset(replace(dataset, extra=extra), path)
    return read_dataset(path)


def layer_facts(layers: Layers) -> list[tuple[str, str]]:
    """How layers were made, in words."""
    told = layers.provenance
    return [
        ("layers", str(layers.count)),
        ("supervoxels of each", str(layers.supervoxels)),
        ("voxels", " x ".join(map(str, layers.grid.shape))),
        ("spacing", " x ".join(f"{s:.3g}" for s in layers.grid.spacing_mm) + " mm"),
        ("mask", str(told.get("mask", ""))),
        ("seed", str(told.get("seed", ""))),
        ("compactness", str(told.get("compactness", ""))),
    ]


def write_page(
    path: Path,
    template: Case,
    layers: Layers,
    jobs: Mapping[str, RegistrationJob],
    scans: Mapping[str, dict[str, Any]],
) -> None:
    """Write the page of the template's layers and of the scans that were registered to it."""
    rows = [ScanRow(key, _cells(jobs[key].case, told), _picture(jobs[key])) for key, told in scans.items()]
    labelled = any(told["dice"] for told in scans.values())
    report = LayersReport(
        f"Supervoxel layers of the template {template.key}",
        read_image(template.image),
        layers,
        layer_facts(layers),
        COLUMNS,
        rows,
        NOTES if labelled else (),
    )
    write_layers_page(path, report)


def _picture(job: RegistrationJob) -> Path | None:
    """The picture of a scan, if it could be drawn."""
    return job.picture if job.picture.is_file() else None


def _cells(case: Case, told: Mapping[str, Any]) -> tuple[str, ...]:
    overlap = [f"{told['dice'][when]:.3f}" if told["dice"] else "" for when in ("before", "after")]
    return case.split, told["how"], f"{told['seconds']:.1f}", f"{told['folding_percent']:.3g}", *overlap
