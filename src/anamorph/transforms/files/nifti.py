"""Which of the transforms that share the suffix .nii.gz a file holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from anamorph.errors import UserError
from anamorph.geometry import Grid
from anamorph.image.bounds import check_volume
from anamorph.transforms.base import Transform


def read(path: Path, grid: Grid | None, moving_grid: Grid | None) -> Transform:
    """Read an ITK field (5D, vector intent) or a Learn2Reg field (4D, three components)."""
    import nibabel

    from anamorph.transforms.files import itk_field, learn2reg

    image: Any = nibabel.load(path)
    check_volume(image)
    shape = image.shape
    if len(shape) == 5 and shape[3:] == (1, 3):
        return itk_field.from_nifti(image)
    if len(shape) == 4 and shape[3] == 3:
        return learn2reg.from_nifti(image, grid, moving_grid)
    raise UserError(
        f"holds an array of shape {shape}, no displacement field: that is (X, Y, Z, 1, 3) for ITK, "
        "(X, Y, Z, 3) for Learn2Reg"
    )
