"""The task ``features``: its losses, its pairs of scans, and that it learns to find places across contrasts."""

from __future__ import annotations

import dataclasses
import math

import nibabel
import numpy as np
import pytest
import torch
from benchmarks.gpu import shape_data
from benchmarks.gpu.shape_data import HIGHEST, write_shapes

from anamorph.data import read_dataset
from anamorph.networks.preprocessing import Preprocessing
from anamorph.training.cache import Cohort
from anamorph.training.contrastive import features_at, label_loss, place_likelihoods, place_loss
from anamorph.training.tasks.features import FeatureTask, FeatureTraining
from blobs import make_blobs
from learning import CPU, generators


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    torch.manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(shape), dim=1)


def test_the_same_place_is_found_where_the_second_scan_lies_elsewhere():
    whole = unit(1, 8, 14, 13, 12)
    first, second = whole[..., 2:, 1:, :], whole[..., :-1, :, 1:]
    anchors = torch.tensor([[4.0, 5, 6], [5, 4, 6], [4, 5, 7]])[None]
    shift = torch.tensor([[2.0, 1, -1]])
    offsets = torch.tensor([[1.0, 0, -2], [0, 1, 1], [0, -1, 0]])[None]
    labels = torch.arange(second[0, 0].numel()).reshape(1, *second.shape[2:])
    i, j, k = (int(n) for n in anchors[0, :, 0] + shift[0])
    labels[0, i + 1, j, k] = labels[0, i, j, k]  # the first other place of the first anchor
    found = place_likelihoods(first, second, labels, anchors, shift, offsets)
    assert found.shape == (1, 3, 4)
    np.testing.assert_allclose(found[..., 0], 1, atol=1e-5)
    assert float(found[..., 1:].max()) < 0.95
    assert torch.isinf(found).nonzero().tolist() == [[0, 0, 1]], "the one of the same label"
    expected = first[0, :, 4, 5, 4] @ second[0, :, i, j + 1, k - 1]
    np.testing.assert_allclose(found[0, 0, 2], expected, atol=1e-5)


def test_features_between_cells_have_length_one():
    read = features_at(unit(2, 4, 6, 6, 6), 1.5 + torch.rand(2, 3, 10, 5))
    assert read.shape == (2, 4, 10, 5)
    np.testing.assert_allclose(read.norm(dim=1), 1, atol=1e-5)


def test_the_loss_of_places_is_the_entropy_of_a_choice_that_knows_nothing_and_small_for_one_that_knows():
    assert math.isclose(float(place_loss(torch.zeros(1, 5, 8), 0.1)), math.log(8), rel_tol=1e-6)
    clear = torch.zeros(1, 5, 8)
    clear[..., 0] = 1
    assert math.isclose(float(place_loss(clear, 0.1)), math.log(1 + 7 * math.exp(-10)), rel_tol=1e-2)


def test_the_loss_of_labels_is_that_of_a_plain_transcription():
    features, labels = unit(2, 5, 9), torch.randint(0, 3, (2, 9))
    labels[0, 0] = 7  # alone: nothing to draw it to
    each = []
    for vectors, own in zip(features.movedim(1, 2), labels, strict=True):
        for n in range(9):
            others = [m for m in range(9) if m != n]
            same = [m for m in others if own[m] == own[n]]
            total = sum(math.exp(float(vectors[n] @ vectors[m]) / 0.4) for m in others)
            if same:
                logs = [float(vectors[n] @ vectors[m]) / 0.4 - math.log(total) for m in same]
                each.append(-sum(logs) / len(logs))
    assert math.isclose(float(label_loss(features, labels, 0.4)), sum(each) / len(each), rel_tol=1e-5)
    assert float(label_loss(features, torch.arange(9).expand(2, 9), 0.4)) == 0


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("blobs")
    path = make_blobs(folder, labels={"1": "left shell", "2": "core"})
    return Cohort.of(read_dataset(path), Preprocessing(), folder / "cache")


TINY = FeatureTraining(
    mult=1, convolutions=(1,), crop=(24, 24, 24), samples=64, others=16, classes=8, rate=1e-2, bend_vox=1.0, bias=0.0,
    strip=0.0, thickness_vox=1.0, apart_vox=6,
)  # fmt: skip


