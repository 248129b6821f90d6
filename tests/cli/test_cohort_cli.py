from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from anamorph.batch.cluster import Machines, connected, machines_named, replace_lost
from anamorph.batch.records import Store
from anamorph.batch.work import Batch, run_batch
from anamorph.cli.main import app
from anamorph.evaluation.cohort_files import read_evaluation
from anamorph.workflows.cohort import job as pair_job
from cohort_runs import results_of, status_of, write_plan
from html_page import Page
from small_cohort import write_cohort

EVIL = "<img src=x onerror=alert(1)>[red]"


def call(*arguments: object):
    return CliRunner().invoke(app, ["cohort", *map(str, arguments)])


@pytest.fixture(scope="module")
def warm():
    """The options for a worker that has imported and read before, where it does not matter who does the work."""
    with connected(Machines(workers=1, tls=False)) as client:
        yield "--workers", client.scheduler.address


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A run of a data set whose makers mean harm; one scan is no scan."""
    folder = tmp_path_factory.mktemp("hostile")
    manifest = write_cohort(folder / "raw", count=3, shift_mm=4.0)
    content = json.loads(manifest.read_text())
    content |= {"name": "../../evil</script><script>alert(2)</script>", "labels": {"1": EVIL, "2": "two", "3": "three"}}
    for entry in content["training"]:
        entry["subject"] = f"{EVIL}{entry['image'][-13]}"
        entry["source"] = f"{EVIL}, scan {entry['image'][-13]}"
    manifest.write_text(json.dumps(content))
    bad = folder / "raw" / "imagesTr" / "AbdomenCTCT_0003_0000.nii.gz"
    bad.write_bytes(b"<script>alert(3)</script>")
    plan = write_plan(folder, rest="[run]\nattempts = 1")
    result = call("run", plan, "-o", folder / "run", "--workers", 2)
    return folder / "run", result


def test_a_run_says_what_failed_and_what_to_do(hostile):
    run, result = hostile
    assert result.exit_code == 1, result.output
    assert "3 pairs, 0 complete, 3 to do; 2 processes of" in result.stderr
    assert "[100 %] 1 of 3 done, 2 failed" in result.stderr
    assert f"error: 2 pairs failed; `anamorph cohort status {run}` says why" in result.stderr
    assert not list(run.parent.parent.glob("*evil*"))


def test_status_counts_and_shows_names_as_they_are(hostile):
    run, _ = hostile
    shown = call("status", run)
    assert shown.exit_code == 0
    assert "2 failed" in shown.stdout
    assert "[red]" in shown.stdout  # is text, and no colour
    told = json.loads(call("status", run, "--json").stdout)
    assert told["methods"] == {"fast": {"complete": 1, "failed": 2}}
    assert told["failed"][0]["attempts"] == 1
    assert told["failed"][0]["worker"].startswith("tls://127.0.0.1:")
    assert "cannot be read as an image" in told["failed"][0]["reason"]
    assert told["fingerprint"] == status_of(run).fingerprint()


def test_the_report_escapes_all_names(hostile):
    run, _ = hostile
    result = call("report", run)
    assert result.exit_code == 0, result.output
    text = (run / "report" / "report.html").read_text()
    for harm in ("<img src=x", "<script>alert"):
        assert harm not in text
    assert "onerror" not in {name for name, _ in Page(text).attributes}
    assert "1 complete, 2 failed." in text
    assert re.search(r"\[red\], scan \d ← <img src=x onerror=alert\(1\)>\[red\], scan \d", Page(text).text)


def test_the_worst_pairs_have_pictures_where_the_transforms_were_kept(hostile, tmp_path):
    run = hostile[0]
    assert call("report", run).exit_code == 0
    text = (run / "report" / "report.html").read_text()
    gallery = text[text.index("Worst cases</h2>") :].partition("</section>")[0]
    assert gallery.count('src="data:image/webp;base64,') == 1  # of one complete pair
    copy = shutil.copytree(run, tmp_path / "run")
    for field in copy.rglob("fixed_to_moving.nii.gz"):
        field.write_bytes(b"x" * field.stat().st_size)  # no field any more
    assert call("report", copy, "--quick").exit_code == 0
    assert "Worst cases</h2>" not in (copy / "report" / "report.html").read_text()


def test_the_report_has_tables_and_what_rank_takes(hostile):
    import pyarrow.parquet

    run, _ = hostile
    assert call("report", run, "-q").exit_code == 0
    with (run / "report" / "results.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    table = pyarrow.parquet.read_table(run / "report" / "results.parquet").to_pylist()
    assert [row["pair"] for row in table] == [row["pair"] for row in rows]
    (done,) = [row for row in table if row["state"] == "complete"]
    assert done["dice"] > done["initial_dice"]
    assert done["signs_of_failure"] in ("none", "some", "clear")
    assert done["accuracy"] in ("within limits", "doubtful", "poor")
    (case,) = [case for case in read_evaluation(run / "report" / "fast").cases if case.scores]
    assert (case.signs_of_failure, case.accuracy) == (done["signs_of_failure"], done["accuracy"])
    assert (run / done["folder"] / "fixed_to_moving.nii.gz").is_file()
    assert all("AbdomenCTCT_0003_0000.nii.gz" in row["reason"] for row in table if row["state"] == "failed")
    evaluation = read_evaluation(run / "report" / "fast")
    assert evaluation.correct_aggregates()["dice"]["mean"] == pytest.approx(done["dice"])
    assert len(evaluation.errors) == 2


def test_retry_does_what_failed_and_was_mended(hostile, warm, tmp_path):
    folder = shutil.copytree(hostile[0].parent, tmp_path / "copy")
    run = folder / "run"
    scans = folder / "raw" / "imagesTr"
    shutil.copy(scans / "AbdomenCTCT_0002_0000.nii.gz", scans / "AbdomenCTCT_0003_0000.nii.gz")
    refused = call("retry", run, "--pair", "nobody")
    assert refused.exit_code == 2
    assert "no pair 'nobody' failed" in refused.stderr
    in_vain = call("retry", run, *warm, "-q")
    assert (in_vain.exit_code, in_vain.stderr.count("2 pairs failed")) == (1, 1)
    assert [len(attempts) for attempts in status_of(run).failures.values()] == [1, 1]
    result = call("run", folder / "plan.toml", "-o", run, *warm, "-q")
    assert result.exit_code == 0, result.stderr
    assert status_of(run).counts() == {"complete": 3}


def test_verdicts_become_the_exit_code_where_they_are_asked_for(tmp_path):
    """The pair is done: what is on disk is judged without another registration."""
    pair_job._kept_inputs.cache_clear()
    write_cohort(tmp_path / "raw", count=2, shift_mm=4.0)
    plan = write_plan(tmp_path)
    store = Store(tmp_path / "run")
    store.begin(plan, tmp_path)
    jobs = status_of(tmp_path / "run").to_do()
    assert [one.state for one in run_batch(Batch(tuple(jobs), store.folder, {}))] == ["complete"]
    (record,) = status_of(tmp_path / "run").records.values()
    for verdict, limit, code in (("WARN", "warn", 3), ("WARN", "fail", 0), ("FAIL", "fail", 3), ("PASS", "warn", 0)):
        record.result["metrics"] |= {"verdict": verdict, "reasons": ["the map folds"]}
        shutil.rmtree(tmp_path / "run" / "records")
        store.keep([record])
        result = call("run", plan, "-o", tmp_path / "run", "--fail-on", limit, "-q")
        assert result.exit_code == code, result.stderr
        first = f"the first (0001_0000<--0002_0000 by fast) is {verdict}: the map folds"
        words = f"1 of 1 pairs trip --fail-on {limit}, {first}"
        assert (words in result.stderr) == (code == 3)
    wrong = call("run", plan, "-o", tmp_path / "run", "--fail-on", "always")
    assert wrong.exit_code == 2
    assert "--fail-on takes warn or fail, not 'always'" in wrong.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--workers", 0), "--workers must be at least 1"),
        (("--workers", "slurm"), "a batch system with a number of workers such as slurm:64"),
        (("--workers", "pbs:0"), "such as slurm:64 or pbs:64:queue.toml, not 'pbs:0'"),
        (("--workers", "slurm:2", "--host", "127.0.0.1"), "cannot reach a scheduler on the loopback; pass --host"),
        (("--workers", "tcp://x:1", "--dashboard"), "drop --host and --dashboard"),
    ],
)
def test_mistakes_are_one_line(tmp_path, options, words):
    write_cohort(tmp_path / "raw", count=2)
    result = call("run", write_plan(tmp_path), "-o", tmp_path / "run", *options, "-q")
    assert result.exit_code == 2
    assert words in result.stderr
    assert result.stderr.count("\n") == 1


def _listens_to_ctrl_c() -> None:
    """As in a terminal, also where the tests run in the background, whose children ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(folder: Path, *options: str) -> subprocess.Popen[str]:
    """The command in a process group of its own, as a shell starts it."""
    command = [sys.executable, "-m", "anamorph", "cohort", "run", folder / "plan.toml", "-o", folder / "run", *options]
    return subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=_listens_to_ctrl_c
    )


