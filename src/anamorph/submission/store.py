"""The work folder of a submission: the field of each finished pair, and from what it was made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from anamorph.data import Pair
from anamorph.geometry import Grid
from anamorph.image.atomic import write_text
from anamorph.reading import read_own_record
from anamorph.transforms import Transform
from anamorph.transforms.files import write_transform

SUFFIX = ".nii.gz"


class FieldStore:
    """A folder of fields in full resolution, float32, in the form Learn2Reg takes since 2022.

    Beside each lies a record: its origin (settings and hashes of the inputs) and what the run told. A field without a
    record, or with the record of another origin, counts for nothing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def field_path(self, pair: Pair) -> Path:
        """Where the field of a pair is."""
        return self.folder / f"{pair.disp_names['long']}{SUFFIX}"

    def find(self, pair: Pair, origin: dict[str, Any]) -> dict[str, Any] | None:
        """What the run told that made the field of a pair from the same origin; None if there is no such field."""
        record = read_own_record(self._record_path(pair))
        if record.get("origin") != origin or not self.field_path(pair).is_file():
            return None
        run = record.get("run")
        return run if isinstance(run, dict) else None

    def keep(
        self,
        pair: Pair,
        origin: dict[str, Any],
        run: dict[str, Any],
        transform: Transform,
        fixed_grid: Grid,
        moving_grid: Grid,
    ) -> None:
        """Write the field of a pair, then its record."""
        self._record_path(pair).unlink(missing_ok=True)
        write_transform(transform, self.field_path(pair), "learn2reg", fixed_grid, moving_grid)
        write_text(self._record_path(pair), json.dumps({"origin": origin, "run": run}, indent=2) + "\n")

    def _record_path(self, pair: Pair) -> Path:
        return self.folder / f"{pair.disp_names['long']}.json"
