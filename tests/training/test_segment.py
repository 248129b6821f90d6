"""The task ``segment`` and the pseudo-labels made with its model."""

from __future__ import annotations

import json

import nibabel
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from anamorph.cli.main import app
from anamorph.data import read_dataset
from anamorph.errors import UserError
from anamorph.evaluation import dice
from anamorph.geometry import Grid
from anamorph.image import Image, Labels
from anamorph.image.read import read_labels
from anamorph.networks.architecture import build_network
from anamorph.networks.model import ModelCard, load_weights, save_model
from anamorph.networks.preprocessing import Preprocessing
from anamorph.networks.symmetric_network import SegmentationNetwork
from anamorph.networks.trained import SegmentationModel
from anamorph.training.cache import Cohort
from anamorph.training.pseudo_labels import predict_dataset
from anamorph.training.tasks.segment import SegmentTask, SegmentTraining
from blobs import blob_cohort, blob_scan, make_blobs
from learning import CPU, generators

TINY = {"mult": 1, "convolutions": (1, 1)}


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    folder = tmp_path_factory.mktemp("blobs")
    cohorts = [
        blob_cohort(folder, name="Shells", training=3, validation=1, annotated_labels=[1]),
        blob_cohort(folder, name="Cores", training=2, validation=1, annotated_labels=[2], first_seed=10),
    ]
    return SegmentTask(SegmentTraining(**TINY), cohorts)


