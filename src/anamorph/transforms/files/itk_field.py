"""ITK displacement fields as images: NIfTI (X, Y, Z, 1, 3) with intent 1007, NRRD or MetaImage of 3 components.

Vectors are LPS mm, at points of the fixed scan; the grid need not be that of its voxels. ITK reads NIfTI intent 1007
(VECTOR) as LPS as it stands, and takes 1006 (DISPVECT) to be RAS (verified with ITK 5.4). A text in the header, which
other tools pass over, says whose points are mapped where, a note there the grid of the scan; a grid with shear, which
ITK cannot hold, is covered by an orthogonal one.
"""

from __future__ import annotations

import copy
import json
import math
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from anamorph.errors import UserError
from anamorph.geometry.frames import flip_ras_lps
from anamorph.geometry.grid import Grid
from anamorph.image.bounds import HARMLESS_VALUES
from anamorph.image.convert import nibabel_grid, place, simpleitk_grid
from anamorph.image.itk_files import check_before_itk
from anamorph.image.nibabel_files import check_rest, opened
from anamorph.image.quiet import quiet_itk
from anamorph.image.write import save_nifti
from anamorph.transforms.files import OtherFormat, TransformFormat
from anamorph.transforms.maps import Affine, Composite, Displacement, Roles, Transform

_TEXTS: dict[str, Roles] = {
    "anamorph: maps fixed points to moving points": ("fixed", "moving"),
    "anamorph: maps moving points to fixed points": ("moving", "fixed"),
}


def direction_text(transform: Transform) -> str:
    """The line of a transform; empty if it is not known to be of a registration."""
    return next((text for text, maps in _TEXTS.items() if maps == transform.maps), "")


def direction_in(text: str) -> Roles | None:
    """What such a line says; None if it is another one."""
    return _TEXTS.get(text)


def orthogonal_cover(grid: Grid) -> Grid:
    """The grid itself if its axes are orthogonal, else the nearest orthogonal one of its spacing that covers it."""
    if not grid.is_sheared:
        return grid
    axes = grid.nearest_orthogonal().directions
    corners = grid.corners_mm() @ axes
    low, high = corners.min(axis=0), corners.max(axis=0)
    shape = np.maximum(np.ceil((high - low) / grid.spacing_mm - 1e-6), 1).astype(int)
    affine = np.eye(4)
    affine[:3, :3] = axes * grid.spacing_mm
    first = (low + high) / 2 - (shape - 1) / 2 * grid.spacing_mm
    affine[:3, 3] = axes @ first
    return Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine)


NIFTI = (".nii.gz", ".nii")
INTENT_DISPVECT, INTENT_VECTOR = 1006, 1007
MOST_POINTS, FEW_POINTS = 4, 1 << 18
"""Per voxel of a scan, and in any case: the own grid of a field that has more is no gain."""
SCAN_GRID, FIELD_GRID = "anamorph: grid of the scan whose points are mapped", "grid of the field"


def write(transform: Transform, path: Path, fixed_grid: Grid, moving_grid: Grid | None = None) -> None:
    """Write one dense field as NIfTI; a field that knows the grid of its scan says so in the header."""
    import nibabel

    field = transform.displacement_on(orthogonal_cover(fixed_grid))
    vectors = field.vectors_mm()
    vectors[:2] *= -1  # RAS to LPS
    nifti = nibabel.Nifti1Image(vectors.transpose(1, 2, 3, 0)[:, :, :, None], field.grid.affine)
    nifti.header.set_intent(INTENT_VECTOR)
    nifti.header["descrip"] = direction_text(transform).encode()
    place(nifti, field.grid)
    if field.scan_grid is not None:
        nifti.header.extensions.append(_note(field, field.scan_grid))
    save_nifti(nifti, path)


def _note(field: Displacement, scan: Grid) -> Any:
    """A note of the grid of the scan, and of the field's own, which the header itself rounds to float32."""
    import nibabel

    grids = {SCAN_GRID: scan, FIELD_GRID: field.grid}
    told = {key: {"shape": grid.shape, "affine_ras_mm": grid.affine.tolist()} for key, grid in grids.items()}
    return nibabel.nifti1.Nifti1Extension("comment", json.dumps(told).encode())


def _noted(header: Any) -> tuple[Grid, Grid] | None:
    """The grids of a scan and a field that such a note speaks of; None if there is none, or one that no scan has."""
    for extension in header.extensions:
        with suppress(ValueError, KeyError, TypeError, UserError):
            told = json.loads(extension.get_content())
            scan, own = (Grid(tuple(told[key]["shape"]), told[key]["affine_ras_mm"]) for key in (SCAN_GRID, FIELD_GRID))
            return (scan, own) if math.prod(scan.shape) <= HARMLESS_VALUES else None
    return None


