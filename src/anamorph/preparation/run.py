"""From raw scans to layers of supervoxels on every scan, in one resumable run.

1. The scans are preprocessed into the folder.
2. Every scan is registered to the template, the scan fixed, so that maps of the template can be pulled to it.
3. The template is cut into layers, which are warped to every scan.
4. The manifest tells, last, that the data set is prepared.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from anamorph.batch.registration import RegistrationSettings
from anamorph.data import Dataset, read_dataset, write_dataset
from anamorph.errors import RegistrationFailure, UserError
from anamorph.methods.base import Progress
from anamorph.preparation.given import given_transform
from anamorph.preparation.page import write_page
from anamorph.preparation.registrations import make_jobs, register_all
from anamorph.preparation.scans import find_case, place_scans
from anamorph.preparation.settings import LayerSettings
from anamorph.preparation.template import cut_template, warp_to_scans
from anamorph.registration.provenance import models_of
from anamorph.report.page import drawn
from anamorph.supervoxels.prepared import KEY, Prepared
from anamorph.workflows.preprocess import PreprocessSettings

SPLITS = ("training", "validation")
"""Of the scans that get layers: what a network learns from, and what shows how well it does."""
PAGE = "layers.html"
STAGES = {"scans": 0.0, "registration": 0.1, "layers": 0.85, "warping": 0.9, "page": 0.97}
"""Where in the progress each begins."""


@dataclass(frozen=True)
class Preparation:
    """What came out: the prepared data set, what was told of every registered scan, those left out with the reason.

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
    workers: int = 1,
    overwrite: bool = False,
    leave_out_failed: bool = False,
    progress: Progress | None = None,
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
        workers: scans at a time, as far as the memory goes.
        overwrite: replace a data set in ``out`` that was made of other scans or otherwise.
        leave_out_failed: go on without scans that cannot be registered.
        progress: called with the stage and the fraction done.

    Raises:
        UserError: settings or files that cannot work.
        RegistrationFailure: scans failed; the others are kept.
    """
    cutting, wanted = cutting or LayerSettings(), registration or RegistrationSettings("deeds")
    described = wanted.described()
    source = find_case(dataset, template)
    cutting.check(source)
    chosen = [case for case in dataset.cases if case.split in splits and case.key != source.key]
    if not chosen:
        raise UserError(
            f"{dataset.path} has no scan of {' or '.join(splits)} but the template; name others with --split"
        )
    _part("scans", progress)("checking scans", 0.0)
    given = {} if transforms is None else {case.key: given_transform(transforms, case) for case in chosen}
    placed = place_scans(
        dataset,
        preprocessing,
        out,
        workers=workers,
        inputs=[*models_of(described["settings"]).values(), *([] if transforms is None else [transforms])],
        overwrite=overwrite,
        progress=_part("scans", progress),
    )
    goal = find_case(placed, source.key)
    cases = [case for case in placed.cases if case.split in splits]
    jobs = make_jobs(cases, goal, wanted, given, cutting.spacing_mm, out)
    registered = register_all(jobs, workers, _part("registration", progress))
    failed = registered.failed
    if failed and not (leave_out_failed and registered.scans):
        key, reason = next(iter(failed.items()))
        raise RegistrationFailure(
            f"{len(failed)} of {len(jobs)} scans could not be registered, the first ({key}): {reason}; the others are "
            f"kept in {out}: mend and run again, or pass --leave-out-failed"
        )
    kept = [case for case in cases if case.key not in failed]
    layers = cut_template(goal, cutting, out, _part("layers", progress))
    warp_to_scans(layers, kept, goal, cutting.spacing_mm, out, _part("warping", progress))
    _part("page", progress)("page", 0.0)
    in_order = {case.key: registered.scans[case.key] for case in kept if case.key != goal.key}
    page, by_key = out / PAGE, {job.case.key: job for job in jobs}
    page_failure = drawn(page, lambda: write_page(page, goal, layers, by_key, in_order))
    told = {
        "template": goal.key,
        "scans": [case.key for case in kept],
        "cutting": dataclasses.asdict(cutting),
        "registration": described if transforms is None else {"transforms": str(transforms)},
    }
    write_dataset(replace(placed, extra=dict(placed.extra) | {KEY: told}), placed.path)
    return Preparation(Prepared.of(read_dataset(placed.path)), in_order, failed, registered.reused, page, page_failure)


def _part(stage: str, progress: Progress | None) -> Progress:
    """Progress within a stage, told as progress of the whole."""
    starts = [*STAGES.values(), 1.0]
    first, last = starts[[*STAGES].index(stage) : [*STAGES].index(stage) + 2]

    def tell(text: str, fraction: float) -> None:
        if progress is not None:
            progress(text, first + (last - first) * fraction)

    return tell
