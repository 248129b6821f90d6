"""What the files of a cohort run go through, one worker's work done here, without a scheduler."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from anamorph.batch.records import Store
from anamorph.batch.work import Batch, run_batch
from anamorph.methods import METHODS
from anamorph.workflows.cohort import job as pair_job
from anamorph.workflows.cohort.plan import read_plan
from anamorph.workflows.cohort.report import write_report
from anamorph.workflows.cohort.run import CohortStatus, find_status
from small_cohort import write_cohort

PLAN = '[[dataset]]\nmanifest = "raw"\n[[method]]\nname = "cohort-stub"\n[output]\nwarped = true\n[run]\nthreads = 1\n'


@pytest.fixture(autouse=True)
def stub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS.own, "cohort-stub", "cohort_stub:CohortStub")
    pair_job._kept_inputs.cache_clear()


def begin(folder: Path, **options: object) -> Store:
    write_cohort(folder / "raw", count=2, **options)
    (folder / "plan.toml").write_text(PLAN)
    store = Store(folder / "run")
    store.begin(folder / "plan.toml", folder)
    return store


def finish(store: Store) -> CohortStatus:
    jobs = find_status(store, read_plan(*store.plan())).to_do()
    outcomes = run_batch(Batch(tuple(jobs), store.folder, {}))
    assert [one.reason for one in outcomes if one.state != "complete"] == []
    return find_status(store)


def test_names_that_are_no_text_lose_nothing(tmp_path: Path):
    status = finish(begin(tmp_path, name=os.fsdecode(b"A\xffB")))
    assert status.counts() == {"complete": 1}
    assert write_report(tmp_path / "report", status) is None
    assert (tmp_path / "report" / "results.csv").read_text(encoding="utf-8").count("complete") == 1
    assert (tmp_path / "report" / "report.html").is_file()


@pytest.mark.parametrize("damage", ["folder", "link", "file above", "record"])
def test_what_lies_in_the_place_of_a_result_is_damage(tmp_path: Path, damage: str):
    store = begin(tmp_path)
    finish(store)
    (result,) = store.folder.glob("results/*/*/warped.nii.gz")
    (record,) = store.folder.glob("records/*/*.jsonl")
    mine = tmp_path / "mine"
    mine.write_text("mine")
    if damage == "folder":
        result.unlink()
        result.mkdir()
        (result / "more").write_text("x")
    elif damage == "link":
        result.unlink()
        result.symlink_to(mine)
    elif damage == "file above":
        for path in result.parent.iterdir():
            path.unlink()
        result.parent.rmdir()
        result.parent.write_text("x")
    else:
        record.unlink()
        record.mkdir()
    assert find_status(Store(store.folder)).counts()["complete"] == 0
    assert finish(Store(store.folder)).counts() == {"complete": 1}
    assert result.is_file()
    assert not result.is_symlink()
    assert mine.read_text() == "mine"


def test_inputs_that_are_gone_after_the_start_are_not_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    store = begin(tmp_path)
    register = pair_job.register_pair_of

    def lose(*arguments: object):
        for path in (tmp_path / "raw").rglob("*.*"):
            path.unlink()
        return register(*arguments)

    monkeypatch.setattr(pair_job, "register_pair_of", lose)
    jobs = find_status(store, read_plan(*store.plan())).to_do()
    (outcome,) = run_batch(Batch(tuple(jobs), store.folder, {}))
    assert outcome.state == "complete", outcome.reason


def test_a_page_that_cannot_be_drawn_leaves_the_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    status = finish(begin(tmp_path))

    def fail(*_: object) -> None:
        raise MemoryError("61 GiB")

    monkeypatch.setattr("anamorph.workflows.cohort.report.write_cohort_report", fail)
    assert write_report(tmp_path / "report", status) == "MemoryError: 61 GiB"
    assert (tmp_path / "report" / "results.csv").is_file()
    assert not (tmp_path / "report" / "report.html").exists()