def wait_for(what, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.posix
@pytest.mark.slow
@pytest.mark.parametrize("how", ["ctrl-c", "sigterm", "sigkill"])
def test_a_run_that_is_stopped_leaves_no_process_and_goes_on(tmp_path, warm, how):
    write_cohort(tmp_path / "raw", count=7, shift_mm=2.0)
    write_plan(tmp_path)
    process = start(tmp_path, "--workers", "1")
    wait_for(lambda: process.poll() is not None or list((tmp_path / "run" / "records").glob("*/*.jsonl")))
    family = psutil.Process(process.pid).children(recursive=True)
    if how == "ctrl-c":
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal({"sigterm": signal.SIGTERM, "sigkill": signal.SIGKILL}[how])
    _, told = process.communicate(timeout=60)
    if how != "sigkill":
        assert process.returncode == 130
        assert f"interrupted; what is done is kept in {tmp_path / 'run'}, the same command goes on from there" in told
    wait_for(lambda: not psutil.wait_procs(family, timeout=0)[1])
    before = {path: path.read_bytes() for path in (tmp_path / "run" / "records").glob("*/*.jsonl")}
    assert 0 < status_of(tmp_path / "run").counts()["complete"] < 21
    assert call("run", tmp_path / "plan.toml", "-o", tmp_path / "run", *warm, "-q").exit_code == 0
    assert status_of(tmp_path / "run").counts() == {"complete": 21}
    assert all(path.read_bytes() == content for path, content in before.items())
    assert len(results_of(tmp_path / "run")) == 3 * 21


def test_nobody_joins_without_the_certificate_of_the_run():
    from distributed import Client

    async def join(address):
        # In the loop that runs already: a loop of its own may not start in time on a busy machine.
        await Client(address, timeout=2, set_as_default=False, asynchronous=True)

    with connected(Machines(workers=1)) as client:
        assert client.submit(sum, (1, 2)).result() == 3
        address = client.scheduler.address
        assert address.startswith("tls://127.0.0.1:")
        for name in (address, address.replace("tls", "tcp")):
            with pytest.raises((OSError, TypeError)):
                client.sync(join, name)


def test_a_worker_that_is_gone_for_good_is_replaced():
    with connected(Machines(workers=1, tls=False)) as client:
        before = {*client.scheduler_info(n_workers=-1)["workers"]}
        client.cluster.sync(client.cluster.workers.pop(0).close)
        replace_lost(client)
        wait_for(lambda: {*client.scheduler_info(n_workers=-1)["workers"]} - before)


@pytest.fixture
def batch_system(tmp_path, monkeypatch):
    """An ``sbatch`` that starts its job at once stands for SLURM; it keeps the script, as SLURM does."""
    commands = tmp_path / "bin"
    commands.mkdir()
    script = '#!/bin/sh\ncp "$1" "$0.job"\nsh "$0.job" > "$0.log" 2>&1 &\necho "Submitted batch job $!"\n'
    for name, text in (("sbatch", script), ("scancel", '#!/bin/sh\nkill "$1"\n')):
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    (tmp_path / "queue.toml").write_text('queue = "short"\nmemory = "2GB"\nwalltime = "00:10:00"\n')
    return commands / "sbatch.job", f"slurm:1:{tmp_path / 'queue.toml'}"


@pytest.mark.slow
def test_a_batch_system_starts_the_workers(tmp_path, batch_system):
    write_cohort(tmp_path / "raw", count=3, shift_mm=4.0)
    job, workers = batch_system
    result = call("run", write_plan(tmp_path), "-o", tmp_path / "run", "--workers", workers, "--host", "127.0.0.2")
    assert result.exit_code == 0, result.output
    assert "3 to do; 1 workers of SLURM" in result.stderr
    assert "#SBATCH -p short" in job.read_text()
    assert "tls://127.0.0.2:" in job.read_text()
    assert status_of(tmp_path / "run").counts() == {"complete": 3}


@pytest.mark.slow
def test_a_batch_system_does_other_lists_of_scans_too(tmp_path, batch_system, monkeypatch):
    write_cohort(tmp_path / "raw", count=2)
    job, workers = batch_system
    monkeypatch.setattr("socket.gethostname", lambda: "127.0.0.2")
    monkeypatch.chdir(tmp_path)
    options = ("--dataset", "raw", "-o", "out", "--spacing", "4", "--workers", workers)
    result = CliRunner().invoke(app, ["preprocess", *options])
    assert result.exit_code == 0, result.output
    assert "#SBATCH -p short" in job.read_text()
    assert "tls://127.0.0.2:" in job.read_text()
    assert len(list((tmp_path / "out" / "imagesTr").glob("*.nii.gz"))) == 2


def test_workers_elsewhere_are_named_by_words(monkeypatch):
    monkeypatch.setattr("socket.gethostname", lambda: "node1")
    asked = machines_named("pbs:64:my queue.toml")
    assert (asked.batch_system, asked.workers, asked.jobqueue) == ("pbs", 64, Path("my queue.toml"))
    assert (asked.host, asked.shared, asked.tls) == ("node1", Path.cwd(), True)
    assert machines_named("slurm:2", host="10.0.0.1", shared=Path("run")).host == "10.0.0.1"
    assert machines_named("slurm:2").jobqueue is None
    there = machines_named("tls://node1:8786")
    assert (there.scheduler, there.batch_system, there.host) == ("tls://node1:8786", None, "127.0.0.1")
