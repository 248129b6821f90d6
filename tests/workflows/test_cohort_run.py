from __future__ import annotations

import errno
import gzip
import json
import os
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from anamorph.batch import hand_out
from anamorph.batch.cluster import Machines, connected
from anamorph.batch.records import ABANDONED_S, Store
from anamorph.batch.work import Batch, run_batch
from anamorph.data import read_dataset
from anamorph.errors import RegistrationFailure, UserError
from anamorph.workflows.cohort.run import Listeners, run_cohort
from anamorph.workflows.preprocess.run import preprocess_dataset
from anamorph.workflows.preprocess.steps import PreprocessSettings
from cohort_runs import flip_a_byte, results_of, status_of, write_plan
from small_cohort import write_cohort

PAIRS = 6


@pytest.fixture(scope="module")
def scheduler():
    """Two workers for all tests; what they have read and compiled is still there for the next."""
    with connected(Machines(workers=2, tls=False)) as client:
        yield client.scheduler.address


@pytest.fixture
def run(scheduler):
    def call(folder, plan=None, **options):
        return run_cohort(folder, plan, workers=scheduler, **options)

    return call


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, scheduler):
    """The folder of a plan whose run, in ``run``, nothing came between."""
    folder = tmp_path_factory.mktemp("undisturbed")
    write_cohort(folder / "raw", count=4, shift_mm=4.0)
    plan = write_plan(folder, rest="[output]\nwarped = true\n[run]\nattempts = 3\nthreads = 1")
    run_cohort(folder / "run", plan, workers=scheduler)
    return folder


@pytest.fixture
def begun(undisturbed, tmp_path):
    """A copy of it, to do harm to."""
    folder = shutil.copytree(undisturbed, tmp_path / "copy")
    Store(folder / "run").begin(folder / "plan.toml", folder)
    return folder / "run"


def stop_after(count):
    def tell(news):
        if news.complete >= count:
            raise KeyboardInterrupt

    return Listeners(news=tell)


def test_every_pair_has_its_files_and_numbers(undisturbed):
    status = status_of(undisturbed / "run")
    assert status.counts() == {"complete": PAIRS}
    record = status.records[status.jobs[0].key]
    assert {*record.result["files"]} == {"fixed_to_moving.nii.gz", "moving_to_fixed.nii.gz", "warped.nii.gz"}
    scores = record.result["metrics"]["scores"]["correct"]
    assert scores["dice"]["mean"] > record.result["metrics"]["baseline"]["correct"]["dice"]["mean"] + 0.3
    assert scores["inverse_consistency_mm_mean"]["mean"] < 1
    assert record.run["attempt"] == 1
    assert 0 < record.run["registration_seconds"] < record.run["seconds"]


def test_what_is_done_is_not_done_again(begun, run):
    def changed() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for part in ("results", "records") for path in (begun / part).rglob("*")}

    before = changed()
    assert run(begun).total == 0
    assert changed() == before


def test_an_interrupted_run_goes_on_to_the_same_bytes(begun, run, undisturbed):
    for part in ("results", "records"):
        shutil.rmtree(begun / part)
    with pytest.raises(KeyboardInterrupt):
        run(begun, listeners=stop_after(2))
    assert 2 <= status_of(begun).counts()["complete"] < PAIRS
    news = run(begun)
    assert 0 < news.total <= PAIRS - 2
    assert results_of(begun) == results_of(undisturbed / "run")
    assert status_of(begun).fingerprint() == status_of(undisturbed / "run").fingerprint()


def test_other_settings_and_other_scans_make_results_stale(begun, run):
    plan = begun.parent / "plan.toml"
    plan.write_text(plan.read_text().replace("[2, 2]", "[2, 1]"))
    with pytest.raises(KeyboardInterrupt):
        run(begun, plan, listeners=Listeners(begin=lambda status, machines: _interrupt()))
    assert status_of(begun).counts() == {"stale": PAIRS}
    assert status_of(begun).superseded == PAIRS
    assert run(begun).complete == PAIRS
    image = begun.parent / "raw" / "imagesTr" / "AbdomenCTCT_0001_0000.nii.gz"
    shutil.copy(image.with_name("AbdomenCTCT_0002_0000.nii.gz"), image)
    assert status_of(begun).counts() == {"complete": 3, "stale": 3}
    assert run(begun).complete == 3
    assert status_of(begun).counts() == {"complete": PAIRS}


def _interrupt():
    raise KeyboardInterrupt


