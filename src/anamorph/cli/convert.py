from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anamorph.cli.logs import say


def convert(
    transform: Annotated[
        Path, typer.Argument(metavar="T", help="A transform that maps fixed points to moving points.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="File to write.")],
    transform_format: Annotated[
        str | None, typer.Option("--to", help="Format of the tool; by the suffix of OUT otherwise.")
    ] = None,
    fixed: Annotated[
        str | None, typer.Option("--fixed", "--like", help="The fixed scan: its grid, where T does not hold one.")
    ] = None,
    moving: Annotated[
        str | None, typer.Option(help="The moving scan, for deeds and Learn2Reg files on two grids.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
) -> None:
    """Write a transform in the format of another tool."""
    import numpy as np

    from anamorph.cli.transform_grid import chosen_kind, read_with_grid, refuse_existing
    from anamorph.errors import UserError
    from anamorph.geometry import Grid
    from anamorph.image.read import read_image
    from anamorph.transforms.files import FORMATS, write_transform, written_files

    kind = chosen_kind(out, transform_format)
    for file in written_files(out, kind):
        refuse_existing(file, overwrite, (transform, fixed, moving))
    moving_grid = None if moving is None else read_image(moving).grid
    field, grid = read_with_grid(transform, fixed, moving_grid)
    if grid is None and FORMATS.find(kind).dense:
        raise UserError(f"{transform.name} has no grid of its own; name the fixed scan with --fixed")
    grid = grid or Grid((1, 1, 1), np.eye(4))  # affines are written as such
    write_transform(field, out, kind, grid, moving_grid)
    say(f"{out}: {kind}, {FORMATS.find(kind).summary}")
