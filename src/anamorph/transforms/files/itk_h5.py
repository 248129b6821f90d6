"""ITK transforms in HDF5 files: a single one, or a composite whose last entry is applied first."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from anamorph.errors import UserError
from anamorph.geometry.frames import flip_affine_ras_lps, flip_ras_lps
from anamorph.geometry.grid import Grid
from anamorph.image.atomic import atomic_path
from anamorph.image.bounds import check_hdf5
from anamorph.transforms.files import TransformFormat
from anamorph.transforms.files.itk_field import direction_in, direction_text, orthogonal_cover
from anamorph.transforms.files.itk_linear import AFFINE_TYPE, from_itk, to_itk
from anamorph.transforms.maps import Affine, Composite, Displacement, Transform

DIRECTION = "direction"
COMPOSITE_TYPE = "CompositeTransform_double_3_3"
FIELD_TYPE = "DisplacementFieldTransform_double_3_3"
# What is smoothed when ITK optimises it (ANTs, SimpleITK) is a dense field like any other.
_DENSE_FIELD = re.compile(r"(\w+SmoothingOnUpdate)?DisplacementFieldTransform_\w+_3_3$")
# ITK before 5 wrote, and reads, only the misspelt name.
PARAMETERS = ("TransformParameters", "TranformParameters")
FIXED_PARAMETERS = ("TransformFixedParameters", "TranformFixedParameters")


def write(transform: Transform, path: Path, fixed_grid: Grid, moving_grid: Grid | None = None) -> None:
    """Write a composite: affine parts as they are, fields on their own grids (sheared ones resampled).

    ITK takes a field to be zero outside its grid where ours repeats its border, so a field is extended by as many
    voxels as the fixed image needs.
    """
    import h5py

    parts = _itk_parts(transform, fixed_grid)
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        file["ITKVersion"] = np.array(["5.4.0"], h5py.string_dtype("ascii"))
        file["HDFVersion"] = np.array([h5py.version.hdf5_version], h5py.string_dtype("ascii"))
        file.attrs[DIRECTION] = direction_text(transform)
        _write_group(file, 0, COMPOSITE_TYPE)
        for n, part in enumerate(reversed(parts), start=1):
            if isinstance(part, Affine):
                _write_group(file, n, AFFINE_TYPE, *to_itk(part))
            else:
                _write_group(file, n, FIELD_TYPE, *_field_to_itk(part))


def read(path: Path, grid: Grid | None, moving_grid: Grid | None) -> Transform:
    """Read affines and displacement fields, single or composite."""
    import h5py

    check_hdf5(path)
    with h5py.File(path, "r") as file:
        if "TransformGroup" not in file:
            raise UserError("an HDF5 file without an ITK TransformGroup")
        listed_in = file["TransformGroup"]
        groups = [listed_in[str(n)] for n in range(len(listed_in))]
        composite = bool(groups) and _type_name(groups[0]).startswith("CompositeTransform")
        listed = groups[1:] if composite else groups
        if not listed or (len(listed) > 1 and not composite):
            raise UserError(f"holds {len(listed)} separate transforms; save them as one composite")
        parts = [_read_group(group) for group in listed]
        maps = direction_in(str(file.attrs.get(DIRECTION, "")))
    transform = Composite.of(*reversed(parts))
    return transform if maps is None else transform.between(*maps)


def _itk_parts(transform: Transform, fixed_grid: Grid) -> list[Affine | Displacement]:
    parts: list[Affine | Displacement] = []
    reached = fixed_grid.corners_mm()
    for part in transform.parts if isinstance(transform, Composite) else (transform,):
        if not isinstance(part, Affine):
            field = part if isinstance(part, Displacement) else part.displacement_on(fixed_grid)
            part = field.displacement_on(orthogonal_cover(field.grid.extended(reached)))
        parts.append(part)
        reached = part.map_world(reached)
    return parts


def _write_group(
    file: Any, number: int, type_name: str, parameters: np.ndarray | None = None, fixed: np.ndarray | None = None
) -> None:
    import h5py

    group = file.create_group(f"TransformGroup/{number}")
    group["TransformType"] = np.array([type_name], h5py.string_dtype("ascii"))
    if parameters is None:
        return
    packing = {"compression": "gzip", "compression_opts": 1, "shuffle": True} if parameters.size > 1000 else {}
    group.create_dataset(PARAMETERS[0], data=parameters, **packing)
    group.create_dataset(FIXED_PARAMETERS[0], data=fixed)


def _field_to_itk(field: Displacement) -> tuple[np.ndarray, np.ndarray]:
    """Vectors LPS mm, component fastest, then i, j, k; and size, origin, spacing, direction."""
    vectors = flip_ras_lps(field.vectors_mm().transpose(3, 2, 1, 0))
    affine = flip_affine_ras_lps(field.grid.affine)
    spacing = field.grid.spacing_mm
    direction = affine[:3, :3] / spacing
    return vectors.ravel(), np.concatenate([field.grid.shape, affine[:3, 3], spacing, direction.ravel()])


def _read_group(group: Any) -> Transform:
    type_name = _type_name(group)
    parameters, fixed = _dataset(group, PARAMETERS), _dataset(group, FIXED_PARAMETERS)
    if not _DENSE_FIELD.match(type_name):
        return from_itk(type_name, parameters, fixed)
    if len(fixed) != 18:
        raise UserError(f"a {type_name} with {len(fixed)} fixed parameters; only 3D fields are supported")
    i, j, k = (int(n) for n in fixed[:3])
    if min(i, j, k) < 1 or parameters.size != 3 * i * j * k:
        raise UserError(f"a {type_name} of {i} x {j} x {k} voxels with {parameters.size} numbers; is it complete?")
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(fixed[9:18], (3, 3)) * fixed[6:9]
    affine[:3, 3] = fixed[3:6]
    vectors = flip_ras_lps(np.reshape(parameters, (k, j, i, 3)).astype(np.float32))
    return Displacement.from_world(vectors.transpose(3, 2, 1, 0), Grid((i, j, k), flip_affine_ras_lps(affine)))


def _type_name(group: Any) -> str:
    name = np.ravel(group["TransformType"][()])[0]
    return name.decode() if isinstance(name, bytes) else str(name)


def _dataset(group: Any, spellings: tuple[str, str]) -> np.ndarray:
    for name in spellings:
        if name in group:
            return np.ravel(group[name][()])
    raise UserError(f"a {_type_name(group)} without {spellings[0]}")


ITK_H5 = TransformFormat(
    "composite of affine and dense field in one file: ITK, ANTs, 3D Slicer",
    (".h5", ".hdf5"),
    write=write,
    read=read,
    dense=False,
)
