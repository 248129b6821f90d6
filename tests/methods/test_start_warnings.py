"""Headers that are wrong in a way the start can see: mirrored scans, lost orientations, and brains of another size."""

from __future__ import annotations

import re

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, zoom
from scipy.spatial.transform import Rotation

from anamorph.features.mind_ssc import DescriptorSettings
from anamorph.geometry import Grid
from anamorph.image import Image
from anamorph.methods.linear_start import linear_start
from anamorph.methods.start.hypotheses import mirrored, reflection
from anamorph.methods.start.remarks import turn_warning
from anamorph.methods.start.volumes import ScanPair
from anamorph.methods.working_frame import Scan
from anamorph.transforms import Affine

SHAPE = (36, 40, 34)
AFFINE = np.array([[3.0, 0, 0, -70], [0, 3.0, 0, 25], [0, 0, 3.0, 40], [0, 0, 0, 1]])


def brain(masked=True, seed=3):
    """A lopsided blob with structure, on a ground of zeros or of noise."""
    rng = np.random.default_rng(seed)
    grid = np.moveaxis(np.indices(SHAPE), 0, -1) - np.array(SHAPE) / 2
    x, y, z = np.moveaxis(grid, -1, 0)
    inside = (x / 9) ** 2 + ((y - 0.3 * x) / 12) ** 2 + ((z + 0.02 * x * y) / 8) ** 2 < 1
    texture = gaussian_filter(rng.standard_normal(SHAPE), 2.0)
    values = 100 + 300 * texture / texture.std() * 0.3 + 4 * x
    ground = 0 if masked else 20 * gaussian_filter(rng.standard_normal(SHAPE), 1)
    return Image(np.where(inside, np.maximum(values, 5), ground).astype(np.float32), Grid(SHAPE, AFFINE))


def start(fixed, moving):
    return linear_start(Scan.prepare(fixed, None), Scan.prepare(moving, None), "auto")


def test_a_reflection_undoes_itself():
    normal = np.array([2.0, -1.0, 2.0]) / 3
    matrix = reflection(normal, np.array([4.0, 5.0, -6.0]))
    np.testing.assert_allclose(matrix @ matrix, np.eye(4), atol=1e-12)
    assert np.linalg.det(matrix) == pytest.approx(-1)
    np.testing.assert_allclose(matrix @ [4, 5, -6, 1], [4, 5, -6, 1])
    scan = Scan.prepare(brain(), None)
    np.testing.assert_array_equal(mirrored(scan, 1).channels[0, :, 0], scan.channels[0, :, -1])


@pytest.mark.parametrize(("axis", "told"), [(0, "i (left-right by its header)"), (2, "k (feet-head by its header)")])
def test_a_mirrored_scan_is_reported_and_not_mirrored(axis, told):
    fixed = brain(masked=False)
    flipped = Image(np.ascontiguousarray(np.flip(fixed.data, axis + 1)), fixed.grid, "flipped")
    found = start(fixed, flipped)
    assert np.linalg.det(found.transform.matrix[:3, :3]) > 0
    (warning,) = [one for one in found.warnings if "mirrored along" in one]
    gain = re.search(rf" mirrored along its voxel axis {re.escape(told)} explains (0\.\d\d) more; nothing", warning)
    assert gain is not None
    assert 0.05 <= float(gain[1]) < 1 - found.explained + 0.05
    assert not [one for one in start(fixed, fixed).warnings if "mirrored" in one]


def test_an_orientation_that_a_header_has_lost_is_found():
    fixed = brain(masked=False)
    turn = Rotation.from_euler("xyz", [0, 0, 180], degrees=True).as_matrix()
    values = np.ascontiguousarray(fixed.data[:, ::-1, ::-1])  # as a header says that points left and front
    bare = Image(values, Grid(SHAPE, np.diag([3.0, 3.0, 3.0, 1.0])))
    found = start(fixed, bare)
    np.testing.assert_allclose(found.transform.matrix[:3, :3], turn, atol=0.02)
    assert found.steps[0].startswith("found from best of all translations after half a turn about an axis")
    assert any("turned by 180 degrees against each other" in one for one in found.warnings)


@pytest.mark.parametrize("scale", [0.7, 1.35])
def test_a_turned_brain_of_another_size_is_found(scale):
    fixed = brain()
    values = zoom(fixed.data[0], scale, order=1)
    angle = Rotation.from_rotvec(np.deg2rad(110) * np.array([1, 2, -1]) / np.sqrt(6)).as_matrix()
    there = np.eye(4)
    there[:3, :3], there[:3, 3] = angle, (10, -20, 30)
    # zoom() keeps the first and the last voxel at the ends.
    steps = (np.array(SHAPE) - 1) / (np.array(values.shape) - 1)
    grid = Grid(values.shape, there @ AFFINE @ np.diag([*(steps * scale), 1.0]))
    found = start(fixed, Image(values[None], grid))
    about = Affine(AFFINE).matrix @ np.diag([scale, scale, scale, 1.0]) @ np.linalg.inv(AFFINE)
    inside = fixed.grid.voxel_to_world(np.argwhere(fixed.data[0] > 0)[::50])
    truth = Affine(there @ about).map_world(inside)
    error = np.linalg.norm(found.transform.map_world(inside) - truth, axis=1) / 3
    assert error.mean() < 0.3


