"""The linear start as a method of its own, from the settings to the files."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import SimpleITK as sitk
from typer.testing import CliRunner

import anamorph
from anamorph.cli.main import app
from anamorph.errors import UserError
from anamorph.image.write import write_image
from anamorph.methods import METHODS
from anamorph.methods.affine import Linear
from anamorph.methods.base import Pair, Run
from anamorph.methods.linear_start import leads
from anamorph.methods.recipe import prepared
from anamorph.methods.start.settings import INTENSITY_WEIGHT, StartConfig
from anamorph.methods.start.volumes import WEAK
from anamorph.registration.start_map import map_rows
from anamorph.settings import make_config
from anamorph.testing.conformance import MethodConformance
from anamorph.testing.pairs import apart_vox, gentle_pair
from anamorph.transforms import Affine


class TestLinear(MethodConformance):
    method = Linear
    deforms = False
    limits_mm: ClassVar[dict[str, float]] = {
        "affine": 0.24,
        "smooth": 6.8,
        "flipped and finer": 6.8,
        "permuted and oblique": 6.9,
        "both sheared": 6.9,
        "odd": 8.2,
        "thick": 1.7,
        "2D": 6.8,
        "two channels": 8.2,
        "padded": 8.2,
        "given start": 6.9,
    }

    def test_it_is_what_convex_starts_from(self):
        pair = gentle_pair()
        ours = self.run(pair.fixed, pair.moving)
        convex = anamorph.register(pair.fixed, pair.moving, preset="default", settings={"refine_iterations": (0, 0)})
        assert convex.provenance["start"][: len(ours.provenance["start"])] == ours.provenance["start"]
        found = convex.fixed_to_moving
        start = found if isinstance(found, Affine) else next(part for part in found.parts if isinstance(part, Affine))
        np.testing.assert_allclose(start.matrix, ours.fixed_to_moving.matrix, atol=1e-9)

    def test_the_map_of_the_start_is_told_from_fixed_to_moving_whichever_scan_leads(self):
        pair = gentle_pair()
        assert leads(*prepared(Pair(pair.fixed, pair.moving))) != leads(*prepared(Pair(pair.moving, pair.fixed)))
        for fixed, moving in ((pair.fixed, pair.moving), (pair.moving, pair.fixed)):
            found = anamorph.register(fixed, moving, preset="default", settings={"refine_iterations": (0, 0)})
            ours = anamorph.register(fixed, moving, preset="default", method="linear")
            assert found.provenance["start_map"] == ours.provenance["start_map"]
            shift = ours.fixed_to_moving.map_world(fixed.grid.centre_mm[None])[0] - fixed.grid.centre_mm
            np.testing.assert_allclose(found.provenance["start_map"]["shift_ras_mm"], shift, rtol=1e-5)

    def test_a_rigid_start_keeps_lengths(self):
        pair = gentle_pair()
        linear = Linear(StartConfig(init="rigid"))(Pair(pair.fixed, pair.moving), Run()).fixed_to_moving.matrix[:3, :3]
        np.testing.assert_allclose(linear @ linear.T, np.eye(3), atol=1e-6)


def test_presets_are_those_of_the_start_alone():
    assert Linear.presets["head-neck-ct"] == {"init": "rigid", "guide": "guide-head-neck,none"}
    assert Linear.presets["cardiac-mr"] == {"intensity_weight": 40.0, "guide": "guide-heart,none"}
    assert set(Linear.presets) == set(METHODS.find("convex").presets)
    assert StartConfig(**Linear.presets["generic-mr"]).start_weight == INTENSITY_WEIGHT
    for setting in ("intensity_weight", "intensity_in_start"):
        with pytest.raises(ValueError, match="must not be negative"):
            StartConfig(**{setting: -1.0})


def test_world_coordinates_and_middles_are_taken_as_they_are():
    pair = gentle_pair()
    far = np.eye(4)
    far[:3, 3] = (70.0, -20.0, 5.0)
    moving = anamorph.Image(pair.moving.data, anamorph.Grid(pair.moving.grid.shape, far @ pair.moving.grid.affine))
    world, middles = (
        anamorph.register(pair.fixed, moving, method="linear", **given).fixed_to_moving
        for given in ({"settings": {"init": "world"}}, {"init": "centres", "settings": ["intensity_weight=1"]})
    )
    np.testing.assert_array_equal(world.matrix, np.eye(4))
    np.testing.assert_allclose(middles.matrix, far, atol=1e-9)


def test_a_start_asked_for_by_name_is_doubted_and_a_map_is_not():
    pair = gentle_pair()
    far = np.eye(4)
    far[:3, 3] = (70.0, -20.0, 5.0)
    moving = anamorph.Image(pair.moving.data, anamorph.Grid(pair.moving.grid.shape, far @ pair.moving.grid.affine))
    world, middles, given = (
        Linear(StartConfig(init=name))(Pair(pair.fixed, moving, start=start), Run())
        for name, start in (("world", None), ("centres", None), ("world", Affine.identity()))
    )
    (warning,) = world.warnings
    explained = float(re.search(r"explains (0\.\d\d) of 1", world.provenance["start"][0])[1])
    assert explained < WEAK
    assert warning.startswith(
        f"the scans explain little of each other ({explained:.2f} of 1; a wrong place may reach 0.35)"
    )
    assert middles.warnings == given.warnings == []


@pytest.mark.parametrize("method", [*METHODS])
def test_old_names_of_the_start_are_told(method: str):
    middles = make_config(METHODS.find(method), "default").init
    for old, new in (("none", "world"), ("centre", "frame" if middles == "frame" else "centres")):
        with pytest.raises(UserError, match=f"^init={old} is now called init={new}$"):
            make_config(METHODS.find(method), "default", [f"init={old}"])
        assert make_config(METHODS.find(method), "default", [f"init={new}"]).init == new


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("linear")
    pair = gentle_pair()
    write_image(pair.fixed, folder / "fixed.nii.gz")
    write_image(pair.moving, folder / "moving.nii.gz")
    return folder


def command(*words: object) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def started(scans: Path) -> Path:
    done = command("register", scans / "fixed.nii.gz", scans / "moving.nii.gz", "-o", scans / "out", "--only-start")
    assert done.exit_code == 0, done.output
    record = json.loads((scans / "out" / "result.json").read_text())
    assert record["provenance"]["method"] == "linear"
    first = record["provenance"]["start"][0]
    page = (scans / "out" / "report.html").read_text()
    assert f"start: {first}" in done.stdout.splitlines()
    assert f"<span>Start</span> <b>{first}</b>" in page
    told = map_rows(record["provenance"]["start_map"])
    assert [name for name, _ in told] == ["shift", "turn", "scale", "overlap"]
    for name, words in told:
        assert f"  {name}: {words}" in done.stdout.splitlines()
        assert f"<span>{name.capitalize()}</span> {words} " in page
    return scans / "out"


def test_register_says_of_a_start_what_inspect_says(started: Path, scans: Path):
    done = command("inspect", "--json", scans / "fixed.nii.gz", scans / "moving.nii.gz")
    inspected = json.loads(done.stdout)["relations"][0]["start"]
    record = json.loads((started / "result.json").read_text())["provenance"]
    assert inspected["steps"] == record["start"]
    assert {name: inspected[name] for name in record["start_map"]} == record["start_map"]
    assert map_rows(inspected) == map_rows(record["start_map"])


@pytest.mark.parametrize("suffix", [".tfm", ".mat"])
@pytest.mark.parametrize("side", ["fixed_to_moving", "moving_to_fixed"])
def test_itk_reads_a_linear_result_as_an_affine(started: Path, side: str, suffix: str):
    ours = anamorph.read_transform(started / f"{side}.nii.gz")
    theirs = sitk.ReadTransform(str(started / f"{side}{suffix}"))
    assert theirs.IsLinear()
    for point in np.random.default_rng(0).uniform(-60, 60, (20, 3)):
        lps = np.array(theirs.TransformPoint((point * [-1, -1, 1]).tolist()))
        np.testing.assert_allclose(lps * [-1, -1, 1], ours.map_world(point[None])[0], atol=1e-3)


def test_itk_resamples_to_the_warped_scan(started: Path, scans: Path):
    fixed, moving = (sitk.ReadImage(str(scans / f"{name}.nii.gz")) for name in ("fixed", "moving"))
    affine = sitk.ReadTransform(str(started / "fixed_to_moving.tfm"))
    theirs = sitk.GetArrayFromImage(sitk.Resample(moving, fixed, affine, sitk.sitkLinear, -1024.0))
    ours = sitk.GetArrayFromImage(sitk.ReadImage(str(started / "warped.nii.gz")))
    inner = (slice(4, -4),) * 3
    np.testing.assert_allclose(theirs[inner], ours[inner], atol=1.5)


def test_an_old_name_is_one_line_of_an_error(scans: Path):
    pair = scans / "fixed.nii.gz", scans / "moving.nii.gz"
    done = command("register", *pair, "-o", scans / "old", "--set", "init=none")
    assert done.exit_code == 2
    assert done.stderr.strip().splitlines()[-1].endswith("init=none is now called init=world")
    assert not (scans / "old").exists()


def test_hypotheses_are_named_in_place_of_a_file(scans: Path):
    pair = scans / "fixed.nii.gz", scans / "moving.nii.gz"
    done = command("register", *pair, "-o", scans / "named", "--only-start", "--init", "world")
    assert done.exit_code == 0, done.output
    record = json.loads((scans / "named" / "result.json").read_text())
    assert record["provenance"]["settings"]["init"] == "world"
    np.testing.assert_array_equal(anamorph.read_transform(scans / "named" / "fixed_to_moving.tfm").matrix, np.eye(4))
    done = command("register", *pair, "-o", scans / "lost", "--init", "somewhere")
    assert done.exit_code == 2
    assert "somewhere" in done.stderr


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("any_pose", "there is no start 'any_pose' (did you mean 'any-pose'?)"),
        ("centers", "there is no start 'centers' (did you mean 'centres'?)"),
        (
            "foo",
            "there is no start 'foo'; give a transform in a file, or one of: auto, world, centres, translation, rigid",
        ),
        ("none", "init=none is now called init=world"),
        ("foo.tfm", "foo.tfm: no such file; check the path"),
    ],
)
def test_a_start_that_is_no_name_and_no_file_is_told_the_names(scans: Path, given: str, told: str):
    pair = scans / "fixed.nii.gz", scans / "moving.nii.gz"
    done = command("register", *pair, "-o", scans / "lost", "--only-start", "--init", given)
    assert done.exit_code == 2
    assert told in " ".join(done.stderr.split())
    assert not (scans / "lost").exists()


def test_only_the_start_of_another_method_is_refused(scans: Path):
    pair = scans / "fixed.nii.gz", scans / "moving.nii.gz"
    done = command("register", *pair, "-o", scans / "other", "--only-start", "--method", "deeds")
    assert done.exit_code == 2
    assert "--only-start is --method linear; drop --only-start or --method deeds" in done.stderr


def test_a_deforming_result_has_no_affine_files(scans: Path):
    pair = scans / "fixed.nii.gz", scans / "moving.nii.gz"
    quick = "--set", "refine_iterations=0,0", "--set", "init=world"
    done = command("register", *pair, "-o", scans / "deformed", *quick)
    assert done.exit_code == 0, done.output
    assert not [path for path in (scans / "deformed").iterdir() if path.suffix in (".tfm", ".mat")]


def test_a_search_goes_on_from_a_given_start():
    pair = gentle_pair()
    free = Linear()(Pair(pair.fixed, pair.moving), Run()).fixed_to_moving
    given = Affine.translation(np.array([4.0, -3.0, 2.0]))
    led = Linear()(Pair(pair.fixed, pair.moving, start=given), Run()).fixed_to_moving
    assert apart_vox(free, led, pair.fixed.grid) < 0.2
    kept = Linear(StartConfig(init="world"))(Pair(pair.fixed, pair.moving, start=given), Run()).fixed_to_moving
    np.testing.assert_allclose(kept.matrix, given.matrix, atol=1e-9)
