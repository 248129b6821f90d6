"""A series with a known motion: strain, volumes and maps come out right, smooth in time, and nothing is done twice."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import pytest
from typer.testing import CliRunner

from anamorph import (
    Affine,
    ImageSeries,
    RegistrationSettings,
    SeriesResult,
    SeriesSettings,
    UserError,
    make_beat,
    read_image,
    read_series,
    read_transform,
    register_series,
    write_series,
)
from anamorph.cli.main import app
from anamorph.errors import RegistrationFailure
from anamorph.image.write import write_image
from anamorph.phantom.ventricle import CAVITY, WALL, PhantomSeries
from anamorph.workflows.series import run
from anamorph.workflows.series.settings import find_reference, most_alike, within_a_series
from html_page import Page

BEAT = make_beat(frames=6, shape=(44, 44, 30), spacing_mm=3.0, squeeze=0.22, shortening=0.1)
BEATING = SeriesSettings(reference=0, cyclic=True)
FAST = RegistrationSettings(preset="default", settings=("refine_iterations=8,8",))
REGISTER_SCANS = run.register_scans
STUB = RegistrationSettings(method="affine", settings=("init=world",))


@dataclass(frozen=True)
class Done:
    result: SeriesResult
    phantom: PhantomSeries

    @property
    def folder(self) -> Path:
        return self.result.folder


@pytest.fixture(scope="module")
def beating(tmp_path_factory) -> Done:
    out = tmp_path_factory.mktemp("series") / "beat"
    return Done(register_series(BEAT.series, out, labels=BEAT.labels[0], settings=BEATING), BEAT)


def errors_mm(result: SeriesResult, phantom: PhantomSeries, frame: int) -> np.ndarray:
    """How far a frame's map is from the truth, over the wall."""
    places = phantom.series.grid.voxel_to_world(np.argwhere(phantom.labels[0].data[0] == WALL))
    found = result.fixed_to_moving(frame).map_world(places)
    return np.linalg.norm(found - phantom.motions[frame].map_world(places), axis=1)


def test_the_motion_is_found(beating):
    for frame in range(1, 6):
        assert errors_mm(beating.result, BEAT, frame).mean() < 0.25 * BEAT.series.grid.finest_mm
    still = BEAT.series.grid.voxel_to_world(np.argwhere(BEAT.labels[0].data[0] == WALL))
    assert np.allclose(beating.result.fixed_to_moving(0).map_world(still), still, atol=1e-5)
    there = beating.result.fixed_to_moving(3).map_world(still)
    assert np.linalg.norm(beating.result.moving_to_fixed(3).map_world(there) - still, axis=1).mean() < 0.1


def test_strain_over_the_beat_is_the_one_of_the_closed_form(beating):
    for number, frame in enumerate(beating.result.frames):
        strain, right = frame.strain[WALL], [BEAT.mean_strain(number, axis) for axis in range(3)]
        assert strain.radial == pytest.approx(right[0], abs=0.06)  # a wall of five voxels
        assert strain.circumferential == pytest.approx(right[1], abs=0.02)
        assert strain.longitudinal == pytest.approx(right[2], abs=0.02)
    peaks = beating.result.summary["peak_strain"][WALL]
    assert peaks["circumferential"]["frame"] == 3
    assert peaks["circumferential"]["time_s"] == pytest.approx(0.5)
    assert peaks["radial"]["strain"] > 0.15
    assert peaks["circumferential"]["strain"] < -0.06


def test_volumes_follow_the_tissue(beating):
    counted = [np.count_nonzero(labels.data == CAVITY) * 0.027 for labels in BEAT.labels]
    for frame, volume in zip(beating.result.frames, counted, strict=True):
        assert frame.volume_ml[CAVITY] == pytest.approx(volume, rel=0.08)
        assert frame.volume_ml[WALL] == pytest.approx(beating.result.frames[0].volume_ml[WALL], rel=0.07)
    fraction = beating.result.summary["volume_ml"][CAVITY]["ejection_fraction_percent"]
    assert fraction == pytest.approx(100 * (1 - 0.78**2 * 0.9), abs=4)