def test_damaged_results_and_records_are_found_and_computed_again(begun, run, undisturbed):
    files = sorted((begun / "results").rglob("fixed_to_moving.nii.gz"))
    flip_a_byte(files[0])
    files[1].unlink()
    assert status_of(begun).counts() == {"complete": PAIRS - 2, "damaged": 2}
    assert {*status_of(begun).damaged.values()} == {
        "fixed_to_moving.nii.gz is not what was written",
        "fixed_to_moving.nii.gz: no such file or directory",
    }
    records = sorted((begun / "records").rglob("*.jsonl"))
    flip_a_byte(records[0])
    assert status_of(begun).counts()["waiting"] == 1
    run(begun)
    assert results_of(begun) == results_of(undisturbed / "run")
    assert status_of(begun).counts() == {"complete": PAIRS}


def test_a_bad_file_fails_its_pairs_on_every_worker_and_no_others(begun, run, undisturbed):
    image = begun.parent / "raw" / "imagesTr" / "AbdomenCTCT_0003_0000.nii.gz"
    sound = image.read_bytes()
    image.write_bytes(sound[:200])
    shutil.rmtree(begun / "records")
    news = run(begun)
    assert (news.complete, news.failed) == (3, 3)
    status = status_of(begun)
    assert status.counts() == {"complete": 3, "failed": 3}
    for job, last in status.failed():
        attempts = status.failures[job.key]
        assert len(attempts) == 3
        assert attempts[0].worker != attempts[1].worker
        assert "AbdomenCTCT_0003_0000.nii.gz: cannot be read as an image" in last.reason
        assert "Traceback" in last.log
    again = run(begun)
    assert (again.total, again.failed_before) == (0, 3)  # not for ever
    image.write_bytes(sound)
    assert run(begun).complete == 3
    assert results_of(begun) == results_of(undisturbed / "run")


def test_a_missing_scan_is_a_failure_of_its_pairs(begun, run):
    (begun.parent / "raw" / "imagesTr" / "AbdomenCTCT_0004_0000.nii.gz").unlink()
    assert run(begun).failed == 3
    assert "no such file" in status_of(begun).failed()[0][1].reason


@pytest.mark.posix
def test_killed_workers_cost_time_only(begun, run, undisturbed):
    shutil.rmtree(begun / "records")
    killed = []

    def kill(news):
        if news.complete >= len(killed) + 1 and len(killed) < 2:
            killed.append(_kill_a_worker())

    news = run(begun, listeners=Listeners(news=kill))
    assert len(killed) == 2
    assert news.failed == 0
    assert results_of(begun) == results_of(undisturbed / "run")


def _kill_a_worker() -> int:
    for one in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # killed before
            if "spawn_main" in " ".join(one.cmdline()):
                one.send_signal(signal.SIGKILL)
                return one.pid
    raise AssertionError("there is no worker")


def deadly(batch: Batch):
    """Stands for work that needs more memory than there is."""
    if any(job.id == "0001_0000<--0003_0000" for job in batch.jobs):
        os.kill(os.getpid(), signal.SIGKILL)
    return run_batch(batch, "somewhere")


@pytest.mark.posix
def test_a_pair_that_kills_its_workers_is_found_and_given_up(begun, run, monkeypatch):
    shutil.rmtree(begun / "records")
    monkeypatch.setattr(hand_out, "_on_worker", deadly)
    monkeypatch.setattr(hand_out, "BATCH_SECONDS", 100)  # so that innocent pairs are in its batch
    news = run(begun)
    assert (news.complete, news.failed) == (PAIRS - 1, 1)
    ((job, last),) = status_of(begun).failed()
    assert job.id == "0001_0000<--0003_0000"
    assert "the worker died at this pair" in last.reason
    assert len(status_of(begun).failures[job.key]) == 3


def test_two_runs_of_one_folder_do_no_harm(begun, run, undisturbed):
    for part in ("results", "records"):
        shutil.rmtree(begun / part)
    with ThreadPoolExecutor(2) as pool:
        ends = [job.result() for job in [pool.submit(run, begun) for _ in range(2)]]
    assert [end.failed for end in ends] == [0, 0]
    assert results_of(begun) == results_of(undisturbed / "run")


def test_a_full_disk_ends_the_run_and_is_no_attempt_at_a_pair(begun, run, monkeypatch):
    shutil.rmtree(begun / "records")
    monkeypatch.setattr(hand_out, "_on_worker", on_a_full_disk)
    with pytest.raises(RegistrationFailure, match=r"the disk is full: cannot write .*; free some space and run again"):
        run(begun)
    assert not status_of(begun).failures
    assert status_of(begun).counts() == {"waiting": PAIRS}


