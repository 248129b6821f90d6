from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from anamorph.batch import run as batch_run
from anamorph.batch.run import workers_for
from anamorph.data import Case, Dataset, read_dataset
from anamorph.errors import RegistrationFailure, UserError
from anamorph.features.intensity import body_centre_mm, tissue_weight
from anamorph.geometry import Grid
from anamorph.image import Image, Mask
from anamorph.image.read import read_image, read_labels, read_mask, read_points
from anamorph.runtime.memory import INTERPRETER_BYTES
from anamorph.transforms import Affine, Displacement
from anamorph.workflows.preprocess import run
from anamorph.workflows.preprocess.record import (
    ScanRecord,
    check_targets,
    field_of_view,
    map_back,
    moved,
    read_record,
    targets,
)
from anamorph.workflows.preprocess.run import ScanJob, preprocess_dataset
from anamorph.workflows.preprocess.steps import (
    PreprocessSettings,
    apply_steps,
    intensity_steps,
    is_ct,
    resample,
    wanted_grid,
)
from cohort_runs import flip_a_byte
from small_cohort import ORGANS_MM, SHAPE, SPACING_MM, write_cohort


def oblique_grid(shape=(18, 22, 15)):
    rotation = np.linalg.qr(np.random.default_rng(4).standard_normal((3, 3)))[0]
    affine = np.eye(4)
    affine[:3, :3] = rotation * (1.5, 2.0, 3.0)
    affine[:3, 3] = (10, -40, 700)
    return Grid(shape, affine)


@pytest.fixture
def cohort(tmp_path):
    return read_dataset(write_cohort(tmp_path / "raw"))


def test_tissue_weight_is_one_inside_the_window_and_half_at_its_ends():
    weight = tissue_weight(np.array([-1000, 0, 125, 250, 1000], np.int16))
    assert weight == pytest.approx([0, 0.5, 1, 0.5, 0], abs=1e-4)


def test_body_centre_is_that_of_the_published_formula():
    """sigmoid, erosion as negative max-pooling, weighted mean of normalised coordinates, in torch."""
    grid = oblique_grid()
    hounsfield = np.random.default_rng(0).normal(150, 120, grid.shape).astype(np.float32)
    hounsfield[:6] -= 1000
    w = torch.sigmoid(10 - 10 * (2 * torch.from_numpy(hounsfield) / 250 - 1).abs())[None, None]
    w = -torch.nn.functional.max_pool3d(-w, 3, stride=1, padding=1)[0, 0]
    axes = [(torch.arange(n) - (n - 1) / 2) for n in grid.shape]
    sites = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    centre = (sites * w).sum(dim=(1, 2, 3)) / (1e-4 + w.sum())
    expected = grid.voxel_to_world(centre.numpy() + (np.array(grid.shape) - 1) / 2)
    assert np.abs(body_centre_mm(Image(hounsfield, grid), True) - expected).max() < 1e-3


def test_crop_is_centred_on_the_body(cohort):
    settings = PreprocessSettings(spacing_mm=2.0, shape=(20, 24, 28), crop="body")
    for n, case in enumerate(cohort.cases):
        grid = wanted_grid(read_image(case.image), settings, True)
        assert grid.shape == (20, 24, 28)
        assert grid.spacing_mm == pytest.approx([2, 2, 2])
        # The dense organs lie off-centre, but inside the window, so the centre is the body's.
        assert np.abs(grid.centre_mm - (n - 1) * 6).max() < 1.0


def test_cropping_and_padding_at_the_own_spacing_copy_voxels():
    grid = oblique_grid()
    image = Image(np.random.default_rng(1).integers(-900, 900, grid.shape).astype(np.int16), grid)
    wanted = wanted_grid(image, PreprocessSettings(shape=(11, 26, 15)), True)
    new = resample(image, Affine.identity(), wanted)
    # 18 -> 11 cuts 4 and 3; 22 -> 26 adds 2 and 2.
    assert np.array_equal(new.data[0, :, 2:24], image.data[0, 4:15])
    assert (new.data[0, :, :2] == image.data.min()).all()
    assert new.data.dtype == np.int16


