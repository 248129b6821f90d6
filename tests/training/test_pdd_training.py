"""The task ``pdd``: losses, weights, validation, and whether it learns."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from anamorph.errors import UserError
from anamorph.evaluation import dice
from anamorph.image.read import read_image, read_labels
from anamorph.methods.base import Pair, Run
from anamorph.methods.pdd import Pdd
from anamorph.methods.pdd import PddConfig as MethodConfig
from anamorph.networks.architecture import build_network
from anamorph.networks.model import ModelCard, load_weights, save_model
from anamorph.training.settings import make_settings
from anamorph.training.start import start_training
from anamorph.training.tasks.pdd import PddTask, PddTraining
from blobs import blob_cohort, make_blobs
from learning import CPU, generators

TINY = {"channels": 4, "feature_spacing": 2, "pooled": False, "control": (7, 8, 6), "width": 5, "reach": 0.4}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    preprocessing = PddTraining(**TINY).preprocessing()
    return blob_cohort(tmp_path_factory.mktemp("blobs"), preprocessing, training=3, validation=2)


def task_of(cohort, **settings) -> PddTask:
    return PddTask(PddTraining(**(TINY | settings)), [cohort])


def trained(task: PddTask, steps: int, rate: float, items: list) -> nn.Module:
    torch.manual_seed(0)
    network = task.network()
    optimiser = torch.optim.Adam(network.parameters(), rate)
    for n in range(steps):
        loss = task.loss(network, task.batch(items[n % len(items)], CPU, generators(1, n)))["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return network.eval()


@pytest.mark.parametrize("loss", ["labels", "mind"])
def test_it_learns_and_the_method_uses_what_was_learned(tmp_path, cohort, loss):
    task = task_of(cohort, loss=loss, diffusion=0.1)
    network = trained(task, 24, 0.02, [[pair] for pair in ((0, 0, 1), (0, 1, 2), (0, 2, 0))])
    with torch.no_grad():
        before, after = (task.validate(one, CPU) for one in (task.network().eval(), network))
    assert before["dice"] < 0.4
    assert after["dice"] > 0.6
    assert after["loss"] < 0.7 * before["loss"]
    assert after["folding_percent"] < 0.5

    described = task.export(network)
    save_model(tmp_path / "model", network.state_dict(), ModelCard("blobs", **described))
    assert described["preprocessing"]["shape"] == cohort.shape
    pair = [cohort.dataset.cases[n] for n in task.measured[0][1:]]
    fixed, moving = (read_image(one.image) for one in pair)
    here, there = (read_labels(one.label) for one in pair)
    settings = {"model": str(tmp_path / "model"), "refine": False, "fit_iterations": 0}
    found = Pdd(MethodConfig(**settings))(Pair(fixed, moving), Run("cpu"))
    overlap = dice(here, found.fixed_to_moving.warp_labels(there, here.grid))
    assert np.mean([*overlap.values()]) == pytest.approx(after["dice"], abs=0.03)
    back = dice(there, found.moving_to_fixed.warp_labels(here, there.grid))
    assert np.mean([*back.values()]) > 0.6


def test_a_training_of_the_shared_loop_leaves_a_model(tmp_path):
    given = [
        f"{name}={','.join(map(str, value)) if isinstance(value, tuple) else value}" for name, value in TINY.items()
    ]
    given += ["epochs=1", "batch_size=1"]
    manifest = make_blobs(tmp_path / "Blobs")
    outcome = start_training("pdd", [manifest], tmp_path / "run", given=given, device="cpu", cache=tmp_path / "cache")
    assert outcome.ending == "finished"
    card, state = load_weights(tmp_path / "run", "pdd")
    assert card.labels == {1: "shell", 2: "core"}
    assert card.metrics["dice"] == outcome.best["dice"]
    assert card.architecture["sampling"] == "voxel"
    assert build_network(card, state).search.width == 5


def test_rare_labels_count_for_more(cohort):
    task = task_of(cohort)
    counts = np.zeros(3)
    for row in range(3):
        counts += np.bincount(cohort.label_maps[row].ravel(), minlength=3)
    expected = 1 / np.sqrt(counts)
    expected /= expected.mean()
    np.testing.assert_allclose(task.weights[1:], expected[1:], rtol=1e-5)
    assert float(task.weights[0]) == pytest.approx(0.15)
    assert task.weights[2] > task.weights[1]


def sharp(task: PddTask, sharpness: float = 100.0) -> nn.Module:
    """An untrained network that is sure of what it finds."""
    torch.manual_seed(0)
    network = task.network().eval()
    with torch.no_grad():
        network.alphas[5] = sharpness
    return network


LOSSES = [{}, {"nonlocal_loss": False}, {"nonlocal_loss": False, "dense_loss": True}]


@pytest.mark.parametrize("kind", LOSSES)
def test_the_parts_of_the_loss_make_the_loss(cohort, kind):
    task = task_of(cohort, **kind, diffusion=2.0)
    network = sharp(task)
    batch = task.batch([(0, 0, 1)], CPU, generators(1))
    with torch.no_grad():
        parts = task.loss(network, batch)
        field = network(batch["fixed"], batch["moving"])[0].control_disp_vox / (sum(cohort.shape) / 6)
    rough = sum(
        (field.diff(dim=axis).square().mean() * ((field.shape[axis] - 1) / 31) ** 2).item() for axis in (2, 3, 4)
    )
    assert float(parts["diffusion"]) == pytest.approx(rough, rel=1e-4)
    assert float(parts["loss"]) == pytest.approx(float(parts["labels"]) + 2 * rough, rel=1e-5)


def test_probabilities_of_one_displacement_make_all_losses_alike_where_points_are_voxels(cohort):
    """With one control point per voxel and a sure search, all look at the same labels."""
    tasks = [task_of(cohort, control=cohort.shape, width=3, mean_field=False, **kind) for kind in LOSSES]
    network = sharp(tasks[0], 1e9)
    batch = tasks[0].batch([(0, 0, 1)], CPU, generators(1))
    with torch.no_grad():
        losses = [float(task.loss(network, batch)["labels"]) for task in tasks]
        apart = network(batch["fixed"], batch["moving"])[0].control_disp_vox
    assert apart.abs().mean() > 1
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-3)


def test_the_dense_loss_has_no_probabilities():
    with pytest.raises(ValueError, match="nonlocal_loss=false"):
        PddTraining(**TINY, dense_loss=True)


def test_labels_of_other_cohorts_are_not_learned_from(tmp_path):
    cores = blob_cohort(tmp_path, name="Cores", annotated_labels=[2])
    both = blob_cohort(tmp_path, name="Both")
    task = PddTask(PddTraining(**TINY), [cores, both])
    batch = task.batch([(0, 0, 1), (1, 0, 1)], CPU, generators(2))
    weights = task._weights_of(batch)
    assert weights[0, :2].tolist() == [0.0, 0.0]
    torch.testing.assert_close(weights[1], task.weights)
    network = sharp(task)
    first = {key: value[:1] for key, value in batch.items()}
    changed = dict(first)
    for name in ("fixed_labels", "moving_labels"):
        changed[name] = torch.where(first[name] == 2, 2, torch.randint(2, first[name].shape).to(torch.uint8))
    with torch.no_grad():
        one, other = (float(task.loss(network, batch)["labels"]) for batch in (first, changed))
    assert one == other


def test_without_labels_the_images_alone_are_learned_from(cohort):
    task = task_of(cohort, loss="mind")
    assert not task.needs_labels
    network = task.network().eval()
    batch = task.batch([(0, 0, 1)], CPU, generators(1))
    changed = batch | {name: torch.zeros_like(batch[name]) for name in ("fixed_labels", "moving_labels")}
    with torch.no_grad():
        assert float(task.loss(network, batch)["mind"]) == float(task.loss(network, changed)["mind"]) > 0


def test_both_directions_are_trained_alike(cohort):
    task = task_of(cohort, symmetric=True, augment_apart=False)
    torch.manual_seed(0)
    network = task.network().eval()
    there, back = (task.batch([pair], CPU, generators(1)) for pair in ((0, 0, 1), (0, 1, 0)))
    losses = [task.loss(network, batch)["loss"].item() for batch in (there, back)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    alone = task_of(cohort, augment_apart=False)
    one, other = (alone.loss(network, batch)["loss"].item() for batch in (there, back))
    assert one != other
    assert (one + other) / 2 == pytest.approx(task.loss(network, there)["loss"].item(), rel=1e-5)


@pytest.mark.parametrize(
    "wrong", [{"control": (8, 8)}, {"width": 4}, {"diffusion": -1.0}, {"channels": 0}, {"crop": (8, 8, 8)}]
)
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match=r".+"):
        PddTraining(**wrong)


def test_no_label_to_learn_is_refused(tmp_path):
    with pytest.raises(UserError, match="annotates any label"):
        task_of(blob_cohort(tmp_path, name="Nothing", annotated_labels=[])).check()


def test_every_preset_makes_a_training():
    for name, values in PddTask.presets.items():
        config, loop = make_settings(PddTask, name)
        found = dataclasses.asdict(config) | dataclasses.asdict(loop)
        assert {key: found[key] for key in values} == values
