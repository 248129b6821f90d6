"""The files of deeds: ``<stem>_displacements.dat`` and, beside it, ``<stem>_matrix.txt``.

Voxel p of the fixed array is found at ``A(p) + u(p)`` in the moving array, which has the same size; headers do not
matter.

The matrix file holds the table T with ``[i j k 1] . T = A(p)``: row vectors, the translation in the last row. The other
file holds u in voxels, float32, little-endian: a block each for axis 1, axis 0 and axis 2, axis 0 running fastest, on a
control grid of ``floor(size / g)`` samples. Sample a of m1 lies at voxel ``a * m / m1`` of m; between the samples u is
trilinear, beyond the last one constant. So the vectors are a displacement field on a coarser grid with the same first
voxel, and since trilinear interpolation commutes with a matrix, ``A(p) + u(p)`` is that field, turned back by the
linear part of A, followed by A.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from anamorph.errors import UserError
from anamorph.geometry.grid import Grid
from anamorph.image.atomic import atomic_path
from anamorph.transforms.files import OtherFormat, TransformFormat
from anamorph.transforms.files.itk_linear import check_size
from anamorph.transforms.maps import Affine, Composite, Displacement, Transform

FIELD_SUFFIX, MATRIX_SUFFIX = "_displacements.dat", "_matrix.txt"
_AXES = [1, 0, 2]  # of the blocks, and where to find i, j, k among them


def is_deeds(path: Path) -> bool:
    """Whether a file is one of deeds; an affine of ITK may end in ``_matrix.txt`` too."""
    name = path.name.lower()
    if name.endswith(MATRIX_SUFFIX) and path.is_file():
        with path.open("rb") as stream:
            return stream.read(8) != b"#Insight"
    return name.endswith(FIELD_SUFFIX)


def matrix_path(path: Path) -> Path:
    """The matrix file that belongs to a displacement file."""
    return path.with_name(path.name[: -len(FIELD_SUFFIX)] + MATRIX_SUFFIX)


def control_grid(fixed_grid: Grid, shape: tuple[int, int, int]) -> Grid:
    """Where the stored vectors sit: the first samples coincide, the spacing is size over samples along each axis."""
    affine = fixed_grid.affine.copy()
    affine[:3, :3] *= np.divide(fixed_grid.shape, shape)
    return Grid(shape, affine)


def write(transform: Transform, path: Path, fixed_grid: Grid, moving_grid: Grid | None = None) -> None:
    """Write both files, or none.

    The matrix holds the affine parts of the transform, the field what is left. A field that lies on a control grid of
    the fixed image and comes first, as in what :func:`read` returns, is written as it is; anything else with a vector
    per voxel, where it is exact.

    Raises:
        UserError: the two images differ in shape.
    """
    moving_grid = _moving_grid_of_one_shape(fixed_grid, moving_grid)
    affine, field = _split(transform, fixed_grid)
    matrix = np.linalg.inv(moving_grid.affine) @ affine.matrix @ fixed_grid.affine
    to_moving = _field_to_moving_voxels(affine, field.grid, moving_grid)
    vectors = (to_moving.astype(np.float32) @ field.disp_vox.reshape(3, -1)).reshape(field.disp_vox.shape)
    with atomic_path(path) as temporary, atomic_path(matrix_path(path)) as temporary_matrix:
        vectors[_AXES].transpose(0, 3, 2, 1).astype("<f4").tofile(temporary)
        np.savetxt(temporary_matrix, matrix.T, fmt="%.9g")


def read(path: Path, grid: Grid | None, moving_grid: Grid | None) -> Transform:
    """Read a field with the matrix beside it (the identity in voxels if there is none), or a matrix alone.

    Returns:
        The displacement on its control grid, then the affine; the affine alone if every vector is zero.
    """
    if not is_deeds(path):
        raise OtherFormat("an affine of ITK")
    if grid is None:
        raise UserError("a deeds file says nothing about the world; give the fixed scan (--like, or grid=)")
    moving_grid = _moving_grid_of_one_shape(grid, moving_grid)
    matrix_alone = path.name.lower().endswith(MATRIX_SUFFIX)
    matrix_file = path if matrix_alone else matrix_path(path)
    matrix = _read_matrix(matrix_file) if matrix_file.is_file() else np.eye(4)
    affine = Affine(moving_grid.affine @ matrix @ np.linalg.inv(grid.affine))
    vectors = None if matrix_alone else _read_vectors(path, grid.shape)
    if vectors is None or not vectors.any():
        return affine
    _, m1, n1, o1 = vectors.shape
    control = control_grid(grid, (m1, n1, o1))
    from_moving = np.linalg.inv(_field_to_moving_voxels(affine, control, moving_grid)).astype(np.float32)
    return Composite.of(Displacement((from_moving @ vectors.reshape(3, -1)).reshape(vectors.shape), control), affine)


def _split(transform: Transform, fixed_grid: Grid) -> tuple[Affine, Displacement]:
    """An affine and a field with ``transform = affine o field`` at the voxels of the fixed grid."""
    parts = transform.parts if isinstance(transform, Composite) else (transform,)
    affine = Affine.identity()
    for part in parts:
        affine = Affine(part.matrix @ affine.matrix) if isinstance(part, Affine) else affine
    deforming = [part for part in parts if not isinstance(part, Affine)]
    if not deforming:
        shape = _coarsest_shape(fixed_grid.shape)
        return affine, Displacement(np.zeros((3, *shape), np.float32), control_grid(fixed_grid, shape))
    first = parts[0]
    if len(deforming) == 1 and isinstance(first, Displacement) and _is_control_grid(first.grid, fixed_grid):
        return affine, first
    return affine, (affine.inverse() @ transform).displacement_on(fixed_grid)


def _field_to_moving_voxels(affine: Affine, field_grid: Grid, moving_grid: Grid) -> np.ndarray:
    """3x3: a vector in voxels of the field, before the affine, to voxels of the moving grid."""
    return (np.linalg.inv(moving_grid.affine) @ affine.matrix @ field_grid.affine)[:3, :3]


def _is_control_grid(grid: Grid, fixed_grid: Grid) -> bool:
    expected = control_grid(fixed_grid, grid.shape)
    return _tool_finds(grid.shape, fixed_grid.shape) and np.allclose(grid.affine, expected.affine, rtol=0, atol=1e-5)


def _coarsest_shape(shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """The control grid of deeds' own last level, or the next finer one that it can tell from the size of the file."""
    coarser = (_divided(shape, spacing) for spacing in (4, 3, 2))
    return next((samples for samples in coarser if _tool_finds(samples, shape)), shape)


