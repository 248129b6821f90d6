"""Learn2Reg displacement fields: NIfTI and .npz of (X, Y, Z, 3), and the half-resolution .npz of 2020 and 2021.

``warped(p) = moving(p + u(p))`` with p a voxel of the fixed image and p + u a voxel of the moving image, which has the
same shape; headers are ignored.

Files of 2020 and 2021 hold (3, X/2, Y/2, Z/2), float16, in voxels of the full resolution. Their evaluator enlarges each
component with ``scipy.ndimage.zoom(u, 2, order=2)``, which lays first and last samples on the first and last voxels; so
does this module, in both directions.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from anamorph.errors import UserError
from anamorph.geometry.grid import Grid
from anamorph.geometry.sampling import identity_positions, sample
from anamorph.image.atomic import atomic_path
from anamorph.image.bounds import check_arrays
from anamorph.image.convert import nibabel_grid, place
from anamorph.image.nibabel_files import check_rest, opened
from anamorph.image.write import save_nifti
from anamorph.transforms.files import TransformFormat
from anamorph.transforms.files.itk_field import NIFTI, no_field
from anamorph.transforms.maps import Displacement, Transform


def write(transform: Transform, path: Path, fixed_grid: Grid, moving_grid: Grid | None = None) -> None:
    """Write the field at full resolution, float32."""
    import nibabel

    nifti = nibabel.Nifti1Image(np.moveaxis(to_voxels(transform, fixed_grid, moving_grid), 0, -1), fixed_grid.affine)
    place(nifti, fixed_grid)
    save_nifti(nifti, path)


def read(path: Path, grid: Grid | None, moving_grid: Grid | None) -> Displacement:
    """Read a field on the fixed grid, or on the grid in its own header."""
    with opened(path) as image:
        if len(image.shape) != 4 or image.shape[3] != 3:
            raise no_field(image.shape)
        own = Grid(image.shape[:3], nibabel_grid(image.slicer[..., :1], "field").affine)
        field = from_voxels(np.moveaxis(np.asarray(image.dataobj, np.float32), -1, 0), grid or own, moving_grid)
        check_rest(image)
        return field


def to_voxels(transform: Transform, fixed_grid: Grid, moving_grid: Grid | None) -> np.ndarray:
    """``(3, I, J, K)``: moving voxel minus fixed voxel.

    Raises:
        UserError: the two images differ in shape.
    """
    moving_grid = moving_grid or fixed_grid
    if moving_grid.shape != fixed_grid.shape:
        raise UserError(
            f"Learn2Reg fields need fixed and moving images of one shape, not {fixed_grid.shape} and "
            f"{moving_grid.shape}; choose itk, or resample first"
        )
    return transform.moving_positions(fixed_grid, moving_grid) - identity_positions(fixed_grid.shape)


def from_voxels(disp_vox: np.ndarray, grid: Grid, moving_grid: Grid | None) -> Displacement:
    """The field whose fixed voxel p is found at voxel p + u(p) of the moving grid.

    Raises:
        UserError: the shape is not that of the grid.
    """
    if disp_vox.shape != (3, *grid.shape):
        raise UserError(f"a field of {disp_vox.shape[1:]} vectors does not fit the fixed image of {grid.shape} voxels")
    if moving_grid is None or np.array_equal(moving_grid.affine, grid.affine):
        return Displacement(disp_vox, grid)
    matrix = moving_grid.voxel_to_voxel(grid)
    places = np.einsum("ab,bijk->aijk", matrix[:3, :3], disp_vox + identity_positions(grid.shape), optimize=True)
    places += matrix[:3, 3, None, None, None]
    return Displacement(places - identity_positions(grid.shape), grid)


def write_npz_2020(transform: Transform, path: Path, fixed_grid: Grid, moving_grid: Grid | None = None) -> None:
    """Write the field at half resolution.

    Raises:
        UserError: an axis has an odd number of voxels, which the evaluator cannot restore.
    """
    small = halved(to_voxels(transform, fixed_grid, moving_grid)).astype(np.float16)
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, small)


def halved(field: np.ndarray) -> np.ndarray:
    """``(3, I/2, J/2, K/2)`` float32 of a field ``(3, I, J, K)``; values stay.

    Raises:
        UserError: an axis has an odd number of voxels, which the evaluator cannot restore.
    """
    shape = field.shape[1:]
    if any(n % 2 for n in shape):
        raise UserError(f"half-resolution fields need even sizes, not {shape}; choose learn2reg-npz")
    axes = [np.linspace(0, n - 1, n // 2, dtype=np.float32) for n in shape]
    return sample(field, np.stack(np.meshgrid(*axes, indexing="ij")))


def enlarged(field: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """``(3, I, J, K)`` at full resolution, as the evaluator makes it; values stay.

    Raises:
        UserError: the field has neither the full nor half the size.
    """
    if field.shape[1:] == shape:
        return field
    if field.shape[1:] != tuple(n // 2 for n in shape):
        raise UserError(f"a field of shape {field.shape} is not half the size of the fixed image, {shape}")
    from scipy.ndimage import zoom

    factors = [n / m for n, m in zip(shape, field.shape[1:], strict=True)]
    return np.stack([zoom(component, factors, order=2) for component in field])


HEADER_BYTES = 1 << 16


def write_npz(transform: Transform, path: Path, fixed_grid: Grid, moving_grid: Grid | None = None) -> None:
    """Write the field at full resolution, float32."""
    field = np.moveaxis(to_voxels(transform, fixed_grid, moving_grid), 0, -1)
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, np.ascontiguousarray(field))


def read_npz(path: Path, grid: Grid | None, moving_grid: Grid | None) -> Displacement:
    """Read either form; the axis of the three components says which."""
    if grid is None:
        raise UserError("an .npz field says nothing about the world; give the fixed image")
    check_arrays(path, 8 * 3 * int(np.prod(grid.shape)) + HEADER_BYTES)
    try:
        with np.load(path, allow_pickle=False) as content:
            arrays = list(content.values())
    except MemoryError as error:  # a header that tells of more values than follow
        raise UserError("damaged: its header announces more values than it holds; is it complete?") from error
    if len(arrays) != 1 or arrays[0].ndim != 4:
        raise UserError("expected one array, (X, Y, Z, 3) or (3, X, Y, Z)")
    field = arrays[0]
    if field.shape == (*grid.shape, 3):
        return from_voxels(np.moveaxis(field, -1, 0).astype(np.float32), grid, moving_grid)
    if field.shape[0] == 3:
        return from_voxels(enlarged(field.astype(np.float32), grid.shape), grid, moving_grid)
    raise UserError(f"a field of shape {field.shape} does not fit the fixed image of {grid.shape} voxels")


LEARN2REG = TransformFormat("dense field in voxels, (X, Y, Z, 3): Learn2Reg since 2022", NIFTI, write=write, read=read)
LEARN2REG_NPZ = TransformFormat(
    "dense field in voxels, (X, Y, Z, 3): Learn2Reg since 2023", (".npz",), write=write_npz, read=read_npz
)
LEARN2REG_2020_NPZ = TransformFormat(
    "half resolution, (3, X, Y, Z): Learn2Reg 2020 and 2021", (".npz",), write=write_npz_2020
)
