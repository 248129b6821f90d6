"""Importers of other layouts: each finds the scans of a folder, and ``create_dataset`` makes the data set."""

from __future__ import annotations

from pathlib import Path

from anamorph.data.importers.decathlon import find_decathlon
from anamorph.data.importers.kits import find_kits
from anamorph.data.importers.pancreas_ct import find_pancreas_ct
from anamorph.data.scans import ScanFolder
from anamorph.errors import UserError

LAYOUTS = {"decathlon": find_decathlon, "kits19": find_kits, "pancreas-ct": find_pancreas_ct}
"""By the name that ``anamorph dataset import`` takes."""


def find_download(layout: str, folder: Path, *, channel: str | None = None) -> ScanFolder:
    """Find the scans of a download of a known layout.

    Args:
        layout: a key of :data:`LAYOUTS`.
        folder: as downloaded.
        channel: for the Decathlon, which channel to take of files that hold several.

    Raises:
        UserError: an unknown layout, a folder that does not have it, or a channel where there is none to choose.
    """
    if layout not in LAYOUTS:
        raise UserError(f"there is no importer '{layout}'; choose one of {', '.join(LAYOUTS)}")
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; name the folder of the download")
    if layout == "decathlon":
        return find_decathlon(folder, channel)
    if channel is not None:
        raise UserError(f"--channel is for decathlon; the scans of {layout} have one")
    return LAYOUTS[layout](folder)
