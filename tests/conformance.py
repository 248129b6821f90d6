"""What every registration method must do, whatever it is made of: inherit, set ``method`` and the numbers."""

from __future__ import annotations

from functools import cache
from typing import Any, ClassVar

import numpy as np
import pytest

from anamorph.evaluation import inverse_consistency_mm
from anamorph.geometry import Grid
from anamorph.image import Image, Mask
from anamorph.methods.base import Device, Method, Outcome, Pair, Progress, Run
from anamorph.phantom import make_pair
from anamorph.phantom.pair import PhantomPair
from anamorph.transforms import Affine, Displacement
from anamorph.transforms.files import read_transform, write_transform
from geometries import affine_of, rotation
from on_gpu import gpu_or_skip

SHAPE = (48, 40, 44)
SHEAR = np.array([[1, 0.15, 0], [0, 1, 0.1], [0, 0, 1]])


def centred(shape: tuple[int, int, int], directions: np.ndarray, spacing: tuple[float, float, float]) -> Grid:
    affine = affine_of(directions, spacing, (0, 0, 0))
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Grid(shape, affine)


GRID_PAIRS = {
    "flipped and finer": (
        centred((46, 38, 42), np.diag([-1.0, -1, 1]), (8, 8, 8)),
        centred((60, 44, 50), np.diag([1.0, -1, -1]), (6.2, 6.8, 7)),
    ),
    "permuted and oblique": (
        centred((40, 44, 36), np.eye(3)[[2, 0, 1]], (8.5, 8, 8.5)),
        centred((46, 38, 42), rotation((8, -10, 15)), (8, 8, 8)),
    ),
    "both sheared": (
        centred((46, 40, 42), SHEAR, (8, 8, 8)),
        centred((46, 42, 42), rotation((0, 0, 5)) @ SHEAR.T, (8, 7.5, 8)),
    ),
}


@cache
def pair_of(**options: Any) -> PhantomPair:
    return make_pair(options.pop("shape", SHAPE), **options)


@cache
def smooth_pair() -> PhantomPair:
    return pair_of(seed=3)


@cache
def gentle_pair() -> PhantomPair:
    """Within reach of a search without linear start."""
    return pair_of(seed=3, translation_mm=6.0, rotation_deg=2.0, scale=0.03)


