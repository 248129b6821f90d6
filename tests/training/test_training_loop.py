from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from anamorph.errors import RegistrationFailure, UserError
from anamorph.networks.model import load_weights
from anamorph.training.loop import train
from anamorph.training.run_folder import RunFolder, load_checkpoint
from anamorph.training.settings import LoopSettings
from anamorph.training.time_budget import TimeBudget, TimeIsUp
from toy_task import ToyConfig, ToyTask, begin, make_cohort, needs_fabric, one_process

pytestmark = needs_fabric
LOOP = LoopSettings(epochs=3, batch_size=2, average_decay=0.9, schedule="cosine", warmup_steps=2)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return make_cohort(tmp_path_factory.mktemp("toy"))


@pytest.fixture
def task(cohort):
    return ToyTask(ToyConfig(), [cohort])


@pytest.fixture(scope="module")
def whole(cohort, tmp_path_factory):
    """An uninterrupted training of three epochs of three steps."""
    task = ToyTask(ToyConfig(), [cohort])
    run = begin(tmp_path_factory.mktemp("whole") / "run", task, LOOP)
    return run, train(task, run, LOOP, one_process())


def rows(run: RunFolder, name: str) -> list[dict[str, str]]:
    with (run.path / f"{name}.csv").open() as stream:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(stream)]


