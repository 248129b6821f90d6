from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from anamorph.geometry import Grid
from anamorph.image import Image
from anamorph.image.read import read_image
from anamorph.registration.preflight import (
    choose_preset,
    guess_modality,
    header_mismatch_mm,
    inspect_image,
    inspect_pair,
    overlap_percent,
)
from anamorph.transforms import Affine
from processor_time import processor_seconds

EXPECTED = {
    "abdomen_ct/images/*.nii.gz": "abdomen-ct",
    "head_neck_ct/images/pt_1*.nii.gz": "head-neck-ct",
    "lung_ct/baseline.mha": "lung-ct",
    "lung_ct/followup.mha": "lung-ct",
    "hippocampus/images/hippocampus_01*.nii.gz": "small-mr",
    "cardiac_mr/images/SC-N-*.nii.gz": "cardiac-mr",
    "fetal_brain_mr/images/GA2*.nii.gz": "brain-mr",
    "ct_mr/*CT_image.nii.gz": "generic-ct",
    "ct_mr/*T1_image.nii.gz": "generic-mr",
}


@pytest.mark.parametrize(("pattern", "preset"), EXPECTED.items())
def test_preset_of_real_scans(shared_data: Path, pattern: str, preset: str):
    paths = sorted(shared_data.glob(pattern))
    assert paths
    guesses = {path.name: inspect_image(read_image(path), path).region for path in paths}
    assert guesses == dict.fromkeys(guesses, preset)


def test_labels_of_real_scans_are_not_taken_for_scans(shared_data: Path):
    for path in sorted(shared_data.glob("*/labels/*1*.nii.gz"))[::5]:
        assert guess_modality(read_image(path)) == "mask-like", path.name


def diagonal(spacing: float, shape: tuple[int, int, int], origin: float = 0.0) -> Grid:
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = origin
    return Grid(shape, affine)


def cylinder_ct(axis: int, radius_mm: float = 150) -> Image:
    """A trunk of water along one axis, in air, with a ball of bone."""
    shape = [80, 80, 80]
    coordinates = np.stack(np.meshgrid(*[4.0 * (np.arange(n) - n / 2) for n in shape], indexing="ij"))
    radius = np.linalg.norm(np.delete(coordinates, axis, 0), axis=0)
    data = np.where(radius < radius_mm, 40, -1000) + np.random.default_rng(0).normal(0, 10, shape)
    data[np.linalg.norm(coordinates, axis=0) < 20] = 600
    affine = np.eye(4)
    # The cylinder's axis points to the head, whichever voxel axis that is.
    order = [a for a in range(3) if a != axis]
    affine[:3, :3] = 0
    affine[0, order[0]] = affine[1, order[1]] = affine[2, axis] = 4.0
    return Image(data.astype(np.int16), Grid((80, 80, 80), affine), "trunk")


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_trunk_is_found_in_any_orientation(axis: int):
    facts = inspect_image(cylinder_ct(axis))
    assert (facts.modality, facts.region) == ("ct", "abdomen-ct")
    area = int(facts.region_reason.split("cross-section ")[1].split(" cm")[0])
    assert area == pytest.approx(np.pi * 15**2, rel=0.06)


def test_enclosed_air_makes_a_lung_scan():
    trunk = cylinder_ct(2)
    data = trunk.data.copy()
    data[0, 24:38, 22:58, 5:75] = data[0, 42:56, 22:58, 5:75] = -850
    assert inspect_image(trunk.with_data(data)).region == "lung-ct"


def test_fast_enough_on_a_large_scan():
    image = Image(
        np.random.default_rng(0).integers(-1000, 1000, (192, 160, 256)).astype(np.int16), diagonal(2, (192, 160, 256))
    )
    inspect_image(image)
    start = processor_seconds()
    inspect_image(image)
    assert processor_seconds() - start < 0.3


def test_overlap_is_a_share_of_the_fixed_volume():
    fixed = diagonal(2, (40, 40, 40))
    assert overlap_percent(fixed, fixed) == 100
    shifted = diagonal(2, (40, 40, 40), origin=40)
    assert overlap_percent(fixed, shifted) == pytest.approx(12.5, abs=1)
    assert overlap_percent(fixed, shifted, Affine.translation(np.full(3, 40.0))) == 100
    assert overlap_percent(fixed, diagonal(2, (40, 40, 40), origin=500)) == 0


def test_header_mismatch_is_the_largest_corner_distance():
    grid = diagonal(2, (10, 10, 10))
    assert header_mismatch_mm(grid, diagonal(2, (10, 10, 10), origin=3)) == pytest.approx(3 * np.sqrt(3))
    assert header_mismatch_mm(grid, diagonal(2.1, (10, 10, 10))) == pytest.approx(0.1 * 9.5 * np.sqrt(3))
    assert header_mismatch_mm(grid, diagonal(2, (10, 10, 11))) == np.inf


