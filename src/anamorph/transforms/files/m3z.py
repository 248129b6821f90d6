"""Morphs of FreeSurfer (.m3z), read: for every node of the atlas its place in the scan.

Written by GCAMwrite of FreeSurfer's ``utils/gcamorph.cpp``, big-endian in one gzip stream: version 1, the numbers of
nodes along x, y and z, atlas voxels from node to node, a constant; for every node, z fastest, three float32 of the
linear start, three of the place and three whole numbers; then tagged records, of which the geometry of scan and atlas
and the unit of the places matter. No library reads it: nitransforms has no morphs, surfa only their newer form (.mgz).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from anamorph.errors import UserError
from anamorph.geometry.grid import Grid
from anamorph.image.bounds import BoundedGzip
from anamorph.transforms.files import TransformFormat
from anamorph.transforms.files.others import from_places
from anamorph.transforms.maps import Displacement

HEADER = np.dtype([("version", ">f4"), ("nodes", ">i4", 3), ("spacing", ">i4"), ("k", ">f4")])
NODE = np.dtype([("start", ">f4", 3), ("place", ">f4", 3), ("number", ">i4", 3)])
GEOMETRY = np.dtype(
    [
        ("valid", ">i4"),
        ("size", ">i4", 3),
        ("voxel", ">f4", 3),
        ("axes", ">f4", (3, 3)),
        ("centre", ">f4", 3),
        ("file", "S512"),
    ]
)
TAG_GEOMETRY, TAG_TYPE = 10, 11
RAS, VOXELS = 1, 2


def read(path: Path, grid: Grid | None, moving_grid: Grid | None) -> Displacement:
    """Read a morph as a field on the nodes of the atlas, the fixed scan."""
    with BoundedGzip(path) as stream:
        content = stream.read()
    header = np.frombuffer(content[: HEADER.itemsize].ljust(HEADER.itemsize, b"\0"), HEADER)[0]
    shape = tuple(int(n) for n in header["nodes"])
    count = int(np.prod(shape, dtype=float)) if min(shape) > 0 else 0
    rest = HEADER.itemsize + count * NODE.itemsize
    if header["version"] != 1 or header["spacing"] < 1 or not count > 0 or len(content) < rest:
        raise UserError("no morph of FreeSurfer of version 1; is it complete?")
    nodes = np.frombuffer(content, NODE, count, HEADER.itemsize).reshape(shape)
    scan, atlas, kind = _records(content[rest:])
    places = nodes["place"].astype(np.float64)
    if kind == VOXELS:
        places = places @ scan.affine[:3, :3].T + scan.affine[:3, 3]
    affine = atlas.affine.copy()
    affine[:3, :3] *= header["spacing"]
    i, j, k = shape
    field = from_places(places, Grid((i, j, k), affine))
    unset = (nodes["start"] == 0).all(-1) & (nodes["place"] == 0).all(-1)
    if unset.any() and not unset.all():  # FreeSurfer calls these nodes invalid
        from scipy.ndimage import distance_transform_edt

        nearest = distance_transform_edt(unset, return_distances=False, return_indices=True)
        field = Displacement(field.disp_vox[(slice(None), *nearest)], field.grid)
    field.scan_grid = atlas
    return field


def _records(content: bytes) -> tuple[Grid, Grid, int]:
    """The grids of scan and atlas, and the unit of the places; both records come first, where there are any."""
    size = 4 + 2 * GEOMETRY.itemsize
    if len(content) < size or int.from_bytes(content[:4], "big") != TAG_GEOMETRY:
        raise UserError("a morph that does not describe its scan and atlas; write it again with mri_warp_convert")
    scan, atlas = (_grid(geometry) for geometry in np.frombuffer(content, GEOMETRY, 2, 4))
    typed = len(content) >= size + 8 and int.from_bytes(content[size : size + 4], "big") == TAG_TYPE
    kind = int.from_bytes(content[size + 4 : size + 8], "big") if typed else VOXELS
    if kind not in (RAS, VOXELS):
        raise UserError(f"a morph whose places are of type {kind}; known are 1 (RAS) and 2 (voxels)")
    return scan, atlas, kind


def _grid(geometry: np.void) -> Grid:
    """A grid from its size, voxels, axes (as rows) and the place of its centre, at half the size."""
    if not geometry["valid"]:
        raise UserError("a morph whose scan or atlas has no valid geometry; write it again with mri_warp_convert")
    affine = np.eye(4)
    affine[:3, :3] = geometry["axes"].T.astype(np.float64) * geometry["voxel"]
    affine[:3, 3] = geometry["centre"] - affine[:3, :3] @ (geometry["size"] / 2)
    i, j, k = (int(n) for n in geometry["size"])
    return Grid((i, j, k), affine)


M3Z = TransformFormat("morph to an atlas: FreeSurfer (mri_ca_register)", (".m3z",), read=read)