def assert_same(one: object, other: object, where: str = "") -> None:
    """Everything bit for bit; times apart."""
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            if key not in ("seconds", "validation_s"):
                assert_same(one[key], other[key], f"{where}/{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for n, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_same(a, b, f"{where}/{n}")
    else:
        assert one == other, where


def test_a_training_ends_with_checkpoints_logs_and_the_best_model(whole, task):
    run, outcome = whole
    assert (outcome.ending, outcome.epoch, outcome.step) == ("finished", 3, 9)
    training, validation = rows(run, "training"), rows(run, "validation")
    assert [row["step"] for row in training] == ["3", "6", "9"]
    assert float(training[0]["part"]) == pytest.approx(2 * float(training[0]["loss"]), rel=1e-5)
    scores = [float(row["dice"]) for row in validation]
    assert [row["step"] for row in validation] == ["0", "3", "6", "9"], "the first before any step"
    scores = scores[1:]
    assert outcome.best["dice"] == pytest.approx(max(scores), rel=1e-6)
    assert outcome.best_epoch == int(np.argmax(scores))
    assert any((run.path / "tensorboard").iterdir())
    card, state = load_weights(run.model)
    assert card.metrics == outcome.best
    assert card.architecture == {"width": 3}
    network = task.network()
    network.load_state_dict(state)
    assert task.validate(network, "cpu")["dice"] == pytest.approx(max(scores), abs=1e-6)


def test_the_kept_weights_are_the_running_average(whole):
    run, _ = whole
    best = load_checkpoint(run.best)
    _, state = load_weights(run.model)
    assert all(torch.equal(state[key], best["average"]["state"][key]) for key in state)
    assert not any(torch.equal(state[key], best["network"][key]) for key in state)


@pytest.mark.parametrize("stop_after", [1, 4, 6])
def test_a_resumed_training_equals_an_uninterrupted_one_bit_for_bit(whole, task, tmp_path, stop_after):
    run = begin(tmp_path / "run", task, LOOP)

    def stop(status):
        if status.step == stop_after:
            os.kill(os.getpid(), signal.SIGTERM)

    first = train(task, run, LOOP, one_process(), show=stop)
    assert (first.ending, first.step) == ("SIGTERM", stop_after)
    np.random.seed(999)
    torch.manual_seed(999)
    second = train(ToyTask(task.config, task.cohorts), run, LOOP, one_process(), resume=True)
    assert second.ending == "finished"
    assert_same(load_checkpoint(whole[0].latest), load_checkpoint(run.latest))
    for name in ("training", "validation"):
        assert rows(run, name) == rows(whole[0], name)
    assert load_weights(run.model)[0].sha256 == load_weights(whole[0].model)[0].sha256


def test_ctrl_c_stops_cleanly_and_handlers_come_back(task, tmp_path):
    run = begin(tmp_path / "run", task, LOOP)
    before = signal.getsignal(signal.SIGINT)

    def press(status):
        if status.step == 1:
            os.kill(os.getpid(), signal.SIGINT)

    outcome = train(task, run, LOOP, one_process(), show=press)
    assert (outcome.ending, outcome.step) == ("SIGINT", 1)
    assert load_checkpoint(run.latest)["position"]["batch"] == 1
    assert (run.model / "weights.safetensors").is_file()
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize(("budget_s", "steps"), [(45.0, 2), (65.0, 3), (85.0, 4)])
def test_the_time_budget_is_kept(task, tmp_path, budget_s, steps):
    """A step takes 10 s, a validation 20 s; the first comes before the first step, the second after three."""
    now = [0.0]

    def pass_time(status):
        now[0] += 10.0

    run = begin(tmp_path / "run", task, LOOP)
    budget = TimeBudget(budget_s, clock=lambda: now[0])
    outcome = train(task, run, LOOP, one_process(), budget=budget, show=pass_time)
    assert (outcome.ending, outcome.step) == ("time budget", steps)
    assert now[0] <= budget_s
    assert (run.model / "weights.safetensors").is_file(), "a model comes out, validated or not"


class Slow(ToyTask):
    """A task whose passes and validation take their time on a clock of their own."""

    def __init__(self, config, cohorts, pass_s=0.0, scan_s=0.0):
        super().__init__(config, cohorts)
        self.now, self.pass_s, self.scan_s = 0.0, pass_s, scan_s

    def clock(self):
        return self.now

    def loss(self, network, batch):
        self.now += self.pass_s
        return super().loss(network, batch)

    def validate(self, network, device):
        found = super().validate(network, device)
        for n in range(1, 11):
            self.now += self.scan_s
            self.on_validated(n / 10)
        return found


def test_a_first_validation_that_would_not_end_in_time_is_left_out_for_steps(task, tmp_path):
    slow = Slow(task.config, task.cohorts, pass_s=5.0, scan_s=40.0)
    said: list[str] = []
    run = begin(tmp_path / "run", slow, LOOP)
    outcome = train(slow, run, LOOP, one_process(), budget=TimeBudget(100.0, slow.clock), say=said.append)
    assert said == ["no validation before the first step: it would take 400 s of the time budget"]
    assert (outcome.ending, outcome.step, outcome.best) == ("time budget", 3, {}), "an epoch that is not measured"
    assert slow.now == 95.0, "two scans tell how long ten take"
    assert (run.model / "weights.safetensors").is_file()
    assert load_checkpoint(run.latest)["position"]["validation_s"] == pytest.approx(400.0)


@pytest.mark.parametrize("where", ["loss", "validate"])
def test_what_comes_before_the_first_step_is_ended_in_its_midst(task, tmp_path, monkeypatch, where):
    monkeypatch.setattr(ToyTask, where, lambda *_: time.sleep(60))
    handler, start = signal.getsignal(signal.SIGALRM), time.monotonic()
    run = begin(tmp_path / "run", task, LOOP)
    with pytest.raises(TimeIsUp, match="no step was taken within the time budget of 1 s"):
        train(task, run, LOOP, one_process(), budget=TimeBudget(1.0))
    assert time.monotonic() - start < 30
    assert signal.getsignal(signal.SIGALRM) is handler
    assert not run.model.exists()


def test_a_validation_is_broken_off_when_the_time_is_up_and_done_again_by_the_next_session(whole, task, tmp_path):
    slow = Slow(task.config, task.cohorts, pass_s=1.0)
    run = begin(tmp_path / "run", slow, LOOP)

    def become_slow(status):
        slow.scan_s = 10.0 if status.step == 3 else 0.0

    outcome = train(slow, run, LOOP, one_process(), budget=TimeBudget(30.0, slow.clock), show=become_slow)
    assert (outcome.ending, outcome.epoch, outcome.step) == ("time budget", 0, 3)
    assert slow.now == 23.0
    train(ToyTask(task.config, task.cohorts), run, LOOP, one_process(), resume=True)
    assert_same(load_checkpoint(whole[0].latest)["network"], load_checkpoint(run.latest)["network"])
    assert rows(run, "validation") == rows(whole[0], "validation")


def test_ctrl_c_does_not_wait_for_the_end_of_a_validation(task, tmp_path):
    slow = Slow(task.config, task.cohorts, scan_s=1.0)
    run = begin(tmp_path / "run", slow, LOOP)

    def press(status):
        if status.validated > 0.25 and slow.now < 4:
            os.kill(os.getpid(), signal.SIGINT)

    outcome = train(slow, run, LOOP, one_process(), show=press)
    assert (outcome.ending, outcome.step, outcome.model) == ("SIGINT", 0, None)
    assert slow.now == 3.0
    assert not run.model.exists(), "a run without a step is no model"
    assert load_checkpoint(run.latest)["position"]["step"] == 0


def test_a_step_that_would_not_end_in_time_is_broken_off_between_its_passes(task, tmp_path):
    loop = LoopSettings(**{**LOOP.__dict__, "accumulate": 2, "validate_first": False})
    slow = Slow(task.config, task.cohorts, pass_s=60.0)
    run = begin(tmp_path / "run", slow, loop)
    told = r"no step was taken within the time budget of 100 s, .* \(steps 60 s\); .* --resume, with a larger"
    with pytest.raises(RegistrationFailure, match=told) as raised:
        train(slow, run, loop, one_process(), budget=TimeBudget(100.0, slow.clock))
    assert raised.value.exit_code == 1
    assert slow.now == 60.0
    assert load_checkpoint(run.latest)["position"]["batch"] == 0
    assert not run.model.exists()
    more = TimeBudget(150.0, slow.clock)
    outcome = train(slow, run, loop, one_process(), budget=more, resume=True)
    assert (outcome.step, outcome.ending) == (1, "time budget")


@pytest.mark.parametrize("batch", [1, 4])
def test_a_step_that_the_free_memory_does_not_hold_is_refused_with_a_remedy_that_works(
    task, tmp_path, monkeypatch, batch
):
    from anamorph.training import memory_plan
    from anamorph.training.settings import make_settings

    monkeypatch.setattr(memory_plan, "KEPT_PER_INPUT", 10**9)
    monkeypatch.setattr(memory_plan, "available_bytes", lambda: 30_000)
    loop = LoopSettings(epochs=1, batch_size=batch)
    with pytest.raises(UserError, match=r"a step of batch_size=. needs .* but 0 MB are free; pass --set") as raised:
        train(task, begin(tmp_path / "refused", task, loop), loop, one_process())
    given = str(raised.value).split("--set ")[1].split(",")[0]
    _, loop = make_settings(ToyTask, "default", ["epochs=1", f"batch_size={batch}", given])
    assert loop.max_memory_gb < 3e-5
    assert train(task, begin(tmp_path / "run", task, loop), loop, one_process()).ending == "finished"
    monkeypatch.setattr(memory_plan, "available_bytes", lambda: 10_000)
    monkeypatch.setattr(ToyTask, "presets", {"small-thing": {}, "fast": {}})
    loop = LoopSettings(epochs=1, batch_size=batch)
    with pytest.raises(UserError, match=r"one item of a batch needs more than .* or take --preset small-thing"):
        train(task, begin(tmp_path / "never", task, loop), loop, one_process())


@pytest.mark.slow
def test_a_killed_run_loses_at_most_one_interval(whole, task, tmp_path):
    loop = LoopSettings(**{**LOOP.__dict__, "checkpoint_every_s": 0.0})
    run = begin(tmp_path / "run", task, loop)
    script = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parents[1] / "helpers")!r})
