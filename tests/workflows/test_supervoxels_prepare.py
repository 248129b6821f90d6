"""A cohort prepared for slicreg: transforms, layers of every scan, what is done again and what is not, the page."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from anamorph.batch.registration import RegistrationSettings, register_scans
from anamorph.cli.main import app
from anamorph.data import Dataset, read_dataset
from anamorph.errors import RegistrationFailure, UserError
from anamorph.geometry import Grid
from anamorph.image import Image
from anamorph.image.read import read_image, read_labels
from anamorph.report.many_scans import LayersReport, ScanRow, layers_page, paint
from anamorph.supervoxels import Layers, warp_layers
from anamorph.supervoxels.files import Prepared, load_layers
from anamorph.transforms import Affine
from anamorph.transforms.files import write_transform
from anamorph.workflows.preprocess.steps import PreprocessSettings
from anamorph.workflows.supervoxels import registration
from anamorph.workflows.supervoxels.layers import LayerSettings
from anamorph.workflows.supervoxels.registration import existing_transform, registration_jobs
from anamorph.workflows.supervoxels.run import prepare_dataset
from geometries import affine_of, rotation
from html_page import Page
from published_deeds_files import TABLE, published_nearest, published_places, save
from small_cohort import write_cohort

SHIFT_MM = 6.0
CUTTING = LayerSettings(layers=2, supervoxels=10, spacing_mm=4.0)
FAST = RegistrationSettings(
    "deeds", settings=("init=world", "grid_spacing=4,2", "search_radius=3,2", "quantisation=2,1")
)
PREPROCESSING = PreprocessSettings(spacing_mm=3.0, shape=(22, 26, 24), crop="body")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Dataset:
    """Scan n is scan 1 moved by ``(n - 1) * SHIFT_MM`` along every axis."""
    return read_dataset(write_cohort(tmp_path_factory.mktemp("cohort"), shift_mm=SHIFT_MM))


@pytest.fixture
def true_shifts(cohort: Dataset, tmp_path: Path) -> Path:
    """A folder with the map of every scan to scan 2."""
    folder = tmp_path / "shifts"
    folder.mkdir()
    for n, case in enumerate(cohort.cases):
        if n != 1:
            grid = read_image(case.image).grid
            shift = Affine.translation(np.full(3, (1 - n) * SHIFT_MM))
            write_transform(shift, folder / f"{case.key}.tfm", "itk-tfm", grid)
    return folder


def original_mm3(cohort: Dataset) -> float:
    grid = read_image(cohort.cases[0].image).grid
    return float(np.prod(grid.shape) * np.prod(grid.spacing_mm))


def prepare(cohort: Dataset, out: Path, **changes):
    arguments = {"preprocessing": PREPROCESSING, "cutting": CUTTING, "registration": FAST} | changes
    return prepare_dataset(cohort, "0002", out, **arguments)


def test_every_scan_is_registered_and_carries_the_layers_of_the_template(cohort: Dataset, tmp_path: Path):
    told: list[tuple[str, float]] = []
    result = prepare(cohort, tmp_path / "out", progress=lambda stage, fraction: told.append((stage, fraction)))
    within = [fraction for stage, fraction in told if stage == "scan 1 of 2, 0001_0000"]
    assert len(set(within)) >= 3, "a registration of minutes tells how far it is"
    assert told[0] == ("checking scans", 0.0)
    assert [fraction for _, fraction in told] == sorted(fraction for _, fraction in told)
    prepared = Prepared.of(read_dataset(tmp_path / "out"))
    assert prepared.template.key == "0002_0000"
    assert [case.key for case in prepared.cases] == ["0001_0000", "0002_0000", "0003_0000"]
    template = prepared.template_layers()
    for number, case in enumerate(prepared.cases, 1):
        layers = prepared.layers(case)
        scan = read_image(case.image).grid
        assert scan.shape == (22, 26, 24)
        np.testing.assert_allclose(layers.grid.spacing_mm, 4)
        centre = np.array(layers.grid.shape) / 2
        to_template = prepared.scan_to_template(case).map_world(layers.grid.voxel_to_world(centre)[None])[0]
        moved = to_template - layers.grid.voxel_to_world(centre)
        np.testing.assert_allclose(moved, (2 - number) * SHIFT_MM, atol=2.5)
        inside = [one[:, 1:-1, 1:-1, 1:-1] > 0 for one in (layers.labels, template.labels)]
        assert inside[0].mean() == pytest.approx(inside[1].mean(), rel=0.1)
    np.testing.assert_array_equal(prepared.layers(prepared.template).labels, template.labels)
    of_scan = result.scans["0001_0000"]
    assert of_scan["how"] == "deeds"
    assert of_scan["folding_percent"] == 0
    assert of_scan["dice"]["after"] > 0.6
    assert prepared.settings["registration"]["settings"]["grid_spacing"] == [4, 2]
    assert prepared.settings["cutting"]["supervoxels"] == 10
    page = Page(result.page.read_text("utf-8"))
    assert "0003_0000" in page.text
    assert len(page.pictures) == 3 + 2 * 3 + 2


def test_padding_is_not_compared(cohort: Dataset, tmp_path: Path, monkeypatch):
    seen = {}

    def watched(wanted, fixed, moving, *, fixed_mask, moving_mask, **options):
        seen[fixed.name] = fixed_mask, moving_mask
        return register_scans(RegistrationSettings("linear", settings=("init=world",)), fixed, moving, **options)

    monkeypatch.setattr(registration, "register_scans", watched)
    larger = PreprocessSettings(spacing_mm=3.0, shape=(40, 26, 24), crop="none")
    prepare(cohort, tmp_path / "out", preprocessing=larger)
    assert len(seen) == 2
    for masks in seen.values():
        for mask in masks:
            lines = mask.data[0].any(axis=(1, 2))
            assert lines[20]
            assert not lines[[0, -1]].any()
            assert abs(mask.data[0].sum() * 27 - original_mm3(cohort)) < 0.1 * original_mm3(cohort)
    prepare(
        cohort, tmp_path / "small", preprocessing=PreprocessSettings(spacing_mm=3.0, shape=(10, 10, 10), crop="none")
    )
    assert all(mask is None for masks in seen.values() for mask in masks)


def test_transforms_that_exist_are_taken(cohort: Dataset, tmp_path: Path, true_shifts: Path):
    result = prepare(cohort, tmp_path / "out", transforms=true_shifts)
    template = result.prepared.template_layers()
    for number, case in enumerate(result.prepared.cases, 1):
        layers = result.prepared.layers(case)
        shift = Affine.translation(np.full(3, (2 - number) * SHIFT_MM))
        expected = warp_layers(template, shift, layers.grid)
        assert (layers.labels == expected.labels).mean() > 0.995  # the rest are ties of the nearest voxel
    assert result.scans["0001_0000"]["how"] == "0001_0000.tfm"
    assert result.scans["0001_0000"]["dice"]["after"] > 0.7


def test_files_of_the_published_tool_give_the_labels_that_it_gives(cohort: Dataset, tmp_path: Path):
    """Voxel for voxel what applyBCV makes of the layers, but for what comes from outside, which is background."""
    files, size = tmp_path / "files", (20, 24, 16)
    files.mkdir()
    for case in cohort.cases:
        save(files / case.key, size, 4)
    preprocessing = PreprocessSettings(spacing_mm=4.0, shape=size, crop="body")
    result = prepare(cohort, tmp_path / "out", preprocessing=preprocessing, transforms=files)
    template = result.prepared.template_layers()
    assert template.grid.shape == size
    for case in result.prepared.cases:
        if case.key == result.prepared.template.key:
            continue
        places = published_places(files / f"{case.key}_displacements.dat", TABLE, size)
        last = np.array(size)[:, None, None, None] - 0.5
        within = ((places > -0.5) & (places < last)).all(axis=0)
        tie = (np.abs(places % 1 - 0.5) < 1e-3).any(axis=0)
        assert 0.3 < within.mean() < 1
        for ours, labels in zip(result.prepared.layers(case).labels, template.labels, strict=True):
            expected = np.where(within, published_nearest(labels, places), 0)
            np.testing.assert_array_equal(ours[~tie], expected[~tie])


def test_only_what_changed_is_done_again(cohort: Dataset, tmp_path: Path, true_shifts: Path, monkeypatch):
    out = tmp_path / "out"
    first = prepare(cohort, out, transforms=true_shifts)
    assert first.reused == 0
    layers = load_layers(out / "layers" / "0003_0000.npz").labels
    stamp = (out / "template" / "layers.npz").stat().st_mtime_ns
    again = prepare(cohort, out, transforms=true_shifts)
    assert again.reused == 2
    assert again.scans == first.scans
    assert (out / "template" / "layers.npz").stat().st_mtime_ns == stamp
    write_transform(Affine.identity(), true_shifts / "0003_0000.tfm", "itk-tfm", read_image(cohort.cases[2].image).grid)
    changed = prepare(cohort, out, transforms=true_shifts, cutting=LayerSettings(2, 10, 4.0, seed=1))
    assert changed.reused == 1
    assert not np.array_equal(load_layers(out / "layers" / "0003_0000.npz").labels, layers)
    assert (out / "template" / "layers.npz").stat().st_mtime_ns > stamp
    with pytest.raises(UserError, match="already exists"):
        prepare(cohort, out, transforms=true_shifts, preprocessing=PreprocessSettings(spacing_mm=2.0))


def test_a_scan_that_fails_stops_no_other(cohort: Dataset, tmp_path: Path, true_shifts: Path, monkeypatch):
    whole = registration._scan_to_template

    def fail(job, *arguments):
        if job.case.key == "0001_0000":
            raise MemoryError
        return whole(job, *arguments)

    monkeypatch.setattr(registration, "_scan_to_template", fail)
    out = tmp_path / "out"
    with pytest.raises(RegistrationFailure, match=r"1 of 2 scans failed, the first .0001_0000.*memory ran out"):
        prepare(cohort, out, transforms=true_shifts)
    with pytest.raises(UserError, match="has no layers; prepare"):
        Prepared.of(read_dataset(out))
    result = prepare(cohort, out, transforms=true_shifts, leave_out_failed=True)
    assert result.reused == 1
    assert list(result.failed) == ["0001_0000"]
    assert [case.key for case in result.prepared.cases] == ["0002_0000", "0003_0000"]


def test_scans_are_taken_where_they_are(cohort: Dataset, tmp_path: Path, true_shifts: Path):
    out = tmp_path / "out"
    result = prepare(cohort, out, preprocessing=None, transforms=true_shifts, splits=("validation",))
    assert [case.image for case in result.prepared.dataset.cases] == [case.image for case in cohort.cases]
    np.testing.assert_allclose(result.prepared.layers(result.prepared.cases[0]).grid.spacing_mm, 4)
    assert not (out / "imagesTr").exists()
    again = prepare(cohort, out, preprocessing=None, transforms=true_shifts, splits=("validation",))
    assert again.reused == 2
    with pytest.raises(UserError, match="folder of the data set itself"):
        prepare(cohort, cohort.root, preprocessing=None)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").touch()
    with pytest.raises(UserError, match="holds files but no"):
        prepare(cohort, tmp_path / "other", preprocessing=None)


def test_the_published_mask_surrounds_the_organs(cohort: Dataset, tmp_path: Path, true_shifts: Path):
    organs = prepare(
        cohort, tmp_path / "out", transforms=true_shifts, cutting=LayerSettings(1, 10, 4.0, "organs")
    ).prepared
    assert (organs.template_layers().labels > 0).all()  # everything in this small scan is within 60 mm
    given = prepare(
        cohort, tmp_path / "given", transforms=true_shifts, cutting=LayerSettings(1, 10, 4.0, "given")
    ).prepared
    layers = given.template_layers()
    mask = Affine.identity().warp_labels(read_labels(given.template.mask), layers.grid, "nearest").data[0]
    assert ((layers.labels[0] > 0) == (mask > 0)).mean() > 0.97


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"transforms": "empty"}, "no transform of the scan 0001_0000"),
        ({"registration": RegistrationSettings("deeds", settings=("alfa=2",))}, "alfa"),
        ({"splits": ("test",)}, "no scan of test but the template"),
    ],
)
def test_what_cannot_work_is_told_before_anything_is_written(cohort, tmp_path, changes, message):
    if "transforms" in changes:
        changes = {"transforms": tmp_path / "empty"}
        (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=message):
        prepare(cohort, tmp_path / "out", **changes)
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="--mask must be one of"):
        LayerSettings(mask="head")


def test_jobs_can_be_sent_to_other_processes(cohort: Dataset, tmp_path: Path):
    jobs = registration_jobs(cohort.cases, cohort.cases[1], FAST, {}, 4.0, tmp_path)
    assert [job.case.key for job in jobs] == ["0001_0000", "0003_0000"]
    assert pickle.loads(pickle.dumps(jobs)) == jobs
    assert jobs[0].origin != jobs[1].origin
    assert registration_jobs(cohort.cases, cohort.cases[1], FAST, {}, 2.0, tmp_path)[0].origin != jobs[0].origin


def test_a_transform_belongs_to_a_scan_by_its_name(cohort: Dataset, tmp_path: Path):
    case = cohort.cases[0]
    (tmp_path / "0001_matrix.txt").touch()
    with pytest.raises(UserError, match="no transform of the scan"):
        existing_transform(tmp_path, case)
    (tmp_path / "0001_displacements.dat").touch()
    assert existing_transform(tmp_path, case).name == "0001_displacements.dat"
    (tmp_path / "AbdomenCTCT_0001_0000.h5").touch()
    with pytest.raises(UserError, match=r"holds 0001_displacements.dat and AbdomenCTCT_0001_0000.h5"):
        existing_transform(tmp_path, case)


def test_a_prepared_data_set_without_its_files_is_told(cohort: Dataset, tmp_path: Path, true_shifts: Path):
    prepared = prepare(cohort, tmp_path / "out", transforms=true_shifts).prepared
    (tmp_path / "out" / "layers" / "0003_0000.npz").unlink()
    with pytest.raises(UserError, match=r"layers/0003_0000.npz is missing"):
        Prepared.of(prepared.dataset)


def test_the_command_prepares_shows_and_goes_on(cohort: Dataset, tmp_path: Path, true_shifts: Path):
    words = ["slicreg", "prepare", "--dataset", str(cohort.path), "--template", "0002_0000", "-o", str(tmp_path / "p")]
    words += ["--spacing", "3", "--shape", "22,26,24", "--layers", "2", "--supervoxels", "10", "--workers", "1"]
    words += ["--layer-spacing", "4", "--transforms", str(true_shifts)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.stderr
    assert "0003_0000" in result.stdout
    assert "prepared; pictures in" in result.stderr
    assert "2 scans were finished by an earlier run" in CliRunner().invoke(app, words).stderr
    for wrong, message in (
        (["--shape", "3,4"], "--shape wants three whole numbers"),
        (["--workers", "0"], "--workers must be at least 1"),
        (["--split", "all"], "--split must be training"),
        (["--mask", "lungs"], "--mask must be one of"),
    ):
        failed = CliRunner().invoke(app, words + wrong)
        assert failed.exit_code == 2
        assert failed.stderr.startswith("error: ")
        assert message in failed.stderr


def test_the_command_cuts_a_scan(cohort: Dataset, tmp_path: Path):
    case, out = cohort.cases[0], tmp_path / "a.npz"
    words = ["slicreg", "layers", str(case.image), "-o", str(out), "--layers", "2", "--supervoxels", "12"]
    words += ["--layer-spacing", "4", "--nifti", str(tmp_path / "a.nii.gz")]
    result = CliRunner().invoke(app, [*words, "--mask", str(case.mask)])
    assert result.exit_code == 0, result.stderr
    made = load_layers(out)
    assert [one.max() for one in made.labels] == [12, 12]
    seen = read_image(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(seen.data, made.labels)
    assert seen.grid.matches(made.grid, 1e-3)
    assert "12 supervoxels of" in Page((tmp_path / "a.html").read_text("utf-8")).text
    again = CliRunner().invoke(app, words)
    assert again.exit_code == 2
    assert "--overwrite" in again.stderr
    both = CliRunner().invoke(app, [*words, "--overwrite", "--mask", str(case.mask), "--organs", str(case.label)])
    assert "choose one" in both.stderr


def test_the_page_shows_every_layer_and_escapes_names():
    grid = Grid((6, 8, 10), affine_of(rotation((0, 0, 0)), (4, 4, 4), (0, 0, 0)))
    labels = np.zeros((2, *grid.shape), np.uint8)
    labels[:, 1:3], labels[:, 3:5] = 1, 2
    labels[1, :, :4][labels[1, :, :4] > 0] += 2
    image = Image(np.full(grid.shape, 40, np.int16), grid, "<b>")
    text = layers_page(LayersReport("of <b>", image, Layers(labels, grid), (), ("x",), (ScanRow("<i>", ("1",)),)))
    page = Page(text)
    assert "b" not in page.tags
    assert "Layer 2" in page.text
    assert "2 supervoxels of 10.2 to 10.2 ml" in page.text
    assert "80 voxels (median) share their numbers in all 2 layers" in page.text
    assert len(page.pictures) == 9


def test_borders_are_dark_and_background_keeps_its_grey():
    labels = np.zeros((300, 400), np.uint8)
    labels[:, 200:] = 7
    picture = paint(labels, np.full(labels.shape, 200, np.uint8))
    assert (picture[:, :199] == 200).all()
    assert (picture[:, 199] == 70).all()
    assert (picture[5, 300] != 200).any()
    assert (picture[:, 201:] == picture[5, 300]).all()
