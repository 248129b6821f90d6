"""What is known of the tissue of scans, and what pulls, in the table of a cohort, through the command line."""

from __future__ import annotations

import csv
import shutil
import tomllib

import numpy as np
import pytest
from typer.testing import CliRunner

from anamorph import read_labels, read_transform, register
from anamorph.batch.cluster import Machines, connected
from anamorph.batch.records import Store
from anamorph.batch.store import Contents
from anamorph.cli.main import app
from anamorph.errors import UserError
from anamorph.image.image import Labels
from anamorph.image.pieces import pieces_of
from anamorph.image.write import write_image
from anamorph.phantom.inserts import make_insert_pair
from anamorph.transforms.piece_change import rigid_deviation_mm, volume_change_percent
from anamorph.workflows.cohort.job import jobs_of
from anamorph.workflows.cohort.plan import read_plan
from cohort_runs import FAST, status_of, write_plan
from small_cohort import ORGANS_MM, write_cohort

PHANTOM = make_insert_pair((64, 52, 56), seed=1)
SCANS = "fixed.nii.gz", "moving.nii.gz"


@pytest.fixture(scope="module")
def worker():
    """One for all runs, which has everything imported."""
    with connected(Machines(workers=1, tls=False)) as client:
        yield client.scheduler.address


@pytest.fixture(scope="module")
def registered(tmp_path_factory, worker):
    """Pairs with rods of the fixed scan and the lesion of the moving one, the former also about so, and free."""
    folder = tmp_path_factory.mktemp("cohort")
    for name, image in zip(SCANS, (PHANTOM.scans.fixed, PHANTOM.scans.moving), strict=True):
        write_image(image, folder / name)
    write_image(PHANTOM.rods, folder / "rods.nii.gz")
    write_image(PHANTOM.moving_lesion, folder / "lesion.nii.gz")
    rows = ["exact,{},{},rods.nii.gz,lesion.nii.gz", "about,{},{},rods.nii.gz=10,", "free,{},{},,"]
    head = "id,fixed,moving,fixed_keep_rigid,moving_keep_volume"
    (folder / "pairs.csv").write_text("\n".join([head, *(row.format(*SCANS) for row in rows)]))
    run(folder, worker)
    return folder


def run(folder, worker):
    plan = write_plan(folder, 'csv = "pairs.csv"', rest="[run]\nattempts = 1")
    done = CliRunner().invoke(app, ["cohort", "run", str(plan), "-o", str(folder / "run"), "--workers", worker])
    assert done.exit_code == 0, done.output
    return done.stderr


def maps(folder, pair):
    (job,) = (job for job in status_of(folder / "run").jobs if job.id == pair)
    place = Store(folder / "run").result_folder(job.key)
    return tuple(read_transform(place / f"{name}.nii.gz") for name in ("fixed_to_moving", "moving_to_fixed"))


def bent_mm(transform):
    return max(rigid_deviation_mm(piece, transform) for piece in pieces_of(PHANTOM.rods)[0])


def grown_percent(transform):
    return abs(volume_change_percent(pieces_of(PHANTOM.moving_lesion)[0][0], transform))


def test_what_the_table_says_is_kept(registered):
    free, about, exact = (maps(registered, pair) for pair in ("free", "about", "exact"))
    assert bent_mm(exact[0]) < 2e-4 < bent_mm(about[0]) < 0.2 * bent_mm(free[0])
    assert grown_percent(exact[1]) < 0.01 < 15 < grown_percent(free[1])


def test_the_map_is_the_one_of_a_single_registration(registered):
    settings = [f"{name}={value}" for name, value in tomllib.loads(FAST)["method"]["settings"].items()]
    settings = [one.replace("[", "").replace("]", "").replace(" ", "") for one in settings]
    scans = [registered / name for name in SCANS]
    known = {"keep_rigid": [(registered / "rods.nii.gz", 10.0)]}
    single = register(*scans, settings=settings, device="cpu", **known)
    points = PHANTOM.scans.fixed_points.positions_mm
    of_cohort = maps(registered, "about")[0].map_world(points)
    np.testing.assert_allclose(of_cohort, single.pair.fixed_to_moving.map_world(points), atol=1e-3)