@pytest.mark.parametrize("axis", [(1, 1, 0), (-1, 2, 2)])
def test_a_brain_turned_by_32_degrees_is_turned_back(axis):
    fixed = brain(seed=7)
    turn = Rotation.from_rotvec(np.deg2rad(32) * np.array(axis) / np.linalg.norm(axis)).as_matrix()
    middle = fixed.grid.voxel_to_world(np.argwhere(fixed.data[0] > 0).mean(axis=0))
    there = np.eye(4)
    there[:3, :3], there[:3, 3] = turn, middle - turn @ middle
    level = Affine(np.linalg.inv(there)).warp_image(fixed, fixed.grid)
    other = gaussian_filter(np.random.default_rng(9).standard_normal(SHAPE), 1.5)
    changed = np.where(level.data > 0, np.maximum(level.data + 30 * other / other.std(), 5), 0).astype(np.float32)
    found = start(fixed, level.with_data(changed))
    left, _, right = np.linalg.svd(found.transform.matrix[:3, :3])
    assert np.rad2deg(Rotation.from_matrix(left @ right @ turn.T).magnitude()) < 3


def pair_of_kind(kind, directions=None, masked=False):
    """Two scans, of a body on a ground of one value or of a part of one."""
    channels = np.random.default_rng(0).random((1, 8, 8, 8), np.float32)
    channels[:, :3] *= not masked
    scans = []
    for name, axes in zip(("here.nii", "there.nii"), directions or (np.eye(3), np.eye(3)), strict=True):
        affine = np.eye(4)
        affine[:3, :3] = axes
        scans.append(Scan(channels, np.ones((8, 8, 8), np.float32), Grid((8, 8, 8), affine), name=name))
    return ScanPair(*scans, kind, DescriptorSettings(1, 1, 0.0))


def turned(degrees, axis=(1, 2, 2)):
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(np.deg2rad(degrees) * np.array(axis) / np.linalg.norm(axis)).as_matrix()
    return Affine(matrix)


@pytest.mark.parametrize(
    ("kind", "masked", "degrees", "warns"),
    [
        ("ct", False, 19, False),
        ("ct", False, 21, True),
        ("scaled", True, 21, True),
        ("scaled", False, 34, False),
        ("scaled", False, 36, True),
    ],
)
def test_the_angle_of_the_map_tells_scans_that_are_turned(kind, masked, degrees, warns):
    assert pair_of_kind(kind, masked=masked).shows_whole_bodies == masked
    said = turn_warning(turned(degrees), pair_of_kind(kind, masked=masked))
    assert (said is not None) == warns
    assert said is None or f"turned by {degrees} degrees against each other by their headers" in said


def test_a_header_that_turns_a_brain_by_40_degrees_is_reported_whatever_the_search_began_with():
    fixed = brain(seed=7)
    middle = Affine.about(turned(40).matrix[:3, :3], fixed.grid.centre_mm)
    found = start(fixed, Image(fixed.data, Grid(SHAPE, middle.matrix @ AFFINE)))
    assert any("turned by 40 degrees against each other" in one for one in found.warnings)


@pytest.mark.parametrize(
    ("rotvec", "told"),
    [
        ((0, 127.3, -127.3), "an exchange of the voxel axes j and k of there.nii"),
        ((0, 0, 174), "within 6 degrees this is an inversion of the voxel axes i and j of there.nii"),
        ((70, 70, 70), "an exchange of the voxel axes i, j and k of there.nii"),
        ((0, 0, 70), None),
    ],
)
def test_a_rotation_close_to_an_exchange_of_axes_is_named(rotvec, told):
    said = turn_warning(turned(np.linalg.norm(rotvec), rotvec), pair_of_kind("ct"))
    assert (told is None and "axes" not in said) or said.endswith(told)


def test_axes_of_an_oblique_file_are_its_own():
    """The headers of both files lie aslant, and one of them names two axes wrongly: in the world no axis meets one."""
    oblique = Rotation.from_rotvec(np.deg2rad([25, 20, -30])).as_matrix()
    exchanged = oblique @ np.array([[0, 1, 0], [1, 0, 0], [0, 0, -1]])
    matrix = np.eye(4)
    matrix[:3, :3] = exchanged @ oblique.T
    said = turn_warning(Affine(matrix), pair_of_kind("ct", (oblique, exchanged)))
    assert "within 1 degrees this is an exchange of the voxel axes i and j of there.nii" in said
