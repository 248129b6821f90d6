"""What must not deform does not, in any frame of a series, whatever is smoothed over time."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from anamorph import (
    ImageSeries,
    RegistrationSettings,
    SeriesSettings,
    UserError,
    make_beat,
    register_series,
    write_series,
)
from anamorph.cli.main import app
from anamorph.errors import RegistrationFailure
from anamorph.geometry.grid import Grid
from anamorph.image.image import Image, Labels
from anamorph.image.pieces import pieces_of
from anamorph.image.write import write_image
from anamorph.phantom.ventricle import CAVITY, WALL
from anamorph.transforms.piece_change import rigid_deviation_mm, volume_change_percent
from anamorph.workflows.series import run
from anamorph.workflows.series.results import SeriesResult

BEAT = make_beat(frames=7, shape=(44, 44, 30), spacing_mm=3.0, squeeze=0.22, shortening=0.1, noise=30.0)
GRID = BEAT.series.grid
BEATING = SeriesSettings(reference=0, cyclic=True)
FAST = RegistrationSettings(preset="default", settings=("refine_iterations=8,8",))


def mask(inside: np.ndarray, name: str) -> Labels:
    return Labels(inside.astype(np.uint8), GRID, name)


labels = BEAT.labels[0].data[0]
POOL = mask(labels == CAVITY, "pool")
corner = (np.indices(GRID.shape) > np.array(GRID.shape)[:, None, None, None] // 2).all(axis=0)
PATCH = mask((labels == WALL) & corner, "patch")


def grown_percent(result: SeriesResult, frame: int) -> float:
    return abs(volume_change_percent(pieces_of(POOL)[0][0], result.fixed_to_moving(frame)))


def bent_mm(result: SeriesResult, frame: int) -> float:
    return max(rigid_deviation_mm(piece, result.fixed_to_moving(frame)) for piece in pieces_of(PATCH)[0])


def test_pieces_are_kept_in_every_frame_after_smoothing_over_time(tmp_path, monkeypatch):
    free = register_series(BEAT.series, tmp_path / "free", settings=BEATING, registration=FAST)
    how = {"settings": BEATING, "registration": FAST, "labels": BEAT.labels[0]}
    kept = register_series(BEAT.series, tmp_path / "kept", keep_volume=POOL, keep_rigid=PATCH, **how)
    assert kept.smoothing > 0
    assert max(grown_percent(free, frame) for frame in range(7)) > 20
    assert max(bent_mm(free, frame) for frame in range(7)) > 0.2
    for frame in range(7):
        assert grown_percent(kept, frame) < 0.02
        assert bent_mm(kept, frame) < 1e-3
        points = pieces_of(PATCH)[0][0].centres_mm
        there = kept.fixed_to_moving(frame).map_world(points)
        assert np.linalg.norm(kept.moving_to_fixed(frame).map_world(there) - points, axis=1).max() < 0.01
    volumes = [frame.volume_ml[CAVITY] for frame in kept.frames]
    assert max(volumes) < 1.02 * min(volumes)
    counted = []
    monkeypatch.setattr(run, "register_scans", lambda *_, **known: counted.append(known) or 1 / 0)
    again = {"resume": True, "keep_rigid": PATCH} | how
    register_series(BEAT.series, tmp_path / "kept", keep_volume=POOL, **again)
    assert not counted
    with pytest.raises(RegistrationFailure, match="6 of 6 frames failed"):
        register_series(BEAT.series, tmp_path / "kept", keep_volume=[(POOL, 3.0)], **again)
    assert counted[0]["keep_volume"][0][1] == 3.0


def test_the_command_hands_masks_to_every_registration(tmp_path, monkeypatch):
    write_series(BEAT.series, tmp_path / "beat.nii.gz")
    write_image(POOL, tmp_path / "pool.nii.gz")
    given = []
    real = run.register_scans

    def watched(wanted, fixed, moving, **known):
        given.append({name for name in known if name not in ("progress", "fixed_mask")})
        return real(wanted, fixed, moving, **known)

    monkeypatch.setattr(run, "register_scans", watched)
    words = ["series", tmp_path / "beat.nii.gz", "-o", tmp_path / "out", "--workers", 1, "--reference", 0]
    options = "keep-rigid", "keep-volume", "stiffness", "sliding", "no-partner"
    for option in options:
        write_image(POOL if option != "stiffness" else Labels(POOL.data + 1, GRID), tmp_path / f"{option}.nii.gz")
        words += [f"--{option}", f"{tmp_path / option}.nii.gz" + ("=2" if option.startswith("keep") else "")]
    done = CliRunner().invoke(app, [*map(str, words), "--set", "refine_iterations=4,4"])
    assert done.exit_code == 0, done.output
    assert given == [{option.replace("-", "_") for option in options}] * 6
    record = json.loads((tmp_path / "out" / "series.json").read_text())
    assert record["smoothing"] == 0  # of what slides
    assert {"keep_rigid=2.0", "sliding"} <= {*record["inputs"]}


@pytest.mark.parametrize(
    ("settings", "given", "message"),
    [
        (SeriesSettings(), {"keep_rigid": POOL}, "name it with --reference"),
        (SeriesSettings(0, "mean"), {"keep_rigid": POOL}, "drop --to mean"),
        (SeriesSettings(0, smoothing=5.0), {"sliding": POOL}, "drop --smooth"),
        (SeriesSettings(0), {"keep_rigid": "none.nii.gz"}, "none.nii.gz"),
        (SeriesSettings(0), {"keep_volume": BEAT.series.frames[0]}, "is no mask"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(tmp_path, settings, given, message):
    with pytest.raises(UserError, match=message):
        register_series(BEAT.series, tmp_path / "out", settings=settings, **given)
    assert not (tmp_path / "out").exists()


def test_warnings_name_their_frames(tmp_path, monkeypatch):
    real, done = run.register_scans, []

    def worried(*scans, **known):
        outcome = real(*scans, **known)
        done.append(outcome)
        if len(done) in (2, 3, 4, 6):  # frame 0 is the reference
            outcome.warnings.append("two bones would overlap")
        return outcome

    monkeypatch.setattr(run, "register_scans", worried)
    write_series(BEAT.series, tmp_path / "beat.nii.gz")
    command = [
        "series",
        str(tmp_path / "beat.nii.gz"),
        "--reference",
        "0",
        "--smooth",
        "off",
        "-o",
        str(tmp_path / "out"),
    ]
    command += ["--workers", "1", "--method", "affine", "--set", "init=world"]
    shown = CliRunner().invoke(app, command)
    assert shown.exit_code == 0, shown.output
    wanted = "frames 2 to 4, 6: two bones would overlap"
    assert wanted in " ".join(shown.output.split())
    assert f"Warning: {wanted}" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "out" / "series.json").read_text())["warnings"]["two bones would overlap"] == [
        2,
        3,
        4,
        6,
    ]


def test_lungs_are_found_in_every_frame(tmp_path, monkeypatch):
    grid = Grid((48, 40, 24), np.diag([7.0, 7.0, 10.0, 1.0]))
    x, y, z = np.indices(grid.shape)
    values = np.where(((x - 23.5) / 21) ** 2 + ((y - 19.5) / 15) ** 2 < 1, 20, -1000).astype(np.int16)
    for centre in (14, 33):
        values[((x - centre) / 7) ** 2 + ((y - 19.5) / 10) ** 2 + ((z - 12) / 8) ** 2 < 1] = -830
    values[23, 19] = 300
    frames = tuple(Image(np.roll(values, shift, axis=2)[None], grid, f"frame {shift}") for shift in (0, 1))
    given, real = [], run.register_scans
    monkeypatch.setattr(run, "register_scans", lambda *scans, **known: given.append(known) or real(*scans, **known))
    how = {"sliding": "lungs", "settings": SeriesSettings(reference=0), "registration": FAST}
    register_series(ImageSeries(frames), tmp_path / "out", **how)
    assert [one["sliding"] for one in given] == ["lungs"]
    assert json.loads((tmp_path / "out" / "series.json").read_text())["inputs"]["sliding"] == "lungs"
    with pytest.raises(UserError, match="0 ml of lung found"):
        empty = ImageSeries(tuple(Image(np.maximum(f.data, 20) - 1020 * (f.data < -900), grid, f.name) for f in frames))
        register_series(empty, tmp_path / "none", **how)
    assert not (tmp_path / "none").exists()
