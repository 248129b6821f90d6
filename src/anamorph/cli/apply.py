from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from anamorph.cli.logs import say

if TYPE_CHECKING:
    from anamorph.geometry import Grid
    from anamorph.transforms import Transform

Kind = Literal["image", "labels", "points"]
POINT_SUFFIXES = (".csv", ".tsv", ".fcsv", ".mrk.json", ".txt", ".pts")


def apply(
    transform: Annotated[
        Path, typer.Argument(metavar="T", help="A transform that maps fixed points to moving points.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="File to write; a folder for several inputs.")],
    to: Annotated[
        list[str],
        typer.Option("--to", metavar="FILE...", help="Moving images or labels, or fixed points; several may follow."),
    ],
    more: Annotated[list[str] | None, typer.Argument(hidden=True)] = None,
    kind: Annotated[
        str, typer.Option("--as", help="image, labels or points; auto: points by suffix, labels by constant pieces.")
    ] = "auto",
    like: Annotated[
        str | None, typer.Option(help="Scan whose grid images and labels are brought to; T's own fixed grid otherwise.")
    ] = None,
    moving: Annotated[
        str | None,
        typer.Option(
            help="The moving scan, for deeds and Learn2Reg files on two grids; for deeds the first image or label map "
            "of --to otherwise."
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")] = False,
) -> None:
    """Apply a transform: pull MOVING images and labels onto the fixed grid, or map FIXED points to the moving scan.

    Points of the moving scan, and images of the fixed one, go through the transform of the other direction
    (moving_to_fixed.nii.gz).
    """
    from anamorph.cli.transform_grid import read_with_grid, refuse_existing
    from anamorph.image.read import read_image
    from anamorph.transforms.files.deeds import is_deeds

    sources = [*to, *(more or [])]
    kinds = [_kind_of(source, kind) for source in sources]
    targets = _targets(sources, kinds, out)
    for target in targets:
        refuse_existing(target, overwrite, (*sources, transform, like, moving))
    if moving is None and is_deeds(transform):
        moving = next((source for source, what in zip(sources, kinds, strict=True) if what != "points"), None)
    field, grid = read_with_grid(transform, like, None if moving is None else read_image(moving).grid)
    for source, what, target in zip(sources, kinds, targets, strict=True):
        if what == "points":
            _map_points(field, source, target, grid)
        else:
            _warp(field, source, what, target, grid)


def _kind_of(source: str, asked: str) -> Kind:
    from anamorph.errors import UserError

    if asked in ("image", "labels", "points"):
        return asked  # type: ignore[return-value]
    if asked != "auto":
        raise UserError(f"--as must be image, labels, points or auto, not '{asked}'")
    if source.lower().endswith(POINT_SUFFIXES):
        return "points"
    from anamorph.image.label_like import is_label_map
    from anamorph.image.read import read_image
    from anamorph.image.segments import read_segments

    labels = bool(read_segments(Path(source))) or is_label_map(read_image(source))
    reason = "constant pieces of whole values" if labels else "no constant pieces of whole values"
    kind: Kind = "labels" if labels else "image"
    say(f"{Path(source).name}: taken for {'a label map' if labels else 'an image'} ({reason}); --as says otherwise")
    return kind


def _targets(sources: list[str], kinds: list[Kind], out: Path) -> list[Path]:
    """One file per input: OUT itself, or files in the folder OUT named after their inputs."""
    from anamorph.errors import UserError

    file_like = out.name.lower().endswith((".nii", ".nii.gz", ".nrrd", ".mha", *POINT_SUFFIXES)) and not out.is_dir()
    if len(sources) == 1 and file_like:
        return [out]
    if file_like:
        raise UserError(f"{out.name} is one file for {len(sources)} inputs; name a folder")
    names = [_name(source, kind) for source, kind in zip(sources, kinds, strict=True)]
    doubled = next((name for name in names if names.count(name) > 1), None)
    if doubled:
        raise UserError(f"two inputs would both be written as {doubled}; apply the transform to one at a time")
    return [out / name for name in names]


def _name(source: str, kind: Kind) -> str:
    name = Path(source).name
    if kind == "points":
        return name if name.lower().endswith((".csv", ".fcsv", ".mrk.json")) else f"{name.split('.')[0]}.csv"
    known = next((s for s in (".nii.gz", ".nii", ".nrrd", ".mha") if name.lower().endswith(s)), None)
    return name if known else f"{name.removesuffix('.mhd')}.nii.gz"


def _warp(field: Transform, source: str, kind: Kind, target: Path, grid: Grid | None) -> None:
    from anamorph.errors import UserError
    from anamorph.image.read import read_image, read_labels
    from anamorph.image.write import write_image

    if grid is None:
        raise UserError("the transform has no fixed grid of its own; name a scan on that grid with --like")
    if kind == "labels":
        warped = field.warp_labels(read_labels(source), grid)
    else:
        warped = field.warp_image(read_image(source), grid)  # type: ignore[assignment]
    write_image(warped, target)
    say(f"{target}: {kind} on {grid!r}")


def _map_points(field: Transform, source: str, target: Path, grid: Grid | None) -> None:
    from anamorph.geometry.lengths import numbers_mm
    from anamorph.image import Points
    from anamorph.image.read import read_points
    from anamorph.image.write import write_points

    points = read_points(source, grid=grid)
    for note in points.notes:
        say(f"note: {note}")
    if grid is not None:
        points.check_inside(grid, "the grid of the transform; --like names another")
    mapped = Points(field.map_world(points.positions_mm), points.labels)
    write_points(mapped, target)
    before, after = (", ".join(numbers_mm(one.positions_mm[0], 2)) for one in (points, mapped))
    if field.maps is None:
        what = f"{len(points)} points of the transform's fixed scan mapped to its moving scan"
    else:
        what = f"{len(points)} {field.maps[0]} points mapped to the {field.maps[1]} scan"
    say(f"{target}: {what}; the first: RAS ({before}) -> RAS ({after}) mm")
