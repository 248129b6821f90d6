"""Which of the transforms that share the suffix .nii.gz a file holds."""

from __future__ import annotations

from pathlib import Path

from anamorph.errors import UserError
from anamorph.geometry import Grid
from anamorph.image.nibabel_files import check_rest, opened
from anamorph.transforms.base import Transform


def read(path: Path, grid: Grid | None, moving_grid: Grid | None) -> Transform:
    """Read an ITK field (5D, vector intent) or a Learn2Reg field (4D, three components)."""
    from anamorph.transforms.files import itk_field, learn2reg

    with opened(path) as image:
        shape = image.shape
        transform: Transform | None = None
        if len(shape) == 5 and shape[3:] == (1, 3):
            transform = itk_field.from_nifti(image, grid)
        elif len(shape) == 4 and shape[3] == 3:
            transform = learn2reg.from_nifti(image, grid, moving_grid)
        if transform is not None:
            check_rest(image)
            return transform
    raise UserError(
        f"holds an array of shape {shape}, no displacement field: that is (X, Y, Z, 1, 3) for ITK, "
        "(X, Y, Z, 3) for Learn2Reg"
    )