@pytest.fixture(scope="module")
def model(task, tmp_path_factory):
    """Trained on cohorts of which none shows both labels."""
    torch.manual_seed(0)
    network = task.network()
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    for step in range(60):
        items = task.training_items(step, torch.Generator().manual_seed(step))[:4]
        loss = task.loss(network, task.batch(items, CPU, generators(len(items))))["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    folder = tmp_path_factory.mktemp("model")
    card = ModelCard("seg", **task.export(network))
    save_model(folder, network.state_dict(), card)
    return SegmentationModel.load(folder), folder


def test_cohorts_teach_each_other_their_labels(task, model):
    with torch.no_grad():
        measured = task.validate(build_network(*load_weights(model[1])), CPU)
    sureness = {"sure_1", "sure_2", "sure_low_1", "sure_low_2"}
    assert set(measured) == {"dice", "dice_1", "dice_2"} | sureness
    assert 0 < measured["sure_low_1"] <= measured["sure_1"] <= 1
    assert measured["dice_1"] > 0.8
    values, labels = blob_scan(99)
    grid = Grid(values.shape, np.diag([-2.0, 2, 2, 1]))
    found = dice(Labels(labels, grid), model[0].predict(Image(values, grid)))
    assert found[1] > 0.7
    assert found[2] > 0.5, "a scan like those of no cohort that shows both"


def test_known_labels_overwrite_what_is_predicted(model):
    values, labels = blob_scan(99)
    grid = Grid(values.shape, np.diag([2.0, 2, 2, 1]))
    core = Labels(np.where(labels == 2, 2, 0), grid)
    shifted = core.with_data(np.roll(core.data, 2, axis=1))
    predicted = model[0].predict(Image(values, grid), shifted, annotated=(2,)).data[0]
    np.testing.assert_array_equal(predicted == 2, shifted.data[0] == 2)
    assert (predicted == 1).sum() > 100
    everything = model[0].predict(Image(values, grid), Labels(labels, grid), annotated=(1, 2))
    np.testing.assert_array_equal(everything.data[0], labels)


def test_a_batch_knows_who_annotates_what_and_nobody_else_is_heard(task):
    batch = task.batch([(0, 0), (1, 0)], CPU, generators(2))
    assert batch["annotated"].tolist() == [[True, False], [False, True]]
    torch.manual_seed(0)
    network = task.network()
    logits = network(batch["image"]).detach().requires_grad_()
    probabilities = logits.softmax(1)
    probabilities.retain_grad()
    from anamorph.training.losses import partial_dice

    target = torch.zeros_like(probabilities[:, 1:])
    partial_dice(probabilities[:, 1:], target, batch["annotated"]).backward()
    touched = (probabilities.grad != 0).flatten(2).any(-1)
    assert touched.tolist() == [[False, True, False], [False, False, True]]


def test_small_cohorts_are_visited_as_often_on_wish(task):
    even = SegmentTask(SegmentTraining(**TINY, even_cohorts=True), task.cohorts)
    counts = [
        np.bincount([cohort for cohort, _ in one.training_items(0, torch.Generator())]).tolist() for one in (task, even)
    ]
    assert counts == [[3, 2], [3, 2]]
    large = blob_cohort(task.cohorts[0].dataset.root.parent / "more", name="Large", training=5, validation=0)
    even = SegmentTask(SegmentTraining(**TINY, even_cohorts=True), [large, task.cohorts[1]])
    assert np.bincount([c for c, _ in even.training_items(0, torch.Generator())]).tolist() == [5, 4]


def test_a_data_set_of_pseudo_labels_is_complete(tmp_path, model):
    path = make_blobs(tmp_path / "data", training=2, validation=1, name="Partial", annotated_labels=[2])
    content = json.loads(path.read_text())
    del content["training"][0]["label"]
    (tmp_path / "data" / "labelsTr" / "Partial_0001_0000.nii.gz").unlink()
    path.write_text(json.dumps(content))
    arguments = [
        "predict",
        "segment",
        "--dataset",
        path,
        "--model",
        model[1],
        "-o",
        tmp_path / "out",
        "--device",
        "cpu",
    ]
    result = CliRunner().invoke(app, [*map(str, arguments)])
    assert result.exit_code == 0, result.output
    made = read_dataset(tmp_path / "out" / "Partial")
    source = read_dataset(path)
    assert [case.image for case in made.cases] == [case.image for case in source.cases]
    assert [case.split for case in made.cases] == [case.split for case in source.cases]
    assert made.labels == {1: "shell", 2: "core"}
    assert made.extra["pseudo_labels"]["known"] == [2]
    assert "annotated_labels" not in made.extra
    for n, case in enumerate(made.cases):
        labels = read_labels(case.label).data[0]
        truth = blob_scan(n)[1]
        assert (labels == 1).sum() > 100
        if n > 0:
            np.testing.assert_array_equal(labels == 2, truth == 2)
        np.testing.assert_allclose(nibabel.load(case.label).affine, nibabel.load(case.image).affine)


def test_known_labels_go_by_their_names_and_by_scan(tmp_path, model):
    path = make_blobs(tmp_path / "data", training=1, validation=1, name="Turned", labels={"1": "core", "2": "shell"})
    content = json.loads(path.read_text())
    content["training"][0]["annotated_labels"] = [1]
    path.write_text(json.dumps(content))
    made = predict_dataset(model[0], read_dataset(path), tmp_path / "out")
    assert made.labels == {1: "shell", 2: "core"}
    first, second = (read_labels(case.label).data[0] for case in made.cases)
    np.testing.assert_array_equal(first == 2, blob_scan(0)[1] == 1, "known, under the number of the model")
    assert (first == 1).any()
    np.testing.assert_array_equal(second, np.array([0, 2, 1])[blob_scan(1)[1]])
    assert all("annotated_labels" not in case.extra for case in made.cases)
    path.write_text(json.dumps(content | {"labels": {"1": "liver", "2": "shell"}}))
    with pytest.raises(UserError, match=r"label 1 is 'shell' in seg and 'liver' in Turned_dataset.json"):
        predict_dataset(model[0], read_dataset(path), tmp_path / "other")


def test_what_cannot_be_predicted_is_refused(tmp_path, model):
    path = make_blobs(tmp_path / "data", name="Other", labels={"1": "shell", "2": "core", "7": "more"})
    with pytest.raises(UserError, match="annotates 7"):
        predict_dataset(model[0], read_dataset(path), tmp_path / "out")
    grid = Grid((8, 8, 8), np.eye(4))
    two = Image(np.random.default_rng(0).random((2, 8, 8, 8)), grid)
    with pytest.raises(UserError, match="2 channels"):
        model[0].predict(two)
    with pytest.raises(UserError, match="annotates any label"):
        SegmentTask(SegmentTraining(**TINY), [blob_cohort(tmp_path, name="None", annotated_labels=[])]).check()


def test_one_scan_gets_a_label_map_and_is_stripped_to_a_label(tmp_path, model):
    values, truth = blob_scan(99)
    values[0, 0, 0] = -7.0  # the lowest value, which stands for nothing
    scan, out, strip = (tmp_path / f"{name}.nii.gz" for name in ("scan", "labels", "stripped"))
    nibabel.Nifti1Image(values, np.diag([-2.0, 2, 2, 1])).to_filename(scan)
    command = ["predict", "segment", scan, "--model", model[1], "-o", out, "--strip", strip, "--device", "cpu"]
    result = CliRunner().invoke(app, [*map(str, command), "--outside", "shell"])
    assert result.exit_code == 0, result.output
    labels, stripped = (np.asarray(nibabel.load(path).dataobj) for path in (out, strip))
    np.testing.assert_allclose(nibabel.load(out).affine, nibabel.load(scan).affine)
    assert dice(Labels(truth, Grid(truth.shape, np.eye(4))), Labels(labels, Grid(truth.shape, np.eye(4))))[1] > 0.7
    kept = stripped != -7.0
    assert kept.sum() > 50
    assert (labels[kept] == 2).all()
    np.testing.assert_array_equal(stripped[kept], values[kept])
    for more, message in (
        (["--outside", "hair"], "no label 'hair'"),
        (["--dataset", "data"], "name a scan, or data sets"),
        ([], "already exists"),
    ):
        refused = CliRunner().invoke(app, [*map(str, command), *more, *(["--overwrite"] if more else [])])
        assert refused.exit_code == 2
        assert message in " ".join(refused.stderr.split())


def test_what_the_network_has_not_seen_is_background(tmp_path):
    torch.manual_seed(0)
    network = SegmentationNetwork(1, 3, 1, (1, 1))
    with torch.no_grad():
        network.decoder.last.bias.copy_(torch.tensor([0.0, 50.0, 0.0]))
    architecture = {"inputs": 1, "classes": 3, "mult": 1, "convolutions": [1, 1]}
    card = ModelCard("one", "segment", architecture=architecture, labels={4: "a", 6: "b"},
                     preprocessing=Preprocessing(multiple=4).as_json())  # fmt: skip
    save_model(tmp_path / "m", network.state_dict(), card)
    values, _ = blob_scan(0)
    found = SegmentationModel.load(tmp_path / "m").predict(Image(values, Grid(values.shape, np.eye(4))))
    assert set(np.unique(found.data)) == {4}


def test_every_preset_makes_a_training():
    for values in SegmentTask.presets.values():
        names = set(SegmentTraining.__dataclass_fields__)
        assert SegmentTraining(**{k: v for k, v in values.items() if k in names}).activation == "leaky"


def test_labels_that_the_model_does_not_know_are_kept_from_the_own_map(tmp_path, model):
    """One scan shows label 7 beside the model's two, one does not say, the third has no map."""
    path = make_blobs(tmp_path / "data", training=2, validation=1, name="More", labels={"1": "shell", "7": "gland"})
    content = json.loads(path.read_text())
    for n, case in enumerate(content["training"] + content["validation"]):
        map_path = tmp_path / "data" / case["label"]
        labels = np.where(blob_scan(n)[1] == 2, 7, 0).astype(np.uint8)
        nibabel.Nifti1Image(labels, np.diag([2.0, 2, 2, 1])).to_filename(map_path)
    content["training"][0]["annotated_labels"] = [7]
    content["training"][1]["annotated_labels"] = []
    (tmp_path / "data" / content["validation"][0].pop("label")).unlink()
    path.write_text(json.dumps(content))
    arguments = ["predict", "segment", "--dataset", path, "--model", model[1], "--device", "cpu"]
    refused = CliRunner().invoke(app, [*map(str, arguments), "-o", str(tmp_path / "refused")])
    assert refused.exit_code == 2
    assert "annotates 7, which seg does not know; pass --keep-all-labels" in refused.stderr
    kept = CliRunner().invoke(app, [*map(str, arguments), "-o", str(tmp_path / "out"), "--keep-all-labels"])
    assert kept.exit_code == 0, kept.stderr
    made = read_dataset(tmp_path / "out" / "More")
    assert made.labels == {1: "shell", 2: "core", 7: "gland"}
    assert [case.extra.get("annotated_labels") for case in made.cases] == [None, [1, 2], [1, 2]]
    maps = [read_labels(case.label).data[0] for case in made.cases]
    np.testing.assert_array_equal(maps[0] == 7, blob_scan(0)[1] == 2)
    assert not (maps[1] == 7).any()
    assert all((labels == 1).sum() > 100 for labels in maps)
    cohort = Cohort.of(made, Preprocessing(), tmp_path / "cache")
    assert cohort.annotated_by_row == ((1, 2, 7), (1, 2), (1, 2))
