"""The numbers of a training as CSV and, if it is installed, for TensorBoard."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from anamorph.image.atomic import atomic_text

TRAINING, VALIDATION = "training", "validation"


class Logs:
    """One CSV of epochs and one of validations in a run folder, and the same numbers in ``tensorboard/``.

    A resumed run removes what was written after its checkpoint, so that every step is told once.

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