def test_both_scans_of_a_pair_show_one_body_where_the_shift_says(cohort):
    task = FeatureTask(TINY, [cohort])
    task.check()
    batch = task.batch([(0, 0), (0, 1)], CPU, generators(2))
    assert batch["first"].shape == batch["second"].shape == (2, 1, 24, 24, 24)
    assert batch["shift"].abs().max() <= 3
    assert (batch["shift"] != 0).any()
    assert batch["labels"].shape == (2, 64)
    assert len(batch["labels"].unique()) > 1
    assert right_and_wrong(task) < 0.8


def right_and_wrong(task: FeatureTask) -> float:
    """How much values differ within a label at the places of both scans, against places two cells away."""
    differences = np.zeros(2)
    for seed in range(8):
        batch = task.batch([(0, 0)], CPU, generators(1, seed=seed))
        for image, shift in ((batch["first"], torch.zeros(1, 3)), (batch["second"], batch["shift"])):
            for n, wrong in enumerate((0, 2)):
                i, j, k = (2 * (batch["anchors"][0] + shift[0, :, None] + wrong)).long()
                values, known = image[0, 0, i, j, k], batch["labels"][0]
                differences[n] += sum(float(values[known == one].var(correction=0)) for one in known.unique())
    return differences[0] / differences[1]


def test_a_short_training_finds_more_places_than_an_untrained_network(cohort):
    task = FeatureTask(TINY, [cohort])
    torch.manual_seed(0)
    network = task.network()
    with torch.no_grad():
        before = task.validate(network, CPU)["matched"]
    optimiser = task.optimiser(network)
    losses = []
    for step in range(40):
        found = task.loss(network, task.batch([(0, 0), (0, 1)], CPU, generators(2, seed=step)))
        assert set(found) == {"loss", "place"}
        optimiser.zero_grad()
        found["loss"].backward()
        optimiser.step()
        losses.append(found["loss"].item())
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.2
    both = FeatureTask(dataclasses.replace(TINY, label=0.5), [cohort])
    with torch.no_grad():
        parts = both.loss(network, both.batch([(0, 0)], CPU, generators(1)))
        assert torch.isclose(parts["loss"], parts["place"] + 0.5 * parts["label"])
        after = task.validate(network, CPU)["matched"]
        assert after == task.validate(network, CPU)["matched"], "on the same scans every time"
    assert after > before + 0.05
    card = task.export(network)
    assert card["kind"] == "features"
    assert card["labels"] == {}
    assert card["architecture"]["classes"] == 8


@pytest.mark.parametrize("wrong", [{"place_temperature": 0.0}, {"label": -1.0}, {"others": 0}, {"reach": 0.5}])
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match="must"):
        FeatureTraining(**wrong)


def test_bodies_are_made_of_the_shapes_of_label_maps(tmp_path, monkeypatch):
    side = shape_data.SIDE // 2
    monkeypatch.setattr(shape_data, "SIDE", side)
    source = np.zeros((30, 28, 26), np.int16)
    source[5:25, 6:20, 7:19] = 2
    source[10:18, 9:17, 9:17] = 530
    paths = [tmp_path / f"map_{n}.nii.gz" for n in range(2)]
    for path in paths:
        nibabel.Nifti1Image(source, np.diag([-1.5, 1.5, 1.5, 1])).to_filename(path)
    dataset = write_shapes([paths], tmp_path / "out", bodies=6)
    assert [case.split for case in dataset.cases] == ["training"] * 7 + ["validation"]
    bodies = [np.asarray(nibabel.load(case.label).dataobj) for case in read_dataset(dataset.path).cases]
    assert all(body.shape == (side, side, side) and body.dtype == np.uint8 for body in bodies)
    extents = [np.ptp(np.argwhere(bodies[0] == n), axis=0) * 1.8 for n in (1, 2)]
    np.testing.assert_allclose(extents, [np.array([19, 13, 11]) * 1.5, np.array([7, 7, 7]) * 1.5], atol=1.8)
    made = bodies[2:]
    assert min(len(np.unique(body)) for body in made) >= 5
    assert max(int(body.max()) for body in made) <= HIGHEST
    assert not np.array_equal(made[0], made[1])
