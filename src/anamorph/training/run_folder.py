"""The folder of a training: what was run, its results, the curves, checkpoints, and everything to repeat it."""

from __future__ import annotations

import csv
import dataclasses
import json
import random
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from anamorph.data.dataset import Dataset
from anamorph.errors import UserError
from anamorph.image.atomic import atomic_path, atomic_text, check_replaceable, write_text
from anamorph.reading import read_json, understood
from anamorph.runtime.machine import file_hash, machine, versions
from anamorph.training.cache import Cohort
from anamorph.training.settings import LoopSettings

if TYPE_CHECKING:
    from torch import Tensor, nn

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
            old, new = (json.loads(json.dumps(one.get(part))) for one in (before, description))
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


FORMAT = 1


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint of tensors and plain values, so that an earlier one stays until this one is complete."""
    with atomic_path(path) as temporary:
        torch.save({"format": FORMAT} | content, temporary)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU; it may hold tensors and plain values only, so no code is run.

    Raises:
        UserError: no such file, damaged, or of another version.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: there is no checkpoint; start the training without --resume") from None
    except Exception as error:
        reason = str(error).splitlines()[0][:120]
        raise UserError(f"{path}: is no checkpoint that can be read ({reason}); restore it or start again") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"{path}: is no checkpoint of this version of anamorph; go on with the version that wrote it")
    return content


def random_states() -> dict[str, Any]:
    """The state of every global generator of this process."""
    name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": [name, torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, gauss],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_states(states: dict[str, Any]) -> None:
    """Bring every global generator back; those of GPUs only if there are as many."""
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, position, has_gauss, cached = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(states["torch"])
    if len(states["cuda"]) == torch.cuda.device_count() > 0:
        torch.cuda.set_rng_state_all(states["cuda"])


class WeightAverage:
    """Exponential average of all floating entries of a network's state; with a decay of 0 the weights themselves.

    The decay rises from 0 as ``(1 + n) / (10 + n)`` over the first steps, so that the fresh weights do not linger.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network, self.decay, self.steps = network, decay, 0
        self.state: dict[str, Tensor] = {}
        if decay > 0:
            self.state = {key: value.detach().clone() for key, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take up the weights after a step."""
        self.steps += 1
        share = 1 - min(self.decay, (1 + self.steps) / (10 + self.steps))
        for key, value in self.network.state_dict().items():
            if key in self.state:
                own = self.state[key]
                own.lerp_(value, share) if own.is_floating_point() else own.copy_(value)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Within the block the network has the averaged weights."""
        if not self.state:
            yield
            return
        own = {key: value.detach().clone() for key, value in self.network.state_dict().items()}
        self.network.load_state_dict(self.state)
        try:
            yield
        finally:
            self.network.load_state_dict(own)

    def load(self, state: dict[str, Tensor], steps: int) -> None:
        """Go on from a checkpoint."""
        self.steps = steps
        for key, value in self.state.items():
            value.copy_(state[key])