def _tool_finds(samples: tuple[int, int, int], shape: tuple[int, int, int]) -> bool:
    """Whether applyBCV takes a field of so many samples for what it is: it guesses the spacing from their number."""
    if min(samples) < 1:
        return False
    spacing = math.floor((math.prod(shape) / math.prod(samples)) ** 0.3333333 + 0.5)
    return spacing > 0 and _divided(shape, spacing) == samples


def _divided(shape: tuple[int, int, int], spacing: int) -> tuple[int, int, int]:
    i, j, k = (n // spacing for n in shape)
    return i, j, k


def _read_vectors(path: Path, shape: tuple[int, int, int]) -> np.ndarray:
    """``(3, m1, n1, o1)`` float32, order i, j, k, in voxels of the moving image."""
    size = path.stat().st_size
    # Fewer samples along one axis are never more along another: their number alone gives the shape.
    spacings = range(1, min(shape) + 1)
    samples = next((s for s in (_divided(shape, g) for g in spacings) if 12 * math.prod(s) == size), None)
    if samples is None:
        raise UserError(
            f"holds {size} bytes, which is no control grid of a fixed scan of {shape} voxels; "
            "is the file complete, and is this the scan that was registered?"
        )
    blocks = np.fromfile(path, "<f4").reshape(3, *reversed(samples))
    return blocks.transpose(0, 3, 2, 1)[_AXES].astype(np.float32)


def _read_matrix(path: Path) -> np.ndarray:
    """4x4 for column vectors, from fixed to moving voxels."""
    check_size(path)
    try:
        table = np.array(
            [line.split() for line in path.read_text(errors="replace").splitlines() if line.strip()], float
        )
    except ValueError:
        table = np.empty(0)
    if table.shape != (4, 4):
        raise UserError(f"{path.name} is no matrix of deeds: that is 4 lines of 4 numbers")
    if not np.isfinite(table).all():
        raise UserError(
            f"{path.name} holds NaN: the linear stage of deeds failed; repeat it, or register with anamorph"
        )
    if not np.allclose(table[:, 3], (0, 0, 0, 1), atol=1e-3):
        raise UserError(f"the last column of {path.name} must be 0 0 0 1; deeds has the translation in the last row")
    table[:, 3] = 0, 0, 0, 1  # rounded when printed; the tool ignores it
    return table.T


def _moving_grid_of_one_shape(fixed_grid: Grid, moving_grid: Grid | None) -> Grid:
    moving_grid = moving_grid or fixed_grid
    if moving_grid.shape != fixed_grid.shape:
        raise UserError(
            f"deeds needs fixed and moving scans of one size, not {fixed_grid.shape} and {moving_grid.shape}; "
            "choose another format, or resample first"
        )
    return moving_grid


DEEDS = TransformFormat(
    "field in voxels, and `<stem>_matrix.txt` beside it: deedsBCV",
    (FIELD_SUFFIX,),
    write=write,
    read=read,
    also_read=(MATRIX_SUFFIX,),
    files=lambda path: (path, matrix_path(path)),
    needs_moving=True,
)
