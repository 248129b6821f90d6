"""Transforms of other programs against their own readers, or the libraries that know them, to 0.01 mm."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from typer.testing import CliRunner

from anamorph.cli.main import app
from anamorph.errors import UserError
from anamorph.geometry import Grid
from anamorph.image.convert import place
from anamorph.registration.request import Request
from anamorph.testing.pairs import affine_of, rotation
from anamorph.transforms import Affine, Composite
from anamorph.transforms.files import m3z, read_transform, write_transform
from geometries import GRIDS, SHAPE, other_grid, points_inside, small_affine, smooth_field

CLOSE_MM = 0.01
LEFT = np.diag([-1.0, 1, 1])
FIXED = {
    "identity": GRIDS["identity"],
    "anisotropic": GRIDS["anisotropic"],
    "permuted": GRIDS["permuted"],
    "oblique": GRIDS["oblique"],
    "left-handed": Grid(SHAPE, affine_of(LEFT, (2, 1.5, 3), (17, -30, 55))),
    "left-handed oblique": Grid(SHAPE, affine_of(rotation((12, -9, 25)) @ LEFT, (1.1, 0.9, 2.5), (-40, 12, 90))),
}
PLUMB = ("identity", "anisotropic", "permuted", "left-handed")
fixed_grids = pytest.mark.parametrize("fixed", FIXED.values(), ids=FIXED)
moving_grids = pytest.mark.parametrize("hand", ["right", "left"])


def moving_of(fixed: Grid, hand: str) -> Grid:
    """A grid about the same centre, of another size and spacing, of one handedness."""
    grid = other_grid(fixed)
    if (np.linalg.det(grid.affine) > 0) == (hand == "right"):
        return grid
    affine = grid.affine.copy()
    affine[:3, 3] = grid.voxel_to_world([[grid.shape[0] - 1, 0, 0]])[0]
    affine[:3, 0] *= -1
    return Grid(grid.shape, affine)


def deforming(fixed: Grid) -> Composite:
    return Composite.of(smooth_field(fixed), small_affine(fixed))


def nifti(grid: Grid, values: np.ndarray | None = None) -> Any:
    image = nibabel.Nifti1Image(np.zeros(grid.shape, np.float32) if values is None else values, grid.affine)
    place(image, grid)
    return image


def close(ours: np.ndarray, theirs: np.ndarray) -> None:
    np.testing.assert_allclose(ours, theirs, atol=CLOSE_MM, rtol=0)


@fixed_grids
@moving_grids
def test_matrices_of_flirt_move_points_as_fsl_does(tmp_path: Path, fixed: Grid, hand: str) -> None:
    flirt = pytest.importorskip("fsl.transform.flirt")
    scans = pytest.importorskip("fsl.data.image")
    pytest.importorskip("nitransforms")
    moving, affine = moving_of(fixed, hand), small_affine(fixed)
    write_transform(affine, tmp_path / "a.mat", "fsl", fixed, moving)
    to_fixed = flirt.fromFlirt(
        np.loadtxt(tmp_path / "a.mat"),
        scans.Nifti(nifti(moving).header),
        scans.Nifti(nifti(fixed).header),
        "world",
        "world",
    )
    points = points_inside(fixed)
    close(affine.map_world(points), Affine(to_fixed).inverse().map_world(points))
    close(
        read_transform(tmp_path / "a.mat", grid=fixed, moving_grid=moving).map_world(points), affine.map_world(points)
    )


def applied_by_fsl(path: Path, fixed: Grid, moving: Grid, absolute: bool) -> np.ndarray:
    """Where applywarp looks in the moving scan for every fixed voxel, RAS mm, written down from its description."""

    def to_fsl(grid: Grid) -> np.ndarray:
        matrix = np.diag([*grid.spacing_mm, 1.0])
        if np.linalg.det(grid.affine) > 0:
            matrix[0] = [-grid.spacing_mm[0], 0, 0, (grid.shape[0] - 1) * grid.spacing_mm[0]]
        return matrix

    vectors = np.asarray(nibabel.load(path).dataobj, np.float64).reshape(-1, 3)
    voxels = np.indices(fixed.shape).reshape(3, -1).T
    own = voxels @ to_fsl(fixed)[:3, :3].T + to_fsl(fixed)[:3, 3]
    places = vectors if absolute else own + vectors
    back = moving.affine @ np.linalg.inv(to_fsl(moving))
    return places @ back[:3, :3].T + back[:3, 3]


@fixed_grids
@moving_grids
@pytest.mark.parametrize("kind", ["fsl-warp", "fsl-warp-absolute"])
def test_warps_of_fsl_are_written_and_read_as_applywarp_takes_them(
    tmp_path: Path, fixed: Grid, hand: str, kind: str
) -> None:
    pytest.importorskip("fsl.transform.fnirt")
    moving, transform = moving_of(fixed, hand), deforming(fixed)
    path = tmp_path / "w.nii.gz"
    write_transform(transform, path, kind, fixed, moving)
    expected = transform.map_world(fixed.voxel_to_world(np.indices(fixed.shape).reshape(3, -1).T))
    close(applied_by_fsl(path, fixed, moving, kind.endswith("absolute")), expected)
    again = read_transform(path, grid=fixed, moving_grid=moving)  # which kind it is is guessed
    close(again.map_world(points_inside(fixed)), transform.displacement_on(fixed).map_world(points_inside(fixed)))


def test_a_relative_warp_along_the_axes_is_that_of_nitransforms(tmp_path: Path) -> None:
    nonlinear = pytest.importorskip("nitransforms.nonlinear")
    pytest.importorskip("fsl.transform.fnirt")
    fixed, transform = GRIDS["identity"], smooth_field(GRIDS["identity"])
    write_transform(transform, tmp_path / "w.nii.gz", "fsl-warp", fixed, fixed)
    theirs = nonlinear.DenseFieldTransform.from_filename(tmp_path / "w.nii.gz", fmt="FSL")
    voxels = fixed.voxel_to_world(np.indices(fixed.shape).reshape(3, -1).T)
    close(theirs.map(voxels), transform.map_world(voxels))


def test_coefficients_of_fnirt_are_a_cubic_spline_after_the_matrix_in_their_header(tmp_path: Path) -> None:
    pytest.importorskip("fsl.transform.fnirt")
    fixed = FIXED["left-handed oblique"]
    moving, step = moving_of(fixed, "right"), 4
    shape = tuple(n // step + 4 for n in fixed.shape)
    rng = np.random.default_rng(0)
    knots = rng.normal(0, 2, (*shape, 3)).astype(np.float32)
    flirt = np.eye(4)
    flirt[:3, :3] = rotation((3, -2, 4))
    flirt[:3, 3] = 1, -2, 3
    image = nibabel.Nifti1Image(knots, np.eye(4))
    image.header.set_zooms((step, step, step, 1))
    image.set_sform(flirt, 1)
    image.header["intent_code"] = 2007
    image.header["intent_p1"], image.header["intent_p2"], image.header["intent_p3"] = fixed.spacing_mm
    nibabel.save(image, tmp_path / "coefficients.nii.gz")
    read = read_transform(tmp_path / "coefficients.nii.gz", grid=fixed, moving_grid=moving)

    voxel = np.array([7, 9, 6])
    scaled = voxel * fixed.spacing_mm  # a left-handed header is not reversed

    def weight(u: float) -> np.ndarray:
        return np.array([(1 - u) ** 3, 3 * u**3 - 6 * u**2 + 4, -3 * u**3 + 3 * u**2 + 3 * u + 1, u**3]) / 6

    first, (u, v, w) = voxel // step, voxel / step % 1
    box = knots[first[0] : first[0] + 4, first[1] : first[1] + 4, first[2] : first[2] + 4]
    moved = np.einsum("a,b,c,abcx->x", weight(u), weight(v), weight(w), box)
    place_fsl = (np.linalg.inv(flirt) @ [*scaled, 1])[:3] + moved
    place_fsl[0] = (moving.shape[0] - 1) * moving.spacing_mm[0] - place_fsl[0]
    expected = moving.voxel_to_world((place_fsl / moving.spacing_mm)[None])
    close(read.map_world(fixed.voxel_to_world(voxel[None])), expected)


@fixed_grids
@moving_grids
def test_lta_files_move_points_as_freesurfer_does(tmp_path: Path, fixed: Grid, hand: str) -> None:
    surfa = pytest.importorskip("surfa")
    pytest.importorskip("nitransforms")
    moving, affine = moving_of(fixed, hand), small_affine(fixed)
    write_transform(affine, tmp_path / "a.lta", "freesurfer", fixed, moving)
    theirs = surfa.load_affine(str(tmp_path / "a.lta"))
    points = points_inside(fixed)
    close(theirs.convert(space="world").inv().transform(points), affine.map_world(points))
    close(np.asarray(theirs.source.vox2world.matrix), moving.affine)
    close(np.asarray(theirs.target.vox2world.matrix), fixed.affine)
    in_voxels = theirs.convert(space="voxel")
    in_voxels.save(str(tmp_path / "vox.lta"))
    for name in ("a.lta", "vox.lta"):
        close(read_transform(tmp_path / name).map_world(points), affine.map_world(points))


def saved_morph(path: Path, places: np.ndarray, scan: Grid, atlas: Grid, spacing: int, kind: int) -> None:
    """A morph as GCAMwrite stores it."""
    header = np.zeros(1, m3z.HEADER)
    header["version"], header["nodes"], header["spacing"] = 1, places.shape[:3], spacing
    nodes = np.zeros(places.shape[:3], m3z.NODE)
    nodes["start"], nodes["place"] = 1, places
    nodes["start"][0, 0, 0] = nodes["place"][0, 0, 0] = 0  # no valid node
    geometry = np.zeros(2, m3z.GEOMETRY)
    for one, grid in zip(geometry, (scan, atlas), strict=True):
        one["valid"], one["size"], one["voxel"] = 1, grid.shape, grid.spacing_mm
        one["axes"] = grid.directions.T
        one["centre"] = grid.voxel_to_world(np.array(grid.shape)[None] / 2)[0]
    tags = [np.array(n, ">i4").tobytes() for n in (10, 11, kind)]
    with gzip.open(path, "wb") as file:
        file.write(header.tobytes() + nodes.tobytes() + tags[0] + geometry.tobytes() + tags[1] + tags[2])


@pytest.mark.parametrize("kind", [m3z.RAS, m3z.VOXELS])
@pytest.mark.parametrize("spacing", [1, 2])
def test_morphs_of_freesurfer_give_the_place_of_every_node(tmp_path: Path, kind: int, spacing: int) -> None:
    atlas = FIXED["left-handed oblique"]
    scan, transform = moving_of(atlas, "right"), deforming(atlas)
    shape = [n // spacing for n in atlas.shape]
    nodes = atlas.voxel_to_world(np.moveaxis(np.indices(shape), 0, -1).reshape(-1, 3) * spacing)
    mapped = transform.map_world(nodes)
    places = (mapped if kind == m3z.RAS else scan.world_to_voxel(mapped)).reshape(*shape, 3)
    saved_morph(tmp_path / "t.m3z", places, scan, atlas, spacing, kind)
    read = read_transform(tmp_path / "t.m3z")
    close(read.map_world(nodes[1:]), mapped[1:])
    first = read.map_world(nodes[:1]) - nodes[:1]  # moved as its neighbour
    assert np.linalg.norm(first - (mapped[1:2] - nodes[1:2])) < 3
    assert read.scan_grid is not None
    assert read.scan_grid.matches(atlas)


def test_a_morph_in_voxels_is_that_of_surfa(tmp_path: Path) -> None:
    surfa = pytest.importorskip("surfa")
    atlas = FIXED["oblique"]
    scan, transform = moving_of(atlas, "left"), deforming(atlas)
    nodes = atlas.voxel_to_world(np.moveaxis(np.indices(atlas.shape), 0, -1).reshape(-1, 3))
    places = scan.world_to_voxel(transform.map_world(nodes)).reshape(*atlas.shape, 3)
    saved_morph(tmp_path / "t.m3z", places, scan, atlas, 1, m3z.VOXELS)
    geometries = [surfa.ImageGeometry(grid.shape, vox2world=grid.affine) for grid in (scan, atlas)]
    warp = surfa.Warp(
        places.astype(np.float32), source=geometries[0], target=geometries[1], format=surfa.Warp.Format.abs_crs
    )
    ras = warp.convert(format=surfa.Warp.Format.abs_ras)
    theirs = np.asarray(ras.data).reshape(-1, 3)
    close(read_transform(tmp_path / "t.m3z").map_world(nodes[1:]), theirs[1:])


@pytest.mark.parametrize("name", [*PLUMB, "left-handed oblique"])
@moving_grids
def test_matrices_of_afni_are_those_of_nitransforms(tmp_path: Path, name: str, hand: str) -> None:
    fixed = FIXED[name]
    afni = pytest.importorskip("nitransforms.linear")
    moving, affine = moving_of(fixed, hand), small_affine(fixed)
    write_transform(affine, tmp_path / "a.aff12.1D", "afni", fixed, moving)
    theirs = afni.Affine.from_filename(
        tmp_path / "a.aff12.1D", fmt="afni", reference=nifti(fixed), moving=nifti(moving)
    )
    points = points_inside(fixed)
    close(theirs.map(points), affine.map_world(points))
    close(
        read_transform(tmp_path / "a.aff12.1D", grid=fixed, moving_grid=moving).map_world(points),
        affine.map_world(points),
    )


def test_a_scan_whose_axes_have_no_nearest_ones_is_no_scan_of_afni(tmp_path: Path) -> None:
    pytest.importorskip("nitransforms")
    with pytest.raises(UserError, match="so oblique"):
        write_transform(Affine.identity(), tmp_path / "a.1D", "afni", *[moving_of(FIXED["oblique"], "right")] * 2)


def test_a_matrix_of_afni_along_the_axes_maps_lps_to_lps(tmp_path: Path) -> None:
    pytest.importorskip("nitransforms")
    grid = GRIDS["anisotropic"]
    (tmp_path / "a.1D").write_text("1 0 0 5\n0 1 0 7\n0 0 1 -2\n")
    read = read_transform(tmp_path / "a.1D", grid=grid, moving_grid=grid)
    close(read.map_world(np.zeros((1, 3))), [[-5, -7, -2]])


@pytest.mark.parametrize("name", PLUMB)
def test_warps_of_afni_are_those_of_nitransforms(tmp_path: Path, name: str) -> None:
    nonlinear = pytest.importorskip("nitransforms.nonlinear")
    fixed = FIXED[name]
    transform = deforming(fixed)
    write_transform(transform, tmp_path / "w.nii.gz", "afni-warp", fixed)
    theirs = nonlinear.DenseFieldTransform.from_filename(tmp_path / "w.nii.gz", fmt="AFNI")
    voxels = fixed.voxel_to_world(np.indices(fixed.shape).reshape(3, -1).T)
    close(theirs.map(voxels), transform.map_world(voxels))
    close(read_transform(tmp_path / "w.nii.gz").map_world(voxels), transform.map_world(voxels))


def test_warps_of_afni_in_its_own_files(tmp_path: Path) -> None:
    """The attributes are those that 3dQwarp writes, as far as a reader needs them."""
    vectors = np.random.default_rng(0).normal(0, 2, (5, 4, 3, 3)).astype("<f4")  # LPS mm
    attributes = {
        "DATASET_DIMENSIONS": ("integer", "5 4 3 0 0"),
        "DATASET_RANK": ("integer", "3 3 0 0 0 0 0 0"),
        "BRICK_TYPES": ("integer", "3 3 3"),
        "BRICK_FLOAT_FACS": ("float", "0 0 0"),
        "ORIENT_SPECIFIC": ("integer", "0 3 4"),  # right to left, anterior to posterior, inferior to superior
        "ORIGIN": ("float", "-10 -20 30"),
        "DELTA": ("float", "2 1.5 3"),
        "IJK_TO_DICOM": ("float", "2 0 0 -10 0 1.5 0 -20 0 0 3 30"),
        "IJK_TO_DICOM_REAL": ("float", "2 0 0 -10 0 1.5 0 -20 0 0 3 30"),
        "SCENE_DATA": ("integer", "0 11 1 -999 -999 -999 -999 -999"),
        "TYPESTRING": ("string", "'3DIM_HEAD_FUNC~"),
        "BYTEORDER_STRING": ("string", "'LSB_FIRST~"),
        "BRICK_LABS": ("string", "'x_delta~y_delta~z_delta~"),
    }
    text = ""
    for name, (kind, value) in attributes.items():
        count = len(value) - 1 if kind == "string" else len(value.split())
        text += f"\ntype  = {kind}-attribute\nname  = {name}\ncount = {count}\n {value}\n"
    (tmp_path / "w+orig.HEAD").write_text(text)
    (tmp_path / "w+orig.BRIK").write_bytes(np.moveaxis(vectors, -1, 0).transpose(0, 3, 2, 1).tobytes())
    read = read_transform(tmp_path / "w+orig.HEAD")
    place_lps = np.array([[-10 + 2 * 3, -20 + 1.5 * 2, 30 + 3 * 1]])
    close(read.apply_points(place_lps, frame="lps"), place_lps + vectors[3, 2, 1])


@fixed_grids
@pytest.mark.parametrize("deforms", [False, True], ids=["affine", "field"])
def test_x5_files_are_those_of_nitransforms(tmp_path: Path, fixed: Grid, deforms: bool) -> None:
    linear = pytest.importorskip("nitransforms.linear")
    nonlinear = pytest.importorskip("nitransforms.nonlinear")
    transform = deforming(fixed) if deforms else small_affine(fixed)
    write_transform(transform, tmp_path / "a.x5", "x5", fixed)
    theirs = (nonlinear.DenseFieldTransform if deforms else linear.Affine).from_filename(tmp_path / "a.x5", fmt="X5")
    voxels = fixed.voxel_to_world(np.indices(fixed.shape).reshape(3, -1).T)
    close(theirs.map(voxels), transform.map_world(voxels))
    close(read_transform(tmp_path / "a.x5").map_world(voxels), transform.map_world(voxels))
    shutil.copy(tmp_path / "a.x5", tmp_path / "a.h5")  # the suffix of ITK's
    close(read_transform(tmp_path / "a.h5").map_world(voxels), transform.map_world(voxels))


def niftyreg(*arguments: str | Path) -> None:
    """Run ``reg_transform`` of NiftyReg, whose folder ``ANAMORPH_NIFTYREG`` names."""
    program = shutil.which("reg_transform", path=os.environ.get("ANAMORPH_NIFTYREG", os.environ.get("PATH")))
    if program is None:
        pytest.skip("needs NiftyReg")
    subprocess.run([program, *map(str, arguments)], check=True, capture_output=True)


@fixed_grids
@moving_grids
def test_transforms_of_niftyreg_are_those_of_the_program(tmp_path: Path, fixed: Grid, hand: str) -> None:
    nibabel.save(nifti(fixed), tmp_path / "fixed.nii.gz")
    affine, transform = small_affine(fixed), deforming(fixed)
    voxels = fixed.voxel_to_world(np.indices(fixed.shape).reshape(3, -1).T)
    write_transform(affine, tmp_path / "a.txt", "niftyreg-affine", fixed)
    write_transform(transform, tmp_path / "w.nii.gz", "niftyreg", fixed)
    for name, ours in (("a.txt", affine), ("w.nii.gz", transform)):
        niftyreg("-ref", tmp_path / "fixed.nii.gz", "-def", tmp_path / name, tmp_path / "places.nii.gz")
        places = np.asarray(nibabel.load(tmp_path / "places.nii.gz").dataobj).reshape(-1, 3)
        close(places, ours.map_world(voxels))
        close(read_transform(tmp_path / "places.nii.gz").map_world(voxels), ours.map_world(voxels))


def spline_grid(fixed: Grid, step: int = 5) -> tuple[Any, np.ndarray]:
    """Control points of a cubic spline as reg_f3d stores them, one before the first voxel, and their places."""
    affine = fixed.affine.copy()
    affine[:3, :3] *= step
    affine[:3, 3] -= affine[:3, :3].sum(axis=1)
    shape = tuple(-(-n // step) + 3 for n in fixed.shape)
    control = Grid(shape, affine)
    own = control.voxel_to_world(np.moveaxis(np.indices(shape), 0, -1).reshape(-1, 3)).reshape(*shape, 3)
    places = own + np.random.default_rng(0).normal(0, 2, own.shape)
    image = nifti(control, places[:, :, :, None].astype(np.float32))
    image.header.set_intent(1007, name="NREG_TRANS")
    image.header["intent_p1"] = 2
    return image, places


@fixed_grids
def test_spline_grids_of_niftyreg_are_those_of_the_program(tmp_path: Path, fixed: Grid) -> None:
    nibabel.save(nifti(fixed), tmp_path / "fixed.nii.gz")
    nibabel.save(spline_grid(fixed)[0], tmp_path / "spline.nii.gz")
    niftyreg("-ref", tmp_path / "fixed.nii.gz", "-def", tmp_path / "spline.nii.gz", tmp_path / "places.nii.gz")
    places = np.asarray(nibabel.load(tmp_path / "places.nii.gz").dataobj).reshape(-1, 3)
    voxels = fixed.voxel_to_world(np.indices(fixed.shape).reshape(3, -1).T)
    close(read_transform(tmp_path / "spline.nii.gz", grid=fixed).map_world(voxels), places)


def test_a_spline_grid_of_niftyreg_weighs_control_points_by_sixths(tmp_path: Path) -> None:
    fixed = GRIDS["oblique"]
    image, places = spline_grid(fixed)
    nibabel.save(image, tmp_path / "spline.nii.gz")
    read = read_transform(tmp_path / "spline.nii.gz", grid=fixed)
    sixths = np.array([1, 4, 1]) / 6  # at a control point
    expected = np.einsum("a,b,c,abcx->x", sixths, sixths, sixths, places[1:4, 1:4, 1:4])  # of voxel (5, 5, 5)
    close(read.map_world(fixed.voxel_to_world([[5, 5, 5]])), expected[None])
    with pytest.raises(UserError, match="give that too"):
        read_transform(tmp_path / "spline.nii.gz")


def test_a_bare_matrix_is_read_only_with_the_name_of_its_program(tmp_path: Path) -> None:
    pytest.importorskip("nitransforms")
    fixed = GRIDS["oblique"]
    (tmp_path / "a.txt").write_text("1 0 0 5\n0 1 0 7\n0 0 1 -2\n0 0 0 1\n")
    with pytest.raises(UserError, match="name it"):
        read_transform(tmp_path / "a.txt")
    read = read_transform(tmp_path / "a.txt", kind="niftyreg-affine")
    close(read.map_world(np.zeros((1, 3))), [[5, 7, -2]])
    other = read_transform(tmp_path / "a.txt", kind="fsl", grid=fixed, moving_grid=fixed)
    assert not np.allclose(other.map_world(np.zeros((1, 3))), [[5, 7, -2]], atol=1)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.mat", "1 0 0\n", "no matrix of FSL"),
        ("a.1D", "1 2 3\n", "no matrix of AFNI"),
        ("a.1D", "1 0 0 0 0 1 0 0 0 0 1 0\n" * 3, "3 matrices"),
        ("a.lta", "type = 1\n", "no LTA"),
        ("a.m3z", "x", "a.m3z"),
        ("a.x5", "x", "a.x5"),
        ("a.txt", '(Transform "WeightedCombinationTransform")\n', "a WeightedCombinationTransform of elastix"),
        ("a.txt", '(Transform "EulerTransform")\n', "without CenterOfRotationPoint"),
        ("a.txt", '(Transform "EulerTransform"\n', "is no parameter of elastix"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line(tmp_path: Path, name: str, content: str, message: str) -> None:
    pytest.importorskip("nitransforms")
    (tmp_path / name).write_text(content)
    grid = GRIDS["oblique"]
    with pytest.raises(UserError, match=message) as caught:
        read_transform(tmp_path / name, grid=grid, moving_grid=grid)
    assert "\n" not in str(caught.value)


def test_files_that_say_nothing_of_the_scans_need_them(tmp_path: Path) -> None:
    np.savetxt(tmp_path / "a.mat", np.eye(4))
    with pytest.raises(UserError, match="give the fixed and moving scan too"):
        read_transform(tmp_path / "a.mat")
    with pytest.raises(UserError, match="give the moving scan too"):
        write_transform(Affine.identity(), tmp_path / "b.mat", "fsl", GRIDS["oblique"])
    assert not (tmp_path / "b.mat").exists()
    with pytest.raises(UserError, match="obliqueness"):
        write_transform(Affine.identity(), tmp_path / "w.nii.gz", "afni-warp", GRIDS["oblique"])
    with pytest.raises(UserError, match="holds an affine only"):
        write_transform(deforming(GRIDS["oblique"]), tmp_path / "a.lta", "freesurfer", GRIDS["oblique"])


def test_the_command_converts_and_applies_with_the_scans_that_it_is_given(tmp_path: Path) -> None:
    pytest.importorskip("nitransforms")
    fixed = FIXED["left-handed oblique"]
    moving, affine = moving_of(fixed, "right"), small_affine(fixed)
    for name, grid in (("fixed", fixed), ("moving", moving)):
        nibabel.save(nifti(grid, np.random.default_rng(0).random(grid.shape, np.float32)), tmp_path / f"{name}.nii.gz")
    write_transform(affine, tmp_path / "a.tfm", "itk-tfm", fixed)
    scans = ["--fixed", str(tmp_path / "fixed.nii.gz"), "--moving", str(tmp_path / "moving.nii.gz")]
    run = CliRunner().invoke(
        app, ["convert", str(tmp_path / "a.tfm"), "--to", "fsl", "-o", str(tmp_path / "a.mat"), *scans]
    )
    assert run.exit_code == 0, run.output
    for name, kind in (("a.tfm", "itk"), ("a.mat", "fsl")):
        like = ["--to", str(tmp_path / "moving.nii.gz"), "--like", str(tmp_path / "fixed.nii.gz")]
        run = CliRunner().invoke(
            app, ["apply", str(tmp_path / name), *like, "--as", "image", "-o", str(tmp_path / f"{kind}.nii.gz")]
        )
        assert run.exit_code == 0, run.output
    warped = [np.asarray(nibabel.load(tmp_path / f"{name}.nii.gz").dataobj) for name in ("itk", "fsl")]
    np.testing.assert_allclose(*warped, atol=1e-3)
    assert warped[0].std() > 0.1


def test_a_registration_starts_from_the_matrix_of_another_program(tmp_path: Path) -> None:
    pytest.importorskip("nitransforms")
    fixed = FIXED["left-handed oblique"]
    moving, affine = moving_of(fixed, "right"), small_affine(fixed)
    scans = []
    for name, grid in (("fixed", fixed), ("moving", moving)):
        scans.append(tmp_path / f"{name}.nii.gz")
        nibabel.save(nifti(grid, np.indices(grid.shape).sum(0).astype(np.float32)), scans[-1])
    write_transform(affine, tmp_path / "flirt.mat", "fsl", fixed, moving)
    start = Request(*scans, init=tmp_path / "flirt.mat").read().pair.start
    assert start is not None
    close(start.map_world(points_inside(fixed)), affine.map_world(points_inside(fixed)))
