"""Parameter files of elastix against transformix, and against ITK's own transforms where that is not installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from anamorph.errors import UserError
from anamorph.geometry import Grid
from anamorph.geometry.frames import flip_affine_ras_lps, flip_ras_lps
from anamorph.transforms import Affine, Composite, Transform
from anamorph.transforms.files import read_transform, write_transform
from geometries import GRIDS, points_inside, small_affine, smooth_field

CLOSE_MM = 0.01
GRID = GRIDS["oblique"]
POINTS_LPS = flip_ras_lps(points_inside(GRID, 40))
EULER = (0.1, -0.05, 0.2, 3.0, -2.0, 1.5)
CENTRE = (40.0, -12.0, 100.0)


def text_of(grid: Grid, prefix: str = "") -> str:
    lps = flip_affine_ras_lps(grid.affine)

    def numbers(values: np.ndarray) -> str:
        return " ".join(repr(float(value)) for value in values)

    return (
        f"({prefix}Size {' '.join(map(str, grid.shape))})\n({prefix}Spacing {numbers(grid.spacing_mm)})\n"
        f"({prefix}Index 0 0 0)\n({prefix}Origin {numbers(lps[:3, 3])})\n"
        f"({prefix}Direction {numbers((lps[:3, :3] / grid.spacing_mm).T.ravel())})\n"
    )


COMMON = (
    '(HowToCombineTransforms "Compose")\n(FixedImageDimension 3)\n(MovingImageDimension 3)\n'
    '(FixedInternalImagePixelType "float")\n(MovingInternalImagePixelType "float")\n(UseDirectionCosines "true")\n'
    + text_of(GRID)
)


def euler(folder: Path) -> Path:
    path = folder / "TransformParameters.0.txt"
    path.write_text(
        '(Transform "EulerTransform")\n(NumberOfParameters 6)\n'
        f"(TransformParameters {' '.join(map(str, EULER))})\n"
        f"(CenterOfRotationPoint {' '.join(map(str, CENTRE))})\n"
        '(ComputeZYX "false")\n(InitialTransformParametersFileName "NoInitialTransform")\n' + COMMON
    )
    return path


def spline(folder: Path, initial: str) -> tuple[Path, sitk.Transform]:
    affine = GRID.affine.copy()
    affine[:3, :3] *= 5
    affine[:3, 3] = GRID.voxel_to_world([[-8, -8, -8]])[0]
    control = Grid((9, 9, 8), affine)
    values = np.random.default_rng(0).normal(0, 2, 3 * 9 * 9 * 8)
    path = folder / "TransformParameters.1.txt"
    path.write_text(
        f'// made by a test\n(Transform "BSplineTransform")\n(NumberOfParameters {values.size})\n'
        f"(TransformParameters {' '.join(repr(float(v)) for v in values)})\n"
        f'(InitialTransformParametersFileName "{initial}")\n(BSplineTransformSplineOrder 3)\n'
        '(UseCyclicTransform "false")\n' + text_of(control, "Grid") + COMMON
    )
    lps = flip_affine_ras_lps(control.affine)
    theirs = sitk.BSplineTransform(3, 3)
    theirs.SetFixedParameters(
        [*control.shape, *lps[:3, 3], *control.spacing_mm, *(lps[:3, :3] / control.spacing_mm).ravel()]
    )
    theirs.SetParameters(values.tolist())
    return path, theirs


def by_itk(transform: sitk.Transform, points: np.ndarray) -> np.ndarray:
    return np.array([transform.TransformPoint(point) for point in points.tolist()])


def close(transform: Transform, points_lps: np.ndarray, expected_lps: np.ndarray) -> None:
    np.testing.assert_allclose(transform.apply_points(points_lps, frame="lps"), expected_lps, atol=CLOSE_MM, rtol=0)


def voxels_lps() -> np.ndarray:
    rng = np.random.default_rng(1)
    return flip_ras_lps(GRID.voxel_to_world(rng.integers(0, GRID.shape, (40, 3)).astype(float)))


def test_a_spline_after_a_rotation_is_the_one_of_itk(tmp_path: Path) -> None:
    rotation = sitk.Euler3DTransform()
    rotation.SetFixedParameters([*CENTRE, 0.0])
    rotation.SetParameters(EULER)
    first = euler(tmp_path)
    close(read_transform(first), POINTS_LPS, by_itk(rotation, POINTS_LPS))
    path, deforming = spline(tmp_path, str(first))
    both = sitk.CompositeTransform([deforming, rotation])
    points = voxels_lps()
    close(read_transform(path), points, by_itk(both, points))
    moved = tmp_path / "moved"  # to another computer: the initial file is looked for beside the other one
    moved.mkdir()
    first.rename(moved / first.name)
    close(read_transform(path.rename(moved / path.name), grid=GRID), points, by_itk(both, points))


@pytest.mark.parametrize("deforms", [False, True], ids=["affine", "field"])
def test_written_files_read_back(tmp_path: Path, deforms: bool) -> None:
    transform = Composite.of(smooth_field(GRID), small_affine(GRID)) if deforms else small_affine(GRID)
    write_transform(transform, tmp_path / "t.txt", "elastix", GRID)
    close(read_transform(tmp_path / "t.txt"), POINTS_LPS, transform.apply_points(POINTS_LPS, frame="lps"))
    assert isinstance(read_transform(tmp_path / "t.txt"), Affine) != deforms


@pytest.mark.parametrize("what", ["euler", "spline", "affine", "field"])
def test_points_go_where_transformix_puts_them(tmp_path: Path, what: str) -> None:
    itk = pytest.importorskip("itk")
    if not hasattr(itk, "transformix_filter"):
        pytest.skip("needs itk-elastix")
    if what in ("euler", "spline"):
        path = euler(tmp_path)
        path = spline(tmp_path, str(path))[0] if what == "spline" else path
    else:
        path = tmp_path / "t.txt"
        transform = Composite.of(smooth_field(GRID), small_affine(GRID)) if what == "field" else small_affine(GRID)
        write_transform(transform, path, "elastix", GRID)
    points = voxels_lps()
    (tmp_path / "points.txt").write_text(f"point\n{len(points)}\n" + "\n".join(" ".join(map(str, p)) for p in points))
    parameters = itk.ParameterObject.New()
    files = [str(euler(tmp_path)), str(path)] if what == "spline" else [str(path)]
    for file in files:
        parameters.AddParameterFile(file)
    scan = itk.image_from_array(np.zeros(GRID.shape[::-1], np.float32))
    lps = flip_affine_ras_lps(GRID.affine)
    scan.SetOrigin(lps[:3, 3].tolist())
    scan.SetSpacing(GRID.spacing_mm.tolist())
    scan.SetDirection(itk.matrix_from_array(np.ascontiguousarray(lps[:3, :3] / GRID.spacing_mm)))
    itk.transformix_filter(
        scan, parameters, fixed_point_set_file_name=str(tmp_path / "points.txt"), output_directory=str(tmp_path)
    )
    lines = (tmp_path / "outputpoints.txt").read_text().splitlines()
    theirs = np.array([line.split("OutputPoint = [")[1].split("]")[0].split() for line in lines], float)
    close(read_transform(path), points, theirs)
    assert np.linalg.norm(theirs - points, axis=1).min() > 0.05


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("Compose", "Add"), "only Compose"),
        (("TransformParameters.0.txt", "TransformParameters.9.txt"), "is missing"),
        (("TransformParameters.0.txt", "TransformParameters.1.txt"), "name itself"),
        (("(GridSize 9 9 8)", "(GridSize 9 9 9)"), "is it complete"),
    ],
)
def test_what_is_not_read_is_said(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    path, _ = spline(tmp_path, str(euler(tmp_path)))
    path.write_text(path.read_text().replace(*change))
    with pytest.raises(UserError, match=message):
        read_transform(path)