def on_own_grid(transform: Transform, grid: Grid, dense: bool = False) -> Displacement:
    """A transform as one field for the points of a scan, on the grid where it is defined.

    A field with affines after it is trilinear between the points of its own grid, and so is a field that holds them
    all: nothing is lost on that grid, however coarse, as long as it covers the scan. Affines alone need its corners.
    Anything else, and what lies on a sheared grid, which ITK cannot hold, is sampled at the voxels of the scan.

    Args:
        transform: maps points of the scan.
        grid: of the scan.
        dense: sample it at the voxels of the scan in any case.
    """
    own = None if dense else _own_grid(transform, grid)
    field = copy.copy(transform.displacement_on(grid if own is None else own))
    field.scan_grid = None if own is None else grid
    return field


def delivered(transform: Transform, grid: Grid) -> Displacement:
    """What a reader finds, to the last bit, in the file of :func:`on_own_grid`, which holds float32 millimetres."""
    field = on_own_grid(transform, grid)
    stored = Displacement.from_world(field.vectors_mm(), field.grid)
    stored.maps, stored.scan_grid = field.maps, field.scan_grid
    return stored


def _own_grid(transform: Transform, scan: Grid) -> Grid | None:
    """The grid on which one field is the same map as a transform, as far as a scan reaches; None if there is none."""
    first, *others = transform.parts if isinstance(transform, Composite) else (transform,)
    if scan.is_sheared or not all(isinstance(part, Affine) for part in others):
        return None
    if isinstance(first, Affine):
        return _corners(scan)
    if not isinstance(first, Displacement) or first.grid.is_sheared or first.grid == scan:
        return None
    own = first.grid.extended(scan.corners_mm(), reach_vox=0)
    return own if math.prod(own.shape) < max(MOST_POINTS * math.prod(scan.shape), FEW_POINTS) else None


def _corners(grid: Grid) -> Grid:
    """A grid of two points along each axis: the outer corners of a grid."""
    affine = grid.affine.copy()
    affine[:3, :3] *= grid.shape
    affine[:3, 3] = grid.voxel_to_world(np.full(3, -0.5))
    return Grid((2, 2, 2), affine)


def _from_nifti(image: Any, grid: Grid | None = None) -> Displacement:
    """The field of a 5D nibabel image, on the given grid where the header says the same but for rounding.

    Raises:
        UserError: the intent says the vectors are something else.
    """
    intent = int(image.header["intent_code"])
    if intent not in (INTENT_DISPVECT, INTENT_VECTOR):
        raise UserError(
            f"a 5D NIfTI with intent code {intent}, which ITK takes for no field; set it to 1007 (LPS vectors)"
        )
    vectors = np.asarray(image.dataobj, np.float32)[:, :, :, 0]
    if intent == INTENT_VECTOR:
        vectors = flip_ras_lps(vectors)
    i, j, k, _ = vectors.shape
    own = Grid((i, j, k), nibabel_grid(image, "field").affine)
    noted = _noted(image.header)
    known = [exact for exact in (grid, *([] if noted is None else noted[1:])) if exact is not None]
    field = Displacement.from_world(
        np.moveaxis(vectors, -1, 0), next((exact for exact in known if exact.matches(own)), own)
    )
    field.scan_grid = None if noted is None else noted[0]
    field.maps = direction_in(bytes(image.header["descrip"]).rstrip(b"\0").decode("utf-8", "replace"))
    return field


def read(path: Path, grid: Grid | None, moving_grid: Grid | None) -> Displacement:
    """Read a field as NIfTI, or any other that SimpleITK reads as an image of vectors."""
    if path.name.lower().endswith(NIFTI):
        with opened(path) as image:
            if len(image.shape) != 5 or image.shape[3:] != (1, 3):
                raise no_field(image.shape)
            field = _from_nifti(image, grid)
            check_rest(image)
            return field
    import SimpleITK as sitk

    check_before_itk(path)
    with quiet_itk():
        image = sitk.ReadImage(str(path))
    if image.GetNumberOfComponentsPerPixel() != 3 or image.GetDimension() != 3:
        raise UserError("an image without three components per voxel is no displacement field")
    vectors = flip_ras_lps(sitk.GetArrayViewFromImage(image).astype(np.float32))
    return Displacement.from_world(vectors.transpose(3, 2, 1, 0), simpleitk_grid(image))


def no_field(shape: tuple[int, ...]) -> OtherFormat:
    """What is wrong with a NIfTI file of another shape than those of fields."""
    return OtherFormat(
        f"holds an array of shape {shape}, no displacement field: that is (X, Y, Z, 1, 3) for ITK, "
        "(X, Y, Z, 3) for Learn2Reg"
    )


ITK = TransformFormat(
    "dense field, NIfTI vectors in LPS mm: ITK, ANTs, 3D Slicer",
    NIFTI,
    write=write,
    read=read,
    also_read=(".nrrd", ".mha", ".mhd"),
)
