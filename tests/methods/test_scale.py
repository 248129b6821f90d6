"""The same voxels are worth the same, whatever unit their spacing is given in."""

from __future__ import annotations

import numpy as np
import pytest

from anamorph.errors import UserError
from anamorph.evaluation import Measured, Numbers, verdict
from anamorph.features.intensity import body_mask
from anamorph.geometry import Grid
from anamorph.geometry.lengths import length_text, lengths_text, numbers_mm, patient_mm
from anamorph.image import Image, Mask
from anamorph.registration.plan import make_plan
from anamorph.registration.preflight import inspect_image
from anamorph.registration.request import mask_on
from anamorph.registration.run import register
from anamorph.transforms import Displacement
from anamorph.transforms.inversion import invert
from blobs import SHAPE, blob_scan
from geometries import smooth_field

SPACINGS_MM = (10.0, 1000.0, 1e-6)
"""The first is that of a patient."""
QUICK = ("init=translation", "refine_iterations=4,4", "local_weight=1")
"""Also what the presets of patients set otherwise than those of scans of another size."""


def blob(seed: int, spacing_mm: float, ct: bool = False) -> Image:
    values, _ = blob_scan(seed)
    grid = Grid(SHAPE, np.diag([-spacing_mm, spacing_mm, spacing_mm, 1.0]))
    return Image(3 * values - 1300 if ct else np.maximum(values, 0), grid, "blob")


@pytest.mark.parametrize("ct", [False, True])
@pytest.mark.parametrize("method", ["convex", "deeds"])
def test_the_spacing_does_not_change_the_displacement_in_voxels(method, ct):
    found = []
    for spacing in SPACINGS_MM:
        fixed, moving = blob(0, spacing, ct), blob(1, spacing, ct)
        result = register(fixed, moving, method=method, settings=QUICK)
        found.append([t.displacement_on(fixed.grid).disp_vox for t in (result.fixed_to_moving, result.moving_to_fixed)])
    assert np.abs(found[0][0]).mean() > 0.5
    for other in found[1:]:
        np.testing.assert_allclose(other[0], found[0][0], atol=0.02)
        np.testing.assert_allclose(other[1], found[0][1], atol=0.02)


@pytest.mark.parametrize("spacing", [1e-6, 0.005, 0.1, 100.0, 1000.0])
def test_scans_of_no_patient_get_a_generic_preset_and_a_spacing_that_is_not_zero(spacing):
    facts = inspect_image(blob(0, spacing))
    assert facts.region == "generic-mr"
    assert "no part of a patient" in facts.region_reason
    assert facts.spacing_mm == pytest.approx((spacing,) * 3, rel=1e-5)
    assert inspect_image(blob(0, spacing, ct=True)).region == "generic-ct"


def test_presets_for_coarser_voxels_are_left_to_scans_that_have_room_for_them():
    values = np.random.default_rng(0).random((1, 64, 64, 64), np.float32)
    regions = [inspect_image(Image(values, Grid((64, 64, 64), np.diag([s, s, s, 1])))).region for s in (0.4, 0.8, 1.0)]
    assert regions == ["generic-mr", "small-mr", "small-mr"]


def test_a_preset_that_was_asked_for_is_in_proportion_to_the_scan():
    fixed, moving = blob(0, 0.01), blob(1, 0.01)
    config = make_plan(fixed, moving, preset="brain-mr").method.config
    assert config.descriptor_spacing_mm == pytest.approx(1.6 * 0.32 / 300)
    given = make_plan(fixed, moving, preset="brain-mr", settings=["descriptor_spacing_mm=0.02"]).method.config
    assert given.descriptor_spacing_mm == 0.02
    assert patient_mm(blob(0, 1.0).grid) == 1.0
    assert make_plan(blob(0, 2.0), blob(1, 2.0), preset="brain-mr").method.config.descriptor_spacing_mm == 1.6


def test_the_body_of_a_small_ct_is_found_with_a_margin_in_proportion():
    inside = [body_mask(blob(0, s, ct=True).data[0], blob(0, s).grid, 10.0) for s in (300 / 32, 300 / 32e5)]
    assert 0.05 < inside[0].mean() < 0.9
    np.testing.assert_array_equal(inside[1], inside[0])


def test_an_inverse_is_as_good_for_small_voxels():
    field = smooth_field(Grid((21, 18, 15), np.diag([1.0, 1.0, 1.0, 1.0])))
    small = Displacement(field.disp_vox, Grid(field.grid.shape, np.diag([1e-5, 1e-5, 1e-5, 1.0])))
    expected, found = (invert(one, one.grid) for one in (field, small))
    np.testing.assert_allclose(found.transform.disp_vox, expected.transform.disp_vox, atol=0.02)
    assert np.quantile(found.residual_mm, 0.9) < 0.03 * 1e-5


@pytest.mark.parametrize(("spacing", "status"), [(0.005, "FAIL"), (0.02, "WARN"), (0.5, "PASS"), (2.0, "PASS")])
def test_limits_of_errors_in_mm_follow_the_voxels(spacing, status):
    before, of_the_map = Numbers.of(similarity=0.4), {"similarity": 0.7, "folding_percent": 0.0}
    metrics = Measured(before, Numbers.of(**of_the_map, inverse_consistency_mm_mean=0.06), voxel_mm=spacing)
    assert verdict(metrics).status == status
    far = Measured(before, Numbers.of(**of_the_map, inverse_consistency_mm_mean=60.0), voxel_mm=1000.0)
    assert verdict(far).status == "PASS"


def test_a_mask_two_voxels_away_is_on_another_grid_at_any_scale():
    for spacing in SPACINGS_MM:
        image = blob(0, spacing)
        affine = image.grid.affine.copy()
        affine[0, 3] += 2 * spacing
        mask = np.ones(SHAPE, np.float32)
        with pytest.raises(UserError, match="not on the grid"):
            mask_on(image, Mask(mask, Grid(SHAPE, affine)))
        affine[0, 3] -= 1.999 * spacing
        assert mask_on(image, Mask(mask, Grid(SHAPE, affine))) is not None


def test_headers_in_different_units_are_refused_with_the_remedy():
    with pytest.raises(UserError, match=r"320 mm and 0\.32 mm long, 1000-fold apart; .* metres or micrometres"):
        make_plan(blob(0, 10.0), blob(1, 0.01))
    plan = make_plan(blob(0, 10.0), blob(1, 0.15))
    assert any("67-fold apart" in warning for warning in plan.warnings)
    assert not any("-fold apart" in warning for warning in make_plan(blob(0, 10.0), blob(1, 1.0)).warnings)


def test_lengths_are_told_with_digits_that_say_something():
    assert lengths_text((35.2, 51.0, 35.4), 0) == "35 x 51 x 35 mm"
    assert lengths_text((0.32, 0.32, 0.16), 0) == "0.32 x 0.32 x 0.16 mm"
    assert length_text(3.14159, 2) == "3.14 mm"
    assert length_text(0.005, 1) == "0.0050 mm"
    assert length_text(0.0, 2) == "0.00 mm"
    assert numbers_mm((-1e-17, 12.34, -0.04), 1) == ["0.0", "12.3", "0.0"]
    assert numbers_mm((-1e-17,), 1) == ["0.0"]
    assert numbers_mm((None, float("nan"), 2.0), 1) == ["–", "–", "2.0"]
