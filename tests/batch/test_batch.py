"""The engine for many scans or pairs: what is done again, what is said meanwhile, and that nothing stops the others."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from anamorph.batch import run as run_module
from anamorph.batch.run import part, run_jobs
from anamorph.batch.store import MISSING, Contents, Kept, check_sums, damage, key_of, origin_of
from anamorph.cli.common_options import workers_of
from anamorph.errors import RegistrationFailure, UserError
from cohort_runs import flip_a_byte


@dataclass(frozen=True)
class Copy:
    """Copies a file; one that is called ``bad`` fails."""

    source: Path
    folder: Path

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def kept(self) -> Kept:
        origin = origin_of(files=Contents().of({"source": self.source}))
        return Kept(self.folder / f"{self.name}.json", self.folder, origin)

    def find(self) -> dict[str, Any] | None:
        return self.kept.find()

    def do(self, progress=None) -> dict[str, Any]:
        if progress is not None:
            progress("half", 0.5)
        if self.name == "bad":
            raise UserError("it is bad; mend it")
        (self.folder / self.name).write_bytes(self.source.read_bytes())
        return self.kept.keep([self.folder / self.name], {"told": self.name})

    def peak_bytes(self) -> int:
        raise UserError("cannot be read")


@pytest.fixture
def jobs(tmp_path: Path) -> list[Copy]:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    for name in ("a", "bad", "c", "d"):
        (tmp_path / "in" / name).write_text(name)
    return [Copy(tmp_path / "in" / name, tmp_path / "out") for name in ("a", "bad", "c", "d")]


def test_what_is_finished_of_the_same_files_and_undamaged_is_not_done_again(jobs, tmp_path):
    first = run_jobs(jobs)
    assert [*first.records] == ["a", "c", "d"]
    assert first.failed == {"bad": "it is bad; mend it"}
    assert first.reused == frozenset()
    flip_a_byte(tmp_path / "out" / "a")
    (tmp_path / "in" / "c").write_text("another")
    again = run_jobs(jobs)
    assert again.reused == {"d"}
    assert again.records["d"] == first.records["d"]
    assert (tmp_path / "out" / "a").read_text() == "a"
    assert (tmp_path / "out" / "c").read_text() == "another"
    (tmp_path / "out" / "d.json").write_text("{")
    assert run_jobs(jobs).reused == {"a", "c"}


@pytest.mark.parametrize("workers", [1, 2])
def test_failures_are_told_at_once_and_stop_no_other(jobs, workers):
    told = []
    ran = run_jobs(jobs, workers, on_failure=lambda name, reason: told.append((name, reason)))
    assert told == [("bad", "it is bad; mend it")]
    assert [*ran.records] == ["a", "c", "d"]
    with pytest.raises(
        RegistrationFailure, match=r"^1 of 4 files failed, the first \(bad\): it is bad; mend it; again$"
    ):
        ran.check("files", "again")
    ran.check("files", "again", fewest=3)
    with pytest.raises(RegistrationFailure):
        ran.check("files", "again", fewest=4)


def test_one_at_a_time_the_name_and_the_remaining_time_are_told(jobs, monkeypatch):
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr(run_module.time, "perf_counter", lambda: next(clock))
    told = []
    run_jobs(jobs[:1])
    run_jobs(jobs, noun="file", progress=lambda stage, fraction: told.append((stage, fraction)))
    assert told[0] == ("file 1 of 4 done", 0.25)
    assert told[1] == ("file 2 of 4, bad", 0.25)
    assert told[2] == ("file 2 of 4, bad", 0.375)
    assert told[3][0].startswith("file 3 of 4, c, about ")
    assert told[3][0].endswith(" s left")
    assert told[-1] == ("file 4 of 4 done", 1.0)
    fractions = [fraction for _, fraction in told]
    assert fractions == sorted(fractions)


def test_an_interruption_keeps_what_is_done(jobs, monkeypatch):
    do = Copy.do

    def stop(job, progress=None):
        if job.name == "c":
            raise KeyboardInterrupt
        return do(job, progress)

    monkeypatch.setattr(Copy, "do", stop)
    with pytest.raises(KeyboardInterrupt):
        run_jobs(jobs)
    monkeypatch.setattr(Copy, "do", do)
    assert run_jobs(jobs).reused == {"a"}


def test_a_key_speaks_of_content_version_and_all_else(tmp_path, monkeypatch):
    path = tmp_path / "scan"
    path.write_text("1")
    first = Contents().of({"scan": path, "mask": None})
    assert first["mask"] is None
    (tmp_path / "elsewhere").write_text("1")
    assert Contents().of({"scan": tmp_path / "elsewhere", "mask": None}) == first
    key = key_of(origin_of(files=first, how=(1, 2)))
    assert key_of(origin_of(how=[1, 2], files=first)) == key
    assert key_of(origin_of(files=first, how=(1, 3))) != key
    path.write_text("2")
    assert key_of(origin_of(files=Contents().of({"scan": path, "mask": None}), how=(1, 2))) != key
    monkeypatch.setattr("anamorph.__version__", "9.9")
    assert key_of(origin_of(files=first, how=(1, 2))) != key


def test_a_file_that_cannot_be_read_has_a_hash_of_its_own(tmp_path):
    assert Contents()[tmp_path / "none"] == MISSING
    assert Contents()[tmp_path] == MISSING  # a folder
    assert damage(tmp_path, {"none": {"bytes": 1, "sha256": ""}}) == "none: no such file or directory"
    (tmp_path / "here").write_text("x")
    told = check_sums(tmp_path, [tmp_path / "here"])
    assert damage(tmp_path, told) is None
    (tmp_path / "here").write_text("y")
    assert damage(tmp_path, told) == "here is not what was written"
    assert damage(tmp_path, told, quick=True) is None
    (tmp_path / "here").write_text("xy")
    assert damage(tmp_path, told, quick=True) == "here has another size than recorded"


def test_progress_of_a_part_is_progress_of_the_whole():
    told = []
    part(lambda stage, fraction: told.append((stage, fraction)), 0.5, 0.75, "final")("scan 1", 0.5)
    part(None, 0.0, 1.0)("nothing", 0.5)
    assert told == [("final, scan 1", 0.625)]


def test_workers_are_processes_or_a_scheduler():
    assert workers_of("3") == 3
    assert workers_of("tls://node1:8786") == "tls://node1:8786"
    assert workers_of(None) >= 1
    for wrong, words in (
        ("0", "at least 1, not 0"),
        ("-1", "at least 1"),
        ("node1", "a number of processes, a scheduler"),
    ):
        with pytest.raises(UserError, match=words):
            workers_of(wrong)
