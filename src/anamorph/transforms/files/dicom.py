"""DICOM's Spatial Registration (a matrix) and Deformable Spatial Registration (a grid of vectors) objects.

The *registered* frame of reference is that of the fixed scan. A matrix maps points of the moving scan to the fixed one
(PS3.3 C.20.2.1.1); a deformation maps points ``x`` of the fixed scan to the moving one as ``post (pre x + v(x))``, with
``v`` trilinear between the points of the grid (C.20.3.1.1). All is LPS mm.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from anamorph.errors import UserError
from anamorph.geometry.frames import flip_affine_ras_lps, flip_map_ras_lps, flip_ras_lps
from anamorph.geometry.grid import Grid
from anamorph.image.dicom.frames import numbers, text
from anamorph.image.dicom.headers import is_dicom, read_whole
from anamorph.image.dicom.source import (
    DicomSource,
    NewSeries,
    code,
    new_object,
    new_series,
    read_source,
    refer_to,
    reference,
    save,
    sequence_item,
)
from anamorph.image.dicom.write_scan import decimal
from anamorph.transforms.files import OtherFormat, TransformFormat
from anamorph.transforms.files.itk_field import on_own_grid, orthogonal_cover
from anamorph.transforms.maps import Affine, Composite, Displacement, Transform

SPATIAL = "1.2.840.10008.5.1.4.1.1.66.1"
DEFORMABLE = "1.2.840.10008.5.1.4.1.1.66.3"
_RIGID = 1e-6
_IMAGE_CONTENT = ("125024", "DCM", "Image Content-based Alignment")


def write_registration(
    transform: Transform, path: Path, fixed: DicomSource, moving: DicomSource, series: NewSeries
) -> Path:
    """Write a transform as a registration of DICOM, with a matrix if it is affine, else with a grid of vectors.

    Args:
        transform: maps points of the fixed scan to points of the moving one.
        path: of the file.
        fixed: the scan whose frame of reference is the registered one.
        moving: the scan whose images are brought there.
        series: that is written.
    """
    deforms = not isinstance(transform, Affine)
    new = new_object(fixed, DEFORMABLE if deforms else SPATIAL, "REG", series)
    new.ContentLabel, new.ContentDescription = "REGISTRATION", series.description[:64]
    new.ContentCreatorName = ""
    refer_to(new, (fixed, moving))
    if deforms:
        kept = sequence_item(
            SourceFrameOfReferenceUID=fixed.frame_uid,
            ReferencedImageSequence=_images(fixed),
            RegistrationTypeCodeSequence=[],
        )
        new.DeformableRegistrationSequence = [kept, _deformation(transform, fixed, moving)]
    else:
        assert isinstance(transform, Affine)
        back = flip_map_ras_lps(transform.inverse().matrix)
        new.RegistrationSequence = [_matrix_item(fixed, np.eye(4)), _matrix_item(moving, back)]
    return save(new, path)


def _images(source: DicomSource) -> list[Any]:
    return [reference(*one) for one in source.instances()]


def _matrix_item(source: DicomSource, matrix: np.ndarray) -> Any:
    linear = matrix[:3, :3]
    rigid = np.abs(linear.T @ linear - np.eye(3)).max() < _RIGID and np.linalg.det(linear) > 0
    entry = sequence_item(
        FrameOfReferenceTransformationMatrixType="RIGID" if rigid else "AFFINE",
        FrameOfReferenceTransformationMatrix=[decimal(value) for value in matrix.ravel()],
    )
    made = sequence_item(MatrixSequence=[entry], RegistrationTypeCodeSequence=[code(*_IMAGE_CONTENT)])
    return sequence_item(
        FrameOfReferenceUID=source.frame_uid, ReferencedImageSequence=_images(source), MatrixRegistrationSequence=[made]
    )


def _deformation(transform: Transform, fixed: DicomSource, moving: DicomSource) -> Any:
    own = on_own_grid(transform, fixed.grid)
    field = _right_handed(own.displacement_on(orthogonal_cover(own.grid)))
    grid = field.grid
    directions = flip_ras_lps(grid.directions.T)
    vectors = flip_ras_lps(field.vectors_mm().transpose(3, 2, 1, 0))
    grid_item = sequence_item(
        ImageOrientationPatient=[decimal(value) for value in (*directions[0], *directions[1])],
        ImagePositionPatient=[decimal(value) for value in flip_ras_lps(grid.origin_mm)],
        GridDimensions=list(grid.shape),
        GridResolution=grid.spacing_mm.tolist(),
        VectorGridData=np.ascontiguousarray(vectors, "<f4").tobytes(),
    )
    return sequence_item(
        SourceFrameOfReferenceUID=moving.frame_uid,
        ReferencedImageSequence=_images(moving),
        RegistrationTypeCodeSequence=[code(*_IMAGE_CONTENT)],
        # Readers of planning systems look for both matrices.
        PreDeformationMatrixRegistrationSequence=[_identity()],
        PostDeformationMatrixRegistrationSequence=[_identity()],
        DeformableRegistrationGridSequence=[grid_item],
    )


def _identity() -> Any:
    matrix = [decimal(value) for value in np.eye(4).ravel()]
    return sequence_item(FrameOfReferenceTransformationMatrixType="RIGID", FrameOfReferenceTransformationMatrix=matrix)


def _right_handed(field: Displacement) -> Displacement:
    """The same field on a grid whose third axis is the cross product of the others, as DICOM takes it to be."""
    if np.linalg.det(field.grid.directions) > 0:
        return field
    affine = field.grid.affine.copy()
    affine[:3, 3] = field.grid.voxel_to_world(np.array([0, 0, field.grid.shape[2] - 1]))
    affine[:3, 2] *= -1
    return Displacement.from_world(field.vectors_mm()[..., ::-1], Grid(field.grid.shape, affine))


def read(path: Path, grid: Grid | None, moving_grid: Grid | None = None) -> Transform:
    """Read a registration as a map of points of the registered frame of reference, which is the fixed scan's.

    Raises:
        UserError: it is no registration, or registers several frames of reference.
    """
    if not is_dicom(path):
        raise OtherFormat("no DICOM file")
    dataset = read_whole(path)
    sop_class = text(dataset, "SOPClassUID")
    if sop_class == SPATIAL:
        return _read_matrix(dataset)
    if sop_class == DEFORMABLE:
        return _read_deformation(dataset)
    raise UserError("no registration (SOP class 66.1 or 66.3); name the REG file")


def _read_matrix(dataset: Any) -> Affine:
    """The map of registered points to points of the one other frame of reference."""
    registered = text(dataset, "FrameOfReferenceUID")
    maps = [(text(item, "FrameOfReferenceUID"), _matrices(item)) for item in dataset.RegistrationSequence]
    others = [one for one in maps if one[0] != registered] or maps[-1:]
    if len(others) != 1:
        raise UserError(f"registers {len(others)} frames of reference to one; export the registration of a pair")
    return Affine(flip_map_ras_lps(others[0][1])).inverse().between("fixed", "moving")


def _matrices(item: Any) -> np.ndarray:
    """The product of the matrices of an item, in their order (PS3.3, equation C.20.2-2)."""
    whole = np.eye(4)
    for registration in item.MatrixRegistrationSequence:
        for one in registration.MatrixSequence:
            whole = whole @ _matrix(one)
    return whole


def _matrix(item: Any) -> np.ndarray:
    return np.reshape(numbers(item, "FrameOfReferenceTransformationMatrix"), (4, 4))


def _read_deformation(dataset: Any) -> Transform:
    """The map of registered points to points of the one other frame of reference."""
    items = [one for one in dataset.DeformableRegistrationSequence if one.get("DeformableRegistrationGridSequence")]
    if len(items) != 1:
        raise UserError(f"holds {len(items)} grids of vectors; export the registration of a pair")
    (item,) = items
    before, after = (
        Affine(flip_map_ras_lps(_matrix(item[f"{when}DeformationMatrixRegistrationSequence"][0])))
        if item.get(f"{when}DeformationMatrixRegistrationSequence")
        else Affine.identity()
        for when in ("Pre", "Post")
    )
    field = _field(item.DeformableRegistrationGridSequence[0])
    # pre x + v = pre (x + v') with v' = pre^-1 v, and so the matrices hold beyond the grid too.
    linear = np.linalg.inv(before.matrix[:3, :3])
    turned = np.tensordot(linear, field.vectors_mm().astype(np.float64), 1)
    parts = (Displacement.from_world(turned, field.grid), Affine(after.matrix @ before.matrix))
    return Composite(parts).between("fixed", "moving")


def _field(item: Any) -> Displacement:
    """The vectors of a grid; points where they are undefined take those of the nearest one."""
    i, j, k = (int(n) for n in item.GridDimensions)
    rows, columns = np.reshape(numbers(item, "ImageOrientationPatient"), (2, 3))
    affine = np.eye(4)
    affine[:3, :3] = np.column_stack([rows, columns, np.cross(rows, columns)]) * numbers(item, "GridResolution")
    affine[:3, 3] = numbers(item, "ImagePositionPatient")
    data = np.frombuffer(item.VectorGridData, "<f4")
    if data.size != 3 * i * j * k:
        raise UserError(f"holds {data.size} numbers for a grid of {i} x {j} x {k} vectors; export it again")
    vectors = flip_ras_lps(data.reshape(k, j, i, 3).transpose(2, 1, 0, 3))
    undefined = np.isnan(vectors).any(axis=-1)
    if undefined.all():
        raise UserError("all vectors are undefined; export it again")
    if undefined.any():
        from scipy.ndimage import distance_transform_edt

        nearest = distance_transform_edt(undefined, return_distances=False, return_indices=True)
        vectors = vectors[tuple(nearest)]
    return Displacement.from_world(np.moveaxis(vectors, -1, 0), Grid((i, j, k), flip_affine_ras_lps(affine)))


def write(
    transform: Transform,
    path: Path,
    fixed_grid: Grid,
    moving_grid: Grid | None = None,
    scans: tuple[object, object] = (None, None),
) -> None:
    """Write a registration between two scans of DICOM.

    Raises:
        UserError: the scans are not given, or no DICOM.
    """
    fixed, moving = (read_source(scan, f"{role} scan") for scan, role in zip(scans, ("fixed", "moving"), strict=True))
    write_registration(transform, path, fixed, moving, new_series(1, "Registration by anamorph"))


DICOM = TransformFormat(
    "DICOM registration (REG) between two DICOM scans: planning systems, 3D Slicer",
    (".dcm",),
    write=write,
    read=read,
    names_scans=True,
)
