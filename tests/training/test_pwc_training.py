"""The task ``pwc``: whether it learns, and whether the method uses what was learned."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from anamorph.methods.pwc import Pwc
from anamorph.networks.architecture import build_network
from anamorph.networks.model import load_weights
from anamorph.training.settings import make_settings
from anamorph.training.start import start_training
from anamorph.training.tasks.pwc import PwcTask, PwcTraining
from blobs import blob_cohort, make_blobs
from learning import CPU, check_learned_by_heart, generators, trained

TINY = {"mult": 1, "width": 16, "radius": 1}


def task_of(cohort, **settings) -> PwcTask:
    return PwcTask(PwcTraining(**(TINY | settings)), [cohort])


@pytest.mark.slow
def test_two_pairs_are_learned_by_heart_and_the_method_uses_what_was_learned(tmp_path):
    cohort = blob_cohort(tmp_path, training=2, validation=2)
    task = task_of(cohort, mse=0.0)
    network = trained(task, 120, 4e-3, [(0, 0, 1)])
    check_learned_by_heart(task, cohort, network, Pwc, tmp_path / "model")


def test_a_recipe_trains_and_its_card_rebuilds_the_network(tmp_path):
    manifest = make_blobs(tmp_path, training=3, validation=2)
    given = ["mult=1", "width=8", "shape=32,32,24", "spacing_mm=2", "measured_pairs=1", "epochs=1"]
    outcome = start_training(
        "pwc", [manifest], tmp_path / "run", preset="small-hippocampus", given=given, device="cpu",
        cache=tmp_path / "cache",
    )  # fmt: skip
    assert outcome.ending == "finished"
    card, state = load_weights(tmp_path / "run", "pwc")
    assert card.labels == {1: "shell", 2: "core"}
    assert len(build_network(card, state).steps) == 3


def test_every_coarser_field_is_supervised_on_wish(tmp_path):
    cohort = blob_cohort(tmp_path, training=2, validation=2)
    deep, shallow = (task_of(cohort, deep_supervision=flag, lcc=1.0) for flag in (True, False))
    torch.manual_seed(0)
    network = deep.network()
    for step in network.steps:
        nn.init.normal_(step.last.weight, std=0.1)
    batch = deep.batch([(0, 0, 1)], CPU, generators(1))
    with torch.no_grad():
        one, other = (task.loss(network, batch) for task in (deep, shallow))
    assert float(one["lcc"]) != float(other["lcc"])
    assert float(one["dice"]) == float(other["dice"])


@pytest.mark.parametrize("wrong", [{"radius": 0}, {"finest": 4}, {"convolutions": ()}, {"diffusion": -1.0}])
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match=r".+"):
        PwcTraining(**wrong)


def test_every_preset_makes_a_training():
    for name, values in PwcTask.presets.items():
        config, loop = make_settings(PwcTask, name)
        found = dataclasses.asdict(config) | dataclasses.asdict(loop)
        assert {key: found[key] for key in values} == values
