"""From names and paths to a running training: settings, cached scans, run folder, processes."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anamorph.data.dataset import Dataset, some
from anamorph.data.labels import LabelTable, labels_called, shared_numbers, without_labels
from anamorph.data.manifest import find_manifest, read_dataset
from anamorph.errors import UserError
from anamorph.networks.model import ModelCard, load_weights
from anamorph.runtime.device import resolve_device
from anamorph.training import TASKS
from anamorph.training.cache import Cohort
from anamorph.training.fabric import choose_precision, make_fabric
from anamorph.training.run_folder import RunFolder, describe_training
from anamorph.training.settings import LoopSettings, make_settings
from anamorph.training.time_budget import TimeBudget
from anamorph.types import Progress

if TYPE_CHECKING:
    from anamorph.training.cache import Cohort
    from anamorph.training.outcome import Outcome, Status


BEFORE: dict[str, Any] = {"reading": "point"}
"""What runs did that were begun before there was a setting for it, where that is not today's default."""


def default_cache() -> Path:
    """Where preprocessed scans are kept: ``$ANAMORPH_CACHE``, else the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("ANAMORPH_CACHE") or Path(base, "anamorph")) / "scans"


def start_training(
    task: str | type,
    datasets: Sequence[str | Path],
    run: str | Path,
    *,
    validation: Sequence[str | Path] = (),
    preset: str = "default",
    given: Iterable[str] = (),
    pretrained: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    time_budget_s: float | None = None,
    device: str = "auto",
    processes: int = 1,
    cache: Path | None = None,
    licence: str | None = None,
    attribution: str | None = None,
    show: Callable[[Status], None] | None = None,
    say: Callable[[str], None] = lambda text: None,
    progress: Progress | None = None,
) -> Outcome:
    """Train, or go on with a training.

    Args:
        task: a name of :data:`~anamorph.training.TASKS`, or a task class.
        datasets: manifests, one per cohort; a resumed run knows its own.
        run: the run folder.
        validation: manifests whose validation scans are measured, in place of those of ``datasets``; a resumed run
            knows its own.
        preset: a name of the task's presets, or ``default``.
        given: settings of the task or the loop, such as ``epochs=50``.
        pretrained: a model to start from.
        resume: go on with what is in the run folder, or begin it.
        overwrite: replace a training in the run folder.
        time_budget_s: seconds that this call may take.
        device: ``auto``, ``cpu`` or ``cuda``.
        processes: how many processes share every batch.
        cache: folder of preprocessed scans.
        licence: licence of the model, in place of what the manifests say.
        attribution: whom users of the model must name, in place of what the manifests say.
        show: called with the status after every step.
        say: called with each piece of news, one line.
        progress: called while scans are cached.

    Raises:
        UserError: settings, data or folder do not allow it; found before the first step.
        RegistrationFailure: the training failed.
        TimeIsUp: the time budget ended before a step; what was cached is kept.
    """
    budget = TimeBudget(time_budget_s)
    kind: Any = TASKS.find(task) if isinstance(task, str) else task
    folder = RunFolder(Path(run).absolute())
    before = folder.record() if resume and folder.exists else None
    stored = None
    if before is not None:
        if before.get("task") != kind.name:
            raise UserError(f"{folder.path}: holds a training of '{before.get('task')}', not of '{kind.name}'")
        before["config"] = _as_begun(before["config"], kind.Config())
        before["loop"] = _as_begun(before["loop"], LoopSettings())
        stored = {**before["config"], **before["loop"]}
        preset = before["preset"]
        roles = before.get("roles") or {"training": [one["path"] for one in before["manifests"]], "validation": []}
        datasets, validation = datasets or roles["training"], validation or roles["validation"]
        pretrained = pretrained or (before["pretrained"] or {}).get("model")
    config, loop = make_settings(kind, preset, given, stored)
    if not datasets:
        raise UserError("name at least one --dataset")
    manifests = _cohorts(datasets, validation)
    left_out = getattr(config, "leave_out", ())
    if left_out != kind.presets.get(preset, {}).get("leave_out", ()):
        _check_left_out(left_out, manifests)  # those of a preset need not be in every data set
    manifests = [without_labels(one, labels_called(one.labels, left_out)) for one in manifests]
    _, numbers = shared_numbers([LabelTable(one.path.name, one.labels) for one in manifests])
    weights, origin = _pretrained(pretrained)
    before_loop = None if before is None else before["loop"]
    precision = choose_precision(
        loop.precision, resolve_device(device), None if before_loop is None else before_loop["precision"]
    )
    loop = dataclasses.replace(loop, precision=precision.value)  # type: ignore[arg-type]  # one that it has
    fabric = make_fabric(device, processes, precision.value)
    fabric.launch()
    first = fabric.is_global_zero
    with fabric.rank_zero_first():
        place = cache or default_cache()
        with budget.during("caching the scans"):
            within = _Caching(budget, progress if first else None)
            cohorts = [
                Cohort.of(one, kind.preprocessing(config), place, within, own)
                for one, own in zip(manifests, numbers, strict=True)
            ]
    made = kind(config, cohorts)
    made.check()
    if first:
        for note in label_notes(cohorts, left_out):
            say(note)
    described = describe_training(
        *(kind.name, preset, made.settings(), loop, cohorts),
        device=fabric.device.type,
        processes=processes,
        pretrained=origin,
        precision=f"{precision.value}: {precision.why}",
    )
    if validation:
        described["roles"] = {"training": _paths(datasets), "validation": _paths(validation)}
    if before is not None:
        folder.check_same(before, described)
    elif first:
        folder.begin(described, manifests, overwrite=overwrite)
    fabric.barrier()
    if first:
        say(f"precision {precision.value}: {precision.why}")
        if precision.warning:
            say(f"warning: {precision.warning}")
    if resume and before is None and first:
        say(f"{folder.path} holds no training yet; this begins it")
    resumed = before is not None and folder.latest.is_file()

    from anamorph.training.loop import train

    outcome = train(
        *(made, folder, loop, fabric),
        resume=resumed,
        pretrained=None if resumed else weights,
        card=_card(folder.path.name, kind.name, cohorts, described, licence, attribution),
        budget=budget,
        show=show,
        say=say,
    )
    if first:
        folder.add_session(_session(outcome, loop))
    return outcome


def _cohorts(datasets: Sequence[str | Path], validation: Sequence[str | Path]) -> list[Dataset]:
    """The data sets of a training; where some are named for validation, the others are for training alone."""
    training, measured = [read_dataset(one) for one in datasets], [read_dataset(one) for one in validation]
    for one in training:
        if not one.of_split("training"):
            raise UserError(f"{one.path.name}: lists no scans for training; put them under the key training")
    for one in measured:
        if not one.of_split("validation"):
            raise UserError(
                f"--val-dataset {one.path.name}: no scans for validation; list some under registration_val or "
                "validation"
            )
    if not measured:
        return training
    trained, tested = {one.path for one in training}, {one.path for one in measured}
    return [one if one.path in tested else one.only("training") for one in training] + [
        one.only("validation") for one in measured if one.path not in trained
    ]


def _paths(datasets: Sequence[str | Path]) -> list[str]:
    return [str(find_manifest(one).absolute()) for one in datasets]


def _as_begun(stored: dict[str, Any], defaults: Any) -> dict[str, Any]:
    """The settings of a run, with what it did where there was no setting yet when it was begun."""
    return {key: BEFORE.get(key, value) for key, value in dataclasses.asdict(defaults).items()} | stored


class _Caching:
    """Progress of caching that ends it when there is no time for one scan more."""

    def __init__(self, budget: TimeBudget, progress: Progress | None) -> None:
        self.budget, self.progress = budget, progress
        self.stage, self.last = "", budget.clock()

    def __call__(self, stage: str, fraction: float) -> None:
        now = self.budget.clock()
        expected_s = now - self.last if stage == self.stage else 0.0
        self.stage, self.last = stage, now
        if self.progress is not None:
            self.progress(stage, fraction)
        if fraction < 1 and not self.budget.allows(expected_s):
            raise self.budget.no_step(f"{stage} got to {100 * fraction:.0f} %, which is kept")


def _pretrained(model: str | Path | None) -> tuple[dict[str, Any] | None, dict[str, str] | None]:
    if model is None:
        return None, None
    card, state = load_weights(model)
    return state, {"model": str(model), "sha256": card.sha256}


def _card(
    name: str,
    kind: str,
    cohorts: Sequence[Cohort],
    described: dict[str, Any],
    licence: str | None,
    attribution: str | None,
) -> ModelCard:
    data = [cohort.describe() for cohort in cohorts]
    measured = [one["name"] for one in data if one["scans"]["validation"]]
    licences = [one.get("licence") or one.get("license") for one in data]
    sources = [one.get("attribution") or one.get("reference") for one in data]
    labels = {int(value): text for one in reversed(data) for value, text in one["labels"].items()}
    kept = ("task", "preset", "config", "loop", "device", "precision", "processes", "date", "versions")
    # A card travels with the model: it names what the training began with, not where that lay.
    pretrained = described["pretrained"]
    begun = None if pretrained is None else {**pretrained, "model": Path(pretrained["model"]).name}
    return ModelCard(
        name,
        kind,
        labels=labels,
        training_data=data,
        measured_on=f"the validation scans of {', '.join(dict.fromkeys(measured))}",
        licence=licence or "; ".join(dict.fromkeys(filter(None, licences))) or "not stated",
        attribution=attribution or "; ".join(dict.fromkeys(filter(None, sources))) or "not stated",
        provenance={key: described[key] for key in kept} | {"pretrained": begun},
    )


def _session(outcome: Outcome, loop: LoopSettings) -> dict[str, Any]:
    content = dataclasses.asdict(outcome) | {
        "model": outcome.model and outcome.model.name,
        "loop": dataclasses.asdict(loop),
    }
    return content | {"seconds": round(outcome.seconds, 1)}


def _check_left_out(names: Sequence[str], datasets: Sequence[Dataset]) -> None:
    unknown = [name for name in names if not any(labels_called(one.labels, [name]) for one in datasets)]
    if unknown:
        known = some(dict.fromkeys(f"{name} ({n})" for one in datasets for n, name in one.labels.items()))
        raise UserError(f"leave_out: no data set has a label '{unknown[0]}'; there are {known}")


def label_notes(cohorts: Sequence[Cohort], left_out: Sequence[str] = ()) -> Iterator[str]:
    """Labels that were left out, changed numbers, and labels that count as background where they lack."""
    for cohort in cohorts:
        name = cohort.dataset.path.name
        gone = labels_called(cohort.dataset.labels, left_out)
        if gone:
            yield (
                f"{name}: neither learned nor measured: {', '.join(f'{text} ({n})' for n, text in gone.items())}; "
                "--keep-all-labels takes them in"
            )
        changed = [
            f"{own} ({cohort.dataset.labels[own]}) as {new}" for own, new in cohort.numbers.items() if own != new
        ]
        if changed:
            yield f"{name}: labels go by their names: {', '.join(changed)}"
        for label, count in cohort.taken_for_background().items():
            yield (
                f"{name}: {cohort.names[label]} ({label}) counts as background in {count} training scans that show "
                "nothing; where nobody looked for it, make the data set with `--unknown-if-absent`"
            )
