"""The task ``lindef``: losses, penalties, pairs, and whether it learns."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch.nn.functional import affine_grid, grid_sample

from anamorph.errors import UserError
from anamorph.training.fabric import bfloat16_instructions
from anamorph.training.settings import make_settings
from anamorph.training.tasks.lindef import LindefTask, LindefTraining
from anamorph.training.tasks.pair_task import draw_combinations
from blobs import blob_cohort

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return blob_cohort(tmp_path_factory.mktemp("blobs"), training=3, validation=2)


def task_of(cohort, **settings) -> LindefTask:
    return LindefTask(LindefTraining(**({"width": 8, "pooling": "moments"} | settings)), [cohort])


def batch_of(task: LindefTask, items=((0, 0, 1),), seed: int = 0) -> dict:
    return task.batch(list(items), CPU, [torch.Generator().manual_seed(seed + n) for n in range(len(items))])


def learn(task: LindefTask, batch: dict, steps: int, rate: float) -> tuple[torch.nn.Module, list[float]]:
    torch.manual_seed(0)
    network = task.network()
    if bfloat16_instructions():  # three times as fast with them, twenty times as slow without
        network.forward = torch.autocast("cpu", dtype=torch.bfloat16)(network.forward)
    optimiser = torch.optim.Adam(network.parameters(), rate)
    losses = []
    for n in range(steps):
        optimiser.param_groups[0]["lr"] = rate * (1 + np.cos(np.pi * n / steps)) / 2
        loss = task.loss(network, batch)["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    return network.eval(), losses


def affine_pairs(shape: tuple[int, ...], coarse: tuple[int, ...]) -> dict:
    """Two scans, each with itself moved by a linear map of its own; labels are of no use here."""
    rng = torch.Generator().manual_seed(3)
    fixed = torch.nn.functional.interpolate(torch.rand(2, 1, *coarse, generator=rng), shape, mode="trilinear")
    turns = torch.tensor([[[1.0, 0.15, 0, 0.12], [-0.1, 1, 0, 0], [0, 0, 1.1, -0.1]],
                          [[0.9, 0, 0.1, -0.15], [0, 1.1, 0, 0.1], [-0.1, 0, 1, 0]]])  # fmt: skip
    moving = grid_sample(
        fixed, affine_grid(turns, fixed.shape, align_corners=True), align_corners=True, padding_mode="border"
    )
    labels = torch.zeros(2, *shape, dtype=torch.uint8)
    return {"fixed": fixed, "moving": moving, "fixed_labels": labels, "moving_labels": labels,
            "annotated": torch.ones(2, 2, dtype=torch.bool)}  # fmt: skip


@pytest.mark.slow
def test_planted_linear_maps_are_learned_and_the_branch_matters(cohort):
    batch = affine_pairs((16, 20, 16), (4, 5, 4))
    after = {}
    for affine in (True, False):
        task = task_of(cohort, affine=affine, diffusion=0.5, mse=10.0, width=4)
        _, losses = learn(task, batch, 26, 3e-3)
        after[affine] = losses[-1] / losses[0]
    assert after[True] < 0.5
    assert after[True] < 0.6 * after[False]


@pytest.mark.parametrize(
    "weights",
    [{"mse": 1.0}, {"mse": 0.0, "lcc": 1.0}, {"mse": 0.0, "mi": 1.0}, {"mse": 0.0, "mind": 1.0}],
    ids=["mse", "lcc", "mi", "mind"],
)
def test_every_comparison_falls(cohort, weights):
    task = task_of(cohort, **weights)
    batch = affine_pairs((14, 16, 14), (4, 4, 4))
    _, losses = learn(task, batch, 8, 2e-3)
    name = next(key for key, value in weights.items() if value)
    start = float(task.loss(task.network(), batch)[name].detach())
    assert start == pytest.approx(losses[0], abs=1e-5)
    assert losses[0] - losses[-1] > 0.03 * abs(losses[0]), losses


def test_penalties_are_sums_over_a_pair_and_means_over_the_batch(cohort):
    task = task_of(cohort, affine_l1=1e-6, gradient_l1=1e-6)
    network = task.network()
    torch.nn.init.constant_(network.deformation.last.bias, 0.2)
    torch.nn.init.constant_(network.linear.last.bias, 0.5)
    one, two = batch_of(task), batch_of(task, [(0, 0, 1), (0, 0, 1)])
    parts, doubled = ({k: float(v.detach()) for k, v in task.loss(network, b).items()} for b in (one, two))
    voxels = int(np.prod(cohort.shape))
    excess = 2 / (1 + np.exp(-0.2)) - 1
    assert parts["gradient_l1"] == pytest.approx(3 * voxels * excess, rel=1e-4)
    assert parts["affine_l1"] == pytest.approx(12 * 0.5 * network.linear.gain, rel=1e-4)
    for name in ("gradient_l1", "affine_l1", "mse"):
        assert doubled[name] == pytest.approx(parts[name], rel=1e-4)
    expected = parts["mse"] + 1e-6 * (parts["gradient_l1"] + parts["affine_l1"])
    assert parts["loss"] == pytest.approx(expected, rel=1e-5)
    assert 0.001 < 1e-6 * parts["gradient_l1"] < 0.1, "of the order of the comparison, as a mean would not be"


def test_without_the_linear_branch_there_is_no_matrix(cohort):
    task = task_of(cohort, affine=False)
    network = task.network()
    parts = task.loss(network, batch_of(task))
    assert network.linear is None
    assert "affine_l1" not in parts
    assert task.export(network)["architecture"]["affine"] is False


def test_no_labels_are_needed(cohort):
    task = task_of(cohort)
    assert not task.needs_labels
    batch = batch_of(task)
    changed = batch | {"fixed_labels": torch.zeros_like(batch["fixed_labels"])}
    network = task.network()
    losses = [task.loss(network, one)["loss"].item() for one in (batch, changed)]
    assert losses[0] == losses[1]


def test_combinations_pair_all_scans_but_none_with_itself(cohort):
    drawn = draw_combinations([cohort], 40, False, torch.Generator().manual_seed(0))
    assert {(fixed, moving) for _, fixed, moving in drawn} == {(a, b) for a in range(3) for b in range(3) if a != b}
    assert np.bincount([moving for _, _, moving in drawn]).tolist() == [40] * 3
    with_validation = draw_combinations([cohort], 1, True, torch.Generator().manual_seed(0))
    assert {moving for _, _, moving in with_validation} == set(range(5))


def test_combinations_need_two_scans(tmp_path):
    lonely = blob_cohort(tmp_path, training=1, validation=2)
    with pytest.raises(UserError, match="two scans"):
        draw_combinations([lonely], 1, False, torch.Generator())


def test_every_preset_makes_a_training_and_the_card_rebuilds_the_network(cohort):
    for name, values in LindefTask.presets.items():
        config, loop = make_settings(LindefTask, name)
        found = dataclasses.asdict(config) | dataclasses.asdict(loop)
        assert {key: found[key] for key in values} == values
    assert make_settings(LindefTask, "default", ["spacing_mm=2,2,8"])[0].spacing_mm == (2, 2, 8)
    task = task_of(cohort, order="deform-first")
    again = type(task.network())(**task.export(task.network())["architecture"])
    assert again.load_state_dict(task.network().state_dict())


@pytest.mark.parametrize(
    "wrong", [{"width": 0}, {"affine_l1": -1.0}, {"gradient_l1": -1.0}, {"mind_dilation": 0}, {"mse": 0.0}]
)
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match=r".+"):
        LindefTraining(**wrong)


def test_combinations_come_to_the_pairs_of_the_data_set(cohort):
    plain, more = (task_of(cohort, all_combinations=flag) for flag in (False, True))
    assert len(plain.training_items(0, torch.Generator().manual_seed(0))) == 3
    items = more.training_items(0, torch.Generator().manual_seed(0))
    assert len(items) == 6
    assert items != sorted(items)
