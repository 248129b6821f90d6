"""Importers of other layouts: each finds the scans of a folder, and ``create_dataset`` makes the data set.

An importer is a function ``find(folder, channel=None)`` that returns a :class:`~anamorph.data.scans.ScanFolder`;
``channel`` is what a user asked for with ``--channel``, for files that hold several. Other packages add importers as
entry points of the group ``anamorph.importers``.
"""

from __future__ import annotations

from pathlib import Path

from anamorph.data.scans import ScanFolder
from anamorph.errors import UserError
from anamorph.registry import Registry

IMPORTERS = Registry(
    "anamorph.importers",
    "importer",
    {
        "decathlon": "anamorph.data.importers.decathlon:find_decathlon",
        "kits19": "anamorph.data.importers.kits:find_kits",
        "pancreas-ct": "anamorph.data.importers.pancreas_ct:find_pancreas_ct",
    },
)
"""By the name that ``anamorph dataset import`` takes."""


def find_download(layout: str, folder: Path, *, channel: str | None = None) -> ScanFolder:
    """Find the scans of a download of a known layout.

    Args:
        layout: a name of :data:`IMPORTERS`.
        folder: as downloaded.
        channel: which channel to take of files that hold several.

    Raises:
        UserError: an unknown layout, a folder that does not have it, or a channel where there is none to choose.
    """
    find = IMPORTERS.find(layout)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; name the folder of the download")
    found: ScanFolder = find(folder, channel)
    return found


def inside(folder: Path, path: str | Path) -> Path:
    """A file or folder of a download, absolute; a download may not name or link what lies beyond it.

    Args:
        folder: of the download.
        path: absolute, or relative to the folder.

    Raises:
        UserError: it lies elsewhere.
    """
    found = folder.absolute() / path
    if not found.resolve().is_relative_to(folder.resolve()):
        raise UserError(
            f"{found}: lies outside of the download {folder}; if that is meant, copy the files into it, or make the "
            "data set with `anamorph dataset create`"
        )
    return found


def refuse_channel(layout: str, channel: str | None) -> None:
    """See that no channel is asked for where the scans of a layout have one.

    Raises:
        UserError: one is.
    """
    if channel is not None:
        raise UserError(f"the scans of {layout} have one channel; drop --channel")
