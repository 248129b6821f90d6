from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from anamorph.errors import UserError
from anamorph.geometry.sampling import identity_positions_torch, sample
from anamorph.image.read import read_image
from anamorph.methods.base import Pair, Run
from anamorph.methods.regression import Regression, RegressionConfig
from anamorph.methods.slicreg import Slicreg, SlicregConfig
from anamorph.networks.model import load_weights
from anamorph.networks.trained import TemplateModel
from anamorph.training.cache import Cohort
from anamorph.training.settings import make_settings
from anamorph.training.start import start_training
from anamorph.training.tasks.regression import RegressionTask
from anamorph.training.tasks.slicreg import SlicregTask, SlicregTraining
from anamorph.training.tasks.template_task import at_outputs, jittered_positions, read_nearest
from template_cohort import SPACING_MM, TEMPLATE, truth, write_template_cohort
from toy_task import needs_fabric

CPU = torch.device("cpu")
GIVEN = [f"spacing_mm={SPACING_MM}", "network=unet", "batch_size=2", "schedule=cosine", "rate=0.01"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("slicreg")


@pytest.fixture(scope="module")
def dataset(folder):
    return write_template_cohort(folder / "data")


@pytest.fixture(scope="module")
def cohort(folder, dataset):
    config = SlicregTraining(spacing_mm=SPACING_MM)
    return Cohort.of(dataset, SlicregTask.preprocessing(config), folder / "cache")


def task_of(kind, cohort, **settings):
    return kind(kind.Config(**{"spacing_mm": SPACING_MM, "network": "unet"} | settings), [cohort])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_no_jitter_is_no_motion_and_jitter_is_affine():
    shape = (8, 6, 10)
    places = identity_positions_torch(torch.empty(shape))
    torch.testing.assert_close(jittered_positions(shape, 0.0, seeded()), places)
    moved = jittered_positions(shape, 0.07, seeded())
    design = torch.cat([places.flatten(1), torch.ones(1, 480)]).T.double()
    fit = torch.linalg.lstsq(design, moved.flatten(1).T.double()).solution
    torch.testing.assert_close((design @ fit).float(), moved.flatten(1).T, atol=1e-4, rtol=0)
    half = torch.tensor(shape, dtype=torch.float64) / 2
    noise = (fit[:3].T - torch.eye(3)) * half / half[:, None]  # in coordinates from -1 to 1
    assert 0.02 < noise.std() < 0.15


def test_labels_are_read_as_by_the_kernels():
    labels = np.random.default_rng(0).integers(1, 9, (2, 7, 6, 8)).astype(np.uint8)
    positions = 12 * torch.rand(3, 5, 5, 5, generator=seeded()) - 2
    expected = sample(labels, positions.numpy(), "nearest", 0)
    np.testing.assert_array_equal(read_nearest(torch.from_numpy(labels), positions), expected)


def test_places_and_labels_tell_the_same_also_under_jitter(cohort):
    task = task_of(RegressionTask, cohort, locations=400)
    template = task.scans.template_labels
    for row in task.scans.training[:3]:
        positions = jittered_positions(cohort.shape, 0.07, seeded(row))
        labels = read_nearest(task.scans.labels(row), at_outputs(positions)).flatten(1)
        target = task._target(row, positions, seeded(), CPU)
        half = torch.tensor(cohort.shape)[:, None] / 2
        places = target["displacement"] * half + task.outputs().flatten(1)[:, target["where"]]
        assert (read_nearest(template, places) == labels[:, target["where"]]).float().mean() > 0.85


def test_batches_hold_the_scan_where_nothing_is_varied(cohort):
    task = task_of(SlicregTask, cohort, jitter=0.0)
    batch = task.batch([3, 1], CPU, [seeded(), seeded()])
    expected = torch.from_numpy(cohort.images[[3, 1]].astype(np.float32)) / 500
    torch.testing.assert_close(batch["image"], expected, atol=1e-5, rtol=1e-4)
    assert torch.equal(batch["labels"][1], task.scans.labels(1)[:, 1::2, 1::2, 1::2])


def test_losses_fall_from_chance_and_places_are_measured(cohort):
    torch.manual_seed(0)
    task = task_of(SlicregTask, cohort, measured_scans=0)
    network = task.network()
    assert torch.equal(network.template, task.scans.template_labels)
    batch = task.batch([1, 2], CPU, [seeded(1), seeded(2)])
    optimiser = task.optimiser(network)
    losses = []
    for _ in range(6):
        loss = task.loss(network, batch)["loss"]
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[0] == pytest.approx(np.log(task.scans.classes), rel=0.1)
    assert losses[-1] < 0.8 * losses[0]
    with torch.no_grad():
        numbers = task.validate(network.eval(), CPU)
    assert set(numbers) == {"loss", "accuracy", "position_mm"}


def test_supervoxels_tell_places(cohort):
    task = task_of(SlicregTask, cohort)
    row = task.scans.validation[0]
    labels, places = task.scans.labels(row)[:, 1::2, 1::2, 1::2].long(), task.scans.positions(row)
    apart = (task._places(labels) - places).square().sum(dim=0).sqrt()
    # The centres of four large supervoxels tell a place roughly.
    assert apart[labels[0] > 0].mean() < 4
    nowhere = task._places(torch.zeros_like(labels))
    assert torch.equal(nowhere, task.outputs())


def test_a_data_set_that_does_not_fit_is_refused(folder, dataset, cohort):
    with pytest.raises(UserError, match="takes one data set"):
        SlicregTask(SlicregTraining(), [cohort, cohort])
    config = SlicregTraining(spacing_mm=2 * SPACING_MM)
    coarse = Cohort.of(dataset, SlicregTask.preprocessing(config), folder / "cache")
    with pytest.raises(UserError, match="--set spacing_mm=12"):
        SlicregTask(config, [coarse]).check()
    raw = dataclasses.replace(cohort, dataset=dataclasses.replace(dataset, extra={}))
    with pytest.raises(UserError, match="slicreg prepare"):
        task_of(SlicregTask, raw)
    cases = tuple(dataclasses.replace(case, split="training") for case in dataset.cases)
    unseen = dataclasses.replace(cohort, dataset=dataclasses.replace(dataset, cases=cases))
    with pytest.raises(UserError, match="no validation scan"):
        task_of(SlicregTask, unseen).check()


@pytest.mark.parametrize("kind", [SlicregTask, RegressionTask])
def test_every_preset_can_be_chosen(kind):
    for preset in ("default", *kind.presets):
        make_settings(kind, preset)
    with pytest.raises(UserError, match="spacing_mm"):
        make_settings(kind, "default", ["spacing_mm=0"])


@pytest.mark.slow
@needs_fabric
def test_from_a_prepared_cohort_to_a_registration(folder, dataset):
    """Supervoxels are learned in a few seconds, and the model registers a scan it has not seen."""
    given = [*GIVEN[:-1], "rate=0.015", "epochs=9", "validate_every=9"]
    outcome = start_training(
        "slicreg", [dataset.path], folder / "run", device="cpu", cache=folder / "cache", given=given
    )
    assert outcome.best["dice"] > 0.35
    assert outcome.best["accuracy"] > 0.25
    card, state = load_weights(folder / "run", "slicreg")
    assert card.architecture["template"] == TEMPLATE
    assert card.architecture["ct"] is True
    assert state["template"].shape == (4, 32, 32, 32)
    fixed, moving = (read_image(dataset.cases[n].image) for n in (9, 0))
    places = fixed.grid.voxel_to_world(np.argwhere(fixed.data[0] > -200))
    goal = truth(10).map_world(places)
    before = np.linalg.norm(places - goal, axis=1).mean()
    for match in ("direct", "template"):
        config = SlicregConfig(model=str(folder / "run"), match=match, refine=False)
        result = Slicreg(config)(Pair(fixed, moving), Run("cpu"))
        after = np.linalg.norm(result.fixed_to_moving.map_world(places) - goal, axis=1).mean()
        assert after < 0.8 * before


@needs_fabric
def test_the_baseline_trains_and_registers(folder, dataset):
    given = [*GIVEN, "epochs=2", "validate_every=2", "locations=200"]
    outcome = start_training(
        "regression", [dataset.path], folder / "base", device="cpu", cache=folder / "cache", given=given
    )
    assert {"position_mm", "dice"} <= set(outcome.best)
    model = TemplateModel.load(str(folder / "base"), "regression", "cpu")
    assert model.network.template.shape == (1, 32, 32, 32)
    fixed, moving = (read_image(dataset.cases[n].image) for n in (8, 9))
    config = RegressionConfig(model=str(folder / "base"), refine_iterations=(2, 2))
    result = Regression(config)(Pair(fixed, moving), Run("cpu"))
    assert result.fixed_to_moving.jacobian_determinant(fixed.grid).min() > 0