def on_a_full_disk(batch: Batch):
    from anamorph.workflows.cohort import job as pair_job

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    kept, pair_job._write = pair_job._write, full
    try:
        return run_batch(batch)
    finally:
        pair_job._write = kept


def test_a_worker_of_another_version_is_refused(begun, run, monkeypatch):
    shutil.rmtree(begun / "records")
    monkeypatch.setattr(Batch, "__init__", _old(Batch.__init__))
    with pytest.raises(Exception, match=r"has anamorph .*, the run 0\.0\.1; install one version everywhere"):
        run(begun)


def test_a_worker_that_does_not_see_the_folder_writes_nothing(tmp_path):
    with pytest.raises(UserError, match="does not see the run folder"):
        run_batch(Batch((), tmp_path / "elsewhere", {}))
    assert not (tmp_path / "elsewhere").exists()


def _old(init):
    def begin(self, *arguments):
        init(self, *arguments, version="0.0.1")

    return begin


def test_records_that_lead_elsewhere_are_none(begun):
    store = Store(begun)
    (path, *_) = sorted((begun / "records").rglob("*.jsonl"))
    (record,) = next(iter(store.records().values()))
    for files in ({"../../x": {"bytes": 0, "sha256": ""}}, {"/etc/passwd": {"bytes": 0, "sha256": ""}}):
        record.result["files"] = files
        path.unlink(missing_ok=True)
        store.keep([record])
        assert record.key not in Store(begun).records()


def test_only_abandoned_files_are_swept_away(begun):
    new, old = begun / "results" / "ab" / ".tmp-1-a", begun / "results" / "ab" / ".tmp-2-a"
    for path in (new, old):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    os.utime(old, (0, old.stat().st_mtime - ABANDONED_S - 1))
    Store(begun).begin(begun.parent / "plan.toml", begun.parent)
    assert new.exists()
    assert not old.exists()


def test_results_of_other_containers_of_the_same_scan_differ_in_key_only(begun, run, undisturbed):
    """The key speaks of the file, the result of what is in it."""
    image = begun.parent / "raw" / "imagesTr" / "AbdomenCTCT_0001_0000.nii.gz"
    image.write_bytes(gzip.compress(gzip.decompress(image.read_bytes()), 1))
    assert run(begun).complete == 3
    before, after = (status_of(folder) for folder in (undisturbed / "run", begun))
    for old, new in zip(before.jobs, after.jobs, strict=True):
        assert before.records[old.key].result["files"] == after.records[new.key].result["files"]


def test_nothing_listens_to_other_machines(scheduler):
    family = [psutil.Process(), *psutil.Process().children(recursive=True)]
    listening = [
        place.laddr.ip for one in family for place in one.net_connections() if place.status == psutil.CONN_LISTEN
    ]
    assert len(listening) >= 5
    assert {*listening} == {"127.0.0.1"}


def test_a_scheduler_that_is_not_there_is_told(begun, monkeypatch):
    monkeypatch.setattr("anamorph.batch.cluster.CONNECT_TIMEOUT_S", 0.5)
    shutil.rmtree(begun / "records")
    with pytest.raises(RegistrationFailure, match=r"no connection to the scheduler tcp://127\.0\.0\.1:1 "):
        run_cohort(begun, workers="tcp://127.0.0.1:1")


def test_status_is_plain_json(undisturbed):
    content = json.loads(json.dumps(status_of(undisturbed / "run").as_dict()))
    assert content["methods"] == {"fast": {"complete": PAIRS}}
    assert content["failed"] == []


def test_other_lists_of_scans_are_done_by_the_workers_of_a_scheduler_too(scheduler, tmp_path):
    dataset = read_dataset(write_cohort(tmp_path / "raw", count=4, shift_mm=4.0))
    dataset.cases[1].image.write_bytes(b"damaged")
    failed = {}
    settings, out = PreprocessSettings(spacing_mm=4.0), tmp_path / "out"
    result = preprocess_dataset(
        dataset, settings, out, workers=scheduler, leave_out_failed=True, on_failure=failed.__setitem__
    )
    assert [*result.records] == ["0001_0000", "0003_0000", "0004_0000"]
    assert [*failed] == [*result.failed] == ["0002_0000"]
    assert "cannot be read as an image" in failed["0002_0000"]
    here = preprocess_dataset(dataset, settings, tmp_path / "here", leave_out_failed=True)
    assert here.records == result.records
