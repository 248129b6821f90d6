"""One pair by one method: what its result depends on, and the work that a worker does for it."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from anamorph.batch.records import Store
from anamorph.batch.registration import RegistrationSettings, read_pair_of, register_pair_of
from anamorph.batch.store import MISSING, Contents, check_sums, key_of, origin_of
from anamorph.data.dataset import Pair
from anamorph.errors import UserError
from anamorph.evaluation.case import LabelMaps, PairTruth, compatible_scores
from anamorph.evaluation.kept_tissue import kept_pieces
from anamorph.evaluation.learn2reg.config import EvaluationConfig, Measure, default_measures
from anamorph.evaluation.measure import measure, measure_unregistered
from anamorph.evaluation.numbers import Scores
from anamorph.evaluation.predictions import Prediction, identity_field, in_voxels
from anamorph.evaluation.verdict import verdict
from anamorph.image.image import Image
from anamorph.image.read import read_image
from anamorph.image.write import world_code, write_image
from anamorph.methods.base import Outcome
from anamorph.registration.folder import FIXED_TO_MOVING, MOVING_TO_FIXED, WARPED
from anamorph.registration.pulling import chosen_labels
from anamorph.registration.request import Inputs
from anamorph.runtime.machine import file_hash
from anamorph.runtime.threads import limited_kernels, most_threads, thread_count
from anamorph.transforms.files import write_transform
from anamorph.transforms.files.itk_field import delivered, on_own_grid
from anamorph.transforms.maps import Transform
from anamorph.types import Progress
from anamorph.workflows.cohort.pairs import PlannedPair
from anamorph.workflows.cohort.plan import CohortPlan, PlannedMethod

KEPT_BYTES = 200_000_000
LABEL_MAPS_KEPT = 64


@dataclass(frozen=True)
class PairJob:
    """One pair by one method.

    Args:
        key: of the result: a hash of everything it depends on.
        id: of the pair within the plan.
        pair: its scans.
        method: label of the method.
        settings: of the method.
        evaluation: what to measure; None for nothing.
        transforms: whether both fields are kept.
        warped: whether the warped scan is kept.
        threads: to use; as many as the worker has if None.
        hashes: of its files, by path.
        folder: of the run.
    """

    key: str
    id: str
    pair: Pair
    method: str
    settings: RegistrationSettings
    evaluation: EvaluationConfig | None
    transforms: bool
    warped: bool
    threads: int | None
    hashes: dict[Path, str]
    folder: Path

    @property
    def name(self) -> str:
        """The id of the pair."""
        return self.id

    @property
    def kind(self) -> str:
        """The label of the method."""
        return self.method

    @property
    def device(self) -> str:
        """Of the method."""
        return self.settings.device

    def do(self, progress: Progress | None = None) -> dict[str, Any]:
        """Register and measure the pair, and write what is kept.

        Raises:
            UserError: a file is missing, was changed since the run began, or cannot be read.
            RegistrationFailure: the run failed.
        """
        kept = _kept_inputs()
        kept.check(self.hashes)
        fixed, moving = kept.image(self.pair.fixed.image), kept.image(self.pair.moving.image)
        world = kept.world(self.pair.fixed.image)
        truth = (
            None if self.evaluation is None else PairTruth.read(self.pair, self.evaluation, kept.label_maps, kept.image)
        )
        if self.threads is not None and self.threads > most_threads():
            raise UserError(
                f"the plan wants {self.threads} threads, the worker has {most_threads()}; set ANAMORPH_NUM_THREADS"
            )
        begin = time.perf_counter()
        with limited_kernels(self.threads):
            threads = thread_count()
            read = read_pair_of(self.pair, self.settings, fixed, moving)
            result = register_pair_of(self.pair, self.settings, read.pair)
        registration_seconds = time.perf_counter() - begin
        forward, backward = result.fixed_to_moving, result.moving_to_fixed
        told: dict[str, Any] = {
            "pair": self.id,
            "fixed": self.pair.fixed.key,
            "moving": self.pair.moving.key,
            "method": self.method,
            "inputs": sorted(self.hashes.values()),
            "warnings": result.warnings,
            "files": _write(self, fixed, moving, world, forward, backward),
        }
        if self.evaluation is not None and truth is not None:
            told["metrics"] = _measure(truth, self.evaluation, read, result)
        return {"result": told, "run": {"registration_seconds": round(registration_seconds, 4), "threads": threads}}


def jobs_of(plan: CohortPlan, contents: Contents, folder: Path) -> list[PairJob]:
    """Every pair of a plan by every method; pairs that share the fixed scan are neighbours.

    Args:
        plan: what is wanted.
        contents: has looked at all files of the plan.
        folder: of the run.
    """
    return [job for method in plan.methods for job in _jobs(plan, method, contents, folder)]


def _jobs(plan: CohortPlan, method: PlannedMethod, contents: Contents, folder: Path) -> Iterator[PairJob]:
    wanted = plan.wanted
    same = {
        "method": method.label,
        "run": method.described,
        "output": {"transforms": wanted.transforms, "warped": wanted.warped, "metrics": wanted.metrics},
        "threads": wanted.threads,
    }
    for planned in plan.pairs:
        files = plan.files_of(planned, method)
        measured = None
        if wanted.metrics:
            measured = EvaluationConfig(planned.dataset.name, _measures(planned, method.settings), ())
        origin = origin_of(
            **same,
            pair=planned.id,
            inputs={role: contents[path] for role, path in files.items()},
            measures=None if measured is None else [asdict(measure) for measure in measured.measures],
        )
        yield PairJob(
            key=key_of(origin),
            id=planned.id,
            pair=_lean(planned.pair),
            method=method.label,
            settings=method.settings,
            evaluation=measured,
            transforms=wanted.transforms,
            warped=wanted.warped,
            threads=wanted.threads,
            hashes={path: contents[path] for path in files.values()},
            folder=folder.absolute(),
        )


def _measures(planned: PlannedPair, settings: RegistrationSettings) -> tuple[Measure, ...]:
    """What can be measured of a pair: what pulls cannot."""
    labels: Sequence[int] = planned.labels
    if settings.use_labels is not None:
        pull, _ = chosen_labels(settings.use_labels)
        labels = [] if pull is None else [label for label in labels if label not in pull]
    points = settings.pulling_points(planned.pair)
    return tuple(one for one in default_measures((planned.pair,), labels) if points is None or one.dest != points)


def _lean(pair: Pair) -> Pair:
    """The pair as it travels: of the further keys only the files of points."""
    return Pair(*(
        replace(case, extra={key: value for key, value in case.extra.items() if isinstance(value, Path)})
        for case in (pair.fixed, pair.moving)
    ))  # fmt: skip


@cache
def _kept_inputs() -> KeptInputs:
    """One for every process."""
    return KeptInputs()


def _write(
    job: PairJob, fixed: Image, moving: Image, world: int, forward: Transform, backward: Transform
) -> dict[str, dict[str, Any]]:
    """Write what is wanted; size and hash of every file."""
    store = Store(job.folder)
    folder = store.result_folder(job.key)
    names = [*((FIXED_TO_MOVING, MOVING_TO_FIXED) if job.transforms else ()), *((WARPED,) if job.warped else ())]
    paths = [store.room_for(folder / name) for name in names]
    if job.transforms:
        for name, transform, grid in (
            (FIXED_TO_MOVING, forward, fixed.grid),
            (MOVING_TO_FIXED, backward, moving.grid),
        ):
            field = on_own_grid(transform, grid)
            write_transform(field, folder / name, "itk", field.grid)
    if job.warped:
        write_image(forward.warp_image(moving, fixed.grid), folder / WARPED, world)
    return check_sums(folder, paths)


def _measure(
    truth: PairTruth,
    config: EvaluationConfig,
    inputs: Inputs,
    outcome: Outcome,
) -> dict[str, Any]:
    """The numbers of a pair, and those of the identity, as plain values."""
    grids = truth.fixed_grid, truth.moving_grid
    there, back = delivered(outcome.fixed_to_moving, grids[0]), delivered(outcome.moving_to_fixed, grids[1])
    prediction = Prediction(in_voxels(there, *grids), there, back)
    outlines = inputs.outline_points if inputs.pair.marks is None else ()  # what pulls measures nothing
    before = measure_unregistered(replace(truth.registered(), outlines=outlines))
    kept = tuple(kept_pieces(inputs.pair, outcome, there, back))
    measured = measure(replace(truth.registered(prediction), kept=kept, outlines=outlines), before=before)
    scores = Scores(compatible_scores(truth, prediction.disp_vox, config), measured.after)
    baseline = Scores(compatible_scores(truth, identity_field(*grids), config), before)
    judged = verdict(measured, (*outcome.warnings, *measured.notes))
    return {
        "measures": [asdict(one) for one in config.measures],
        "scores": asdict(scores),
        "baseline": asdict(baseline),
        "verdict": judged.status,
        "signs_of_failure": judged.signs_of_failure,
        "accuracy": judged.accuracy.word,
        "reasons": judged.reasons,
    }


class KeptInputs:
    """The inputs of the pairs that one process works on, one after the other.

    Args:
        most_bytes: of voxels; at least the scans of one pair are kept.
    """

    def __init__(self, most_bytes: int = KEPT_BYTES) -> None:
        self.most_bytes = most_bytes
        self._hashes: dict[Path, str] = {}
        self._images: OrderedDict[Path, Image] = OrderedDict()
        self._worlds: dict[Path, int] = {}
        self.label_maps = LabelMaps(LABEL_MAPS_KEPT)

    def check(self, hashes: dict[Path, str]) -> None:
        """See that files are those that the key of the result speaks of; each is looked at once.

        Raises:
            UserError: one is missing, or was changed since the run began.
        """
        for path, wanted in hashes.items():
            if self._hashes.get(path) == wanted:
                continue
            if wanted == MISSING or not path.is_file():
                raise UserError(f"{path}: no such file; check the data set with `anamorph dataset check`")
            if file_hash(path) != wanted:
                raise UserError(f"{path}: was changed since the run began; run again")
            if path in self._hashes:  # what was read from it before is of another file
                self._images.pop(path, None)
                self.label_maps = LabelMaps(LABEL_MAPS_KEPT)
            self._hashes[path] = wanted

    def image(self, path: Path) -> Image:
        """A scan.

        Raises:
            UserError: it cannot be read.
        """
        if path not in self._images:
            self._images[path] = read_image(path)
            self._worlds[path] = world_code(path)
        self._images.move_to_end(path)
        while len(self._images) > 2 and sum(image.data.nbytes for image in self._images.values()) > self.most_bytes:
            self._images.popitem(last=False)
        return self._images[path]

    def world(self, path: Path) -> int:
        """NIfTI's code of the world of a scan that was read."""
        return self._worlds[path]
