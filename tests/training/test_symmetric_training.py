"""The task ``symmetric``: pairs, losses, validation, and whether it learns."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from anamorph.errors import UserError
from anamorph.methods.symmetric import Symmetric
from anamorph.training.augmentation import augmented_batch, draw_crop
from anamorph.training.losses import field_of_view
from anamorph.training.settings import make_settings
from anamorph.training.tasks.pair_task import draw_pairs, validation_pairs
from anamorph.training.tasks.symmetric import SymmetricTask, SymmetricTraining
from blobs import SHAPE, blob_cohort
from learning import CPU, check_learned_by_heart, generators, trained

TINY = {"mult": 1, "convolutions": (1, 1, 1), "activation": "leaky", "residual": True}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return blob_cohort(tmp_path_factory.mktemp("blobs"), training=4, validation=3)


def task_of(cohort, **settings) -> SymmetricTask:
    return SymmetricTask(SymmetricTraining(**(TINY | settings)), [cohort])


@pytest.mark.slow
def test_two_pairs_are_learned_by_heart_and_the_method_uses_what_was_learned(tmp_path):
    cohort = blob_cohort(tmp_path, training=2, validation=2, shape=(20, 24, 16))
    task = task_of(cohort, mse=0.0, deep_supervision=False)
    network = trained(task, 170, 4e-3, [(0, 0, 1)])
    check_learned_by_heart(task, cohort, network, Symmetric, tmp_path / "model")


def test_each_scan_is_moving_once_per_round_and_never_meets_itself(cohort):
    items = draw_pairs([cohort, cohort], 3, False, torch.Generator().manual_seed(0))
    assert len(items) == 2 * 3 * 4
    assert all(fixed != moving for _, fixed, moving in items)
    assert {fixed for _, fixed, _ in items} == {0, 1, 2, 3}
    counts = np.bincount([4 * number + moving for number, _, moving in items])
    assert counts.tolist() == [3] * 8
    assert items == draw_pairs([cohort, cohort], 3, False, torch.Generator().manual_seed(0))
    assert items != draw_pairs([cohort, cohort], 3, False, torch.Generator().manual_seed(1))


def test_a_submission_trains_on_the_validation_scans_too(cohort):
    rows = {moving for _, _, moving in draw_pairs([cohort], 1, True, torch.Generator().manual_seed(0))}
    assert rows == set(range(7))


def test_listed_pairs_are_kept_to(tmp_path):
    pair = {"fixed": "./imagesTr/Blobs_0001_0000.nii.gz", "moving": "./imagesTr/Blobs_0003_0000.nii.gz"}
    listed = blob_cohort(tmp_path, training=4, training_paired_images=[pair])
    drawn = [draw_pairs([listed], 1, False, torch.Generator().manual_seed(n)) for n in range(8)]
    assert {tuple(items) for items in drawn} == {((0, 0, 2),), ((0, 2, 0),)}


def test_validation_pairs_are_few_and_always_the_same(cohort):
    assert validation_pairs([cohort], 40) == [(0, 4, 5), (0, 4, 6), (0, 5, 6)]
    assert validation_pairs([cohort], 2) == validation_pairs([cohort], 2)
    assert len(validation_pairs([cohort], 2)) == 2


def test_one_scan_makes_no_pair(tmp_path):
    lonely = blob_cohort(tmp_path, training=1, validation=2)
    with pytest.raises(UserError, match="two patients"):
        draw_pairs([lonely], 1, False, torch.Generator())


def test_the_losses_of_an_untrained_network_are_those_of_the_unmoved_scans(cohort):
    task = task_of(cohort, lcc=1.0, diffusion=1.0, deep_supervision=False)
    batch = task.batch([(0, 0, 1)], CPU, generators(1))
    parts = {name: value.detach() for name, value in task.loss(task.network(), batch).items()}
    fixed, moving = batch["fixed"], batch["moving"]
    assert float(parts["mse"]) == pytest.approx(float((fixed - moving).square().mean()), rel=1e-4)
    assert float(parts["gradient_l1"]) == 0
    assert float(parts["diffusion"]) == 0
    p, q = ((batch[name] == 1).float() for name in ("fixed_labels", "moving_labels"))
    r, s = ((batch[name] == 2).float() for name in ("fixed_labels", "moving_labels"))
    losses = [1 - (2 * (a * b).sum() + 1) / (a.sum() + b.sum() + 1) for a, b in ((p, q), (r, s))]
    assert float(parts["dice"]) == pytest.approx(float(torch.stack(losses).mean()), abs=1e-5)
    expected = parts["mse"] + parts["lcc"] + parts["dice"] + 0.01 * parts["gradient_l1"] + parts["diffusion"]
    assert float(parts["loss"]) == pytest.approx(float(expected), abs=1e-6)


def test_both_directions_are_trained_alike(cohort):
    task = task_of(cohort, deep_supervision=False)
    torch.manual_seed(0)
    network = task.network()
    nn.init.normal_(network.decoder.last.weight, std=0.1)
    there, back = (task.batch([pair], CPU, generators(1)) for pair in ((0, 0, 1), (0, 1, 0)))
    forward, backward = (float(task.loss(network, batch)["loss"].detach()) for batch in (there, back))
    assert forward == pytest.approx(backward, rel=1e-4)
    alone = task_of(cohort, deep_supervision=False, symmetric=False)
    one, other = (float(alone.loss(network, batch)["loss"].detach()) for batch in (there, back))
    assert abs(one - other) > 1e-3
    assert (one + other) / 2 == pytest.approx(forward, rel=1e-4)


def test_coarser_fields_take_part_in_the_image_loss_alone(cohort):
    deep, shallow = (task_of(cohort, deep_supervision=flag) for flag in (True, False))
    torch.manual_seed(0)
    network = deep.network()
    batch = deep.batch([(0, 0, 1)], CPU, generators(1))
    one, other = (task.loss(network, batch) for task in (deep, shallow))
    assert float(one["mse"]) != float(other["mse"])
    assert float(one["dice"]) == float(other["dice"])
    assert float(one["gradient_l1"]) == float(other["gradient_l1"])


def test_labels_of_other_cohorts_are_not_learned_from(tmp_path):
    cores = blob_cohort(tmp_path, name="Cores", annotated_labels=[2])
    both = blob_cohort(tmp_path, name="Both")
    task = SymmetricTask(SymmetricTraining(**TINY), [cores, both])
    batch = task.batch([(0, 0, 1), (1, 0, 1)], CPU, generators(2))
    assert batch["annotated"].tolist() == [[False, True], [True, True]]
    network = task.network()
    only_first = {key: value[:1] for key, value in batch.items()}
    changed = dict(only_first)
    for name in ("fixed_labels", "moving_labels"):
        changed[name] = torch.where(only_first[name] == 2, 2, torch.randint(2, only_first[name].shape).to(torch.uint8))
    assert float(task.loss(network, only_first)["dice"]) == float(task.loss(network, changed)["dice"])


def test_without_labels_the_images_alone_are_learned_from(tmp_path):
    task = task_of(blob_cohort(tmp_path), dice=0.0)
    assert not task.needs_labels
    batch = task.batch([(0, 0, 1)], CPU, generators(1))
    assert "dice" not in task.loss(task.network(), batch)


def test_a_pair_moves_as_one_and_a_crop_is_at_one_place(cohort):
    config = SymmetricTraining(**TINY, flip_axes=(0, 1, 2), rotation_deg=20.0, crop=(16, 16, 16), affine_chance=1.0)
    scans = [(0, (1, 1)), (0, (2, 2))]
    (fixed, here), (moving, there) = augmented_batch(
        [cohort], scans, config.augmentation(), config.crop, False, CPU, generators(2)
    )
    assert fixed.shape == (2, 1, 16, 16, 16)
    torch.testing.assert_close(fixed, moving)
    torch.testing.assert_close(here, there)
    apart = augmented_batch([cohort], scans, config.augmentation(), config.crop, True, CPU, generators(2))
    assert (apart[0][0] - apart[1][0]).abs().mean() > 0.01
    torch.testing.assert_close(apart[0][0], fixed)


def test_a_crop_lies_inside():
    starts = [draw_crop((20, 9, 8), (5, 9, 1), generator) for generator in generators(200)]
    assert {where[0].start for where in starts} == set(range(16))
    assert {where[1].start for where in starts} == {0}
    assert all(where[2].stop - where[2].start == 1 for where in starts)


def test_the_field_of_view_is_the_box_around_what_was_seen():
    image = torch.zeros(1, 1, 8, 7, 6)
    image[0, 0, 2, 3, 1] = image[0, 0, 5, 4, 4] = 1
    view = field_of_view(image)
    assert view.sum() == 4 * 2 * 4
    assert view[0, 0, 2:6, 3:5, 1:5].all()


@pytest.mark.parametrize(
    "wrong",
    [
        {"mse": -1.0},
        {"mse": 0.0, "dice": 0.0},
        {"lcc_window": 8},
        {"mult": 0},
        {"crop": (16, 16)},
        {"windows": (1.0,)},
        {"zoom": 0.9},
    ],
)
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match=r".+"):
        SymmetricTraining(**wrong)


def test_what_does_not_fit_together_is_refused(tmp_path, cohort):
    with pytest.raises(UserError, match="larger than the scans"):
        task_of(cohort, crop=(64, 64, 64)).check()
    with pytest.raises(UserError, match="cubes"):
        task_of(cohort, quarter_turns=True, crop=(16, 16, 24)).check()
    nothing = blob_cohort(tmp_path, name="Nothing", annotated_labels=[])
    with pytest.raises(UserError, match="annotates any label"):
        task_of(nothing).check()


def test_every_preset_makes_a_training():
    for name, values in SymmetricTask.presets.items():
        config, loop = make_settings(SymmetricTask, name)
        found = dataclasses.asdict(config) | dataclasses.asdict(loop)
        assert {key: found[key] for key in values} == values
    names = [*SymmetricTask.presets]
    assert names[:5] == [
        f"abdomen-{step}" for step in ("baseline", "symmetric", "unsupervised", "noisy-labels", "test")
    ]


def test_the_card_rebuilds_the_network(cohort):
    task = task_of(cohort)
    described = task.export(task.network())
    assert described["labels"] == {1: "shell", 2: "core"}
    again = type(task.network())(**described["architecture"])
    assert {k: v.shape for k, v in again.state_dict().items()} == {
        k: v.shape for k, v in task.network().state_dict().items()
    }
    assert cohort.shape == tuple(-(-n // 16) * 16 for n in SHAPE)
    assert described["preprocessing"]["shape"] == cohort.shape
