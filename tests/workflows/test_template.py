"""An unbiased template: where shapes and sizes of the mean must lie is known, whatever the start."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from anamorph.batch.registration import RegistrationSettings
from anamorph.cli.main import app
from anamorph.data import Case
from anamorph.errors import RegistrationFailure, UserError
from anamorph.geometry import Grid
from anamorph.image import Image, Labels
from anamorph.image.read import read_image, read_labels
from anamorph.image.write import write_image
from anamorph.registration.folder import WARPED_LABELS
from anamorph.transforms import Affine, Displacement
from anamorph.transforms.fields import compose
from anamorph.transforms.files import read_transform
from anamorph.workflows.template import iteration
from anamorph.workflows.template.build import Template, build_template, pairwise_dice
from anamorph.workflows.template.mean import MajorityVote, MeanImage, mean_shape, pose_of, template_grid
from anamorph.workflows.template.scans import TemplateSettings, cases_of, check_cases, find_start
from geometries import GRIDS, affine_of, rotation
from html_page import Page

RADII = (5.0, 7.0, 9.0)
MEAN_RADIUS = 7.0
SHORT = ("search_scales=2", "search_cells=2", "search_radius_mm=5", "init=centres")
FAST = RegistrationSettings(preset="default", settings=(*SHORT, "refine_iterations=8,8", "intensity_weight=1"))


def ball(radius: float, name: str, folder: Path, shift: float) -> Case:
    """A bright ball with a brighter core, away from the origin by ``shift`` mm, darker or brighter as a whole."""
    grid = Grid((24, 24, 24), affine_of(np.eye(3), (1, 1, 1), (shift, -shift, 2 * shift)))
    distance = np.sqrt(((np.indices(grid.shape) - 11.5) ** 2).sum(axis=0))
    soft = sum(1 / (1 + np.exp((distance - part * radius) / 0.5)) for part in (1.0, 0.5))
    image, label = folder / f"{name}.nii.gz", folder / f"{name}_label.nii.gz"
    write_image(Image((10 * radius * soft).astype(np.float32), grid), image)
    write_image(Labels((distance < radius).astype(np.uint8), grid), label)
    return Case(name, "0000", image, label)


@pytest.fixture(scope="module")
def balls(tmp_path_factory) -> tuple[Case, ...]:
    folder = tmp_path_factory.mktemp("balls")
    return tuple(ball(radius, f"ball{radius:.0f}", folder, 40 * n) for n, radius in enumerate(RADII))


@dataclass(frozen=True)
class Built:
    start: str
    template: Template
    radius_mm: float


@pytest.fixture(scope="module")
def built(balls, tmp_path_factory) -> list[Built]:
    """Templates from the smallest, the largest and no ball."""
    found = []
    for start in ("ball5", "ball9", "mean"):
        out = tmp_path_factory.mktemp("template") / start
        template = build_template(balls, out, settings=TemplateSettings(start, 2), registration=FAST)
        labels = read_labels(out / "template_labels.nii.gz")
        volume = np.count_nonzero(labels.data) * np.prod(labels.grid.spacing_mm)
        found.append(Built(start, template, float((3 * volume / 4 / np.pi) ** (1 / 3))))
    return found


def test_the_template_has_the_mean_shape_whichever_scan_it_starts_from(built):
    radii = [one.radius_mm for one in built]
    assert np.abs(np.array(radii) - MEAN_RADIUS).max() < 0.4
    assert max(radii) - min(radii) < 0.3


def test_the_mean_of_the_maps_tends_to_the_identity(built):
    for one in built[:2]:  # from a scan 2 mm off the mean
        first, second = (told.mean_field_rms_mm for told in one.template.iterations[1:])
        assert first > 0.6
        assert second < 0.25 * first
        assert one.template.residual_rms_mm < 0.3 * first
        assert one.template.iterations[2].change < 0.5 * one.template.iterations[1].change


def test_what_is_handed_out_fits_together(built, balls):
    folder = built[0].template.folder
    template = read_image(folder / "template.nii.gz")
    assert template.data.min() >= 0
    assert 0.9 < np.percentile(template.data, 99.5) <= 1.2  # percentiles of each scan, whatever their brightness
    for case, radius in zip(balls, RADII, strict=True):
        result = folder / "scans" / case.key
        there = read_transform(result / "fixed_to_moving.nii.gz")
        middle = there.map_world(template.grid.centre_mm[None])[0]
        assert np.linalg.norm(middle - read_image(case.image).grid.centre_mm) < 0.5
        # Anatomy on the surface of the template lies on the surface of the scan.
        surface = template.grid.centre_mm + MEAN_RADIUS * np.vstack([np.eye(3), -np.eye(3)])
        reached = np.linalg.norm(there.map_world(surface) - read_image(case.image).grid.centre_mm, axis=1)
        assert np.abs(reached - radius).max() < 1.0
        back = read_transform(result / "moving_to_fixed.nii.gz")
        assert np.linalg.norm(back.map_world(there.map_world(surface)) - surface, axis=1).max() < 0.3
        assert json.loads((result / "result.json").read_text())["status"] in (
            "PASS",
            "WARN",
            "FAIL",
        )
    page = (folder / "report.html").read_text()
    for told in built[0].template.scans.values():
        assert "signs of failure; accuracy" in told["headline"]
        assert told["headline"] in page
    assert {key: told["dice"] > 0.85 for key, told in built[0].template.scans.items()} == dict.fromkeys(
        (case.key for case in balls), True
    )
    agreement = read_image(folder / "label_agreement.nii.gz").data
    assert agreement.max() == 1
    assert agreement.min() >= 1 / 3
    assert not (folder / "iterations" / "01" / "fields").exists()


def test_pairs_meet_by_way_of_the_template(built, balls):
    found = pairwise_dice(balls, built[0].template.folder / "scans")
    assert len(found) == 6
    assert min(found.values()) > 0.8


def test_the_page_shows_every_round_and_links_every_scan(built):
    template = built[0].template
    page = Page((template.folder / "report.html").read_text(encoding="utf-8"))
    assert len(page.pictures) == 3 + 3 * len(template.iterations)  # all slices of the last one, and three of each
    assert ("href", "scans/ball5_0000/report.html") in page.attributes
    assert "Convergence, mm" in page.text
    assert f"{template.residual_rms_mm:.3g} mm for the scans" in page.text


def outputs(folder: Path) -> dict[str, bytes]:
    """Every image, field and label map by its path."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*.nii.gz"))}


