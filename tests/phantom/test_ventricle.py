"""The beating ventricle: its maps, strains and volumes agree with each other, by numbers computed in another way."""

from __future__ import annotations

import numpy as np
import pytest

from anamorph import UserError, make_beat
from anamorph.phantom.ventricle import INNER_MM, OUTER_MM, WALL, VentricleMotion

STEP_MM = 1e-4
POINTS = np.random.default_rng(0).uniform(-60, 60, (300, 3))
MOTIONS = [VentricleMotion(0.3, 0.15), VentricleMotion(0.1, 0.0, 1.6), VentricleMotion()]


@pytest.mark.parametrize("motion", MOTIONS)
def test_there_and_back(motion):
    assert np.allclose(motion.inverse().map_world(motion.map_world(POINTS)), POINTS, atol=1e-9)
    assert motion.between("fixed", "moving").inverse().maps == ("moving", "fixed")


def gradients(motion: VentricleMotion, points: np.ndarray) -> np.ndarray:
    steps = STEP_MM * np.eye(3)
    ahead, behind = (np.stack([motion.map_world(points + s * step) for step in steps], -1) for s in (1, -1))
    return (ahead - behind) / (2 * STEP_MM)


@pytest.mark.parametrize("motion", MOTIONS)
def test_strain_and_growth_are_those_of_the_map(motion):
    radius, angle = np.meshgrid(np.linspace(INNER_MM + 1, OUTER_MM - 1, 5), np.linspace(0, 6, 7))
    points = np.column_stack([(radius * np.cos(angle)).ravel(), (radius * np.sin(angle)).ravel(), np.full(35, 9.0)])
    matrices = gradients(motion, points)
    assert np.allclose(np.linalg.det(matrices), motion.growth, atol=1e-6)
    tensors = (np.swapaxes(matrices, 1, 2) @ matrices - np.eye(3)) / 2
    outward = points * (1, 1, 0) / radius.ravel()[:, None]
    around = np.cross([0, 0, 1], outward)
    for direction, strain in zip(
        (outward, around, np.tile([0, 0, 1.0], (35, 1))), motion.strain(radius.ravel()), strict=True
    ):
        assert np.allclose(np.einsum("ni,nij,nj->n", direction, tensors, direction), strain, atol=1e-5)


def test_labels_move_with_the_tissue():
    beat = make_beat(frames=4, shape=(56, 56, 48), spacing_mm=2.0, squeeze=0.25, shortening=0.1)
    counts = [np.count_nonzero(labels.data == WALL) for labels in beat.labels]
    assert counts[2] == pytest.approx(counts[0], rel=0.02)  # muscle keeps its volume
    cavity = [np.count_nonzero(labels.data == 1) for labels in beat.labels]
    assert cavity[2] / cavity[0] == pytest.approx(0.75**2 * 0.9, rel=0.05)
    carried = beat.motions[2].inverse().warp_labels(beat.labels[0], beat.series.grid)
    assert (carried.data == beat.labels[2].data).mean() > 0.99


def test_a_growing_wall_ends_with_the_volume_asked_for():
    grown = make_beat(frames=3, shape=(56, 56, 48), squeeze=0, shortening=0, growth=1.4)
    counts = [np.count_nonzero(labels.data == WALL) for labels in grown.labels]
    assert counts[2] / counts[0] == pytest.approx(1.4, rel=0.02)
    assert counts[1] / counts[0] == pytest.approx(1.4**0.5, rel=0.02)


def test_scans_show_what_the_maps_say():
    beat = make_beat(frames=4, noise=0.0)
    rest, contracted = (beat.series.frames[n] for n in (0, 2))
    pulled = beat.motions[2].warp_image(contracted, beat.series.grid)
    inside = beat.labels[0].data == WALL
    apart = [np.abs(one.data[inside].astype(float) - rest.data[inside]).mean() for one in (contracted, pulled)]
    assert apart[1] < 0.2 * apart[0]


def test_numbers_out_of_range_are_refused():
    with pytest.raises(UserError, match="a beat needs two frames"):
        make_beat(frames=1)
    with pytest.raises(UserError, match="a beat needs two frames"):
        make_beat(squeeze=1.0)
