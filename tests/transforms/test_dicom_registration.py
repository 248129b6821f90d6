"""Registrations of DICOM say where a point goes, by the equations of the standard and in both directions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from pydicom import Dataset, dcmread

from anamorph.errors import UserError
from anamorph.geometry.frames import flip_map_ras_lps
from anamorph.geometry.grid import Grid
from anamorph.image.dicom.source import read_source
from anamorph.image.read import read_image
from anamorph.transforms.files import read_transform, write_transform
from anamorph.transforms.maps import Affine, Composite, Displacement, Transform
from dicom_files import UID, item, ramp, save
from geometries import rotation
from radiotherapy_files import ct_series, faults

FRAMES = UID + "55", UID + "66"


def scans(folder: Path, angles: tuple[float, float, float] = (0, 0, 0)) -> tuple[str, str]:
    turned = rotation(angles)
    ct_series(folder / "fixed", ramp(20, 30, 36), orientation=(*turned[:, 0], *turned[:, 1]), frame=FRAMES[0])
    ct_series(folder / "moving", ramp(12, 20, 24), series="8", frame=FRAMES[1], spacing_mm=(3.0, 3.0, 6.0))
    return str(folder / "fixed"), str(folder / "moving")


def smooth_field(grid: Grid, coarse: int = 4) -> Displacement:
    """Random vectors of up to some mm at every few voxels of a grid."""
    own = grid.thinned((coarse, coarse, coarse))
    return Displacement(np.random.default_rng(1).normal(0, 0.4, (3, *own.shape)), own)


def points_in(grid: Grid, count: int = 200) -> np.ndarray:
    voxels = np.random.default_rng(2).uniform(0.5, np.array(grid.shape) - 1.5, (count, 3))
    return grid.voxel_to_world(voxels)


def where_it_says(path: Path, lps: np.ndarray) -> np.ndarray:
    """Source positions of registered ones by equation C.20.3.1.1, with the vectors read by SimpleITK."""
    (entry,) = [
        one for one in dcmread(path).DeformableRegistrationSequence if "DeformableRegistrationGridSequence" in one
    ]
    (grid,) = entry.DeformableRegistrationGridSequence
    vectors = np.frombuffer(grid.VectorGridData, "<f4").reshape(*reversed([int(n) for n in grid.GridDimensions]), 3)
    image = sitk.GetImageFromArray(vectors.astype(float), isVector=True)
    rows, columns = np.reshape([float(v) for v in grid.ImageOrientationPatient], (2, 3))
    image.SetDirection(np.column_stack([rows, columns, np.cross(rows, columns)]).ravel().tolist())
    image.SetOrigin([float(v) for v in grid.ImagePositionPatient])
    image.SetSpacing([float(v) for v in grid.GridResolution])
    offsets = sitk.DisplacementFieldTransform(image)
    before, after = (
        np.reshape([float(v) for v in entry[f"{when}DeformationMatrixRegistrationSequence"][0]
                    .FrameOfReferenceTransformationMatrix], (4, 4))
        for when in ("Pre", "Post")
    )  # fmt: skip
    vector = np.array([offsets.TransformPoint(p) for p in lps.tolist()]) - lps
    first = lps @ before[:3, :3].T + before[:3, 3]
    return (first + vector) @ after[:3, :3].T + after[:3, 3]


@pytest.mark.parametrize("angles", [(0, 0, 0), (15, -20, 30)])
@pytest.mark.parametrize("turned", [False, True])
def test_a_deformation_maps_registered_points_to_source_points(
    tmp_path: Path, angles: tuple[float, float, float], turned: bool
) -> None:
    sources = scans(tmp_path, angles)
    grid = read_image(sources[0]).grid
    field = smooth_field(grid)
    if turned:  # a field on left-handed axes
        affine = field.grid.affine.copy()
        affine[:3, 3] = field.grid.voxel_to_world([field.grid.shape[0] - 1, 0, 0])
        affine[:3, 0] *= -1
        field = Displacement.from_world(field.vectors_mm()[:, ::-1], Grid(field.grid.shape, affine))
    shift = np.eye(4)
    shift[:3, :3], shift[:3, 3] = rotation((3, 2, -4)) * 1.05, (12.0, -7.0, 30.0)
    transform = Composite.of(field, Affine(shift))
    path = tmp_path / "reg.dcm"
    write_transform(transform, path, "dicom", grid, scans=sources)
    places = points_in(grid)
    expected = transform.map_world(places)
    flipped = places * [-1, -1, 1]
    assert np.abs(where_it_says(path, flipped) * [-1, -1, 1] - expected).max() < 0.01
    read = read_transform(path)
    assert read.maps == ("fixed", "moving")
    assert np.abs(read.map_world(places) - expected).max() < 0.01


def test_matrices_before_and_after_the_deformation_are_applied(tmp_path: Path) -> None:
    sources = scans(tmp_path)
    grid = read_image(sources[0]).grid
    path = tmp_path / "reg.dcm"
    write_transform(smooth_field(grid), path, "dicom", grid, scans=sources)
    dataset = dcmread(path)
    entry = dataset.DeformableRegistrationSequence[1]
    for when, angles in (("Pre", (5, 0, 3)), ("Post", (0, -4, 8))):
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = rotation(angles), np.add(angles, 3.5)
        entry[f"{when}DeformationMatrixRegistrationSequence"][0].FrameOfReferenceTransformationMatrix = [
            f"{v:.10f}" for v in matrix.ravel()
        ]
    dataset.save_as(path)
    places = points_in(grid)
    found = read_transform(path).map_world(places) * [-1, -1, 1]
    assert np.abs(found - where_it_says(path, places * [-1, -1, 1])).max() < 0.01


def test_undefined_vectors_take_those_beside_them(tmp_path: Path) -> None:
    sources = scans(tmp_path)
    grid = read_image(sources[0]).grid
    path = tmp_path / "reg.dcm"
    write_transform(Affine.translation([3.0, 2, 1]).displacement_on(grid), path, "dicom", grid, scans=sources)
    dataset = dcmread(path)
    entry = dataset.DeformableRegistrationSequence[1].DeformableRegistrationGridSequence[0]
    vectors = np.frombuffer(entry.VectorGridData, "<f4").copy()
    vectors[: len(vectors) // 3] = np.nan
    entry.VectorGridData = vectors.tobytes()
    dataset.save_as(path)
    places = points_in(grid)
    assert np.abs(read_transform(path).map_world(places) - places - [3.0, 2, 1]).max() < 1e-4


def test_a_matrix_maps_source_points_to_registered_ones(tmp_path: Path) -> None:
    sources = scans(tmp_path, (15, -20, 30))
    grid = read_image(sources[0]).grid
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation((10, 20, -30)), (100.0, -50.0, 7.0)
    transform = Affine(matrix)
    path = tmp_path / "reg.dcm"
    write_transform(transform, path, "dicom", grid, scans=sources)
    dataset = dcmread(path)
    assert dataset.FrameOfReferenceUID == FRAMES[0]
    fixed, moving = dataset.RegistrationSequence
    assert (fixed.FrameOfReferenceUID, moving.FrameOfReferenceUID) == FRAMES
    (entry,) = moving.MatrixRegistrationSequence[0].MatrixSequence
    assert entry.FrameOfReferenceTransformationMatrixType == "RIGID"
    said = np.reshape([float(v) for v in entry.FrameOfReferenceTransformationMatrix], (4, 4))
    places = points_in(grid)
    there = transform.map_world(places) * [-1, -1, 1]
    assert np.abs((there @ said[:3, :3].T + said[:3, 3]) * [-1, -1, 1] - places).max() < 0.01
    assert np.abs(read_transform(path).map_world(places) - transform.map_world(places)).max() < 0.01


def test_several_matrices_are_multiplied_in_their_order(tmp_path: Path) -> None:
    sources = scans(tmp_path)
    path = tmp_path / "reg.dcm"
    write_transform(Affine.identity(), path, "dicom", read_image(sources[0]).grid, scans=sources)
    dataset = dcmread(path)
    one, other = np.eye(4), np.eye(4)
    one[:3, :3], other[:3, 3] = rotation((0, 0, 90)), (10.0, 0.0, 0.0)
    matrices = ([f"{v:.8f}" for v in matrix.ravel()] for matrix in (one, other))
    kind = "RIGID"
    said = [
        item(FrameOfReferenceTransformationMatrixType=kind, FrameOfReferenceTransformationMatrix=values)[0]
        for values in matrices
    ]
    dataset.RegistrationSequence[1].MatrixRegistrationSequence[0].MatrixSequence = said
    dataset.save_as(path)
    expected = Affine(flip_map_ras_lps(one @ other)).inverse()
    np.testing.assert_allclose(read_transform(path).matrix, expected.matrix, atol=1e-6)


@pytest.mark.parametrize("deforms", [False, True])
def test_references_hold_and_the_object_is_sound(tmp_path: Path, deforms: bool) -> None:
    sources = scans(tmp_path)
    grid = read_image(sources[0]).grid
    transform: Transform = smooth_field(grid) if deforms else Affine.translation([1.0, 2, 3])
    path = tmp_path / "reg.dcm"
    write_transform(transform, path, "dicom", grid, scans=sources)
    dataset = dcmread(path)
    assert dataset.Modality == "REG"
    assert dataset.SOPClassUID == "1.2.840.10008.5.1.4.1.1.66." + ("3" if deforms else "1")
    for role, source in zip(("fixed", "moving"), sources, strict=True):
        read = read_source(source)
        listed = [series for series in dataset.ReferencedSeriesSequence if series.SeriesInstanceUID == read.series_uid]
        named = {one.ReferencedSOPInstanceUID for one in listed[0].ReferencedInstanceSequence}
        assert named == {uid for _, uid in read.instances()}, role
    assert dataset.PatientName == "Phantom^"
    assert dataset.StudyInstanceUID == UID + "1"
    assert faults(path) == []


def test_what_is_no_registration_of_a_pair_is_refused(tmp_path: Path) -> None:
    sources = scans(tmp_path)
    grid = read_image(sources[0]).grid
    path = tmp_path / "reg.dcm"
    with pytest.raises(UserError, match="the moving scan is no DICOM"):
        write_transform(Affine.identity(), path, "dicom", grid, scans=(sources[0], "scan.nii.gz"))
    assert not path.exists()
    with pytest.raises(UserError, match="no registration"):
        read_transform(next(Path(sources[0]).glob("*.dcm")))
    write_transform(smooth_field(grid), path, "dicom", grid, scans=sources)

    def refused(change: Any) -> str:
        dataset = dcmread(path)
        change(dataset)
        other = save(dataset, tmp_path / "other.dcm")
        with pytest.raises(UserError) as caught:
            read_transform(other)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    def twice(dataset: Dataset) -> None:
        dataset.DeformableRegistrationSequence.append(dataset.DeformableRegistrationSequence[1])

    def short(dataset: Dataset) -> None:
        vectors = dataset.DeformableRegistrationSequence[1].DeformableRegistrationGridSequence[0]
        vectors.VectorGridData = vectors.VectorGridData[:-8]

    assert "holds 2 grids of vectors" in refused(twice)
    assert "numbers for a grid of" in refused(short)
