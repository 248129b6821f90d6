"""The tutorial in two dimensions shows what the slices beside it give, and runs from its first cell to its last."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch

from anamorph.data import read_dataset
from anamorph.data.check import check_dataset

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks import discrete_2d as benchmark  # noqa: E402

FOLDER = ROOT / "examples" / "discrete_2d"
CELLS = json.loads((FOLDER / "discrete_2d.ipynb").read_text("utf-8"))["cells"]
CODE = [cell for cell in CELLS if cell["cell_type"] == "code"]
SMALL = {"STEPS": 12, "HELD_OUT": 3}
ROW = re.compile(r"^(.+?) +(\d+\.\d) % Dice$", re.MULTILINE)


def slices(split: str) -> list[benchmark.Slice]:
    dataset = read_dataset(FOLDER / "slices")
    return [benchmark.Slice(case, sorted(dataset.labels)) for case in dataset.of_split(split)]


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory):
    """What the cells of the notebook have left behind, run in a copy of its folder; ``read``: the scans they read."""
    folder = tmp_path_factory.mktemp("example") / "discrete_2d"
    shutil.copytree(FOLDER, folder)
    found: dict[str, object] = {}
    read: set[Path] = set()
    running = True

    def note(event: str, arguments: tuple) -> None:
        if running and event == "open" and str(arguments[0]).endswith((".nii", ".nii.gz")):
            read.add(Path(arguments[0]))

    sys.addaudithook(note)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        matplotlib.use("Agg")
        for number, cell in enumerate(CODE):
            exec(compile("".join(cell["source"]), f"code cell {number} of the tutorial", "exec"), found)
            if number == 0:
                assert found.keys() >= SMALL.keys()
                found |= SMALL
        import matplotlib.pyplot as plt

        plt.close("all")
    running = False
    return found | {"folder": folder, "read": read}


def test_the_slices_are_a_sound_data_set_and_small():
    dataset = read_dataset(FOLDER / "slices")
    assert check_dataset(dataset).problems == ()
    assert [len(dataset.of_split(split)) for split in ("training", "validation", "test")] == [34, 14, 0]
    assert [*dataset.labels.values()][2:4] == ["right parotid", "left parotid"]
    assert dataset.extra["slices"]["reference"] == "0187"
    files = [path for path in (FOLDER / "slices").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 300_000
    assert not any(path.is_symlink() for path in files)
    assert {path for path in files if path.suffix == ".gz"} == {*dataset.files()} - {dataset.path}
    assert not re.search(r'"/|\.\./', dataset.path.read_text("utf-8"))
    assert "Copyright (c) 2021 Aaron Babier" in (FOLDER / "slices" / "LICENSE").read_text("utf-8")
    assert "Copyright (c) 2021 Aaron Babier" in (ROOT / "NOTICE").read_text("utf-8")


def test_the_stored_outputs_are_complete_and_those_of_the_slices():
    assert [cell["execution_count"] for cell in CODE] == list(range(1, len(CODE) + 1))
    outputs = [output for cell in CODE for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} == {"stream", "display_data"}
    assert all(output.get("name", "stdout") == "stdout" for output in outputs)
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 3
    shown = dict(ROW.findall("".join("".join(output.get("text", "")) for output in outputs)))
    held_out = slices("validation")
    assert shown["before"] == f"{benchmark.measured(benchmark.still, held_out):.1f}"
    untrained = benchmark.trained(benchmark.RUNGS["mean field, minimum first"], slices("training"), 0, 0)
    found = benchmark.measured(untrained.field, held_out)
    assert float(shown["untrained, minimum first"]) == pytest.approx(found, abs=0.2)
    assert shown.keys() == {"before", "untrained, minimum first", *benchmark.RUNGS, "convex, no training"}


@pytest.mark.slow
def test_the_tutorial_reads_nothing_but_the_slices_beside_it(names):
    assert {path.resolve() for path in names["read"]} == {*(names["folder"] / "slices").resolve().rglob("*.nii.gz")}
    assert len(names["read"]) == 96


@pytest.mark.slow
def test_the_tutorial_trains_as_the_benchmark_does(names):
    training, held_out = slices("training"), slices("validation")[: SMALL["HELD_OUT"]]
    expected = {"before": benchmark.measured(benchmark.still, held_out)}
    untrained = benchmark.trained(benchmark.RUNGS["mean field, minimum first"], training, 0, 0)
    expected["untrained, minimum first"] = benchmark.measured(untrained.field, held_out)
    for name, make in benchmark.RUNGS.items():
        expected[name] = benchmark.measured(benchmark.trained(make, training, SMALL["STEPS"], 0).field, held_out)
    expected["convex, no training"] = benchmark.measured(benchmark.registered, held_out)
    assert names["scores"] == pytest.approx(expected, abs=0.1)
    assert np.diff(sorted(expected.values())).min() > 0.2


@pytest.mark.slow
def test_the_field_of_the_tutorial_points_to_the_tissue(names):
    """Features matched with themselves, three further along the second axis, move by three."""
    with torch.no_grad():
        features = names["network"].features(names["FIXED"].grey[None])[0]
        moved = torch.roll(features, 3, dims=2)
        costs = names["correlate"](features, moved, names["points"], names["labels"])
    best = names["labels"][costs.argmin(dim=1)].reshape(*names["coarse"], 2)
    head = best[12:20, 11:20].reshape(-1, 2)
    assert (head == torch.tensor([0.0, 3.0])).all(dim=1).float().mean() > 0.9