def test_what_is_kept_is_measured(registered):
    records = status_of(registered / "run").records.values()
    scores = {record.id: record.result["metrics"]["scores"]["correct"] for record in records}
    assert scores["exact"]["kept_deviation_mm"]["mean"] < 2e-4 < scores["about"]["kept_deviation_mm"]["mean"]
    assert scores["exact"]["kept_volume_percent"]["mean"] < 0.01
    assert "kept_deviation_mm" not in scores["free"]
    done = CliRunner().invoke(app, ["cohort", "report", str(registered / "run")])
    assert done.exit_code == 0, done.output
    with (registered / "run" / "report" / "results.csv").open(newline="") as stream:
        rows = {row["pair"]: row for row in csv.DictReader(stream)}
    assert rows["free"]["kept_deviation_mm"] == "" < rows["exact"]["kept_deviation_mm"]


def test_a_changed_mask_or_weight_is_registered_anew_and_nothing_else(registered, worker, tmp_path):
    folder = shutil.copytree(registered, tmp_path / "copy")
    assert "0 to do" in run(folder, worker)
    rods = PHANTOM.rods
    write_image(Labels(np.where(rods.data == 1, 1, 0).astype(np.uint8), rods.grid), folder / "rods.nii.gz")
    assert "1 complete, 2 to do" in run(folder, worker)
    first, *others = pieces_of(rods)[0]
    transform = maps(folder, "exact")[0]
    assert rigid_deviation_mm(first, transform) < 2e-4
    assert min(rigid_deviation_mm(other, transform) for other in others) > 0.1
    table = folder / "pairs.csv"
    table.write_text(table.read_text().replace("=10", "=20"))
    assert "2 complete, 1 to do" in run(folder, worker)


@pytest.fixture
def folder(tmp_path):
    """Two scans with labels 1 to 3 and landmarks, and a mask of each that is not in the manifest."""
    write_cohort(tmp_path / "raw", count=2, shift_mm=4.0)
    for name in ("bones.nii.gz", "more.nii.gz", "other.nii.gz"):
        shutil.copy(tmp_path / "raw" / "masksTr" / "AbdomenCTCT_0001_0000.nii.gz", tmp_path / name)
    return tmp_path


def planned(folder, table, method="", data='manifest = "raw"\ncsv = "pairs.csv"'):
    (folder / "pairs.csv").write_text(table)
    return read_plan(write_plan(folder, data, f'label = "fast"\n{method}'))


def test_a_table_adds_files_to_scans_of_a_manifest_and_both_directions_exchange_them(folder):
    table = "fixed,moving,fixed_keep_rigid,moving_no_partner\n0001,0002,bones.nii.gz;more.nii.gz=5,other.nii.gz\n"
    plan = planned(folder, table, data='manifest = "raw"\ncsv = "pairs.csv"\nboth_directions = true')
    bones, more, other = (folder / f"{name}.nii.gz" for name in ("bones", "more", "other"))
    there, back = (plan.methods[0].settings.known_of(one.pair) for one in plan.pairs)
    assert there == {"keep_rigid": [bones, (more, 5.0)], "moving_no_partner": other}
    assert back == {"moving_keep_rigid": [bones, (more, 5.0)], "no_partner": other}
    files = plan.files_of(plan.pairs[0], plan.methods[0])
    assert (files["keep_rigid"], files["keep_rigid1=5.0"], files["moving_no_partner"]) == (bones, more, other)


def test_what_pulls_measures_nothing(folder):
    landmarks = [f"raw/landmarksTr/AbdomenCTCT_000{n}_0000.csv" for n in (1, 2)]
    plain = "fixed,moving\n0001,0002\n"
    with_keypoints = "fixed,moving,fixed_keypoints,moving_keypoints\n0001,0002," + ",".join(landmarks)

    def measured(table, method):
        (job,) = jobs_of(planned(folder, table, method), Contents(), folder)
        return {measure.name: measure.labels for measure in job.evaluation.measures}

    everything = {"LogJacDetStd": (), "DSC": (1, 2, 3), "HD95": (1, 2, 3), "TRE_lm": ()}
    assert measured(plain, "") == everything
    assert measured(plain, "use_points = 2") == {name: everything[name] for name in ("LogJacDetStd", "DSC", "HD95")}
    assert measured(with_keypoints, "use_points = 2") == everything
    assert measured(plain, 'use_labels = "1,2=10"') == everything | {"DSC": (3,), "HD95": (3,)}
    assert measured(plain, 'use_labels = "all"') == {"LogJacDetStd": (), "TRE_lm": ()}