def test_what_is_handed_out_fits_together(beating):
    warped = nibabel.load(beating.result.warped)
    assert warped.shape == (44, 44, 30, 6)
    assert warped.header.get_zooms()[3] == pytest.approx(1 / 6)
    assert warped.header.get_xyzt_units() == ("mm", "sec")
    read = read_series(beating.result.warped)
    assert np.array_equal(read.frames[0].data, BEAT.series.frames[0].data)
    carried = read_series(beating.result.labels)
    for labels, right in zip(carried.frames, BEAT.labels, strict=True):
        wall, truth = labels.data == WALL, right.data == WALL
        assert 2 * np.count_nonzero(wall & truth) / (wall.sum() + truth.sum()) > 0.88
    record = json.loads((beating.folder / "series.json").read_text())
    assert record["status"] == "finished"
    assert len(record["frames"]) == 6
    assert record["frames"][3]["strain"]["2"]["radial"] == pytest.approx(beating.result.frames[3].strain[WALL].radial)
    with (beating.folder / "motion.csv").open(newline="") as stream:
        rows = [*csv.DictReader(stream)]
    assert [row["place"] for row in rows[:3]] == ["body", "1", "2"]
    assert float(rows[11]["circumferential_strain"]) == pytest.approx(
        beating.result.frames[3].strain[WALL].circumferential, rel=1e-4
    )
    for frame in beating.result.frames[1:]:
        assert frame.residual_after < 0.75 * frame.residual_before
    ends = beating.result.frames[3]
    assert ends.residual_after < 0.35 * ends.residual_before
    assert max(frame.folding_percent for frame in beating.result.frames) == 0


def test_the_page_shows_films_and_curves(beating):
    text = beating.result.page.read_text(encoding="utf-8")
    page = Page(text)
    assert beating.result.page_failure is None
    assert text.count("data:image/webp") == 2
    assert len(page.pictures) == 6
    for name in ("Displacement", "Volume of label 1", "Green-Lagrange strain of label 2", "cross-validation"):
        assert name in page.text


def test_smoothing_reduces_jitter_without_bias(beating):
    """Noisy frames of a beat, with and without smoothing of the same registrations."""
    noisy = make_beat(frames=12, shape=(48, 48, 1), spacing_mm=2.5, squeeze=0.2, noise=30.0)
    places = noisy.series.grid.voxel_to_world(np.argwhere(noisy.labels[0].data[0] == WALL))
    error, jitter, height = [], [], []
    for smoothing in (0.0, "auto"):
        settings = SeriesSettings(reference=0, cyclic=True, smoothing=smoothing)
        done = register_series(
            noisy.series, beating.folder / "noisy", settings=settings, registration=FAST, resume=True
        )
        assert (done.smoothing > 0) == (smoothing == "auto")
        course = np.stack([done.fixed_to_moving(n).map_world(places) - places for n in range(12)])
        truth = np.stack([motion.map_world(places) - places for motion in noisy.motions])
        error.append(np.linalg.norm(course - truth, axis=2).mean())
        jitter.append(np.linalg.norm(np.diff(course - truth, 2, axis=0), axis=2).mean())
        height.append((course[6] * truth[6]).sum() / (truth[6] ** 2).sum())
    assert jitter[1] < 0.15 * jitter[0]
    assert error[1] < 0.7 * error[0]
    assert abs(height[1] - 1) < 0.04  # the way at the height of the beat


def test_motion_that_jumps_is_not_smoothed_away(tmp_path):
    rest = make_beat(frames=2, shape=(40, 40, 1), spacing_mm=3.0, squeeze=0).series.frames[0]
    shifts = np.array([[0, 0, 0], [6, 0, 0], [-5, 3, 0], [4, -6, 0], [0, 6, 0], [-6, -4, 0], [5, 5, 0]], float)
    jumping = [Affine.translation(-shift).warp_image(rest, rest.grid, 400) for shift in shifts]
    settings = SeriesSettings(reference=0)
    wanted = RegistrationSettings("affine", settings=("init=translation",))
    done = register_series(jumping, tmp_path / "out", settings=settings, registration=wanted)
    for number, shift in enumerate(shifts):
        moved = done.fixed_to_moving(number).map_world(np.zeros((1, 3)))[0]
        assert np.linalg.norm(moved - shift) < 0.6


