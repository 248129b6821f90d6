"""ITK displacement fields as images: NIfTI (X, Y, Z, 1, 3) with intent 1007, NRRD or MetaImage with three components.

Vectors are LPS mm, at fixed points. ITK reads NIfTI intent 1007 (VECTOR) as LPS as it stands, and takes 1006 (DISPVECT)
to be RAS (verified with ITK 5.4).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from anamorph.errors import UserError
from anamorph.geometry import Grid
from anamorph.geometry.frames import flip_ras_lps
from anamorph.image.convert import nibabel_grid, place, simpleitk_grid
from anamorph.image.itk_files import check_before_itk
from anamorph.image.quiet import quiet_itk
from anamorph.image.write import save_nifti
from anamorph.transforms.base import Transform
from anamorph.transforms.displacement import Displacement
from anamorph.transforms.files.direction import direction_in, direction_text
from anamorph.transforms.files.orthogonal import orthogonal_cover

INTENT_DISPVECT, INTENT_VECTOR = 1006, 1007


def write(transform: Transform, path: Path, fixed_grid: Grid, moving_grid: Grid | None = None) -> None:
    """Write one dense field as NIfTI."""
    import nibabel

    field = transform.displacement_on(orthogonal_cover(fixed_grid))
    vectors = field.vectors_mm()
    vectors[:2] *= -1  # RAS to LPS
    nifti = nibabel.Nifti1Image(vectors.transpose(1, 2, 3, 0)[:, :, :, None], field.grid.affine)
    nifti.header.set_intent(INTENT_VECTOR)
    nifti.header["descrip"] = direction_text(transform).encode()
    place(nifti, field.grid)
    save_nifti(nifti, path)


def as_stored(transform: Transform, grid: Grid) -> Displacement:
    """A transform on a grid as a reader finds it in the file that :func:`write` makes, to the last bit.

    Files hold no shear, so the field of a sheared grid is not stored as it is.
    """
    field = transform.displacement_on(grid)
    stored = Displacement.from_world(field.vectors_mm(), grid)
    stored.maps = field.maps
    return stored


def from_nifti(image: Any, grid: Grid | None = None) -> Displacement:
    """The field of a 5D nibabel image, on the given grid where the header says the same but for rounding.

    Raises:
        UserError: the intent says the vectors are something else.
    """
    intent = int(image.header["intent_code"])
    if bytes(image.header["intent_name"]).startswith(b"NREG"):
        raise UserError("a NiftyReg field; convert it with reg_transform, or write it from there as an ITK field")
    if intent not in (INTENT_DISPVECT, INTENT_VECTOR):
        raise UserError(
            f"a 5D NIfTI with intent code {intent}, which ITK takes for no field; set it to 1007 (LPS vectors)"
        )
    vectors = np.asarray(image.dataobj, np.float32)[:, :, :, 0]
    if intent == INTENT_VECTOR:
        vectors = flip_ras_lps(vectors)
    i, j, k, _ = vectors.shape
    own = Grid((i, j, k), nibabel_grid(image, "field").affine)
    field = Displacement.from_world(
        np.moveaxis(vectors, -1, 0), grid if grid is not None and grid.matches(own) else own
    )
    field.maps = direction_in(bytes(image.header["descrip"]).rstrip(b"\0").decode("utf-8", "replace"))
    return field


def read(path: Path, grid: Grid | None, moving_grid: Grid | None) -> Displacement:
    """Read a field that SimpleITK reads as an image of vectors."""
    import SimpleITK as sitk

    check_before_itk(path)
    with quiet_itk():
        image = sitk.ReadImage(str(path))
    if image.GetNumberOfComponentsPerPixel() != 3 or image.GetDimension() != 3:
        raise UserError("an image without three components per voxel is no displacement field")
    vectors = flip_ras_lps(sitk.GetArrayViewFromImage(image).astype(np.float32))
    return Displacement.from_world(vectors.transpose(3, 2, 1, 0), simpleitk_grid(image))
