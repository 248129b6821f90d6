"""Importers of other layouts: each finds the scans of a folder, and ``create_dataset`` makes the data set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from anamorph.data.importers.decathlon import find_decathlon
from anamorph.data.importers.kits import find_kits
from anamorph.data.importers.pancreas_ct import find_pancreas_ct
from anamorph.data.scans import ScanFolder

IMPORTERS: dict[str, Callable[[Path], ScanFolder]] = {
    "decathlon": find_decathlon,
    "kits": find_kits,
    "pancreas-ct": find_pancreas_ct,
}
"""By the name that ``anamorph dataset import`` takes."""
