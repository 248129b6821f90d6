from __future__ import annotations

from pathlib import Path

from anamorph.errors import UserError


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