def test_points_and_labels_pull(folder, worker):
    """Both are 4 mm beside what the images say, along the first axis."""
    raw, stem = folder / "raw", "AbdomenCTCT_0002_0000"
    points = raw / "landmarksTr" / f"{stem}.csv"
    np.savetxt(points, np.loadtxt(points, delimiter=",") + np.array([2, 0, 0]), delimiter=",")
    labels = read_labels(raw / "labelsTr" / f"{stem}.nii.gz")
    write_image(Labels(np.roll(labels.data[0], 2, axis=0), labels.grid), raw / "labelsTr" / f"{stem}.nii.gz")
    organs = ORGANS_MM - 2.0
    beside = {}
    for method in ("", "use_points = 0.5", 'use_labels = "all=300"'):
        plan = planned(folder, "fixed,moving\n0001,0002\n", method).path
        done = CliRunner().invoke(app, ["cohort", "run", str(plan), "-o", str(folder / "run"), "--workers", worker])
        assert done.exit_code == 0, done.output
        moved = maps(folder, "0001_0000<--0002_0000")[0].map_world(organs) - organs - 4.0
        beside[method] = moved.mean(axis=0)[0]
    free, by_points, by_labels = beside.values()
    assert abs(free) < 0.5
    assert by_points > 2.5
    assert by_labels > 1.5


def test_outlines_that_do_not_pull_measure(folder):
    """The outlines of the labels of scans 4 mm apart end closer together."""
    outlines = ",".join(f"raw/labelsTr/AbdomenCTCT_000{n}_0000.nii.gz" for n in (1, 2))
    table = f"fixed,moving,fixed_outlines,moving_outlines\n0001,0002,{outlines}\n"
    scores = {}
    for method in ("", "use_points = 2"):
        (job,) = jobs_of(planned(folder, table, method), Contents(), folder)
        metrics = job.do()["result"]["metrics"]
        scores[method] = [metrics[when]["correct"].get("outline_distance_mm") for when in ("baseline", "scores")]
    before, after = scores[""]
    assert after["mean"] < 0.5 * before["mean"] < 2.1
    assert scores["use_points = 2"] == [None, None]


@pytest.mark.parametrize(
    ("table", "method", "message"),
    [
        ("fixed,moving,fixed_sliding\n0001,0002,lungs.nii.gz\n", "", "pairs.csv, line 2: sliding: no such file"),
        ("fixed,moving,fixed_keep_rigid\n0001,0002,bones.nii.gz=x\n", "", "line 2: .*'x' is no weight"),
        ("fixed,moving,fixed_keep_rigid\n0001,0002,bones.nii.gz=-1\n", "", "line 2: .*positive number, not -1"),
        ("fixed,moving,fixed_bones\n0001,0002,b\n", "", "line 1: .*fixed_keep_rigid, moving_keep_rigid"),
        ("fixed,moving,fixed_outlines\n0001,0002,bones.nii.gz\n", "", "0001_.* has outlines of one scan alone"),
        ("fixed,moving\n0001,0002\n", "use_points = -1", "plan.toml, line .: use_points takes how exactly"),
        ("fixed,moving\n0001,0002\n", 'use_labels = "liver"', "plan.toml, line .: .*takes all or numbers"),
    ],
)  # fmt: skip
def test_mistakes_are_told_with_their_line(folder, table, method, message):
    with pytest.raises(UserError, match=message) as told:
        planned(folder, table, method)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("use_points = 2", "the pair .* has no points or outlines for use_points of 'fast'"),
        ('use_labels = "all"', "has no labels for use_labels of 'fast'"),
    ],
)
def test_a_pair_without_what_is_to_pull_is_refused(folder, method, message):
    with pytest.raises(UserError, match=message):
        planned(folder, "fixed,moving\na.nii,b.nii\n", method, data='csv = "pairs.csv"')