def test_padding_is_told_from_the_scan():
    grid = oblique_grid()
    image = Image(np.zeros(grid.shape, np.int16), grid)
    padded, cut = (wanted_grid(image, PreprocessSettings(shape=shape), True) for shape in ((11, 26, 15), (9, 9, 9)))
    inside = np.zeros(padded.shape, bool)
    inside[:, 2:24] = True
    # The second scan was aligned: its points are not those of the original.
    shift = Affine.translation((30.0, -20.0, 5.0))
    aligned = Grid(padded.shape, shift.inverse().matrix @ padded.affine)
    for new, to_original in ((padded, Affine.identity()), (aligned, shift)):
        seen = field_of_view(ScanRecord("0001", grid, new, to_original))
        assert seen.grid == new
        assert np.array_equal(seen.data[0] > 0, inside)
    assert field_of_view(ScanRecord("0001", grid, cut, Affine.identity())) is None


def test_resampling_keeps_places_and_averages_finer_voxels():
    grid = oblique_grid((40, 40, 40))
    ramp = grid.voxel_to_world(np.stack(np.indices(grid.shape), -1))[..., 1]
    noise = np.random.default_rng(2).normal(0, 10, grid.shape)
    for values, spread in ((ramp, 1e-2), (ramp + noise, 6.0)):
        new = resample(Image(values.astype(np.float32), grid), Affine.identity(), grid.resampled(4.0))
        truth = new.grid.voxel_to_world(np.stack(np.indices(new.grid.shape), -1))[..., 1]
        inner = (slice(2, -2),) * 3
        difference = (new.data[0] - truth)[inner]
        assert abs(difference.mean()) < 0.2
        assert difference.std() < spread


def test_windows_become_channels_between_their_bounds():
    grid = Grid((4, 1, 1), np.eye(4))
    image = Image(np.array([-1000, -160, 40, 500], np.int16).reshape(4, 1, 1), grid)
    settings = PreprocessSettings(windows=((-160, 240), (-1000, 1000)))
    new = apply_steps(image, intensity_steps(image, None, settings, True))
    assert new.data.dtype == np.float32
    assert new.data[:, :, 0, 0] == pytest.approx(np.array([[0, 0, 0.5, 1], [0, 0.42, 0.52, 0.75]]))
    assert intensity_steps(image, None, settings, False) == {}


def test_mr_is_normalised_over_the_mask_else_over_what_is_not_background():
    grid = Grid((50, 4, 5), np.eye(4))
    values = np.random.default_rng(3).gamma(3, 100, grid.shape)
    values[:10] = 0
    values[-10:] = 5000
    image, mask = Image(values, grid), Mask((np.indices(grid.shape)[0] < 40).astype(np.uint8), grid)
    zscore, percentile = PreprocessSettings(normalise="zscore"), PreprocessSettings(normalise="percentile")
    masked = apply_steps(image, intensity_steps(image, mask, zscore, False)).data[0, :40]
    assert (float(masked.mean()), float(masked.std())) == pytest.approx((0, 1), abs=1e-4)
    free = apply_steps(image, intensity_steps(image, None, zscore, False)).data[0, 10:]
    assert (float(free.mean()), float(free.std())) == pytest.approx((0, 1), abs=1e-4)
    low, high = np.percentile(values[:40], (1, 99))
    scaled = apply_steps(image, intensity_steps(image, mask, percentile, False)).data[0]
    assert scaled == pytest.approx(np.clip((values - low) / (high - low), 0, 1), abs=1e-5)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({}, "nothing to do"),
        ({"crop": "body", "spacing_mm": 2.0}, "--shape"),
        ({"windows": ((240.0, -160.0),)}, "LOW below HIGH"),
        ({"align": "affine"}, "--reference"),
        ({"spacing_mm": -1.0}, "positive"),
        ({"normalise": "max"}, "--normalise must be one of"),
    ],
)
def test_settings_that_cannot_work_are_one_line(wrong, words):
    with pytest.raises(UserError, match=words):
        PreprocessSettings(**wrong)


