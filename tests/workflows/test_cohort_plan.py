from __future__ import annotations

import json

import pytest

from anamorph.batch.records import Store
from anamorph.batch.store import Contents
from anamorph.errors import UserError
from anamorph.workflows.cohort.job import jobs_of
from anamorph.workflows.cohort.plan import read_plan
from anamorph.workflows.cohort.run import local_machines
from cohort_runs import write_plan
from small_dataset import make_learn2reg, name_of, write_scan


@pytest.fixture
def folder(tmp_path):
    make_learn2reg(tmp_path / "raw")
    return tmp_path


def jobs(path):
    plan = read_plan(path)
    contents = Contents(path.with_name("inputs.json"))
    contents.look(plan.files())
    return jobs_of(plan, contents, path.parent)


def keys(path):
    return {job.id: job.key for job in jobs(path)}


@pytest.mark.parametrize(
    ("data", "ids"),
    [
        ('pairs = "val"', ["0003_0000<--0004_0000"]),
        ("", ["0003_0000<--0004_0000"]),
        ('pairs = "val"\nboth_directions = true', ["0003_0000<--0004_0000", "0004_0000<--0003_0000"]),
        ('pairs = "all"\nsplit = "validation"', ["0003_0000<--0004_0000"]),
        ('pairs = "to:0002"', [f"0002_0000<--000{n}_0000" for n in (1, 3, 4, 5)]),
        ('csv = "pairs.csv"', ["0001_0000<--0005_0000", "mine"]),
    ],
)
def test_pairs_are_chosen_as_the_plan_says(folder, data, ids):
    (folder / "pairs.csv").write_text("id,fixed,moving\n,0001,0005_0000\nmine,0001,0002\n")
    assert [planned.id for planned in read_plan(write_plan(folder, f'manifest = "raw"\n{data}')).pairs] == ids


def test_all_pairs_are_every_two_patients_once(folder):
    plan = read_plan(write_plan(folder, 'manifest = "raw"\npairs = "all"'))
    assert len(plan.pairs) == 10
    assert [planned.pair.fixed.key for planned in plan.pairs] == sorted(one.pair.fixed.key for one in plan.pairs)


def test_scans_of_one_patient_are_paired(tmp_path):
    for subject, modality in ((1, 0), (1, 1), (1, 2), (2, 0)):
        write_scan(tmp_path / "raw" / "imagesTr" / f"{name_of(subject, modality)}.nii.gz", subject)
    scans = [f"./imagesTr/{name_of(*one)}.nii.gz" for one in ((1, 0), (1, 1), (1, 2), (2, 0))]
    (tmp_path / "raw" / "Task_dataset.json").write_text(json.dumps({"name": "Task", "training": scans}))
    plan = read_plan(write_plan(tmp_path, 'manifest = "raw"\npairs = "same-patient"'))
    expected = ["0001_0000<--0001_0001", "0001_0000<--0001_0002", "0001_0001<--0001_0002"]
    assert [planned.id for planned in plan.pairs] == expected


def test_a_table_of_files_needs_no_manifest(folder):
    table = folder / "files.csv"
    image, label = f"raw/imagesTr/{name_of(1)}.nii.gz", f"raw/labelsTr/{name_of(1)}.nii.gz"
    other, other_label = f"raw/imagesTr/{name_of(2)}.nii.gz", f"raw/labelsTr/{name_of(2)}.nii.gz"
    table.write_text(f"fixed,moving,fixed_label,moving_label\n{image},{other},{label},{other_label}\n")
    (planned,) = read_plan(write_plan(folder, 'csv = "files.csv"')).pairs
    assert planned.pair.fixed.image == folder / image
    assert planned.pair.moving.label == folder / other_label
    assert planned.labels == (1,)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[dataset]\n", "plan.toml: no TOML .*line 1"),
        ("[[method]]\n", r"plan.toml: there is no \[\[dataset\]\]"),
        ("[[dataset]]\nmanifest = 'raw'\n", r"there is no \[\[method\]\]"),
        ("[[dataset]]\nmanifest = 'raw'\npair = 'val'\n[[method]]\n", "line 3: .*no key 'pair'.*did you mean 'pairs'"),
        ("[[dataset]]\nmanifest = 'raw'\npairs = 'some'\n[[method]]\n", "line 1: pairs is 'some'; choose one of: val"),
        ("[[dataset]]\nmanifest = 3\n[[method]]\n", "line 2: manifest must be text, not 3"),
        ("[[dataset]]\n[[method]]\n", "line 1: a data set needs a manifest or a csv"),
        ("[[dataset]]\nmanifest = 'raw'\nlabels = ['liver']\n[[method]]\n", "line 3: labels must be a list of whole"),
        ("[[dataset]]\nmanifest = 'raw'\nsplit = 'val'\n[[method]]\n", "line 3: split is 'val'; choose"),
        ("[[dataset]]\nmanifest = 'raw'\n[[method]]\nname = 'convx'\n", "line 3: there is no method 'convx'"),
        ("[[dataset]]\nmanifest = 'raw'\n[[method]]\n[[method]]\n", "two methods are called 'convex'"),
        ("[[dataset]]\nmanifest = 'raw'\n[[method]]\nlabel = '../x'\n", "line 4: label '../x' is no name of a folder"),
        ("[[dataset]]\nmanifest = 'raw'\n[[method]]\n[[method]]\nlabel = 'b'\ndevice = 'gpu'\n", "line 6: device is"),
        ("[[dataset]]\nmanifest = 'raw'\n[[method]]\nsettings = {rat = 1}\n", "line 3: .*no setting 'rat'"),
        ("[[dataset]]\nmanifest = 'raw'\n[[method]]\n[run]\nattempts = 0\n", "line 5: attempts must be 1 to 20"),
        ("[[dataset]]\nmanifest = 'raw'\n[[method]]\n[output]\nwarped = 'yes'\n", "line 5: warped must be true"),
        ("[[dataset]]\nmanifest = 'raw'\n[[method]]\n[ouput]\n", r"line 4: .*no key 'ouput' \(did you mean 'output'"),
        ("[[dataset]]\nmanifest = 'raw'\npairs = 'to:0009'\n[[method]]\n", "no scans of .* are called '0009'"),
        ("[[dataset]]\ncsv = 'bad.csv'\n[[method]]\n", "bad.csv, line 1: the columns are fixed, move"),
        ("[[dataset]]\nmanifest = 'raw'\ncsv = 'odd.csv'\n[[method]]\n", "odd.csv, line 3: .*no scans .* called '77'"),
        ("[[dataset]]\nmanifest = 'raw'\ncsv = 'twice.csv'\n[[method]]\n", "two pairs are called 0001_0000<--"),
    ],
)  # fmt: skip
def test_mistakes_in_a_plan_are_told_with_their_line(folder, text, message):
    (folder / "bad.csv").write_text("fixed,move\na,b\n")
    (folder / "odd.csv").write_text("fixed,moving\n0001,0002\n0001,77\n")
    (folder / "twice.csv").write_text("fixed,moving\n0001,0002\n0001_0000,0002\n")
    (folder / "plan.toml").write_text(text)
    with pytest.raises(UserError, match=message) as told:
        read_plan(folder / "plan.toml")
    assert "\n" not in str(told.value).replace("\\n", "")


