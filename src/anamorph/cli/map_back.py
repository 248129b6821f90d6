from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anamorph.cli.logs import say


def map_back(
    transform: Annotated[
        Path, typer.Argument(metavar="T", help="A transform found between preprocessed scans: fixed to moving points.")
    ],
    fixed: Annotated[Path, typer.Option(help="Record of the fixed scan: records/0001_0000.json of the data set.")],
    moving: Annotated[Path, typer.Option(help="Record of the moving scan.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="File to write.")],
    to: Annotated[
        str | None, typer.Option(help="Format as for `anamorph convert`; by the suffix of OUT otherwise.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
) -> None:
    """Turn a transform between preprocessed scans into the one between the original scans.

    Images and labels of a preprocessed scan go back by `anamorph apply records/SCAN.tfm --to FILE --like ORIGINAL`.
    """
    from anamorph.cli.transform_grid import chosen_kind, refuse_existing
    from anamorph.transforms.files import read_transform, write_transform
    from anamorph.workflows.preprocess import map_back as mapped_back
    from anamorph.workflows.preprocess import read_record

    kind = chosen_kind(out, to)
    refuse_existing(out, overwrite, (transform, fixed, moving))
    before, after = read_record(fixed), read_record(moving)
    found = read_transform(transform, grid=before.preprocessed, moving_grid=after.preprocessed)
    write_transform(mapped_back(found, before, after), out, kind, before.original, after.original)
    say(f"{out}: {kind}, from the original {before.key} to the original {after.key}")
