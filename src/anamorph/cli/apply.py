"""Transforms at work: ``anamorph apply`` and ``anamorph convert``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anamorph.cli.common_options import refuse_existing
from anamorph.cli.logs import say
from anamorph.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from anamorph.geometry.grid import Grid
    from anamorph.registration.carrier import Kind
    from anamorph.transforms.maps import Transform


def apply(
    transform: Annotated[
        Path, typer.Argument(metavar="T", help="A transform that maps fixed points to moving points.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="File to write; a folder for several inputs.")],
    to: Annotated[
        list[str],
        typer.Option(
            "--to",
            metavar="FILE...",
            help="Moving images or labels, or fixed points, meshes or streamlines; several may follow.",
        ),
    ],
    more: Annotated[list[str] | None, typer.Argument(hidden=True)] = None,
    kind: Annotated[
        str,
        typer.Option(
            "--as", help="image, labels, points or shape; auto: points and shapes by suffix, labels by constant pieces."
        ),
    ] = "auto",
    like: Annotated[
        str | None, typer.Option(help="Scan whose grid images and labels are brought to; T's own fixed grid otherwise.")
    ] = None,
    moving: Annotated[
        str | None,
        typer.Option(
            help="The moving scan, for contours of DICOM that are not beside it, and for files of deeds, FSL, AFNI and "
            "Learn2Reg; the first image or label map of --to otherwise, but for Learn2Reg."
        ),
    ] = None,
    written_by: Annotated[
        str | None, typer.Option("--from", help="Format of T, where suffix and contents do not say it.")
    ] = None,
    frame: Annotated[
        str | None, typer.Option(help="Of meshes whose files do not say it (VTK, STL, PLY, OBJ); LPS otherwise.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")] = False,
) -> None:
    """Apply a transform: pull MOVING images and labels onto the fixed grid, or map FIXED points to the moving scan.

    Meshes and streamlines are points. Points of the moving scan, and images of the fixed one, go through the transform
    of the other direction (moving_to_fixed.nii.gz).
    """
    from anamorph.image.read import read_image
    from anamorph.transforms.files import needs_moving

    sources = [*to, *(more or [])]
    kinds = [_kind_of(source, kind) for source in sources]
    targets = _targets(sources, kinds, out)
    for target in targets:
        refuse_existing(target, overwrite, (*sources, transform, like, moving))
    if moving is None and needs_moving(transform, written_by):
        moving = next(
            (source for source, what in zip(sources, kinds, strict=True) if what in ("image", "labels")), None
        )
    moving_grid = None if moving is None else read_image(moving).grid
    field, grid = read_with_grid(transform, like, moving_grid, written_by)
    for source, what, target in zip(sources, kinds, targets, strict=True):
        if what == "points":
            _map_points(field, source, target, grid)
        elif what == "shape":
            _map_shape(field, source, target, grid, moving_grid, frame)
        else:
            _warp(field, source, what, target, grid, moving)


def _kind_of(source: str, asked: str) -> Kind:
    if asked in ("image", "labels", "points", "shape"):
        return asked  # type: ignore[return-value]
    if asked != "auto":
        raise UserError(f"--as must be image, labels, points, shape or auto, not '{asked}'")
    from anamorph.registration.carrier import kind_of

    kind, reason = kind_of(source)
    if kind in ("image", "labels"):
        taken = "a label map" if kind == "labels" else "an image"
        say(f"{Path(source).name}: taken for {taken} ({reason}); --as says otherwise")
    return kind


def _targets(sources: list[str], kinds: list[Kind], out: Path) -> list[Path]:
    """One file per input: OUT itself, or files in the folder OUT named after their inputs."""
    from anamorph.image.shape_files import SHAPES
    from anamorph.registration.carrier import POINT_SUFFIXES

    suffixes = (".nii", ".nii.gz", ".nrrd", ".mha", *POINT_SUFFIXES, *SHAPES)
    file_like = out.name.lower().endswith(suffixes) and not out.is_dir()
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
    if kind == "shape":
        return name
    known = next((s for s in (".nii.gz", ".nii", ".nrrd", ".mha") if name.lower().endswith(s)), None)
    return name if known else f"{name.removesuffix('.mhd')}.nii.gz"


def _warp(field: Transform, source: str, kind: Kind, target: Path, grid: Grid | None, moving: str | None) -> None:
    from anamorph.image.read import needs_scan, read_image, read_labels
    from anamorph.image.write import write_image

    if grid is None:
        raise UserError("the transform has no fixed grid of its own; name a scan on that grid with --like")
    if kind == "labels":
        scan = read_image(moving) if moving is not None and needs_scan(source) else None
        labels = read_labels(source, scan=scan)
        for note in labels.notes:
            say(f"note: {note}")
        warped = field.warp_labels(labels, grid)
    else:
        warped = field.warp_image(read_image(source), grid)  # type: ignore[assignment]
    write_image(warped, target)
    say(f"{target}: {kind} on {grid!r}")


def _map_points(field: Transform, source: str, target: Path, grid: Grid | None) -> None:
    from anamorph.image.points import Points
    from anamorph.image.read import read_points
    from anamorph.image.write import write_points

    points = read_points(source, grid=grid)
    for note in points.notes:
        say(f"note: {note}")
    if grid is not None:
        points.check_inside(grid, "the grid of the transform; --like names another")
    mapped = Points(field.map_world(points.positions_mm), points.labels)
    write_points(mapped, target)
    _say_mapped(field, target, points.positions_mm, mapped.positions_mm)


def _map_shape(
    field: Transform, source: str, target: Path, grid: Grid | None, moving_grid: Grid | None, frame: str | None
) -> None:
    from anamorph.image.point_files import frame_named
    from anamorph.image.shape_files import read_shape

    if not target.name.lower().endswith(Path(source).suffix.lower()):
        raise UserError(f"{target.name}: a {Path(source).suffix} is written as such; name a file with that suffix")
    shape = read_shape(source, None if frame is None else frame_named(frame))
    for note in shape.notes:
        say(f"note: {note}")
    outside = None if grid is None else shape.check_inside(grid, "the grid of the transform; --like names another")
    if outside is not None:
        say(f"note: {outside}")
    if moving_grid is None and source.lower().endswith(".trk"):
        say(f"note: the header of {target.name} still counts in voxels of the fixed scan; --moving names the other one")
    mapped = field.map_world(shape.positions_mm)
    shape.save(mapped, target, moving_grid)
    _say_mapped(field, target, shape.positions_mm, mapped)


def _say_mapped(field: Transform, target: Path, before_mm: np.ndarray, after_mm: np.ndarray) -> None:
    from anamorph.geometry.lengths import numbers_mm

    before, after = (", ".join(numbers_mm(one[0], 2)) for one in (before_mm, after_mm))
    if field.maps is None:
        what = f"{len(before_mm)} points of the transform's fixed scan mapped to its moving scan"
    else:
        what = f"{len(before_mm)} {field.maps[0]} points mapped to the {field.maps[1]} scan"
    say(f"{target}: {what}; the first: RAS ({before}) -> RAS ({after}) mm")


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
        str | None, typer.Option(help="The moving scan, for files of deeds, FSL, AFNI, FreeSurfer and Learn2Reg.")
    ] = None,
    written_by: Annotated[
        str | None, typer.Option("--from", help="Format of T, where suffix and contents do not say it.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
) -> None:
    """Write a transform in the format of another tool."""
    import numpy as np

    from anamorph.geometry.grid import Grid
    from anamorph.image.read import read_image
    from anamorph.transforms.files import FORMATS, write_transform, written_files

    kind = chosen_kind(out, transform_format)
    for file in written_files(out, kind):
        refuse_existing(file, overwrite, (transform, fixed, moving))
    moving_grid = None if moving is None else read_image(moving).grid
    field, grid = read_with_grid(transform, fixed, moving_grid, written_by)
    if grid is None and FORMATS.find(kind).dense:
        raise UserError(f"{transform.name} has no grid of its own; name the fixed scan with --fixed")
    grid = grid or Grid((1, 1, 1), np.eye(4))  # affines are written as such
    write_transform(field, out, kind, grid, moving_grid, scans=(fixed, moving))
    say(f"{out}: {kind}, {FORMATS.find(kind).summary}")


def read_with_grid(
    path: Path, like: str | None, moving_grid: Grid | None = None, kind: str | None = None
) -> tuple[Transform, Grid | None]:
    """Read a transform and the fixed grid: that of ``like`` if given, else what the field says of itself, else None.

    A field says on which grid its scan lies, or else lies on it. The fields inside a composite lie on grids of their
    own making, often coarse ones.

    Raises:
        UserError: a file cannot be read.
    """
    from anamorph.image.read import read_image
    from anamorph.transforms.files import read_transform
    from anamorph.transforms.maps import Displacement

    grid = None if like is None else read_image(like).grid
    transform = read_transform(path, grid=grid, moving_grid=moving_grid, kind=kind)
    _tell_assumptions(path, moving_grid)
    if grid is None and isinstance(transform, Displacement):
        grid = transform.scan_grid or transform.grid
    return transform, grid


def _tell_assumptions(path: Path, moving_grid: Grid | None) -> None:
    """Files of deeds do not say which scans and which matrix belong to them."""
    from anamorph.transforms.files.deeds import FIELD_SUFFIX, is_deeds, matrix_path

    if not is_deeds(path):
        return
    if path.name.lower().endswith(FIELD_SUFFIX) and not matrix_path(path).is_file():
        say(f"{path.name}: no {matrix_path(path).name} beside it, so taken to have no linear part")
    if moving_grid is None:
        say(f"{path.name}: the moving scan is taken to have the grid of the fixed one; name it with --moving if not")


def chosen_kind(out: Path, asked: str | None) -> str:
    """The format asked for, else the first one that the suffix of the output may be.

    Raises:
        UserError: neither says one.
    """
    from anamorph.transforms.files import FORMATS

    kind = asked or next((kind for kind in FORMATS if out.name.lower().endswith(FORMATS.find(kind).suffixes)), None)
    if kind is None:
        raise UserError(f"{out.name} does not say a format; choose one with --to: {', '.join(FORMATS)}")
    return kind