def test_a_key_follows_from_what_the_result_depends_on(folder):
    before = keys(write_plan(folder, 'manifest = "raw"\npairs = "to:0002"'))
    assert len({*before.values()}) == 4
    assert keys(write_plan(folder, 'manifest = "raw"\npairs = "to:0002"\n# the same')) == before
    for changes in (
        {"method": 'label = "other"'},
        {"method": 'label = "fast"\nseed = 1'},
        {"method": 'label = "fast"\npreset = "default"'},
        {"rest": "rate = 0.4"},
        {"rest": "[output]\nwarped = true"},
        {"rest": "[output]\nmetrics = false"},
        {"rest": "[run]\nthreads = 1"},
    ):
        assert not {*keys(write_plan(folder, 'manifest = "raw"\npairs = "to:0002"', **changes)).values()} & {
            *before.values()
        }
    write_scan(folder / "raw" / "imagesTr" / f"{name_of(5)}.nii.gz", seed=77)
    after = keys(write_plan(folder, 'manifest = "raw"\npairs = "to:0002"'))
    assert {one for one in before if before[one] != after[one]} == {"0002_0000<--0005_0000"}
    (folder / "raw" / "labelsTr" / f"{name_of(2)}.nii.gz").write_bytes(b"another")
    again = keys(write_plan(folder, 'manifest = "raw"\npairs = "to:0002"'))
    assert not {*again.values()} & {*after.values()}


def test_damage_to_the_hashes_that_were_kept_costs_time_only(folder):
    path = write_plan(folder)
    before = keys(path)
    for content in ("{", "[]", '{"x": 3}', '{"x": [1, 2]}'):
        (folder / "inputs.json").write_text(content)
        assert keys(path) == before


def test_a_folder_of_something_else_is_not_taken_for_a_run(folder):
    with pytest.raises(UserError, match="no folder of a cohort run and not empty"):
        Store(folder / "raw").begin(write_plan(folder), folder)
    with pytest.raises(UserError, match="is no folder of a cohort run"):
        Store(folder / "raw").plan()


def test_processes_are_as_many_as_cores_and_memory_take(folder, monkeypatch):
    listed = jobs(write_plan(folder, 'manifest = "raw"\npairs = "to:0002"'))
    monkeypatch.setattr("anamorph.workflows.cohort.run.usable_cores", lambda: 8)
    free = 100e9
    for place in ("batch.run", "workflows.cohort.run"):
        monkeypatch.setattr(f"anamorph.{place}.available_bytes", lambda: free)
    machines = local_machines(listed)
    assert (machines.workers, machines.threads) == (4, 2)  # four pairs
    assert (local_machines(listed, workers=3).workers, local_machines(listed, workers=3).threads) == (3, 2)
    assert machines.memory_bytes == int(0.7 * free) // 4
    free = 2e9
    machines = local_machines(listed)
    assert machines.workers < 4
    assert machines.workers * machines.memory_bytes <= 0.7 * free
    assert machines.host == "127.0.0.1"


def test_threads_of_a_pair_are_those_of_the_plan(folder, monkeypatch):
    monkeypatch.setattr("anamorph.workflows.cohort.run.usable_cores", lambda: 8)
    machines = local_machines(jobs(write_plan(folder, 'manifest = "raw"\npairs = "all"', rest="[run]\nthreads = 3")))
    assert (machines.workers, machines.threads) == (2, 3)