def test_new_data_set_holds_everything_in_its_new_place(cohort, tmp_path):
    out = tmp_path / "new"
    settings = PreprocessSettings(spacing_mm=2.5, shape=(26, 30, 28), crop="body", windows=((-200, 300),))
    result = preprocess_dataset(cohort, settings, out)
    assert not (tmp_path / "new.partial").exists()
    new = read_dataset(out)
    assert result.dataset == new
    assert list(result.records) == [case.key for case in cohort.cases]
    assert new.extra["licence"] == "CC0"
    assert new.extra["tensorImageShape"] == {"0": [26, 30, 28]}
    assert [pair.key for pair in new.pairs("val")] == [pair.key for pair in cohort.pairs("val")]
    for old, case in zip(cohort.cases, new.cases, strict=True):
        image, labels, mask = read_image(case.image), read_labels(case.label), read_mask(case.mask)
        assert image.grid.shape == labels.grid.shape == mask.grid.shape == (26, 30, 28)
        assert image.grid.spacing_mm == pytest.approx([2.5] * 3)
        assert image.data.min() == 0
        assert float(image.data.max()) == pytest.approx((195 + 200) / 500, abs=1e-5)
        volume = (read_labels(old.label).data == 2).sum() * np.prod(SPACING_MM)
        assert (labels.data == 2).sum() * 2.5**3 == pytest.approx(volume, rel=0.2)
        assert np.loadtxt(case.landmarks, delimiter=",").shape == (3, 3)
        here, there = read_points(case.landmarks, image.grid), read_points(old.landmarks, read_image(old.image).grid)
        assert np.abs(here.positions_mm - there.positions_mm).max() < 1e-4  # not aligned: the world is the same
        for n, place in enumerate(here.to_voxel(image.grid), 1):
            assert labels.data[(0, *np.rint(place).astype(int))] == n


def test_transforms_found_on_aligned_scans_map_the_original_ones(cohort, tmp_path):
    """Landmarks of the original fixed scan arrive at those of the original moving one, and back."""
    settings = PreprocessSettings(spacing_mm=2.0, align="translation", reference="0002_0000")
    preprocess_dataset(cohort, settings, tmp_path / "new")
    records = [read_record(tmp_path / "new" / "records" / f"{case.key}.json") for case in cohort.cases]
    assert all(record.preprocessed == records[1].preprocessed for record in records)
    assert np.array_equal(records[1].to_original.matrix, np.eye(4))
    assert records[0].to_original.matrix[:3, 3] == pytest.approx([-6] * 3, abs=2.5)
    assert records[2].to_original.matrix[:3, 3] == pytest.approx([6] * 3, abs=2.5)
    points = [read_points(c.landmarks, r.original) for c, r in zip(cohort.cases, records, strict=True)]
    found = Affine.translation(np.array([0.5, -0.25, 0.75]))
    mapped = map_back(found, records[0], records[2])
    by_hand = points[0].positions_mm - records[0].to_original.matrix[:3, 3] + (0.5, -0.25, 0.75)
    by_hand += records[2].to_original.matrix[:3, 3]
    assert mapped.map_world(points[0].positions_mm) == pytest.approx(by_hand, abs=1e-9)
    assert np.linalg.norm(by_hand - points[2].positions_mm, axis=1).max() < 5
    there_and_back = mapped.inverse().map_world(mapped.map_world(points[0].positions_mm))
    assert np.abs(there_and_back - points[0].positions_mm).max() < 1e-9