def body_points(pair: PhantomPair, count: int = 3000) -> np.ndarray:
    """RAS positions of labelled fixed voxels whose true partner lies in the moving scan."""
    grid = pair.fixed.grid
    places = grid.voxel_to_world(np.argwhere(pair.fixed_labels.data[0] > 0))
    places = places[:: max(len(places) // count, 1)]
    return places[pair.moving.grid.contains(pair.true_fixed_to_moving.map_world(places))]


def error_mm(transform: Any, pair: PhantomPair) -> float:
    """Mean distance to the truth over the labelled organs."""
    places = body_points(pair)
    return float(
        np.linalg.norm(transform.map_world(places) - pair.true_fixed_to_moving.map_world(places), axis=1).mean()
    )


def apart_vox(one: Any, other: Any, grid: Grid, where: np.ndarray | None = None) -> float:
    """Mean distance between two maps in voxels of a grid."""
    distance = np.linalg.norm(one.displacement_on(grid).disp_vox - other.displacement_on(grid).disp_vox, axis=0)
    return float(distance.mean() if where is None else distance[where].mean())


class MethodConformance:
    """Inherited by the tests of every method."""

    method: ClassVar[type[Method]]
    settings: ClassVar[dict[str, Any]] = {}
    """For tests in which the linear start matters."""
    quick: ClassVar[dict[str, Any]] = {}
    """For all others."""
    limits_mm: ClassVar[dict[str, float]]
    """Mean error against the truth: 1.5 times what was seen."""
    deforms: ClassVar[bool] = True
    """A method that does not leaves most of a deformation unexplained."""

    def run(
        self,
        fixed: Image,
        moving: Image,
        quick: bool = True,
        device: Device = "cpu",
        seed: int = 0,
        progress: Progress | None = None,
        **given: Any,
    ) -> Outcome:
        method = self.method(self.config(fixed, quick))
        return method(Pair(fixed, moving, **given), Run(device, seed, progress))

    def config(self, fixed: Image, quick: bool) -> Any:
        return self.method.Config(**(self.quick if quick else self.settings))

    def check(self, name: str, pair: PhantomPair, result: Outcome) -> None:
        before = error_mm(Affine.identity(), pair)
        after = error_mm(result.fixed_to_moving, pair)
        assert after < self.limits_mm[name], f"{name}: {before:.2f} mm before, {after:.3f} mm after"
        assert after < (before / 2 if self.deforms else before)
        determinant = result.fixed_to_moving.jacobian_determinant(pair.fixed.grid)
        assert np.isfinite(determinant).all()
        assert determinant.min() > 0

    def test_an_identical_pair_stays(self):
        fixed = smooth_pair().fixed
        result = self.run(fixed, fixed, quick=False)
        assert apart_vox(result.fixed_to_moving, Affine.identity(), fixed.grid) < 0.1
        assert apart_vox(result.moving_to_fixed, Affine.identity(), fixed.grid) < 0.1

    def test_a_known_affine_map_is_found(self):
        pair = pair_of(seed=1, deformation_mm=0.0)
        self.check("affine", pair, self.run(pair.fixed, pair.moving, quick=False))

    def test_a_known_deformation_is_found(self):
        pair = smooth_pair()
        fractions: list[float] = []
        result = self.run(
            pair.fixed, pair.moving, quick=False, progress=lambda stage, fraction: fractions.append(fraction)
        )
        self.check("smooth", pair, result)
        assert fractions == sorted(fractions)
        assert fractions[0] >= 0
        assert fractions[-1] <= 1
        assert all(seconds >= 0 for seconds in result.timings.values())
        assert all(np.isfinite(costs).all() for costs in result.trace.values())

    def test_the_two_directions_are_inverse(self):
        pair = gentle_pair()
        result = self.run(pair.fixed, pair.moving)
        there = result.fixed_to_moving, result.moving_to_fixed, pair.fixed.grid, pair.moving.grid
        back = result.moving_to_fixed, result.fixed_to_moving, pair.moving.grid, pair.fixed.grid
        for direction in (there, back):
            assert np.nanmean(inverse_consistency_mm(*direction)) < 0.5
        assert result.moving_to_fixed.jacobian_determinant(pair.moving.grid).min() > 0

    def test_swapping_the_scans_swaps_the_directions(self):
        pair = gentle_pair()
        forward, swapped = self.run(pair.fixed, pair.moving), self.run(pair.moving, pair.fixed)
        grid = pair.fixed.grid
        inside = pair.fixed_labels.data[0] > 0
        assert apart_vox(forward.fixed_to_moving, swapped.moving_to_fixed, grid, inside) < 0.1
        assert apart_vox(forward.moving_to_fixed, swapped.fixed_to_moving, grid, inside) < 0.1

    def test_the_same_bits_twice(self):
        pair = gentle_pair()
        one, two = (self.run(pair.fixed, pair.moving, seed=5) for _ in range(2))
        for side in ("fixed_to_moving", "moving_to_fixed"):
            fields = [getattr(result, side).displacement_on(pair.fixed.grid).disp_vox for result in (one, two)]
            np.testing.assert_array_equal(*fields)

    @pytest.mark.parametrize("name", GRID_PAIRS)
    def test_grids_may_differ(self, name):
        fixed_grid, moving_grid = GRID_PAIRS[name]
        pair = pair_of(seed=3, fixed_grid=fixed_grid, moving_grid=moving_grid)
        self.check(name, pair, self.run(pair.fixed, pair.moving, quick=False))

    def test_odd_sizes(self):
        pair = pair_of(shape=(47, 53, 61), seed=4)
        self.check("odd", pair, self.run(pair.fixed, pair.moving, quick=False))

    def test_thick_slices(self):
        pair = pair_of(
            shape=(96, 80, 22), spacing_mm=(0.8, 0.8, 5.0), seed=5,
            deformation_mm=6.0, translation_mm=3.0, rotation_deg=1.0, scale=0.02,
        )  # fmt: skip
        self.check("thick", pair, self.run(pair.fixed, pair.moving, quick=False))

    def test_two_dimensions(self):
        pair = pair_of(shape=(96, 80, 1), seed=6)
        result = self.run(pair.fixed, pair.moving, quick=False)
        self.check("2D", pair, result)
        assert not result.fixed_to_moving.displacement_on(pair.fixed.grid).disp_vox[2].any()

    @pytest.mark.parametrize("scaled", [False, True], ids=["CT", "scaled"])
    def test_what_lies_outside_the_masks_has_no_influence(self, scaled):
        pair = gentle_pair()
        inside = np.zeros(SHAPE, np.float32)
        inside[6:-6, 6:-6, 8:-6] = 1
        masks = Mask(inside, pair.fixed.grid), Mask(inside, pair.moving.grid)
        rng = np.random.default_rng(0)
        results = []
        for garbage in (False, True):
            images = []
            for image in (pair.fixed, pair.moving):
                values = image.data[0].astype(np.float32) + (1024 if scaled else 0)
                if garbage:
                    values[inside == 0] = rng.choice([-1024.0, 3000.0, 9999.0], size=int((inside == 0).sum()))
                images.append(image.with_data(values))
            results.append(self.run(*images, quick=False, fixed_mask=masks[0], moving_mask=masks[1]).fixed_to_moving)
        assert apart_vox(*results, pair.fixed.grid) < 1e-3

    def test_two_channels(self):
        pair = gentle_pair()
        rng = np.random.default_rng(0)
        images = [
            Image(np.stack([rng.standard_normal(SHAPE), np.clip(i.data[0], -200, 300)]).astype(np.float32), i.grid)
            for i in (pair.fixed, pair.moving)
        ]
        self.check("two channels", pair, self.run(*images))

    @pytest.mark.parametrize("constant", [-1024.0, 0.0, -3000.0])
    def test_constant_padding(self, constant):
        pair = gentle_pair()
        padded = []
        for image, margin in ((pair.fixed, 4), (pair.moving, 5)):
            values = np.full(SHAPE, constant, np.float32)
            kept = (slice(margin, -margin),) * 3
            values[kept] = image.data[0][kept]
            padded.append(image.with_data(values))
        self.check("padded", pair, self.run(*padded))

    def test_empty_scans_give_a_finite_map(self):
        grid = pair_of(seed=3).fixed.grid
        flat = Image(np.zeros(SHAPE, np.float32), grid)
        result = self.run(flat, flat, quick=False)
        assert apart_vox(result.fixed_to_moving, Affine.identity(), grid) < 1e-3

    def test_results_survive_files(self, tmp_path):
        pair = gentle_pair()
        result = self.run(pair.fixed, pair.moving)
        write_transform(result.fixed_to_moving, tmp_path / "there.nii.gz", "itk", pair.fixed.grid)
        again = read_transform(tmp_path / "there.nii.gz")
        assert apart_vox(result.fixed_to_moving, again, pair.fixed.grid) < 1e-4
        assert error_mm(again, pair) == pytest.approx(error_mm(result.fixed_to_moving, pair), abs=0.01)

    @pytest.mark.parametrize("kind", [Affine, Displacement])
    def test_a_given_start_is_used(self, kind):
        far = np.eye(4)
        far[:3, 3] = (2000.0, -1500.0, 900.0)
        pair = gentle_pair()
        moving = Image(pair.moving.data, Grid(SHAPE, far @ pair.moving.grid.affine))
        start = Affine(far)
        given = start if kind is Affine else start.displacement_on(pair.fixed.grid)
        result = self.run(pair.fixed, moving, start=given)
        back = Affine(np.linalg.inv(far))
        assert error_mm(back @ result.fixed_to_moving, pair) < self.limits_mm["given start"], "not used"
        there_and_back = inverse_consistency_mm(
            result.fixed_to_moving, result.moving_to_fixed, pair.fixed.grid, moving.grid
        )
        assert np.nanmean(there_and_back) < 0.5

    def test_memory_is_foreseen(self):
        method = self.method(self.method.Config(**self.settings))
        small = Grid((64, 64, 64), np.eye(4))
        large = Grid((128, 128, 128), np.eye(4))
        assert 0 < method.peak_memory_bytes(small, small) < method.peak_memory_bytes(large, large)

    @pytest.mark.gpu
    def test_a_gpu_gives_the_same_map(self):
        device, pair = gpu_or_skip(), smooth_pair()
        cpu, gpu = (self.run(pair.fixed, pair.moving, quick=False, device=where) for where in ("cpu", device))
        assert apart_vox(cpu.fixed_to_moving, gpu.fixed_to_moving, pair.fixed.grid) < 0.05
        assert apart_vox(cpu.moving_to_fixed, gpu.moving_to_fixed, pair.fixed.grid) < 0.05
