"""Checkpoints, clocks, logs, schedules, averages and the settings of a training."""

from __future__ import annotations

import csv
import os
import random
import signal

import numpy as np
import pytest
import torch

from anamorph.errors import UserError
from anamorph.training.memory_plan import kept_bytes
from anamorph.training.run_folder import (
    Logs,
    WeightAverage,
    load_checkpoint,
    random_states,
    restore_random_states,
    save_checkpoint,
)
from anamorph.training.settings import BestScore, LoopSettings, Schedule, make_settings
from anamorph.training.time_budget import Pace, StopRequest, TimeBudget, parse_duration


def test_a_checkpoint_comes_back_as_it_was(tmp_path):
    content = {"weights": torch.rand(3), "random": random_states(), "position": {"epoch": 2}}
    drawn = random.random(), np.random.rand(), torch.rand(1)
    save_checkpoint(tmp_path / "a" / "latest.pt", content)
    read = load_checkpoint(tmp_path / "a" / "latest.pt")
    assert torch.equal(read["weights"], content["weights"])
    assert read["position"] == {"epoch": 2}
    restore_random_states(read["random"])
    assert (random.random(), np.random.rand(), torch.rand(1)) == drawn


def test_a_checkpoint_that_fails_leaves_the_one_before(tmp_path):
    path = tmp_path / "latest.pt"
    save_checkpoint(path, {"position": 1})
    with pytest.raises(AttributeError):
        save_checkpoint(path, {"position": lambda: 2})  # cannot be pickled
    assert load_checkpoint(path)["position"] == 1
    assert [*tmp_path.iterdir()] == [path]


def test_checkpoints_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match="there is no checkpoint; start the training without --resume"):
        load_checkpoint(tmp_path / "latest.pt")
    (tmp_path / "damaged.pt").write_bytes(b"PK\x03\x04 no")
    with pytest.raises(UserError, match="no checkpoint that can be read"):
        load_checkpoint(tmp_path / "damaged.pt")
    torch.save({"format": 99}, tmp_path / "later.pt")
    with pytest.raises(UserError, match="no checkpoint of this version"):
        load_checkpoint(tmp_path / "later.pt")


@pytest.mark.parametrize(
    ("text", "seconds"), [("25m", 1500), ("90s", 90), ("1h30m", 5400), ("2 h", 7200), ("1.5min", 90), ("45", 45)]
)
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "10 parsecs", "m", "0s", "-5m", "5m x"])
def test_what_is_no_duration(text):
    with pytest.raises(UserError, match="--time-budget wants a duration such as 25m"):
        parse_duration(text)


def test_a_budget_allows_what_ends_in_time():
    now = [100.0]
    budget = TimeBudget(60, clock=lambda: now[0])
    now[0] = 150
    assert (budget.spent_s, budget.left_s) == (50, 10)
    assert budget.allows(10)
    assert not budget.allows(10.1)
    assert TimeBudget(None).allows(1e9)


def test_the_pace_forgets_slowly():
    pace = Pace(weight=0.5)
    assert pace.expected_s(3) == 0
    for seconds in (4.0, 2.0):
        pace.add(seconds)
    assert (pace.expected_s(3), pace.longest_s) == (9.0, 4.0)


def test_a_second_ctrl_c_interrupts_at_once():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt, match="--resume"), StopRequest() as request:
        os.kill(os.getpid(), signal.SIGTERM)
        assert request.signal == "SIGTERM"
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is before


def test_logs_of_a_resumed_run_tell_every_step_once(tmp_path):
    logs = Logs(tmp_path)
    for step in (3, 6, 9):
        logs.write("training", step // 3, step, {"loss": 1 / step})
    logs.write("validation", 2, 6, {"dice": 0.5})
    logs.close()
    logs = Logs(tmp_path, after_step=6)
    logs.write("training", 3, 9, {"loss": 0.25, "new": 1.0})
    logs.write("validation", 2, 6, {"dice": 0.5})
    logs.close()
    with (tmp_path / "training.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["epoch"], row["step"], row["loss"], row["new"]) for row in rows] == [
        ("1", "3", "0.33333333", ""),
        ("2", "6", "0.16666667", ""),
        ("3", "9", "0.25", "1"),
    ]
    assert (tmp_path / "validation.csv").read_text().splitlines() == ["epoch,step,dice", "2,6,0.5"]


def test_tensorboard_holds_the_same_numbers(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    logs = Logs(tmp_path)
    logs.write("validation", 1, 10, {"dice": 0.75})
    logs.close()
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(one.step, one.value) for one in events.Scalars("validation/dice")] == [(10, 0.75)]


def rates(loop: LoopSettings, steps: int) -> list[float]:
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = Schedule(optimiser, loop, steps)
    return [schedule.before_step(step) for step in range(steps + 1)]


def test_the_cosine_falls_to_a_hundredth_after_the_warm_up():
    found = rates(LoopSettings(schedule="cosine", warmup_steps=2), 100)
    assert found[0] == pytest.approx(0.5, abs=1e-3)
    assert found[50] == pytest.approx(0.505, abs=1e-6)
    assert found[100] == pytest.approx(0.01)


def test_the_best_score():
    best = BestScore("loss", "min", min_improvement=0.1)
    assert best.add(0, {"loss": float("nan")})
    assert best.add(1, {"loss": 1.0})
    assert not best.add(2, {"loss": 0.95})
    assert not best.add(3, {"loss": float("nan")})
    assert (best.epoch, best.waited) == (1, 2)
    assert best.add(4, {"loss": 0.8})
    assert (best.metrics, best.waited) == ({"loss": 0.8}, 0)


def test_the_average_of_weights():
    network = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(network.weight, 1.0)
    average = WeightAverage(network, 0.5)
    torch.nn.init.constant_(network.weight, 3.0)
    average.update()  # early: the decay is 2/11
    expected = 1 * 2 / 11 + 3 * 9 / 11
    with average.in_use():
        assert network.weight.item() == pytest.approx(expected)
    assert network.weight.item() == 3


def test_what_a_forward_pass_keeps_is_counted_once():
    weight = torch.nn.Parameter(torch.ones(1000))
    network = torch.nn.ParameterList([weight])
    inputs = torch.rand(1000)
    # The product keeps its input (and the weight, which is not counted); the square keeps the product.
    assert kept_bytes(network, lambda: ((inputs * weight) ** 2).sum()) == 8000


def test_settings_of_task_and_loop_together():
    from toy_task import ToyTask

    config, loop = make_settings(ToyTask, "fast", ["width=5", "epochs=7"])
    assert (config.rate, config.width, loop.epochs, loop.batch_size) == (0.1, 5, 7, 4)
    stored = {"rate": 0.5, "width": 2, "max_memory_gb": None, "epochs": 9}
    config, loop = make_settings(ToyTask, "fast", ["epochs=10"], stored)
    assert (config.rate, config.width, loop.epochs, loop.max_memory_gb) == (0.5, 2, 10, None)
    with pytest.raises(UserError, match=r"no setting 'epoch' \(did you mean 'epochs'\?\)"):
        make_settings(ToyTask, "default", ["epoch=3"])
    with pytest.raises(UserError, match="'toy' has no preset 'fats'"):
        make_settings(ToyTask, "fats")
    with pytest.raises(UserError, match="batch_size must be at least 1"):
        make_settings(ToyTask, "default", ["batch_size=0"])
