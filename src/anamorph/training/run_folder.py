"""The folder of a training: what was run, its results, the curves, and everything to repeat it."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from anamorph.data import Dataset
from anamorph.errors import UserError
from anamorph.image.atomic import atomic_path, atomic_text, check_replaceable, write_text
from anamorph.reading import read_json, understood
from anamorph.runtime.machine import file_hash, machine, versions
from anamorph.training.cache import Cohort
from anamorph.training.settings import LoopSettings

TRAINING, VALIDATION = "training", "validation"


class Logs:
    """One CSV of epochs and one of validations in a run folder, and the same numbers in ``tensorboard/``.

    A resumed run removes what was written after its checkpoint, so that every step is noted once.

    Args:
        folder: of the run.
        after_step: rows of later steps are removed; 0 begins anew.
    """

    def __init__(self, folder: Path, after_step: int = 0) -> None:
        self.folder = folder
        for name in (TRAINING, VALIDATION):
            _shorten(self._csv(name), after_step)
        self._board = _tensorboard(folder / "tensorboard", after_step)

    def write(self, name: str, epoch: int, step: int, numbers: Mapping[str, float]) -> None:
        """Add one row; ``name`` is ``training`` or ``validation``."""
        row = {"epoch": epoch, "step": step} | {key: f"{value:.8g}" for key, value in numbers.items()}
        path = self._csv(name)
        rows = [one for one in _read(path) if one["step"] != str(step)]
        columns = list(dict.fromkeys([*(rows[0] if rows else ()), *row]))
        _write(path, columns, [*rows, row])
        if self._board is not None:
            for key, value in numbers.items():
                self._board.add_scalar(f"{name}/{key}", value, step)
            self._board.flush()

    def close(self) -> None:
        """Finish the files."""
        if self._board is not None:
            self._board.close()

    def _csv(self, name: str) -> Path:
        return self.folder / f"{name}.csv"


def _read(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def _write(path: Path, columns: list[str], rows: list[dict[str, Any]]) -> None:
    with atomic_text(path) as stream:
        writer = csv.DictWriter(stream, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)


def _shorten(path: Path, after_step: int) -> None:
    rows = _read(path)
    kept = [row for row in rows if (row.get("step") or "").isdigit() and int(row["step"]) <= after_step]
    if kept:
        _write(path, [*kept[0]], kept)
    else:
        path.unlink(missing_ok=True)


def _tensorboard(folder: Path, after_step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=after_step + 1 if after_step else None)


RECORD = "run.json"
CHANGEABLE = frozenset(
    {
        *("epochs", "patience", "validate_every", "validate_first", "checkpoint_every_s", "max_memory_gb"),
        *("accumulate", "precision"),
    }
)
"""Settings of the loop that a resumed run may have otherwise: they change no step that was made."""


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """The files of one training below one folder."""

    path: Path

    @property
    def latest(self) -> Path:
        """The checkpoint to go on from."""
        return self.path / "checkpoints" / "latest.pt"

    @property
    def best(self) -> Path:
        """The checkpoint of the best validation."""
        return self.path / "checkpoints" / "best.pt"

    @property
    def model(self) -> Path:
        """The model folder of the best validation."""
        return self.path / "model"

    @property
    def exists(self) -> bool:
        """Whether a training was begun here."""
        return (self.path / RECORD).is_file()

    def record(self) -> dict[str, Any]:
        """The content of ``run.json``.

        Raises:
            UserError: it cannot be read.
        """
        path = self.path / RECORD
        with understood(path, "cannot be read", "start the training in another folder"):
            content = read_json(path)
            if not isinstance(content, dict):
                raise ValueError("no record of a training")
            return content

    def begin(self, description: dict[str, Any], datasets: Sequence[Dataset], *, overwrite: bool = False) -> None:
        """Make the folder of a new training with its record and a copy of every manifest.

        Raises:
            UserError: the folder holds something already, or what the training reads.
        """
        if self.exists and overwrite:
            pretrained = description.get("pretrained")
            read = [dataset.path for dataset in datasets] + ([Path(pretrained["model"])] if pretrained else [])
            check_replaceable(self.path, overwrite, RECORD, read)
            for part in ("checkpoints", "tensorboard", "datasets", "model"):
                shutil.rmtree(self.path / part, ignore_errors=True)
            for file in ("training.csv", "validation.csv", RECORD):
                (self.path / file).unlink(missing_ok=True)
        elif self.exists:
            raise UserError(
                f"{self.path}: holds a training; go on with --resume, replace it with --overwrite, or choose "
                "another folder"
            )
        elif self.path.is_dir() and any(self.path.iterdir()):
            raise UserError(f"{self.path}: is not empty and holds no training; choose another folder")
        for n, dataset in enumerate(datasets, 1):
            with atomic_path(self.path / "datasets" / f"{n}-{dataset.path.name}") as temporary:
                shutil.copyfile(dataset.path, temporary)
        self._write(description | {"sessions": []})

    def add_session(self, outcome: dict[str, Any]) -> None:
        """Note how a session of the training went."""
        record = self.record()
        self._write(record | {"sessions": [*record.get("sessions", []), outcome]})

    def check_same(self, before: dict[str, Any], description: dict[str, Any]) -> None:
        """See that a training can go on with these settings and data.

        Args:
            before: the record of the folder.
            description: of the training that would go on (:func:`describe_training`).

        Raises:
            UserError: something differs that would make it another training.
        """
        for part in ("task", "config", "loop", "data", "manifests", "pretrained"):
            old, new = before.get(part), json.loads(json.dumps(description.get(part)))
            if part == "manifests":  # they may have been moved
                old, new = ([one["sha256"] for one in manifests or ()] for manifests in (old, new))
            if part == "loop" and isinstance(old, dict):
                old, new = ({k: v for k, v in one.items() if k not in CHANGEABLE} for one in (old, new))
            if old != new:
                raise UserError(f"{self.path}: {_difference(part, old, new)}; resume with the same, or start a new run")

    def _write(self, content: dict[str, Any]) -> None:
        write_text(self.path / RECORD, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def describe_training(
    name: str,
    preset: str,
    config: dict[str, Any],
    loop: LoopSettings,
    cohorts: Sequence[Cohort],
    *,
    device: str,
    processes: int = 1,
    pretrained: dict[str, str] | None = None,
    precision: str = "",
) -> dict[str, Any]:
    """Everything needed to repeat a training, as plain values."""
    return {
        "task": name,
        "preset": preset,
        "config": config,
        "loop": dataclasses.asdict(loop),
        "pretrained": pretrained,
        "data": [cohort.describe() for cohort in cohorts],
        "manifests": [
            {"path": str(cohort.dataset.path), "sha256": file_hash(cohort.dataset.path)} for cohort in cohorts
        ],
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "device": device,
        "precision": precision,
        "processes": processes,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions() | {package: version(package) for package in ("lightning-fabric", "safetensors")},
        "machine": machine(),
    }


def _difference(part: str, old: Any, new: Any) -> str:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
        return f"the run was begun with {keys[0]}={old.get(keys[0])}, not {new.get(keys[0])}"
    if part in ("data", "manifests"):
        return "its data sets are not those the run was begun with"
    return f"the run was begun with {part} {old}, not {new}"
