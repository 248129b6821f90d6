"""What `anamorph evaluate` writes and prints, and Learn2Reg's own configuration and result files."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from anamorph.cli.main import app
from anamorph.data import Dataset, read_dataset
from anamorph.errors import UserError
from anamorph.evaluation.cohort import Evaluation, evaluate_dataset
from anamorph.evaluation.cohort_files import read_evaluation, write_json
from anamorph.evaluation.learn2reg.config import read_config
from anamorph.image.read import read_grid
from anamorph.report.cohort.evaluated import cohort_report
from anamorph.transforms import Displacement
from anamorph.transforms.files import write_transform
from small_cohort import SHAPE, write_cohort

CONFIG = {
    "task_name": "AbdomenCTCT",
    "evaluation_methods": [
        {"name": "SD", "metric": "sdlogj"},
        {"name": "overlap", "metric": "dice", "labels": ["2", "14", "1"]},
        {"name": "landmarks", "metric": "tre", "dest": "landmarks"},
    ],
    "expected_shape": [*SHAPE, 3],
    "eval_pairs": [
        {"fixed": "./imagesTr/AbdomenCTCT_0003_0000.nii.gz", "moving": "./imagesTr/AbdomenCTCT_0001_0000.nii.gz"}
    ],
    "eval_config_version": 0.2,
    "masked_evaluation": True,
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return read_dataset(write_cohort(tmp_path_factory.mktemp("cohort")))


@pytest.fixture(scope="module")
def predictions(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One constant field for every ordered pair but 0001 <- 0003, 0.5 voxels along i."""
    folder = tmp_path_factory.mktemp("predictions") / "half-a-voxel"
    folder.mkdir()
    grid = read_grid(dataset.cases[0].image)
    field = np.zeros((3, *SHAPE), np.float32)
    field[0] = 0.5
    for fixed in dataset.cases:
        for moving in dataset.cases:
            name = f"disp_{fixed.key}_{moving.key}.nii.gz"
            if fixed != moving and name != "disp_0001_0000_0003_0000.nii.gz":
                write_transform(Displacement(field, grid), folder / name, "learn2reg", grid)
    return folder


@pytest.fixture(scope="module")
def evaluation(dataset: Dataset, predictions: Path) -> Evaluation:
    return evaluate_dataset(dataset, predictions)


def run(*args: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(arg) for arg in args])
    return result.exit_code, result.stdout, result.stderr


def config_file(folder: Path, **changes: object) -> Path:
    path = folder / "evaluation_config.json"
    path.write_text(json.dumps(CONFIG | changes))
    return path


def test_the_command_writes_everything_and_fails_for_the_missing_pair(dataset, predictions, tmp_path):
    out = tmp_path / "out"
    code, printed, news = run("evaluate", predictions, "--dataset", dataset.path, "-o", out, "--name", "mine")
    assert code == 1
    assert "1 of 3 pairs have no result" in news
    assert "0001_0000<--0003_0000: no field" in printed
    for name in ("LogJacDetStd", "DSC", "HD95", "TRE_lm", "hd95_mm", "folding_percent", "identity"):
        assert name in printed
    assert sorted(path.name for path in out.iterdir()) == ["report.html", "results.csv", "results.json"]
    page = (out / "report.html").read_text()
    assert "mine on AbdomenCTCT" in page
    assert "data:image/webp" in page
    assert run("evaluate", predictions, "--dataset", dataset.path, "-o", out)[0] == 2
    assert run("evaluate", predictions, "--dataset", dataset.root, "-o", out, "--overwrite", "-q")[0] == 1


def test_the_command_without_output_and_with_wrong_arguments(dataset, predictions, tmp_path):
    config = config_file(tmp_path)
    code, printed, news = run("evaluate", predictions, "--dataset", dataset.path, "--config", config)
    assert code == 0
    assert "nothing was written" in news
    assert "overlap" in printed
    for wrong in (
        (tmp_path / "nowhere", "--dataset", dataset.path),
        (predictions, "--dataset", tmp_path / "nowhere"),
        (predictions, "--dataset", dataset.path, "--split", "test"),
        (predictions, "--dataset", dataset.path, "--config", tmp_path / "nowhere.json"),
    ):
        code, printed, news = run("evaluate", *wrong, "-o", tmp_path / "out")
        assert code == 2
        assert news.count("\n") == 1
        assert not (tmp_path / "out").exists()


def test_json_has_the_schema_of_the_evaluator_with_ours_beside(evaluation, tmp_path):
    write_json(evaluation, tmp_path / "results.json")
    content = json.loads((tmp_path / "results.json").read_text())
    assert list(content) == ["name", "aggregates", "cases", "eval_version", "anamorph"]
    assert content["eval_version"] == "2.0"
    assert list(content["cases"]) == ["0001_0000<--0002_0000", "0002_0000<--0003_0000"]
    assert set(content["aggregates"]) == {"LogJacDetStd", "DSC", "HD95", "TRE_lm"}
    for row in content["cases"].values():
        assert set(row) == {"LogJacDetStd", "num_foldings", "DSC", "HD95", "TRE_lm"}
        assert row["DSC"]["mean"] == pytest.approx(np.nanmean(row["DSC"]["detailed"]))
    own = content["anamorph"]
    assert set(own["errors"]) == {"0001_0000<--0003_0000"}
    assert len(own["baseline"]["cases"]) == 3
    assert "hd95_mm" in own["correct"]["aggregates"]
    assert not set(own["correct"]["aggregates"]) & set(content["aggregates"])