def test_a_field_found_on_preprocessed_scans_is_as_right_on_the_originals(cohort, tmp_path):
    """A dense field that is right on the crops is right, in mm, on the scans they were cut from and turned from."""
    settings = PreprocessSettings(spacing_mm=2.0, align="affine", reference="0001_0000")
    preprocess_dataset(cohort, settings, tmp_path / "new")
    new = read_dataset(tmp_path / "new")
    fixed, moving = new.pairs("val")[1].fixed, new.pairs("val")[1].moving
    records = [read_record(tmp_path / "new" / "records" / f"{case.key}.json") for case in (fixed, moving)]
    grid = records[0].preprocessed
    points = [read_points(case.landmarks, grid).positions_mm for case in (fixed, moving)]
    linear = np.linalg.lstsq(np.c_[points[0], np.ones(3)], points[1] - points[0], rcond=None)[0]
    sites = grid.voxel_to_world(np.stack(np.indices(grid.shape), -1))
    vectors = np.moveaxis(sites @ linear[:3] + linear[3], -1, 0)
    mapped = map_back(Displacement.from_world(vectors, grid), *records)
    originals = [
        read_points(case.landmarks, record.original).positions_mm
        for case, record in zip((cohort.cases[0], cohort.cases[2]), records, strict=True)
    ]
    assert np.abs(mapped.map_world(originals[0]) - originals[1]).max() < 0.02
    assert originals[1] - originals[0] == pytest.approx(np.full((3, 3), 12.0))
    assert originals[0] == pytest.approx(ORGANS_MM - 6)


