from __future__ import annotations

import numpy as np
import pytest

from anamorph.geometry.grid import Grid
from anamorph.image.image import Labels
from anamorph.image.pieces import Piece, pieces_of
from anamorph.transforms.affine import fit_linear
from anamorph.transforms.bodies import Held, bodies_of, overlap_percent
from anamorph.transforms.fields import exponential
from anamorph.transforms.files.itk_field import delivered
from anamorph.transforms.folding import folded_cells
from anamorph.transforms.maps import Affine, Composite, Displacement, Transform
from anamorph.transforms.piece_change import moved_volume_mm3, rigid_deviation_mm, volume_change_percent
from anamorph.transforms.projection import Projected, project

HERE = Grid((48, 40, 44), np.diag([-2.0, -2.0, 2.0, 1.0]))
THERE = Grid(
    (40, 40, 40),
    np.diag([2.2, 2.2, 2.4, 1.0]) @ np.array([[1, 0, 0, -45], [0, 1, 0, -38], [0, 0, 1, 2], [0, 0, 0, 1.0]]),
)
START = Affine(np.array([[1.08, 0.1, 0, 3], [-0.1, 1.05, 0, -2], [0, 0, 1.1, 1], [0, 0, 0, 1.0]]))
FREE_MM = 8.0


def smooth_pair(seed: int = 0) -> tuple[Transform, Transform]:
    """A map that bends and scales, on a coarse field, and its inverse, on another."""
    from scipy.ndimage import gaussian_filter

    control = Grid((13, 11, 12), HERE.pooled((4, 4, 4)).affine)
    noise = np.random.default_rng(seed).standard_normal((3, *control.shape))
    velocity = np.stack([gaussian_filter(part, 2, mode="nearest") for part in noise]).astype(np.float32)
    velocity *= np.float32(FREE_MM / 8 / np.abs(velocity).max())
    onward = Composite.of(Displacement(exponential(velocity), control), START)
    from anamorph.transforms.inversion import invert

    around = invert(Composite.of(START.inverse(), onward), THERE.resampled(4.0)).transform
    return onward, Composite.of(around, START.inverse())


def ball(grid: Grid, middle: tuple[float, float, float], radius: float, name: str) -> Piece:
    at = np.moveaxis(np.indices(grid.shape), 0, -1)
    data = (np.linalg.norm(at - middle, axis=-1) <= radius).astype(np.uint8)
    return pieces_of(Labels(data, grid, name))[0][0]


FIRST, SECOND = ball(HERE, (16, 20, 20), 5, "first"), ball(HERE, (31, 20, 24), 4, "second")


def as_delivered(found: Projected) -> tuple[Transform, Transform]:
    return delivered(found.onward, HERE), delivered(found.back, THERE)


def projected(*, here=(), there=(), volumes=(), seed=0) -> tuple[Projected, list]:
    onward, back = smooth_pair(seed)
    bodies = bodies_of([Held(piece) for piece in here], [Held(piece) for piece in there], onward, back)
    return project(onward, back, HERE, THERE, bodies, volumes), bodies


def test_the_volume_after_an_affine_map_is_that_of_its_determinant():
    assert volume_change_percent(FIRST, Affine.identity()) == pytest.approx(0, abs=1e-9)
    assert moved_volume_mm3(FIRST, START) == pytest.approx(FIRST.volume_mm3 * np.linalg.det(START.matrix[:3, :3]))


def test_the_volume_after_a_trilinear_map_is_the_sum_of_the_determinants():
    onward, _ = smooth_pair()
    fine = Grid((24, 24, 24), FIRST.grid.affine @ np.diag([1 / 4, 1 / 4, 1 / 4, 1]))
    single = Piece(np.array([[3, 3, 3]]), FIRST.grid)
    inner = np.moveaxis(np.indices((4, 4, 4)), 0, -1).reshape(-1, 3) + 10.5  # of that voxel
    step = np.eye(3) / 2

    def at(points):
        return onward.map_world(FIRST.grid.voxel_to_world(points / 4))

    slopes = np.stack([(at(inner + s) - at(inner - s)) for s in step], -1)
    expected = abs(np.linalg.det(slopes)).sum()
    assert fine.voxel_mm < 1
    assert moved_volume_mm3(single, onward) == pytest.approx(expected, rel=2e-3)


def test_rigid_pieces_are_rigid_to_rounding_in_both_directions():
    free, _ = smooth_pair()
    assert rigid_deviation_mm(FIRST, free) > 1
    assert abs(volume_change_percent(FIRST, free)) > 10
    found, bodies = projected(here=(FIRST, SECOND))
    onward, back = as_delivered(found)
    for piece, body in zip((FIRST, SECOND), bodies, strict=True):
        assert rigid_deviation_mm(piece, onward) < 1e-4
        assert abs(volume_change_percent(piece, onward)) < 1e-3
        np.testing.assert_allclose(
            onward.map_world(piece.centres_mm), body.motion.map_world(piece.centres_mm), atol=1e-4
        )
        there = body.motion.map_world(piece.centres_mm)
        np.testing.assert_allclose(back.map_world(there), piece.centres_mm, atol=1e-4)


def test_the_motion_is_the_nearest_to_the_whole_map_and_not_to_its_deformation():
    free, _ = smooth_pair()
    _, (body,) = projected(here=(FIRST,))
    nearest = fit_linear(FIRST.centres_mm, free.map_world(FIRST.centres_mm), "rigid")
    np.testing.assert_allclose(body.motion.matrix, nearest, atol=1e-9)
    np.testing.assert_allclose(body.motion.matrix[:3, :3] @ body.motion.matrix[:3, :3].T, np.eye(3), atol=1e-9)


