"""Headers that are wrong in a way the start can see: mirrored scans, lost orientations, and brains of another size."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, zoom
from scipy.spatial.transform import Rotation

from anamorph.geometry import Grid
from anamorph.image import Image
from anamorph.methods.linear_start import linear_start
from anamorph.methods.start.hypotheses import mirrored, reflection
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


@pytest.mark.parametrize("axis", [0, 2])
def test_a_mirrored_scan_is_reported_and_not_mirrored(axis):
    fixed = brain(masked=False)
    flipped = Image(np.ascontiguousarray(np.flip(fixed.data, axis + 1)), fixed.grid)
    found = start(fixed, flipped)
    assert np.linalg.det(found.transform.matrix[:3, :3]) > 0
    assert sum("mirrored along an axis the moving scan explains more" in one for one in found.warnings) == 1
    assert not [one for one in start(fixed, fixed).warnings if "mirrored" in one]


def test_an_orientation_that_a_header_has_lost_is_found():
    fixed = brain(masked=False)
    turn = Rotation.from_euler("xyz", [0, 0, 180], degrees=True).as_matrix()
    values = np.ascontiguousarray(fixed.data[:, ::-1, ::-1])  # as a header says that points left and front
    bare = Image(values, Grid(SHAPE, np.diag([3.0, 3.0, 3.0, 1.0])))
    found = start(fixed, bare)
    np.testing.assert_allclose(found.transform.matrix[:3, :3], turn, atol=0.02)
    assert found.steps[0].startswith("best of all translations after half a turn about an axis")
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
