"""Labels that are unknown in some scans of a cohort, and cohorts that are brought together by names."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from anamorph.data import read_dataset
from anamorph.errors import UserError
from anamorph.networks.blocks import one_hot
from anamorph.networks.preprocessing import Preprocessing
from anamorph.training.cache import Cohort
from anamorph.training.losses import partial_dice
from anamorph.training.start import label_notes, start_training
from anamorph.training.tasks.pdd import PddTask, PddTraining
from anamorph.training.tasks.segment import SegmentTask, SegmentTraining
from anamorph.training.tasks.symmetric import SymmetricTask, SymmetricTraining
from blobs import blob_scan, make_blobs
from learning import CPU, generators, trained
from toy_task import ToyTask, make_cohort, needs_fabric

SHAPE = (16, 16, 16)
TINY = {"mult": 1, "convolutions": (1, 1)}
PREPROCESSING = Preprocessing(multiple=4)


def make(folder: Path, held: list[bool], told: bool = True) -> Path:
    """A data set of small scans, the last two for validation; only some label maps hold the core (label 2)."""
    lists: dict[str, list] = {"training": [], "validation": []}
    for n, holds in enumerate(held):
        values, labels = blob_scan(n, SHAPE)
        image, label = (folder / kind / f"B_{n + 1:04}_0000.nii.gz" for kind in ("imagesTr", "labelsTr"))
        for path, data in ((image, values), (label, np.where((labels == 2) & (not holds), 0, labels))):
            path.parent.mkdir(parents=True, exist_ok=True)
            nibabel.Nifti1Image(data.astype(np.float32 if path is image else np.uint8), np.eye(4)).to_filename(path)
        entry: dict = {"image": f"./imagesTr/{image.name}", "label": f"./labelsTr/{label.name}"}
        if told and not holds:
            entry["annotated_labels"] = [1]
        lists["validation" if n >= len(held) - 2 else "training"].append(entry)
    path = folder / "B_dataset.json"
    path.write_text(json.dumps({"name": "B", "labels": {"1": "shell", "2": "core"}, **lists}))
    return path


def cohort_of(folder: Path, *arguments, **options) -> Cohort:
    return Cohort.of(read_dataset(make(folder, *arguments, **options)), PREPROCESSING, folder / "cache")


@pytest.fixture(scope="module")
def mixed(tmp_path_factory) -> Cohort:
    return cohort_of(tmp_path_factory.mktemp("mixed"), [True, False, True, True, False])


def test_each_scan_has_its_own_labels(mixed):
    assert mixed.annotated_by_row == ((1, 2), (1,), (1, 2), (1, 2), (1,))
    assert mixed.annotated == (1, 2)
    assert mixed.taken_for_background() == {}


def test_nothing_is_learned_of_a_label_in_a_scan_where_it_is_unknown(mixed):
    task = SegmentTask(SegmentTraining(**TINY), [mixed])
    batch = task.batch([(0, 0), (0, 1)], CPU, generators(2))
    assert batch["annotated"].tolist() == [[True, True], [True, False]]
    # Whatever the second scan says of the core, the loss does not hear it.
    other = batch["labels"].clone()
    other[1][other[1] == 0] = 2
    network = torch.zeros(2, 3, *SHAPE).clone
    losses = [
        float(task.loss(lambda image: network(), batch | {"labels": one})["loss"]) for one in (batch["labels"], other)
    ]
    assert losses[0] == losses[1]
    probabilities = torch.full((2, 2, *SHAPE), 1 / 3, requires_grad=True)
    partial_dice(probabilities, one_hot(other[:, None], torch.tensor([1.0, 2.0])), batch["annotated"]).backward()
    assert (probabilities.grad != 0).flatten(2).any(-1).tolist() == [[True, True], [True, False]]


@pytest.mark.parametrize("kind", ["symmetric", "pdd"])
def test_of_a_pair_only_labels_known_in_both_scans_count(mixed, kind):
    if kind == "symmetric":
        config = SymmetricTraining(mse=0.0, gradient_l1=0.0, deep_supervision=False, affine_chance=0.0, **TINY)
        task = SymmetricTask(config, [mixed])
    else:
        config = PddTraining(control=(4, 4, 4), width=3, diffusion=0.0, mean_field=False, affine_chance=0.0)
        task = PddTask(config, [mixed])
    batch = task.batch([(0, 0, 1), (0, 2, 0)], CPU, generators(2))
    assert batch["annotated"].tolist() == [[True, False], [True, True]]
    torch.manual_seed(0)
    network = task.network().eval()
    losses = []
    for change in (False, True):  # of the core in the pair in which it is unknown
        labels = {side: batch[f"{side}_labels"].clone() for side in ("fixed", "moving")}
        if change:
            labels["fixed"][0][labels["fixed"][0] == 0] = 2
            labels["moving"][0][labels["moving"][0] == 0] = 2
        losses.append(
            float(task.loss(network, batch | {f"{side}_labels": one for side, one in labels.items()})["loss"])
        )
    assert losses[0] == losses[1]


@pytest.mark.slow
def test_what_only_some_scans_hold_is_learned_where_it_is_unknown_elsewhere(tmp_path):
    """As oesophagi that few patients have: taken for background in the others they end at 0."""
    held = [True, False, False, False, True, True]
    found = {}
    for told in (True, False):
        task = SegmentTask(SegmentTraining(**TINY), [cohort_of(tmp_path / str(told), held, told=told)])
        network = trained(task, 40, 3e-2, [(0, row) for row in range(4)])
        with torch.no_grad():
            found[told] = task.validate(network, CPU)
    assert found[True]["dice_2"] > 0.6
    assert found[False]["dice_2"] < 0.05
    assert found[True]["dice_1"] > 0.6


def test_the_validation_leaves_out_what_is_unknown(mixed):
    task = SegmentTask(SegmentTraining(**TINY), [mixed])
    torch.manual_seed(0)
    network = task.network()
    with torch.no_grad():
        network.decoder.last.bias.copy_(torch.tensor([0.0, 0.0, 50.0]))
        measured = task.validate(network, CPU)
    sureness = {"sure_1", "sure_2", "sure_low_1", "sure_low_2"}
    assert set(measured) == {"dice", "dice_1", "dice_2"} | sureness
    assert measured["dice"] == pytest.approx((measured["dice_2"] / 2 + 0) / 2), "the mean over two and over one label"


def test_a_label_that_counts_as_background_is_told(tmp_path):
    cohort = cohort_of(tmp_path, [True, False, False, True, True], told=False)
    assert cohort.taken_for_background() == {2: 2}
    (note,) = label_notes([cohort])
    assert "core (2) counts as background in 2 training scans" in note


@needs_fabric
def test_a_training_on_clashing_names_is_refused_before_anything_is_read(tmp_path):
    one = make_blobs(tmp_path / "a", name="Liver", labels={"1": "liver", "2": "tumour"})
    two = make_blobs(tmp_path / "b", name="Spleen", labels={"1": "spleen", "2": "tumour"})
    with pytest.raises(
        UserError, match=r"label 1 is 'liver' in Liver_dataset.json and 'spleen' in Spleen_dataset.json"
    ):
        start_training(SegmentTask, [one, two], tmp_path / "run", device="cpu", cache=tmp_path / "cache")
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "cache").exists()


@needs_fabric
def test_a_training_by_names_reads_the_numbers_of_the_first_data_set(tmp_path):
    one = make_blobs(tmp_path / "a", name="A", labels={"1": "shell", "2": "core"}, training=1, validation=1)
    two = make_blobs(tmp_path / "b", name="B", labels={"1": "Core", "2": "Shell", "9": "more"}, first_seed=5,
                     training=1, validation=1, annotated_labels=[1, 2])  # fmt: skip
    seen, told = [], []

    class Stop(Exception):
        pass

    class Seen(SegmentTask):
        def check(self) -> None:
            super().check()
            seen.append(self)
            raise Stop

    with pytest.raises(Stop):
        start_training(Seen, [one, two], tmp_path / "run", device="cpu", cache=tmp_path / "cache", say=told.append)
    (task,) = seen
    assert [cohort.names for cohort in task.cohorts] == [{1: "shell", 2: "core"}, {1: "Shell", 2: "Core", 9: "more"}]
    assert task.labels == [1, 2]
    truth = blob_scan(5)[1]
    kept = task.cohorts[1].label_maps[0]
    assert [int((kept == n).sum()) for n in (1, 2)] == [int((truth == n).sum()) for n in (2, 1)]
    assert task.export(task.network())["labels"] == {1: "shell", 2: "core"}
    (note,) = label_notes(task.cohorts)
    assert note == "B_dataset.json: labels go by their names: 1 (Core) as 2, 2 (Shell) as 1"


def test_cohorts_that_were_read_apart_are_refused(tmp_path):
    one = make_cohort(tmp_path / "a", labels={"1": "liver"})
    two = make_cohort(tmp_path / "b", labels={"1": "spleen"})
    with pytest.raises(UserError, match=r"label 1 is 'liver' in .* and 'spleen' in"):
        ToyTask(ToyTask.Config(), [one, two]).check()