class Stopped(BaseException):
    """Nothing that the code would catch, as the end of a process."""


def test_a_run_that_was_stopped_and_damaged_ends_as_an_undisturbed_one(built, balls, tmp_path, monkeypatch):
    whole = outputs(built[0].template.folder)
    out = tmp_path / "out"
    arguments = {"settings": TemplateSettings("ball5", 2), "registration": FAST}
    real, calls = iteration.register_scans, []

    def dies_at(call: int):
        def run(*args, **kwargs):
            calls.append(1)
            if len(calls) == call:
                raise Stopped
            return real(*args, **kwargs)

        return run

    monkeypatch.setattr(iteration, "register_scans", dies_at(3))
    with pytest.raises(Stopped):
        build_template(balls, out, **arguments)
    kept = sorted((out / "iterations" / "01" / "fields").glob("*.h5"))
    assert len(kept) == 2
    content = bytearray(kept[0].read_bytes())
    content[len(content) // 2] ^= 1
    kept[0].write_bytes(bytes(content))
    with pytest.raises(UserError, match="--resume"):
        build_template(balls, out, **arguments)
    calls.clear()
    monkeypatch.setattr(iteration, "register_scans", dies_at(0))
    build_template(balls, out, **arguments, resume=True)
    assert len(calls) == 2 + 3  # the damaged field and the missing one, then the second round
    assert outputs(out) == whole
    # Nothing is left to do, until a result is damaged; a file beside is nobody's business.
    calls.clear()
    damaged = out / "scans" / "ball9_0000" / "warped.nii.gz"
    damaged.write_bytes(damaged.read_bytes()[:-9])
    (out / "template.nii.gz").unlink()
    build_template(balls, out, **arguments, resume=True)
    assert calls == []
    assert outputs(out) == whole


def test_other_settings_or_scans_make_earlier_results_stale(balls, tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr(iteration, "run_to_folder", lambda *args, **kwargs: None)
    real = iteration.register_scans
    monkeypatch.setattr(
        iteration,
        "register_scans",
        lambda *args, **kwargs: done.append(1) or real(*args, **kwargs),
    )
    monkeypatch.setattr("anamorph.workflows.template.build._vote", lambda *args: {})
    monkeypatch.setattr("anamorph.workflows.template.build._residual_mm", lambda *args: 0.0)
    arguments = {"settings": TemplateSettings("ball7", 1), "resume": True}
    stub = RegistrationSettings(
        preset="default",
        settings=(*SHORT, "refine_iterations=1,1"),
    )
    for settings, expected in (
        (stub, 3),
        (stub, 0),
        (RegistrationSettings(stub.method, "default", (*stub.settings, "rate=0.4")), 3),
    ):
        done.clear()
        build_template(balls, tmp_path / "out", registration=settings, **arguments)
        assert len(done) == expected


def test_another_label_map_repeats_the_delivery_of_its_scan_alone(balls, tmp_path, monkeypatch):
    calls = {"register_scans": 0, "run_to_folder": 0}  # of the rounds, of the delivery

    def counted(name):
        real = getattr(iteration, name)

        def run(*args, **kwargs):
            calls[name] += 1
            return real(*args, **kwargs)

        return run

    for name in calls:
        monkeypatch.setattr(iteration, name, counted(name))
    arguments = {"settings": TemplateSettings("ball7", 1), "registration": FAST, "resume": True}
    build_template(balls, tmp_path / "out", **arguments)
    assert calls == {"register_scans": 3, "run_to_folder": 3}
    labels = read_labels(balls[0].label)
    write_image(Labels(3 * labels.data, labels.grid), tmp_path / "other.nii.gz")
    build_template((replace(balls[0], label=tmp_path / "other.nii.gz"), *balls[1:]), tmp_path / "out", **arguments)
    assert calls == {"register_scans": 3, "run_to_folder": 4}
    assert 3 in read_labels(tmp_path / "out" / "scans" / balls[0].key / WARPED_LABELS).data


@pytest.mark.parametrize(("start", "error"), [("ball7", RegistrationFailure), ("mean", UserError)])
def test_a_scan_that_fails_is_named_and_may_be_left_out(balls, tmp_path, start, error):
    grid = Grid((24, 24, 24), np.eye(4))
    write_image(Image(np.full(grid.shape, 3.0, np.float32), grid), tmp_path / "flat.nii.gz")
    cases = (*balls, Case("flat", "0000", tmp_path / "flat.nii.gz"))
    settings = TemplateSettings(start, 1)
    quick = RegistrationSettings(
        preset="default",
        settings=(*SHORT, "refine_iterations=1,1"),
    )
    with pytest.raises(error, match=r"flat.*every voxel has the value 3"):
        build_template(cases, tmp_path / "out", settings=settings, registration=quick)
    without = TemplateSettings(start, 1, leave_out_failed=True)
    made = build_template(cases, tmp_path / "out", settings=without, registration=quick, resume=True)
    assert [*made.failed] == ["flat_0000"]
    assert [*made.scans] == [case.key for case in balls]
    record = json.loads((tmp_path / "out" / "template.json").read_text())
    assert record["status"] == "finished"
    assert "flat_0000" in record["failed"]
    with pytest.raises(error, match="flat"):  # a round without it does not count where it must not fail
        build_template(cases, tmp_path / "out", settings=settings, registration=quick, resume=True)


# ---- shapes ----


@pytest.mark.parametrize("name", ["identity", "oblique", "anisotropic"])
def test_the_pose_is_found_whatever_the_grid(name):
    grid = GRIDS[name]
    turn = np.eye(4)
    turn[:3, :3], turn[:3, 3] = rotation((20, -5, 12)), (30, -4, 9)
    field = Affine(turn).displacement_on(grid)
    weight = np.random.default_rng(0).random(grid.shape).astype(np.float32)
    assert np.abs(pose_of(field, weight).matrix - turn).max() < 1e-4


def test_turned_scans_do_not_shrink_the_mean():
    grid = GRIDS["oblique"]
    maps = []
    for angle in (-30, 30):
        turn = np.eye(4)
        turn[:3, :3] = rotation((0, 0, angle))
        maps.append(Affine(turn).displacement_on(grid))
    weight = np.ones(grid.shape, np.float32)
    found = mean_shape(maps, weight)
    assert found.rms_mm < 1e-3
    assert found.spread_mm < 1e-3


def test_known_fields_are_averaged_and_inverted():
    grid = Grid((20, 18, 16), np.diag([1.5, 1.0, 2.0, 1]))
    sites = np.indices(grid.shape) / np.array(grid.shape).reshape(3, 1, 1, 1)
    waves = [1.2 * np.stack([np.sin(2 * np.pi * (k + 1) * sites[n]) for n in range(3)]) for k in range(2)]
    weight = np.ones(grid.shape, np.float32)
    found = mean_shape([Displacement(wave.astype(np.float32), grid) for wave in waves], weight)
    expected = (sum(waves) / 2).astype(np.float32)
    # Waves along their own axes hold no rigid part, so nothing is taken out.
    assert np.abs(found.field.disp_vox - expected).max() < 0.01
    lengths = [np.sqrt(((wave * grid.spacing_mm.reshape(3, 1, 1, 1)) ** 2).sum(axis=0).mean()) for wave in waves]
    assert found.spread_mm == pytest.approx(np.sqrt(np.mean(np.square(lengths))), rel=1e-3)
    assert found.rms_mm == pytest.approx(found.spread_mm / np.sqrt(2), rel=1e-2)  # waves at right angles
    back = found.to_template().displacement_on(grid)
    inner = (slice(None), *(slice(3, -3),) * 3)
    assert np.abs(compose(back.disp_vox, found.field.disp_vox)[inner]).max() < 0.02


def test_the_mean_counts_only_scans_that_reach_a_voxel_and_keeps_hounsfield_units():
    grid = Grid((4, 4, 4), np.eye(4))
    values = np.full((4, 4, 4), 100.0, np.float32)
    values[0, 0, 0] = -1000
    mean = MeanImage(grid)
    mean.add(Image(values, grid), Affine.identity())
    mean.add(Image(values + 40, grid), Affine.translation([2, 0, 0]))  # template voxel 2 is beyond it
    found = mean.image("mean").data[0]
    assert found[1, 1, 1] == 120
    assert found[3, 1, 1] == 100
    assert mean.support("support").data[0, :, 1, 1].tolist() == [1, 1, 0.5, 0.5]
    far = MeanImage(grid)
    far.add(Image(values, grid), Affine.translation([9, 0, 0]))
    assert (far.image("far").data == 100).all()  # the border goes on
    assert not far.support("support").data.any()
    with pytest.raises(UserError, match="one kind"):
        mean.add(Image(np.abs(values), grid), Affine.identity())


def test_sharpening_steepens_edges():
    grid = Grid((12, 6, 6), np.eye(4))
    ramp = np.clip(np.arange(12.0) - 4, 0, 3)[:, None, None] * np.ones((1, 6, 6))
    mean = MeanImage(grid)
    mean.add(Image(ramp, grid), Affine.identity())
    plain, sharp = (mean.image("mean", amount).data[0, :, 3, 3] for amount in (0, 1))
    assert np.ptp(sharp) > 1.1 * np.ptp(plain)
    assert np.diff(sharp).max() > 1.1 * np.diff(plain).max()


def test_labels_are_voted_on():
    grid = Grid((1, 1, 4), np.eye(4))
    vote = MajorityVote(grid)
    for row in ([1, 2, 0, 7], [1, 2, 0, 2], [0, 1, 300, 0]):
        vote.add(Labels(np.array(row).reshape(grid.shape), grid))
    labels, agreement = vote.result("labels")
    assert labels.data.ravel().tolist() == [1, 2, 0, 0]  # a tie goes to the lower
    assert np.allclose(agreement.data.ravel(), [2 / 3, 2 / 3, 2 / 3, 1 / 3])


def test_the_grid_is_that_of_the_middle_scan():
    grids = [Grid((20, 30, n), affine_of(np.eye(3)[[2, 0, 1]], (1, 1, 2), (n, 0, 0))) for n in (10, 14, 90)]
    found = template_grid(grids, None)  # world axes of array axes i, j, k are y, z, x
    assert found.shape == (14, 20, 30)
    assert found.spacing_mm.tolist() == [2, 1, 1]
    assert np.allclose(found.centre_mm, 0)
    like = template_grid(grids, GRIDS["oblique"])
    assert np.allclose(like.directions, GRIDS["oblique"].directions)
    assert np.allclose(like.centre_mm, GRIDS["oblique"].centre_mm)


# ---- the user's mistakes ----


def test_wrong_input_is_told_before_anything_is_written(balls, tmp_path):
    with pytest.raises(UserError, match="at least 2"):
        check_cases(balls[:1])
    with pytest.raises(UserError, match="2 scans are called ball5_0000"):
        check_cases((*balls, balls[0]))
    with pytest.raises(UserError, match="folder"):
        check_cases(cases_of([tmp_path, balls[0].image]))
    with pytest.raises(UserError, match="names 0 scans"):
        find_start(balls, "ball6")
    with pytest.raises(UserError, match="no setting 'rat'"):
        build_template(balls, tmp_path / "out", registration=RegistrationSettings(settings=("rat=1",)))
    for wrong in ({"iterations": 0}, {"tolerance_mm": -1.0}, {"sharpening": 3.0}):
        with pytest.raises(UserError):
            TemplateSettings(**wrong)
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").touch()
    with pytest.raises(UserError, match=r"no template\.json"):
        build_template(balls, tmp_path / "out", resume=True)
    assert find_start(balls, str(balls[1].image)) == balls[1]


def test_the_command_tells_what_it_wants(balls, tmp_path):
    def run(*arguments: object):
        return CliRunner().invoke(app, ["template", "build", *map(str, arguments)])

    assert "name the scans" in run("-o", tmp_path / "out").stderr
    assert "--split must be" in run("-o", tmp_path / "out", "--dataset", tmp_path, "--split", "all").stderr
    assert "no such file" in run("-o", tmp_path / "out", tmp_path / "a.nii.gz", tmp_path / "b.nii.gz").stderr
    files = [case.image for case in balls]
    options = [part for given in FAST.settings for part in ("--set", given)]
    done = run(
        "-o",
        tmp_path / "out",
        *files,
        "--preset",
        "default",
        *options,
        "--iterations",
        1,
        "--start",
        "ball7",
        "--workers",
        1,
    )
    assert done.exit_code == 0, done.stderr
    assert "mean field" in done.stdout
    assert "--iterations with a larger number" in done.stdout
    assert not (tmp_path / "out" / "template_labels.nii.gz").exists()
    again = run("-o", tmp_path / "out", *files)
    assert again.exit_code == 2
    assert "--resume" in again.stderr