def test_json_is_read_back(evaluation, tmp_path):
    write_json(evaluation, tmp_path / "results.json")
    again = read_evaluation(tmp_path)
    assert again.measures == evaluation.measures
    assert (again.method, again.task, again.split) == ("half-a-voxel", "AbdomenCTCT", "val")
    assert again.label_names == {1: "one", 2: "two", 3: "three"}
    assert again.compatible_aggregates() == evaluation.compatible_aggregates()
    assert again.correct_aggregates(baseline=True) == evaluation.correct_aggregates(baseline=True)
    for name in ("key", "verdict", "signs_of_failure", "accuracy", "reasons", "error"):
        assert [getattr(case, name) for case in again.cases] == [getattr(case, name) for case in evaluation.cases]
    assert {case.signs_of_failure for case in again.cases if case.scores} <= {"none", "some", "clear"}
    assert "not measured" not in {case.accuracy for case in again.cases}
    write_json(again, tmp_path / "again.json")
    assert (tmp_path / "again.json").read_text() == (tmp_path / "results.json").read_text()
    assert cohort_report(again).rows[1].per_label == cohort_report(evaluation).rows[1].per_label


def test_a_result_of_the_evaluator_itself_is_read(evaluation, tmp_path):
    write_json(evaluation, tmp_path / "results.json")
    content = json.loads((tmp_path / "results.json").read_text())
    del content["anamorph"]
    (tmp_path / "team.json").write_text(json.dumps(content))
    theirs = read_evaluation(tmp_path / "team.json")
    assert theirs.method == "team"
    assert {m.name: m.metric for m in theirs.measures} == {m.name: m.metric for m in evaluation.measures}
    assert theirs.compatible_aggregates() == evaluation.compatible_aggregates()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"name": "a", "cases": {}}', '{"cases": 1, "aggregates": {"x": 1}}'])
def test_other_files_are_refused_in_one_line(tmp_path, text):
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(UserError, match="not the result of an evaluation"):
        read_evaluation(tmp_path)


def test_csv_has_a_row_per_pair_and_per_label(dataset, predictions, evaluation, tmp_path):
    run("evaluate", predictions, "--dataset", dataset.path, "-o", tmp_path / "out", "-q")
    with (tmp_path / "out" / "results.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["label"] for row in rows] == ["", "1", "2", "3"] * 3
    assert rows[1]["label_name"] == "one"
    case = evaluation.cases[0]
    assert float(rows[0]["learn2reg_DSC"]) == case.compatible["DSC"]["mean"]
    assert float(rows[2]["learn2reg_HD95"]) == case.compatible["HD95"]["detailed"][1]
    assert float(rows[2]["hd95_mm"]) == case.correct["hd95_mm"]["detailed"][2]
    assert float(rows[3]["initial_dice"]) == case.baseline.correct["dice"]["detailed"][3]
    assert float(rows[0]["sdlogj"]) == case.correct["sdlogj"]["mean"]
    assert rows[4]["dice"] == ""
    assert "no field" in rows[4]["error"]
    assert float(rows[4]["initial_dice"]) == evaluation.cases[1].baseline.correct["dice"]["mean"]


def test_the_configuration_chooses_pairs_measures_labels_and_mask(dataset, predictions, tmp_path):
    found = evaluate_dataset(dataset, predictions, config=config_file(tmp_path))
    (case,) = found.cases
    assert case.key == "0003_0000<--0001_0000"
    assert set(case.compatible) == {"SD", "num_foldings", "overlap", "landmarks"}
    assert np.isnan(case.compatible["overlap"]["detailed"]).tolist() == [False, True, False]
    assert found.masked
    assert found.split == ""


def test_sdlogj_is_taken_within_the_mask_if_so_configured(dataset, tmp_path):
    grid = read_grid(dataset.cases[0].image)
    field = np.zeros((3, *SHAPE), np.float32)
    field[0, :4] = np.random.default_rng(0).normal(0, 0.3, (4, *SHAPE[1:]))  # outside the body
    write_transform(Displacement(field, grid), tmp_path / "disp_0003_0000_0001_0000.nii.gz", "learn2reg", grid)
    masked, whole = (
        evaluate_dataset(dataset, tmp_path, config=config_file(tmp_path, masked_evaluation=masked))
        .cases[0]
        .compatible["SD"]["mean"]
        for masked in (True, False)
    )
    assert masked < whole / 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"evaluation_methods": [{"name": "a", "metric": "asd"}]}, "unknown metric 'asd'"),
        ({"evaluation_methods": [{"name": "a", "metric": "sdlogj"}] * 2}, "must differ"),
        ({"evaluation_methods": [{"name": "a", "metric": "tre", "dest": "x"}]}, "set dest to"),
        ({"eval_pairs": [{"fixed": "a_0009_0000.nii.gz", "moving": "b"}]}, "is no scan of"),
        ({"eval_pairs": None}, "cannot be read as an evaluation configuration"),
        ({"evaluation_methods": 3}, "cannot be read as an evaluation configuration"),
    ],
)
def test_a_wrong_configuration_is_refused_in_one_line(dataset, tmp_path, changes, words):
    with pytest.raises(UserError, match=words):
        read_config(config_file(tmp_path, **changes), dataset)


def test_an_unexpected_shape_is_an_error_of_the_pair(dataset, predictions, tmp_path):
    config = config_file(tmp_path, expected_shape=[192, 160, 256, 3])
    (case,) = evaluate_dataset(dataset, predictions, config=config).cases
    assert "the configuration expects (192, 160, 256)" in case.error