def test_an_interrupted_run_goes_on_where_it_stopped(cohort, tmp_path, monkeypatch):
    out, settings = tmp_path / "new", PreprocessSettings(spacing_mm=4.0)
    done = []
    original = ScanJob.do

    def stop_at_the_third(job, progress):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(job.name)
        return original(job, progress)

    monkeypatch.setattr(ScanJob, "do", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        preprocess_dataset(cohort, settings, out)
    assert not out.exists()
    monkeypatch.setattr(ScanJob, "do", original)
    assert preprocess_dataset(cohort, settings, out).reused == 2
    assert sorted(path.name for path in out.iterdir()) == [
        "AbdomenCTCT_dataset.json", "imagesTr", "labelsTr", "landmarksTr", "masksTr", "records",
    ]  # fmt: skip


def test_finished_scans_of_other_settings_or_files_are_done_again(cohort, tmp_path):
    out = tmp_path / "new"
    cohort.cases[1].image.write_bytes(b"damaged")
    with pytest.raises(RegistrationFailure, match="1 of 3 scans failed, the first \\(0002_0000\\)"):
        preprocess_dataset(cohort, PreprocessSettings(spacing_mm=4.0), out)
    image = read_image(cohort.cases[0].image)
    write_cohort(tmp_path / "raw", count=3, shift_mm=6.0)
    assert np.array_equal(read_image(cohort.cases[0].image).data, image.data)
    assert preprocess_dataset(cohort, PreprocessSettings(spacing_mm=5.0), out).reused == 0
    cohort.cases[1].label.unlink()
    with pytest.raises(RegistrationFailure):
        preprocess_dataset(cohort, PreprocessSettings(spacing_mm=4.0), out, overwrite=True)
    assert read_image(read_dataset(out).cases[0].image).grid.spacing_mm == pytest.approx([5] * 3)  # still the earlier


def test_a_scan_that_fails_can_be_left_out_with_its_pairs(cohort, tmp_path):
    cohort.cases[1].image.write_bytes(b"damaged")
    result = preprocess_dataset(cohort, PreprocessSettings(spacing_mm=4.0), tmp_path / "new", leave_out_failed=True)
    assert list(result.failed) == ["0002_0000"]
    assert [pair.key for pair in read_dataset(tmp_path / "new").pairs("val")] == ["0001_0000<--0003_0000"]


def test_windows_are_for_ct_and_normalisation_for_the_rest():
    grid = Grid((6, 5, 4), np.eye(4))
    values = np.random.default_rng(5).integers(-1000, 1000, grid.shape)
    ct, mr = Image(values, grid), Image(values - values.min(), grid)
    settings = PreprocessSettings(windows=((0, 100),), normalise="zscore")
    for image, modality, windowed in (
        (ct, "", True),
        (mr, "", False),
        (mr, "CBCT", True),
        (ct, "MRI", False),
        (ct, "image", True),
    ):
        steps = intensity_steps(image, None, settings, is_ct(image, modality))
        assert ("windows" in steps) == windowed
    assert "offset" in intensity_steps(ct, None, PreprocessSettings(normalise="zscore"), True)


def test_points_of_every_pair_of_modalities_go_along(tmp_path):
    """ThoraxCBCT has other keypoints for the pairs of modalities 0 and 2 than for 0 and 1."""
    points = tmp_path / "keypoints02Tr" / "A_0001_0000.csv"
    outside = tmp_path.parent / "A_0001_0000.mha"
    case = Case("0001", "0000", outside, extra={"keypoints02": points, "age": 60})
    found = {target.kind: (target.path.as_posix(), target.is_points) for target in targets(case, tmp_path)}
    assert found["image"] == ("imagesTr/A_0001_0000.nii.gz", False)
    assert found["keypoints02"] == ("keypoints02Tr/A_0001_0000.csv", True)
    new = moved(case, tmp_path, tmp_path / "new")
    assert new.extra == {"keypoints02": tmp_path / "new" / "keypoints02Tr" / "A_0001_0000.csv", "age": 60}
    twin = Case("0001", "0001", tmp_path / "imagesTr" / "A_0001_0000.nii.gz")
    with pytest.raises(UserError, match="would both be written as imagesTr"):
        check_targets(Dataset(tmp_path / "d.json", tmp_path, "d", {}, {}, (case, twin)))


def test_short_memory_means_fewer_workers(cohort, tmp_path, monkeypatch):
    jobs = run._jobs(cohort, PreprocessSettings(spacing_mm=2.0), tmp_path)
    peak = jobs[0].peak_bytes()
    voxels = 24 * 20 * 16
    assert peak == INTERPRETER_BYTES + 24 * voxels + 40 * (24 * 30 * 32)
    for free, workers in ((None, 3), (100 * peak, 3), (3 * peak, 2), (peak, 1)):
        monkeypatch.setattr(batch_run, "available_bytes", lambda free=free: free)
        assert workers_for(jobs, 3) == workers


def test_what_was_made_of_the_same_scans_is_found_again(cohort, tmp_path):
    settings, out = PreprocessSettings(spacing_mm=4.0), tmp_path / "out"
    assert run.find_preprocessed(cohort, settings, out) is None
    made = preprocess_dataset(cohort, settings, out).dataset
    assert run.find_preprocessed(cohort, settings, out) == made
    assert run.find_preprocessed(cohort, PreprocessSettings(spacing_mm=3.0), out) is None
    flip_a_byte(made.cases[1].image)
    assert run.find_preprocessed(cohort, settings, out) is None
    made.cases[1].image.unlink()
    assert run.find_preprocessed(cohort, settings, out) is None


def test_several_workers_write_the_same(cohort, tmp_path):
    settings = PreprocessSettings(spacing_mm=3.0, normalise="zscore")
    preprocess_dataset(cohort, settings, tmp_path / "one")
    preprocess_dataset(cohort, settings, tmp_path / "two", workers=2)
    for path in (tmp_path / "one" / "imagesTr").iterdir():
        assert np.array_equal(read_image(path).data, read_image(tmp_path / "two" / "imagesTr" / path.name).data)
    records = [json.loads((tmp_path / n / "records" / "0003_0000.json").read_text()) for n in ("one", "two")]
    assert records[0] == records[1]
    assert tuple(records[0]["original"]["shape"]) == SHAPE