class Counted:
    """Counts registrations, and stops a run as the end of its process would."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.count, self.stop_after = 0, stop_after

    def __call__(self, *args, **kwargs):
        if self.count == self.stop_after:
            raise KeyboardInterrupt
        self.count += 1
        return REGISTER_SCANS(*args, **kwargs)


def test_a_stopped_run_goes_on_without_registering_twice(tmp_path, monkeypatch):
    out, whole = tmp_path / "out", tmp_path / "whole"
    undisturbed = register_series(BEAT.series, whole, settings=BEATING, registration=FAST)
    stopped = Counted(stop_after=2)
    monkeypatch.setattr(run, "register_scans", stopped)
    with pytest.raises(KeyboardInterrupt):
        register_series(BEAT.series, out, settings=BEATING, registration=FAST)
    assert json.loads((out / "series.json").read_text())["status"] == "unfinished"
    with pytest.raises(UserError, match=r"holds a series already; pass --resume"):
        register_series(BEAT.series, out, settings=BEATING, registration=FAST)
    going_on = Counted()
    monkeypatch.setattr(run, "register_scans", going_on)
    resumed = register_series(BEAT.series, out, settings=BEATING, registration=FAST, resume=True)
    assert (stopped.count, going_on.count) == (2, 3)
    for name in ("warped.nii.gz", "fields/0003/fixed_to_moving.nii.gz", "motion.csv"):
        assert (out / name).read_bytes() == (whole / name).read_bytes(), name
    assert resumed.smoothing == undisturbed.smoothing
    (out / "registered" / "0002" / "fixed_to_moving.nii.gz").write_bytes(b"damaged")
    again = Counted()
    monkeypatch.setattr(run, "register_scans", again)
    register_series(BEAT.series, out, settings=BEATING, registration=FAST, resume=True)
    assert again.count == 1
    other = Counted()
    monkeypatch.setattr(run, "register_scans", other)
    changed = RegistrationSettings(preset="default", settings=("refine_iterations=4,4",))
    register_series(BEAT.series, out, settings=BEATING, registration=changed, resume=True)
    assert other.count == 5


def test_frames_in_another_order_give_the_course_in_that_order(tmp_path):
    """Exactly, as each frame is registered on its own, where nothing is smoothed."""
    order = [0, 4, 2, 3, 1, 5]
    swapped = ImageSeries(tuple(BEAT.series.frames[n] for n in order))
    settings = SeriesSettings(reference=0, smoothing=0.0)
    straight, other = (
        register_series(series, tmp_path / name, settings=settings, registration=FAST).frames
        for series, name in ((BEAT.series, "straight"), (swapped, "swapped"))
    )
    for number, source in enumerate(order):
        assert other[number].displacement_mm == straight[source].displacement_mm
        assert other[number].residual_after == straight[source].residual_after


def test_the_mean_is_in_the_middle_of_the_motion(tmp_path):
    labels = BEAT.labels[0]
    settings = SeriesSettings(reference=0, to="mean", iterations=1, smoothing=0.0)
    done = register_series(BEAT.series, tmp_path / "out", labels=labels, settings=settings, registration=FAST)
    volumes = [frame.volume_ml[CAVITY] for frame in done.frames]
    counted = [np.count_nonzero(one.data == CAVITY) * 0.027 for one in BEAT.labels]
    assert np.allclose(volumes, counted, rtol=0.12)
    places = BEAT.series.grid.voxel_to_world(np.argwhere(labels.data[0] == WALL))
    ways = np.stack([done.fixed_to_moving(n).map_world(places) - places for n in range(6)])
    to_rest = np.stack([motion.map_world(places) - places for motion in BEAT.motions])
    assert np.linalg.norm(ways.mean(axis=0), axis=1).mean() < 0.4 * np.linalg.norm(to_rest.mean(axis=0), axis=1).mean()
    assert done.summary["residual_after"] < 0.6 * done.summary["residual_before"]
    assert read_image(done.folder / "mean.nii.gz").grid.matches(BEAT.series.grid)


def test_growth_is_found(tmp_path):
    grown = make_beat(frames=4, shape=(44, 44, 30), spacing_mm=3.0, squeeze=0, shortening=0, growth=1.3)
    settings = SeriesSettings(reference=0)
    done = register_series(grown.series, tmp_path / "out", labels=grown.labels[0], settings=settings)
    for number, frame in enumerate(done.frames):
        growth = frame.volume_ml[WALL] / done.frames[0].volume_ml[WALL]
        assert growth == pytest.approx(1.3 ** (number / 3), abs=0.06)
    assert done.frames[3].volume_ml[WALL] > 1.2 * done.frames[0].volume_ml[WALL]


def test_the_reference_is_chosen_and_said():
    assert find_reference(BEAT.series, SeriesSettings(cyclic=True), drawn=False) == 0
    assert find_reference(BEAT.series, SeriesSettings(reference=4), drawn=True) == 4
    odd = ImageSeries((BEAT.series.frames[3], BEAT.series.frames[0], BEAT.series.frames[1], BEAT.series.frames[1]))
    assert most_alike(odd) in (2, 3)
    with pytest.raises(UserError, match="labels and masks belong to one frame; name it with --reference"):
        find_reference(BEAT.series, SeriesSettings(), drawn=True)
    with pytest.raises(UserError, match="--reference must be a frame from 0 to 5, not 6"):
        find_reference(BEAT.series, SeriesSettings(reference=6), drawn=False)


def test_what_the_user_sets_goes_before_what_series_set():
    assert within_a_series(RegistrationSettings()).settings == ("init=world", "guide=none")
    given = within_a_series(RegistrationSettings(settings=("init=rigid", "diffusion=1")))
    assert given.settings == ("guide=none", "init=rigid", "diffusion=1")
    assert within_a_series(RegistrationSettings(method="affine")).settings == ("init=world", "guide=none")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"to": "median"}, "--to takes reference or mean, not 'median'"),
        ({"smoothing": -1.0}, "--smooth takes auto, off or a strength >= 0"),
        ({"iterations": 0}, "--iterations must be at least 1"),
        ({"axis": 3}, "the axis must be 0, 1 or 2"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        SeriesSettings(**settings)


def test_a_frame_that_fails_stops_the_end_but_not_the_others(tmp_path, monkeypatch):
    real = run.register_scans

    def fails_once(wanted, fixed, moving, **kwargs):
        if moving.name == "0002.nii.gz":
            raise RegistrationFailure("no memory")
        return real(wanted, fixed, moving, **kwargs)

    monkeypatch.setattr(run, "register_scans", fails_once)
    with pytest.raises(
        RegistrationFailure, match=r"1 of 5 frames failed, the first \(frame_0002\): no memory; .*--resume"
    ):
        register_series(BEAT.series, tmp_path / "out", settings=BEATING, registration=STUB)
    assert len([*(tmp_path / "out" / "registered").glob("*/frame.json")]) == 4


def invoke(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["series", *map(str, words)])
    return done.exit_code, " ".join((done.output + str(done.exception or "")).split())


def test_the_command(tmp_path):
    write_series(BEAT.series, tmp_path / "beat.nii.gz")
    write_image(BEAT.labels[0], tmp_path / "labels.nii.gz")
    common = (tmp_path / "beat.nii.gz", "-o", tmp_path / "out", "--workers", 1, "--set", "refine_iterations=4,4")
    code, text = invoke(*common, "--labels", tmp_path / "labels.nii.gz", "--reference", 0, "--cyclic", "--axis", "k")
    assert code == 0, text
    assert "Peaks over time" in text
    assert (tmp_path / "out" / "report.html").is_file()
    field = read_transform(tmp_path / "out" / "fields" / "0003" / "fixed_to_moving.nii.gz")
    assert field.maps == ("fixed", "moving")
    code, text = invoke(*common)
    assert code == 2
    assert "holds a series already" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--labels", "LABELS"), "labels and masks belong to one frame"),
        (("--labels", "OTHER", "--reference", "0"), "are not on the grid"),
        (("--smooth", "much"), "--smooth takes auto, off or a strength >= 0, not 'much'"),
        (("--axis", "x"), "--axis takes i, j or k, not 'x'"),
        (("--reference", "9"), "--reference must be a frame from 0 to 5, not 9"),
        (("--frame-time", "0"), "must be positive seconds"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(tmp_path, words, message):
    write_series(BEAT.series, tmp_path / "beat.nii.gz")
    write_image(BEAT.labels[0], tmp_path / "LABELS.nii.gz")
    small = BEAT.labels[0].cropped((slice(0, 20), slice(0, 20), slice(0, 20)))
    write_image(small, tmp_path / "OTHER.nii.gz")
    given = [str(tmp_path / f"{word}.nii.gz") if word in ("LABELS", "OTHER") else word for word in words]
    code, text = invoke(tmp_path / "beat.nii.gz", "-o", tmp_path / "out", *given)
    assert code == 2
    assert message in text
    assert not (tmp_path / "out").exists()


def test_a_single_frame_and_frames_of_other_grids_are_refused(tmp_path):
    first = BEAT.series.frames[0]
    write_image(first, tmp_path / "a.nii.gz")
    write_image(first.cropped((slice(0, 20), slice(0, 44), slice(0, 30))), tmp_path / "b.nii.gz")
    code, text = invoke(tmp_path / "a.nii.gz", "-o", tmp_path / "out")
    assert code == 2
    assert "a.nii.gz holds 1 frame; a series has at least 2" in text
    code, text = invoke(tmp_path / "a.nii.gz", tmp_path / "b.nii.gz", "-o", tmp_path / "out")
    assert code == 2
    assert "frame 1 (b.nii.gz) has shape 20 x 44 x 30, not 44 x 44 x 30" in text
    assert not (tmp_path / "out").exists()
