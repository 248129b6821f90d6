"""What every registration method must do, however it is built: a class of tests to inherit."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest

from anamorph.errors import UserError
from anamorph.evaluation.metrics.inverse_consistency import inverse_consistency_mm
from anamorph.geometry.grid import Grid
from anamorph.image.image import Image, Mask
from anamorph.methods.base import Config, Method, Outcome, Pair, Run
from anamorph.phantom.pair import PhantomPair
from anamorph.testing.pairs import GRID_PAIRS, SHAPE, apart_vox, error_mm, gentle_pair, pair_of, smooth_pair
from anamorph.transforms.files import read_transform, write_transform
from anamorph.transforms.maps import Affine, Displacement, Transform
from anamorph.types import Device, Progress

DEVICE = "ANAMORPH_GPU_TESTS"
"""Names another device to try the tests themselves where there is no GPU: ``ANAMORPH_GPU_TESTS=cpu pytest -m gpu``."""


def gpu_or_skip() -> Literal["cpu", "cuda"]:
    """The device; the test is skipped where there is none."""
    torch = pytest.importorskip("torch")
    device = os.environ.get(DEVICE, "cuda")
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    return "cpu" if device == "cpu" else "cuda"


CASES = frozenset(["affine", "smooth", *GRID_PAIRS, "odd", "thick", "2D", "two channels", "padded", "given start"])
"""Pairs for which a method may state how well it finds the truth."""


class MethodConformance:
    """Inherited by the tests of a method: set ``method``, and the flags where it can do less than others.

    A class that inherits it is collected by pytest if its name begins with ``Test``. A method with a network has a
    fixture ``models``, which gives a model folder by the number of channels; its networks may be untrained.
    """

    method: ClassVar[type[Method]]
    settings: ClassVar[dict[str, Any]] = {}
    """For tests in which the linear start matters."""
    quick: ClassVar[dict[str, Any]] = {}
    """For all others."""
    limits_mm: ClassVar[Mapping[str, float]] = {}
    """Mean error against the truth by case (:data:`CASES`); without one the error must fall."""
    deforms: ClassVar[bool] = True
    """False for a method that leaves most of a deformation unexplained; else the error must fall to a half."""
    two_dimensional: ClassVar[bool] = True
    """False for a method that refuses single slices."""
    learned: ClassVar[bool] = False
    """True for a method with the setting ``model``; it may refuse scans in which it sees nothing."""
    _gentle: ClassVar[list[Outcome]]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls._gentle = []
        unknown = set(cls.limits_mm) - CASES
        if unknown:
            raise TypeError(f"{cls.__name__}.limits_mm knows no {', '.join(sorted(unknown))}; cases: {sorted(CASES)}")

    @pytest.fixture(autouse=True)
    def _models(self, request: pytest.FixtureRequest) -> None:
        self.models: Any = request.getfixturevalue("models") if self.learned else {}

    def config(self, fixed: Image, quick: bool) -> Config:
        """The settings for a fixed scan."""
        own = {"model": self.models[fixed.channels]} if self.learned else {}
        return self.method.Config(**(self.quick if quick else self.settings) | own)

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
        """Register a pair; ``given`` are masks and a start."""
        method = self.method(self.config(fixed, quick))
        return method(Pair(fixed, moving, **given), Run(device, seed, progress))

    def gentle(self) -> Outcome:
        """Register :func:`gentle_pair` with the quick settings, once for all tests of a class."""
        if not self._gentle:
            self._gentle.append(self.run(gentle_pair().fixed, gentle_pair().moving))
        return self._gentle[0]

    def check(self, name: str, pair: PhantomPair, result: Outcome) -> None:
        """The error falls, below the limit of the case, and nothing folds."""
        before = error_mm(Affine.identity(), pair)
        after = error_mm(result.fixed_to_moving, pair)
        assert name in CASES
        limit = self.limits_mm.get(name, np.inf)
        assert after < limit, f"{name}: {before:.2f} mm before, {after:.3f} mm after"
        assert after < (before / 2 if self.deforms else before)
        determinant = result.fixed_to_moving.jacobian_determinant(pair.fixed.grid)
        assert np.isfinite(determinant).all()
        assert determinant.min() > 0

    def test_an_identical_pair_stays(self) -> None:
        fixed = smooth_pair().fixed
        result = self.run(fixed, fixed, quick=False)
        assert apart_vox(result.fixed_to_moving, Affine.identity(), fixed.grid) < 0.1
        assert apart_vox(result.moving_to_fixed, Affine.identity(), fixed.grid) < 0.1

    def test_a_known_affine_map_is_found(self) -> None:
        pair = pair_of(seed=1, deformation_mm=0.0)
        self.check("affine", pair, self.run(pair.fixed, pair.moving, quick=False))

    def test_a_known_deformation_is_found(self) -> None:
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

    def test_the_two_directions_are_inverse(self) -> None:
        pair, result = gentle_pair(), self.gentle()
        there = result.fixed_to_moving, result.moving_to_fixed, pair.fixed.grid, pair.moving.grid
        back = result.moving_to_fixed, result.fixed_to_moving, pair.moving.grid, pair.fixed.grid
        for direction in (there, back):
            assert np.nanmean(inverse_consistency_mm(*direction)) < 0.5
        assert result.moving_to_fixed.jacobian_determinant(pair.moving.grid).min() > 0

    def test_swapping_the_scans_swaps_the_directions(self) -> None:
        pair = gentle_pair()
        forward, swapped = self.gentle(), self.run(pair.moving, pair.fixed)
        grid = pair.fixed.grid
        inside = pair.fixed_labels.data[0] > 0
        assert apart_vox(forward.fixed_to_moving, swapped.moving_to_fixed, grid, inside) < 0.1
        assert apart_vox(forward.moving_to_fixed, swapped.fixed_to_moving, grid, inside) < 0.1

    def test_the_same_bits_twice(self) -> None:
        pair = gentle_pair()
        one, two = self.gentle(), self.run(pair.fixed, pair.moving)
        for side in ("fixed_to_moving", "moving_to_fixed"):
            fields = [getattr(result, side).displacement_on(pair.fixed.grid).disp_vox for result in (one, two)]
            np.testing.assert_array_equal(fields[0], fields[1])

    @pytest.mark.parametrize("name", GRID_PAIRS)
    def test_grids_may_differ(self, name: str) -> None:
        fixed_grid, moving_grid = GRID_PAIRS[name]
        pair = pair_of(seed=3, fixed_grid=fixed_grid, moving_grid=moving_grid)
        self.check(name, pair, self.run(pair.fixed, pair.moving, quick=False))

    def test_odd_sizes(self) -> None:
        pair = pair_of(shape=(47, 53, 61), seed=4)
        self.check("odd", pair, self.run(pair.fixed, pair.moving, quick=False))

    def test_thick_slices(self) -> None:
        pair = pair_of(
            shape=(96, 80, 22), spacing_mm=(0.8, 0.8, 5.0), seed=5,
            deformation_mm=6.0, translation_mm=3.0, rotation_deg=1.0, scale=0.02,
        )  # fmt: skip
        self.check("thick", pair, self.run(pair.fixed, pair.moving, quick=False))

    def test_two_dimensions(self) -> None:
        pair = pair_of(shape=(96, 80, 1), seed=6)
        if not self.two_dimensional:
            with pytest.raises(UserError, match="single slice"):
                self.run(pair.fixed, pair.moving)
            return
        result = self.run(pair.fixed, pair.moving, quick=False)
        self.check("2D", pair, result)
        assert not result.fixed_to_moving.displacement_on(pair.fixed.grid).disp_vox[2].any()

    @pytest.mark.parametrize("scaled", [False, True], ids=["CT", "scaled"])
    def test_what_lies_outside_the_masks_has_no_influence(self, scaled: bool) -> None:
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
            results.append(
                self.run(images[0], images[1], quick=False, fixed_mask=masks[0], moving_mask=masks[1]).fixed_to_moving
            )
        assert apart_vox(results[0], results[1], pair.fixed.grid) < 1e-3

    def test_two_channels(self) -> None:
        pair = gentle_pair()
        rng = np.random.default_rng(0)
        images = [
            Image(np.stack([rng.standard_normal(SHAPE), np.clip(i.data[0], -200, 300)]).astype(np.float32), i.grid)
            for i in (pair.fixed, pair.moving)
        ]
        self.check("two channels", pair, self.run(images[0], images[1]))

    @pytest.mark.parametrize("constant", [-1024.0, 0.0, -3000.0])
    def test_constant_padding(self, constant: float) -> None:
        pair = gentle_pair()
        padded = []
        for image, margin in ((pair.fixed, 4), (pair.moving, 5)):
            values = np.full(SHAPE, constant, np.float32)
            kept = (slice(margin, -margin),) * 3
            values[kept] = image.data[0][kept]
            padded.append(image.with_data(values))
        self.check("padded", pair, self.run(padded[0], padded[1]))

    def test_empty_scans_give_a_finite_map(self) -> None:
        grid = pair_of(seed=3).fixed.grid
        flat = Image(np.zeros(SHAPE, np.float32), grid)
        try:
            result = self.run(flat, flat, quick=False)
        except UserError as error:
            if self.learned and "nothing to compare" in str(error):  # only a network may find nothing to go by
                return
            raise
        assert apart_vox(result.fixed_to_moving, Affine.identity(), grid) < 1e-3

    def test_results_survive_files(self, tmp_path: Path) -> None:
        pair, result = gentle_pair(), self.gentle()
        write_transform(result.fixed_to_moving, tmp_path / "there.nii.gz", "itk", pair.fixed.grid)
        again = read_transform(tmp_path / "there.nii.gz")
        assert apart_vox(result.fixed_to_moving, again, pair.fixed.grid) < 1e-4
        assert error_mm(again, pair) == pytest.approx(error_mm(result.fixed_to_moving, pair), abs=0.01)

    @pytest.mark.parametrize("kind", [Affine, Displacement])
    def test_a_given_start_is_used(self, kind: type[Transform]) -> None:
        far = np.eye(4)
        far[:3, 3] = (2000.0, -1500.0, 900.0)
        pair = gentle_pair()
        moving = Image(pair.moving.data, Grid(SHAPE, far @ pair.moving.grid.affine))
        start = Affine(far)
        given = start if kind is Affine else start.displacement_on(pair.fixed.grid)
        result = self.run(pair.fixed, moving, start=given)
        back = Affine(np.linalg.inv(far))
        left = error_mm(back @ result.fixed_to_moving, pair)
        assert left < self.limits_mm.get("given start", 1.01 * error_mm(Affine.identity(), pair)), "not used"
        there_and_back = inverse_consistency_mm(
            result.fixed_to_moving, result.moving_to_fixed, pair.fixed.grid, moving.grid
        )
        assert np.nanmean(there_and_back) < 0.5

    def test_memory_is_foreseen(self) -> None:
        method = self.method(self.config(smooth_pair().fixed, quick=False))
        small, large = (Grid((n, n, n), np.eye(4)) for n in (64, 128))
        assert 0 < method.peak_memory_bytes(small, small) < method.peak_memory_bytes(large, large)

    def test_time_is_foreseen_if_at_all(self) -> None:
        method = self.method(self.config(smooth_pair().fixed, quick=False))
        small, large = (method.one_core_seconds(grid, grid) for grid in (Grid((n, n, n), np.eye(4)) for n in (64, 128)))
        assert (small is None) == (large is None)
        assert small is None or large is None or 0 <= small <= large < 3600

    def test_a_gpu_gives_the_same_map(self) -> None:
        device, pair = gpu_or_skip(), smooth_pair()
        cpu, gpu = (self.run(pair.fixed, pair.moving, quick=False, device=where) for where in ("cpu", device))
        assert apart_vox(cpu.fixed_to_moving, gpu.fixed_to_moving, pair.fixed.grid) < 0.05
        assert apart_vox(cpu.moving_to_fixed, gpu.moving_to_fixed, pair.fixed.grid) < 0.05
