"""JSON, TOML and CSV of another kind than expected: one line that names the file, the reason and the remedy."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from anamorph.batch.records import Failure, Record, Store
from anamorph.batch.store import Kept
from anamorph.errors import UserError
from anamorph.reading import read_own_record
from anamorph.workflows.cohort.report import of_this_version
from reader_seeds import READERS, results, seed_of

DEEP = "[" * 100_000
JSON_READERS = [name for name in READERS if name.endswith("JSON") or name == "cohort marker"]


@pytest.mark.parametrize("name", JSON_READERS)
@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '"text"', "1e999", DEEP, '{"a":' * 100_000, "\udcff\udcfe", "{}"]
)
def test_other_json_gives_one_line(tmp_path: Path, name: str, text: str) -> None:
    reader, seed = READERS[name], seed_of(name)
    path = seed.put(tmp_path)
    target = next(tmp_path.glob(reader.files))
    target.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError) as caught:
        reader.read(path)
    told = str(caught.value)
    assert told.startswith(str(path))
    assert "; " in told or "?" in told  # a remedy
    assert len(told.splitlines()) == 1
    if text == DEEP:
        assert "nested too deeply" in told


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("mean", "high", "DSC is high, no number"),
        ("mean", None, "DSC is None, no number"),
        ("mean", 10**400, "too large to convert"),
        ("detailed", ["a"], "DSC is a, no number"),
        ("detailed", {"liver": 0.5}, "invalid literal for int"),
    ],
)
def test_results_hold_numbers(tmp_path: Path, key: str, value: object, told: str) -> None:
    content = results()
    next(iter(content["cases"].values()))["DSC"][key] = value
    path = tmp_path / "results.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=told):
        READERS["results JSON"].read(path)


def test_plans_nested_too_deeply(tmp_path: Path) -> None:
    path = seed_of("plan TOML").put(tmp_path)
    path.write_text(f"a = {DEEP}")
    with pytest.raises(UserError, match="nested too deeply") as caught:
        READERS["plan TOML"].read(path)
    assert "plan.toml: no TOML" in str(caught.value)


def test_numbers_of_settings_that_no_integer_holds(tmp_path: Path) -> None:
    path = seed_of("plan TOML").put(tmp_path)
    path.write_text(path.read_text().replace("search_scales = [2]", "search_scales = [inf]"))
    with pytest.raises(UserError, match="setting search_scales must be"):
        READERS["plan TOML"].read(path)


@pytest.mark.parametrize("changes", [{"more": 1}, {"result": []}, {"result": {"pair": "A"}}, {"run": 1}])
def test_records_of_another_version_are_told(tmp_path: Path, changes: dict[str, object]) -> None:
    record = {"key": "0" * 32, "result": {"pair": "A", "method": "m", "files": {}}, "run": {}} | changes
    text = json.dumps(record)
    folder = tmp_path / "records" / "00"
    folder.mkdir(parents=True)
    path = folder / "a.jsonl"

    path.write_text(f"{hashlib.sha256(text.encode()).hexdigest()} {text}\n")
    with pytest.raises(UserError, match=r"a\.jsonl: holds a record of another version of anamorph .*begin anew"):
        Store(tmp_path).records()
    path.write_bytes(b"0" * 64 + b" " + text.encode() + b"\n")  # damaged: no record
    assert Store(tmp_path).records() == {}


def test_what_is_missing_in_a_record_is_named() -> None:
    record = Record("0" * 32, {"pair": "A", "method": "m", "files": {}}, {})
    told = r"the record of A by m: is of another version of anamorph \(no seconds\)"
    with pytest.raises(UserError, match=told), of_this_version(record):
        record.run["seconds"]


@pytest.mark.parametrize("text", ["", "[]", DEEP, "1", "{", '"\\ud800"'])
def test_own_records_that_are_damaged_are_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    assert read_own_record(path) == {}
    assert Kept(path, tmp_path, {}).find() is None
    assert read_own_record(tmp_path / "nowhere.json") == {}


def test_workers_that_fail_at_once_lose_no_failure(tmp_path):
    def note(number: int) -> None:
        together.wait()
        Store(folder).note(Failure(f"{number:032x}", "pair", "convex", "lost", "", f"worker {number}", "here", "now"))

    for turn in range(40):
        folder, together = tmp_path / str(turn), Barrier(8)
        folder.mkdir()
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(note, range(8)))
        assert len(Store(folder).failures()) == 8
