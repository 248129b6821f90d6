"""`anamorph demo --dataset NAME`: small data sets whose scans, labels and points belong together."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import anamorph
from anamorph.cli.main import app
from anamorph.data import read_dataset
from anamorph.data.check import check_dataset
from anamorph.phantom.patients import make_study
from anamorph.phantom.studies import KINDS, beat, breath


def demo(*arguments: str):
    return CliRunner().invoke(app, ["demo", *arguments])


@pytest.fixture(scope="module")
def hearts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "hearts"
    result = demo("--dataset", "heart", "--patients", "4", "-o", str(folder))
    assert result.exit_code == 0, result.output
    assert "4 scans for training, 4 for validation, pairs to evaluate: 2" in " ".join(result.stdout.split())
    return folder


def test_the_data_set_is_sound_and_pairs_the_phases_of_a_patient(hearts: Path):
    dataset = read_dataset(hearts / "CardiacMR")
    findings = check_dataset(dataset)
    assert not findings.problems
    assert [pair.key for pair in dataset.pairs("val")] == ["0003_0000<--0003_0001", "0004_0000<--0004_0001"]
    assert (hearts / "labels.csv").read_text() == "subject,label\n0001,healthy\n0002,ill\n0003,healthy\n0004,ill\n"


def test_the_pair_is_the_first_of_the_data_set(hearts: Path):
    for role, key in (("fixed", "0001_0000"), ("moving", "0001_0001")):
        image = anamorph.read_image(hearts / f"{role}.nii.gz")
        same = anamorph.read_image(hearts / f"CardiacMR/imagesTr/CardiacMR_{key}.nii.gz")
        assert np.array_equal(image.data, same.data)
        voxels = anamorph.read_points(hearts / f"{role}_points.csv").to_voxel(image.grid)
        written = np.loadtxt(hearts / f"CardiacMR/landmarksTr/CardiacMR_{key}.csv", delimiter=",")
        assert np.allclose(voxels, written, atol=1e-3)


def test_points_lie_where_the_labels_say(hearts: Path):
    points = anamorph.read_points(hearts / "moving_points.csv")
    labels = anamorph.read_labels(hearts / "moving_labels.nii.gz")
    at = dict(zip(points.labels, np.rint(points.to_voxel(labels.grid)).astype(int), strict=True))
    assert labels.data[0][tuple(at["left ventricle centre"])] == 1
    assert labels.data[0][tuple(at["right ventricle centre"])] == 3


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_shows_its_labels_and_the_same_bits_each_time(name: str):
    kind = KINDS[name]
    first, again = (next(make_study(kind, 4, seed=2)) for _ in range(2))
    assert set(first.labels.present()) == set(kind.label_names)
    assert np.array_equal(first.image.data, again.image.data)
    assert 0.2 < first.mask.data.mean() <= 1
    assert (first.image.data.min() < -900) == (kind.modality == "CT")


def test_weak_hearts_contract_less():
    scans = [*make_study(KINDS["heart"], 4)]
    kept = [(scans[n + 1].labels.data == 1).sum() / (scans[n].labels.data == 1).sum() for n in range(0, len(scans), 2)]
    assert max(kept[::2]) < min(kept[1::2]) < 1  # healthy, ill, healthy, ill


def test_phases_are_the_identity_of_size_zero():
    points = np.array([[10.0, -20.0, 30.0], [0.0, 0.0, 250.0]])
    for phase in (breath, beat):
        assert np.allclose(phase(0.0).map_world(points), points, atol=1e-4)
    assert np.allclose(breath(0.1).map_world(np.array([[0.0, 0.0, 300.0]])), [[0, 0, 300]])  # the apex stays


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "hart"], "there is no data set 'hart' (did you mean 'heart'?); choose one of: abdomen, lung"),
        (["--dataset", "heart", "--size", "64"], "--size has no meaning with --dataset; leave it out"),
        (["--dataset", "heart", "--patients", "2"], "at least 4 patients"),
        (["--patients", "5"], "--patients has no meaning without --dataset"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(tmp_path: Path, arguments: list[str], message: str):
    result = demo(*arguments, "-o", str(tmp_path / "out"))
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_only_a_data_set_is_replaced(hearts: Path, tmp_path: Path):
    assert "already exists" in demo("--dataset", "heart", "-o", str(hearts)).stderr
    (tmp_path / "mine.txt").write_text("mine")
    assert "is not replaced" in demo("--dataset", "heart", "-o", str(tmp_path), "--overwrite").stderr
    manifest = json.loads((hearts / "CardiacMR/CardiacMR_dataset.json").read_text())
    assert manifest["reference"] == "synthetic scans of `anamorph demo`"