from pathlib import Path
from toy_task import *
from anamorph.training.loop import train

folder = Path({str(task.cohorts[0].dataset.root.parent)!r})
cohort = Cohort.of(read_dataset(folder / "data"), ToyTask.preprocessing(None), folder / "cache")
def die(status):
    if status.step == 5:
        os.kill(os.getpid(), 9)
train(ToyTask(ToyConfig(), [cohort]), RunFolder(Path({str(run.path)!r})), LoopSettings(**{loop.__dict__!r}),
      one_process(), show=die)
"""
    killed = subprocess.run([sys.executable, "-c", script], env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False)
    assert killed.returncode == -9
    assert load_checkpoint(run.latest)["position"]["step"] == 4
    assert not list(run.path.rglob(".tmp-*"))
    train(task, run, loop, one_process(), resume=True)
    for name in ("training", "validation"):
        ours, theirs = rows(run, name), rows(whole[0], name)
        assert [row["step"] for row in ours] == [row["step"] for row in theirs]
        assert [float(row["loss"]) for row in ours] == pytest.approx([float(row["loss"]) for row in theirs], rel=1e-4)


def test_passes_of_a_batch_add_up_to_the_batch(task, tmp_path):
    states = []
    for accumulate in (1, 2):
        loop = LoopSettings(epochs=1, batch_size=6, accumulate=accumulate)
        run = begin(tmp_path / str(accumulate), task, loop)
        train(task, run, loop, one_process())
        states.append(load_checkpoint(run.latest)["network"])
    for key, value in states[0].items():
        torch.testing.assert_close(value, states[1][key], rtol=1e-4, atol=1e-6)


def test_the_last_batch_is_filled_up(task, tmp_path):
    loop = LoopSettings(epochs=1, batch_size=4)
    run = begin(tmp_path / "run", task, loop)
    assert train(task, run, loop, one_process()).step == 2, "six scans in batches of four"


def test_a_training_ends_when_nothing_improves(task, tmp_path):
    loop = LoopSettings(epochs=50, batch_size=6, patience=2, min_improvement=1.0)
    run = begin(tmp_path / "run", task, loop)
    outcome = train(task, run, loop, one_process())
    assert (outcome.ending, outcome.epoch, outcome.best_epoch) == ("no improvement", 3, 0)
    again = train(task, run, loop, one_process(), resume=True)
    assert (again.ending, again.step) == ("no improvement", 3)


def test_the_rate_falls_on_a_plateau(task, tmp_path):
    loop = LoopSettings(
        epochs=6, batch_size=6, schedule="plateau", plateau_patience=1, plateau_factor=0.5, min_improvement=1.0
    )
    run = begin(tmp_path / "run", task, loop)
    train(task, run, loop, one_process())
    rates = [float(row["learning_rate"]) for row in rows(run, "training")]
    assert rates == pytest.approx([0.01, 0.01, 0.01, 0.005, 0.005, 0.0025])


def test_a_loss_that_is_not_finite_ends_the_training_and_keeps_the_checkpoint(task, tmp_path):
    class Failing(ToyTask):
        def loss(self, network, batch):
            losses = super().loss(network, batch)
            self.calls = getattr(self, "calls", 0) + 1
            return losses if self.calls <= 3 else {"loss": losses["loss"] * float("nan")}

    run = begin(tmp_path / "run", task, LOOP)
    with pytest.raises(RegistrationFailure, match=r"loss became nan in step 4.*lower learning rate"):
        train(Failing(task.config, task.cohorts), run, LOOP, one_process())
    assert load_checkpoint(run.latest)["position"]["step"] == 3


def test_batches_that_cannot_be_shared_are_refused(task, tmp_path):
    loop = LoopSettings(batch_size=3, accumulate=2)
    with pytest.raises(UserError, match="batch_size=3 cannot be shared by 1 processes in 2 passes"):
        train(task, begin(tmp_path / "run", task, loop), loop, one_process())


def test_memory_is_stayed_below_by_passes_then_by_recomputing(task, tmp_path):
    said: list[str] = []
    limits = {1.2e-4: "2 passes per batch:", 4e-5: "6 passes per batch:", 2.8e-5: "activations recomputed"}
    for limit, text in limits.items():
        loop = LoopSettings(epochs=1, batch_size=6, max_memory_gb=limit)
        run = begin(tmp_path / str(limit), task, loop)
        train(task, run, loop, one_process(), say=said.append)
        assert text in said[-1], said[-1]
    loop = LoopSettings(epochs=1, batch_size=6, max_memory_gb=1e-6)
    with pytest.raises(UserError, match=r"one item of a batch needs about .* max_memory_gb allows"):
        train(task, begin(tmp_path / "none", task, loop), loop, one_process())


def test_mixed_precision_resumes_too(task, tmp_path):
    loop = LoopSettings(epochs=1, batch_size=2, precision="bf16-mixed")
    run = begin(tmp_path / "run", task, loop)

    def stop(status):
        if status.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    train(task, run, loop, one_process("bf16-mixed"), show=stop)
    assert train(task, run, loop, one_process("bf16-mixed"), resume=True).ending == "finished"
    assert load_checkpoint(run.latest)["network"]["layers.0.weight"].dtype == torch.float32