def test_nothing_folds_and_far_away_nothing_changes():
    free, free_back = smooth_pair()
    found, _ = projected(here=(FIRST, SECOND))
    assert found.folded == ()
    assert folded_cells(found.onward.displacement_on(HERE).disp_vox) == 0
    far = HERE.voxel_to_world([[2, 2, 2], [45, 37, 41], [4, 36, 4]])
    np.testing.assert_allclose(found.onward.map_world(far), free.map_world(far), atol=1e-4)
    np.testing.assert_allclose(
        found.back.map_world(free.map_world(far)), free_back.map_world(free.map_world(far)), atol=1e-3
    )


def test_both_directions_stay_each_others_inverse():
    free, free_back = smooth_pair()
    found, _ = projected(here=(FIRST, SECOND))
    sites = HERE.voxel_to_world(np.stack(np.meshgrid(*([np.arange(6, 36, 2)] * 3), indexing="ij"), -1).reshape(-1, 3))

    def apart(onward, back):
        return np.linalg.norm(back.map_world(onward.map_world(sites)) - sites, axis=1)

    before, after = apart(free, free_back), apart(found.onward, found.back)
    assert after.mean() < before.mean() + 0.02
    assert after.max() < before.max() + 0.5


def test_a_piece_of_the_other_scan_is_rigid_there():
    free = smooth_pair()
    piece = ball(THERE, (22, 20, 20), 4, "there")
    assert rigid_deviation_mm(piece, free[1]) > 0.5
    found, _ = projected(there=(piece,))
    assert rigid_deviation_mm(piece, as_delivered(found)[1]) < 1e-4


def test_a_piece_seen_in_both_scans_is_one_body():
    free = smooth_pair()
    arrived = THERE.world_to_voxel(free[0].map_world(FIRST.centres_mm).mean(axis=0))
    same = ball(THERE, tuple(arrived), 4.6, "same")
    found, bodies = projected(here=(FIRST,), there=(same,))
    assert len(bodies) == 1
    onward, back = as_delivered(found)
    assert rigid_deviation_mm(FIRST, onward) < 1e-4
    assert rigid_deviation_mm(same, back) < 1e-4


def test_a_kept_volume_is_exact_and_the_piece_may_bend():
    found, _ = projected(volumes=[Held(FIRST)])
    onward, _ = as_delivered(found)
    assert abs(volume_change_percent(FIRST, onward)) < 0.01
    assert rigid_deviation_mm(FIRST, onward) > 0.2


def test_a_share_leaves_the_rest_of_the_deviation():
    free, free_back = smooth_pair()
    bodies = bodies_of([Held(FIRST, 0.75)], [], free, free_back)
    found = project(free, free_back, HERE, THERE, bodies)
    left = rigid_deviation_mm(FIRST, found.onward) / rigid_deviation_mm(FIRST, free)
    assert left == pytest.approx(0.25, abs=0.03)


def test_a_piece_of_both_kinds_moves_rigidly():
    found, _ = projected(here=(FIRST,), volumes=[Held(ball(HERE, (20, 20, 20), 5, "next"))])
    onward, _ = as_delivered(found)
    assert rigid_deviation_mm(FIRST, onward) < 1e-4


def test_touching_pieces_are_rigid_at_their_voxels():
    data = np.zeros(HERE.shape, np.uint8)
    data[16:22, 14:24, 14:24], data[22:28, 14:24, 14:24] = 1, 2
    pieces = pieces_of(Labels(data, HERE, "touching"))[0]
    found, _ = projected(here=pieces)
    for piece in pieces:
        assert rigid_deviation_mm(piece, as_delivered(found)[0]) < 1e-4


def test_an_affine_map_that_scales_is_made_rigid_in_a_piece():
    bodies = bodies_of([Held(FIRST)], [], START, START.inverse())
    found = project(START, START.inverse(), HERE, THERE, bodies)
    assert rigid_deviation_mm(FIRST, found.onward) < 1e-4
    assert rigid_deviation_mm(SECOND, START) > 0.5
    far = HERE.voxel_to_world([[46, 38, 42]])
    np.testing.assert_allclose(found.onward.map_world(far), START.map_world(far), atol=1e-4)


def test_pieces_that_would_collide_are_seen():
    towards = Displacement(np.zeros((3, *HERE.shape), np.float32), HERE)
    towards.disp_vox[0] = np.where(np.arange(48) < 23, 6, -6)[:, None, None]
    first, second = bodies_of([Held(FIRST), Held(SECOND)], [], towards, towards)
    assert overlap_percent(first, second) > 10
    still = bodies_of([Held(FIRST), Held(SECOND)], [], Affine.identity(), Affine.identity())
    assert overlap_percent(*still) == 0


def test_a_slice_keeps_its_area_and_its_bones():
    flat = Grid((40, 40, 1), np.diag([2.0, 2.0, 2.0, 1.0]))
    swell = np.zeros((3, *flat.shape), np.float32)
    swell[:2] = (0.1 * (np.stack(np.indices(flat.shape))[:2] - 20)).astype(np.float32)
    onward = Displacement(swell, flat)
    bone, lesion = ball(flat, (12, 20, 0), 4, "bone"), ball(flat, (27, 20, 0), 4, "lesion")
    assert volume_change_percent(lesion, onward) == pytest.approx(21, abs=0.1)
    back = onward.inverse()
    found = project(onward, back, flat, flat, bodies_of([Held(bone)], [], onward, back), [Held(lesion)])
    assert rigid_deviation_mm(bone, found.onward) < 1e-4
    assert abs(volume_change_percent(lesion, found.onward)) < 0.01