def messages(image: Image) -> str:
    return "; ".join(finding.message for finding in inspect_image(image).findings)


def test_findings_of_a_header():
    data = np.random.default_rng(0).normal(100, 10, (12, 12, 12)).astype(np.float32)
    assert "the affine is the identity" in messages(Image(data, Grid(data.shape, np.eye(4))))
    oblique = np.eye(4)
    angle = np.radians(20)
    oblique[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    assert "oblique by 20.0°" in messages(Image(data, Grid(data.shape, oblique)))
    sheared = np.diag([2.0, 2, 2, 1])
    sheared[0, 1] = 0.5
    assert "axes are sheared" in messages(Image(data, Grid(data.shape, sheared)))
    assert "anisotropic" in messages(Image(data, Grid(data.shape, np.diag([1.0, 1, 6, 1]))))
    assert messages(Image(data, diagonal(2, (12, 12, 12), 5))) == ""


def test_findings_of_a_pair():
    rng = np.random.default_rng(0)
    first = Image(rng.normal(100, 10, (20, 20, 20)).astype(np.float32), diagonal(2, (20, 20, 20)))
    second = Image(rng.normal(100, 10, (8, 8, 8)).astype(np.float32), diagonal(5, (8, 8, 8), 200))
    facts = inspect_pair(first, second, inspect_image(first), inspect_image(second))
    texts = [finding.message for finding in facts.findings]
    assert facts.overlap_percent == 0
    assert any(text.startswith("0 % of the fixed field of view") for text in texts)
    assert "voxel volumes differ 16-fold" in texts


def test_scans_that_differ_get_the_generic_preset():
    trunk = inspect_image(cylinder_ct(2))
    assert choose_preset(trunk, trunk)[0] == "abdomen-ct"
    neck = replace(trunk, region="head-neck-ct")
    assert choose_preset(trunk, neck) == (
        "generic-ct",
        "the scans look different (fixed: abdomen-ct, moving: head-neck-ct)",
    )


def test_of_two_ct_that_look_different_the_clearly_longer_one_tells():
    trunk = inspect_image(cylinder_ct(2))
    neck = replace(trunk, region="head-neck-ct", extent_mm=(*trunk.extent_mm[:2], trunk.extent_mm[2] * 1.3))
    for pair, side in (((trunk, neck), "moving"), ((neck, trunk), "fixed")):
        preset, reason = choose_preset(*pair)
        assert preset == "head-neck-ct"
        assert reason.endswith(f", by the {side} scan, of which the other one may be a part")
    close = replace(neck, extent_mm=(*trunk.extent_mm[:2], trunk.extent_mm[2] * 1.2))
    assert choose_preset(trunk, close)[0] == "generic-ct"


def test_half_of_a_head_and_neck_gets_the_preset_of_the_whole(shared_data: Path):
    whole, other = (read_image(shared_data / f"head_neck_ct/images/pt_{number}.nii.gz") for number in (155, 236))
    shoulders = (slice(0, whole.grid.shape[0]), slice(0, whole.grid.shape[1]), slice(0, whole.grid.shape[2] // 2))
    half = Image(whole.data[(slice(None), *shoulders)], whole.grid.cropped(shoulders))
    part, facts = inspect_image(half), inspect_image(other)
    assert part.region == "abdomen-ct"  # a trunk by its bones
    assert choose_preset(part, facts)[0] == choose_preset(facts, part)[0] == "head-neck-ct"


def test_beside_a_scan_of_another_kind_a_ct_tells_what_both_show():
    trunk = inspect_image(cylinder_ct(2))
    noise = np.random.default_rng(0).normal(100, 10, (20, 20, 20)).astype(np.float32)
    other = inspect_image(Image(noise, diagonal(2, (20, 20, 20))))
    for pair in ((trunk, other), (other, trunk)):
        preset, reason = choose_preset(*pair)
        assert preset == "abdomen-ct"
        assert reason.endswith(", beside a scan that is no CT")


def test_a_scan_that_does_not_tell_what_it_shows_gets_the_preset_of_the_other():
    trunk, thin = inspect_image(cylinder_ct(2)), inspect_image(cylinder_ct(2, radius_mm=80))
    assert thin.region == "generic-ct"
    for pair, side in (((trunk, thin), "fixed"), ((thin, trunk), "moving")):
        preset, reason = choose_preset(*pair)
        assert preset == "abdomen-ct"
        assert reason.endswith(f", which the {side} scan tells alone")
