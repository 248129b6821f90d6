"""X5 files (HDF5) as nitransforms reads and writes them: an affine, or a displacement per voxel, in RAS mm."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from anamorph.errors import UserError
from anamorph.geometry.grid import Grid
from anamorph.image.atomic import atomic_path
from anamorph.image.bounds import check_hdf5
from anamorph.transforms.files import TransformFormat
from anamorph.transforms.files.others import from_places, library
from anamorph.transforms.maps import Affine, Composite, Displacement, Transform


def write(transform: Transform, path: Path, fixed_grid: Grid, moving_grid: Grid | None = None) -> None:
    """Write one transform: nitransforms applies none but the first of a file."""
    x5 = library("nitransforms.io.x5")
    one = Composite.of(transform)
    if isinstance(one, Affine):
        kind = {"type": "linear", "subtype": "affine", "representation": "matrix", "transform": one.matrix}
    else:
        vectors = np.moveaxis(one.displacement_on(fixed_grid).vectors_mm(), 0, -1)
        kind = {"type": "nonlinear", "subtype": "densefield", "representation": "displacements", "transform": vectors}
    domain = x5.X5Domain(True, fixed_grid.shape, fixed_grid.affine, "cartesian")
    node = x5.X5Transform(
        **kind, metadata={"WrittenBy": "anamorph"}, dimension_kinds=("space",) * 3 + ("vector",), domain=domain
    )
    with atomic_path(path) as temporary:
        x5.to_filename(temporary, [node])


def read(path: Path, grid: Grid | None, moving_grid: Grid | None) -> Transform:
    """Read the one transform of a file."""
    check_hdf5(path)
    nodes = library("nitransforms.io.x5").from_filename(path)
    if len(nodes) != 1 or nodes[0].array_length != 1:
        raise UserError(f"holds {max(len(nodes), nodes[0].array_length if nodes else 0)} transforms; save one alone")
    node = nodes[0]
    if node.type == "linear":
        return Affine(node.transform)
    known = node.type == "nonlinear" and node.representation in ("displacements", "deformations")
    if not known or node.domain is None or not node.domain.grid:
        raise UserError(f"an X5 transform of type {node.type} ({node.representation}); save it as a dense field")
    i, j, k = (int(n) for n in node.domain.size)
    own = Grid((i, j, k), node.domain.mapping)
    if node.transform.shape != (i, j, k, 3):
        raise UserError(f"an X5 field of shape {node.transform.shape} on a grid of {own.shape}; is it complete?")
    if node.representation == "deformations":
        return from_places(node.transform, own)
    return Displacement.from_world(np.moveaxis(node.transform, -1, 0), own)


def _shows(path: Path) -> bool:
    import h5py

    with h5py.File(path, "r") as file:
        return bool(file.attrs.get("Format") == "X5")


X5 = TransformFormat(
    "affine or dense field, RAS mm: nitransforms", (".x5",), write=write, read=read, also_read=(".h5",), shows=_shows
)
