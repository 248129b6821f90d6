"""The loop that all trainings share: steps, checkpoints, validations, and a clean end."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from anamorph.errors import RegistrationFailure, UserError
from anamorph.networks.model import ModelCard, save_model
from anamorph.training.fabric import from_first, mean_over
from anamorph.training.memory_plan import plan_training
from anamorph.training.outcome import Ending, Outcome, Position, Status
from anamorph.training.run_folder import (
    TRAINING,
    VALIDATION,
    Logs,
    RunFolder,
    WeightAverage,
    load_checkpoint,
    random_states,
    restore_random_states,
    save_checkpoint,
)
from anamorph.training.settings import BestScore, LoopSettings, Schedule
from anamorph.training.task import Item, Task, full_batches, generator_at
from anamorph.training.time_budget import Pace, Projection, StopRequest, TimeBudget

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def train(
    task: Task,
    run: RunFolder,
    loop: LoopSettings,
    fabric: Fabric,
    *,
    resume: bool = False,
    pretrained: dict[str, torch.Tensor] | None = None,
    card: ModelCard | None = None,
    budget: TimeBudget | None = None,
    show: Callable[[Status], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> Outcome:
    """Train until everything was visited as often as asked, nothing improves, time is up, or somebody stops it.

    Args:
        task: what is trained.
        run: where checkpoints, logs and the model go; already begun.
        loop: settings of the loop.
        fabric: launched Fabric whose processes share every batch.
        resume: go on from ``run.latest``.
        pretrained: weights to start from.
        card: name, licence and data of the model; the rest is filled in.
        budget: time of this session, validation and saving included.
        show: called in the first process with the status after every step.
        say: called in the first process with each piece of news, one line.

    Raises:
        UserError: the task cannot be trained as asked; found before the first step.
        RegistrationFailure: the loss became infinite or not a number; the last checkpoint is kept.
        TimeIsUp: the budget ended before this session got any further; the checkpoint is kept.
    """
    task.check()
    with StopRequest() as request:
        budget = budget or TimeBudget(None)
        try:
            return _Loop(task, run, loop, fabric, pretrained, card, budget, request, show, say).run(resume)
        except torch.OutOfMemoryError as error:
            raise RegistrationFailure(
                "the memory of the GPU ran out; pass --set max_memory_gb=... below what it has, or a smaller batch_size"
            ) from error


class _Stopped(Exception):
    """A validation was broken off."""

    def __init__(self, ending: Ending) -> None:
        self.ending = ending


class _Loop:
    def __init__(
        self,
        task: Task,
        run: RunFolder,
        loop: LoopSettings,
        fabric: Fabric,
        pretrained: dict[str, torch.Tensor] | None,
        card: ModelCard | None,
        budget: TimeBudget,
        request: StopRequest,
        show: Callable[[Status], None] | None,
        say: Callable[[str], None] | None,
    ) -> None:
        self.task, self.folder, self.loop, self.fabric = task, run, loop, fabric
        self.budget, self.request = budget, request
        self.show = show if fabric.is_global_zero else None
        self.say = say if say is not None and fabric.is_global_zero else lambda text: None
        self.card = card or ModelCard(run.path.name, task.name)
        torch.manual_seed(loop.seed)
        self.bare = task.network()
        if pretrained is not None:
            fresh = task.load_pretrained(self.bare, pretrained)
            self.say(f"{len(fresh)} parameters are not in --pretrained and start fresh" if fresh else "weights loaded")
        self.bare.to(fabric.device)
        self.step_pace, self.pass_pace = Pace(), Pace()
        with (
            self._kept_random_states(), self.budget.during("the measurement of the memory"), self._ended_at_once()
        ):  # fmt: skip
            plan = plan_training(task, self.bare, loop, fabric)
        if loop.max_memory_gb is not None:
            recomputed = ", activations recomputed" if plan.checkpointing else ""
            self.say(f"{plan.accumulate} passes per batch{recomputed}: about {plan.peak_bytes / 1e9:.2g} GB")
        self.accumulate = plan.accumulate
        optimiser = task.optimiser(self.bare)
        self.network, self.optimiser = fabric.setup(self.bare, optimiser)
        self.items: list[list[Item]] = self._batches(0)
        self.schedule = Schedule(optimiser, loop, loop.epochs * len(self.items))
        self.best = BestScore(*task.score, loop.min_improvement)
        self.average = WeightAverage(self.bare, loop.average_decay)
        self.at = Position()
        # Before the first of them: back takes twice as long as forth, and a disk writes some 200 MB/s.
        size = 4 * sum(p.numel() * p.element_size() for p in self.bare.parameters())
        items = loop.batch_size // fabric.world_size
        self.step_pace, self.save_pace = Pace(guess_s=3 * plan.forward_s * items), Pace(guess_s=size / 200e6)
        self.saved_at = budget.clock()

    def run(self, resume: bool) -> Outcome:
        if resume:
            self._load()
        self.seconds_before = self.at.seconds
        begun_at = self.at.epoch, self.at.batch
        self.logs = Logs(self.folder.path, self.at.step) if self.fabric.is_global_zero else None
        try:
            ending = self._epochs()
            self._save()
            if ending == "time budget" and begun_at == (self.at.epoch, self.at.batch):
                raise self.budget.no_step(f"what was done until step {self.at.step} is kept")
            if self.fabric.is_global_zero and self.best.metrics is None and self.at.step > 0:
                with self.average.in_use():
                    self._export({})
        finally:
            if self.logs is not None:
                self.logs.close()
        best, model = self.best, self.folder.model if self.at.step > 0 else None
        return Outcome(ending, self.at.epoch, self.at.step, best.metrics or {}, best.epoch, self.budget.spent_s, model)

    def _epochs(self) -> Ending:
        if self.loop.validate_first and self.at.step == 0 and (ending := self._validate_untrained()) is not None:
            return ending
        if 0 < self.loop.patience <= self.best.waited:
            return "no improvement"
        while self.at.epoch < self.loop.epochs:
            if self.at.epoch > 0:
                self.items = self._batches(self.at.epoch)
            ending = self._epoch()
            if ending is not None:
                return ending
            if 0 < self.loop.patience <= self.best.waited:
                return "no improvement"
        return "finished"

    def _epoch(self) -> Ending | None:
        """The rest of an epoch; why it could not be finished, or None."""
        self.network.train()
        while self.at.batch < len(self.items):
            if (ending := self._stop(self.step_pace.longest_s)) is not None:
                return ending
            start = self.budget.clock()
            with self.budget.during("steps"), self._ended_at_once():
                ending = self._step(self.items[self.at.batch])
            if ending is not None:
                return ending
            self.step_pace.add(self.budget.clock() - start)
            if from_first(self.fabric, self.budget.clock() - self.saved_at >= self.loop.checkpoint_every_s):
                self._save()
        due = (self.at.epoch + 1) % self.loop.validate_every == 0 or self.at.epoch + 1 >= self.loop.epochs
        if (ending := self._stop(self.at.validation_s if due else 0)) is not None:
            return ending
        self._log_epoch()
        if due and (ending := self._validate()) is not None:
            return ending
        self.at = dataclasses.replace(self.at, epoch=self.at.epoch + 1, batch=0, sums={})
        self._save()
        return None

    def _step(self, items: Sequence[Item]) -> Ending | None:
        """One step; or why it was broken off between two passes, without a trace."""
        rate = self.schedule.before_step(self.at.step)
        own = range(self.fabric.global_rank, len(items), self.fabric.world_size)
        count = len(own) // self.accumulate
        totals: dict[str, float] = {}
        for n in range(self.accumulate):
            if n > 0 and (ending := self._stop(self.pass_pace.longest_s * (self.accumulate - n))) is not None:
                self.optimiser.zero_grad()
                return ending
            start = self.budget.clock()
            places = own[n * count : (n + 1) * count]
            with self.fabric.no_backward_sync(self.network, enabled=n + 1 < self.accumulate):
                losses = self.task.loss(self.network, self._batch(items, places))
                self.fabric.backward(losses["loss"] / self.accumulate)
            for key, part in losses.items():
                totals[key] = totals.get(key, 0.0) + float(part.detach()) / self.accumulate
            self.pass_pace.add(self.budget.clock() - start)
        for key, value in totals.items():
            totals[key] = mean_over(self.fabric, value)
        if not math.isfinite(totals["loss"]):
            raise RegistrationFailure(
                f"the loss became {totals['loss']} in step {self.at.step + 1}; {self.folder.latest} is from before: "
                "start again with a lower learning rate, or with precision=32-true"
            )
        if self.loop.gradient_clip > 0:
            self.fabric.clip_gradients(self.network, self.optimiser, max_norm=self.loop.gradient_clip)
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.average.update()
        for key, value in totals.items():
            self.at.sums[key] = self.at.sums.get(key, 0.0) + value
        self.at.batch += 1
        self.at.step += 1
        self._show("training", totals["loss"], rate)
        return None

    def _batch(self, items: Sequence[Item], places: Sequence[int]) -> dict[str, Any]:
        generators = [generator_at(self.loop.seed, self.at.epoch, self.at.batch, place) for place in places]
        return self.task.batch([items[place] for place in places], self.fabric.device, generators)

    def _ended_at_once(self) -> AbstractContextManager[None]:
        """End what comes before the first step of this session when the time is up; steps are ended between passes."""
        if self.step_pace.mean_s is not None or self.fabric.world_size > 1:  # the others would wait for this process
            return nullcontext()
        return self.budget.ended_at_once("the cached scans and the last checkpoint are kept")

    def _batches(self, epoch: int) -> list[list[Item]]:
        items = self.task.training_items(epoch, generator_at(self.loop.seed, epoch))
        return full_batches(items, self.loop.batch_size)

    def _validate_untrained(self) -> Ending | None:
        """What there is before the first step: the numbers to be better than, and how long a validation takes.

        One that would not end in time is left out, as the time is better spent on steps.
        """
        start = self.budget.clock()
        self._show("validating", math.nan, 0.0)
        ending: Ending | None = None
        if self.fabric.is_global_zero:
            try:
                with self._ended_at_once():
                    self._show("validating", math.nan, 0.0, self._measure(0))
            except _Stopped as stopped:
                ending = stopped.ending
        ending, expected_s = from_first(self.fabric, (ending, max(self.at.validation_s, self.budget.clock() - start)))
        self.at.validation_s = expected_s
        if ending == "time budget":
            self.say(f"no validation before the first step: it would take {expected_s:.0f} s of the time budget")
        return None if ending == "time budget" else ending

    def _validate(self) -> Ending | None:
        start = self.budget.clock()
        loss = self.at.sums["loss"] / len(self.items)
        self._show("validating", loss, 0.0)
        metrics: dict[str, float] = {}
        ending: Ending | None = None
        if self.fabric.is_global_zero:
            try:
                metrics = self._measure(self.at.epoch + 1)
            except _Stopped as stopped:
                ending = stopped.ending
            else:
                if self.best.add(self.at.epoch, metrics):
                    with self.average.in_use():
                        self._export(metrics)
        if (ending := from_first(self.fabric, ending)) is not None:
            return ending
        self.best.load_state_dict(self.fabric.broadcast(self.best.state_dict()))
        self.schedule.after_validation(self.best.epoch == self.at.epoch)
        if self.best.epoch == self.at.epoch:
            self._save(self.folder.best)
        self._show("training", loss, 0.0, metrics)
        self.at.validation_s = max(self.at.validation_s, self.budget.clock() - start)
        return None

    def _measure(self, epoch: int) -> dict[str, float]:
        projection = Projection(self.budget.clock)

        def validated(share: float) -> None:
            expected_s = projection.whole_s(share)
            self.at.validation_s = max(self.at.validation_s, expected_s)
            self._show("validating", math.nan, 0.0, validated=share)
            left_s = expected_s - (self.budget.clock() - projection.start)
            if share < 1 and (ending := self._own_reason(left_s)) is not None:
                raise _Stopped(ending)

        self.task.on_validated = validated
        self.bare.eval()
        with (
            self.average.in_use(), torch.no_grad(), self._kept_random_states(), self.budget.during("validation")
        ):  # fmt: skip
            found = self.task.validate(self.bare, self.fabric.device)
            metrics = {key: float(value) for key, value in found.items()}
        self.bare.train()
        if self.logs is not None:
            self.logs.write(VALIDATION, epoch, self.at.step, metrics)
        return metrics

    def _log_epoch(self) -> None:
        if self.logs is None:
            return
        means = {key: value / len(self.items) for key, value in self.at.sums.items()}
        rate = float(self.schedule.optimiser.param_groups[0]["lr"])
        seconds = self.seconds_before + self.budget.spent_s
        self.logs.write(TRAINING, self.at.epoch + 1, self.at.step, means | {"learning_rate": rate, "seconds": seconds})

    def _export(self, metrics: dict[str, float]) -> None:
        described = self.task.export(self.bare)
        preprocessing = self.task.preprocessing(self.task.config).as_json()
        card = dataclasses.replace(self.card, **({"preprocessing": preprocessing} | described), metrics=metrics)
        save_model(self.folder.model, self.bare.state_dict(), card)

    def _save(self, path: Path | None = None) -> None:
        start = self.budget.clock()
        self.at.seconds = self.seconds_before + self.budget.spent_s
        if self.fabric.is_global_zero:
            content = {
                "network": self.bare.state_dict(),
                "optimiser": self.schedule.optimiser.state_dict(),
                "precision": self.fabric.strategy.precision.state_dict(),
                "schedule": self.schedule.state_dict(),
                "best": self.best.state_dict(),
                "average": {"state": self.average.state, "steps": self.average.steps},
                "random": random_states(),
                "position": dataclasses.asdict(self.at),
            }
            save_checkpoint(path or self.folder.latest, content)
        self.saved_at = self.budget.clock()
        self.save_pace.add(self.saved_at - start)

    def _load(self) -> None:
        content = load_checkpoint(self.folder.latest)
        try:
            self.bare.load_state_dict(content["network"])
            self.schedule.optimiser.load_state_dict(content["optimiser"])
            self.fabric.strategy.precision.load_state_dict(content["precision"])
            self.schedule.load_state_dict(content["schedule"])
            self.best.load_state_dict(content["best"])
            self.average.load(content["average"]["state"], content["average"]["steps"])
            self.at = Position(**content["position"])
        except (KeyError, RuntimeError, ValueError, TypeError) as error:
            reason = str(error).splitlines()[0][:120]
            raise UserError(f"{self.folder.latest}: does not fit this training ({reason}); start a new run") from error
        restore_random_states(content["random"])

    def _stop(self, expected_s: float) -> Ending | None:
        """Why to stop before something of this length, the same in all processes."""
        ending: Any = self._own_reason(expected_s)
        if self.fabric.world_size == 1:
            return ending
        reasons = [None, "time budget", "SIGINT", "SIGTERM"]
        code = torch.tensor(float(reasons.index(ending)), device=self.fabric.device)
        highest: Any = self.fabric.all_reduce(code, reduce_op="max")
        return reasons[int(highest)]  # type: ignore[return-value]

    def _own_reason(self, expected_s: float) -> Ending | None:
        """Why this process would stop."""
        signal: Any = self.request.signal
        if signal is None and not self.budget.allows(expected_s + 2 * self.save_pace.longest_s):
            return "time budget"
        return signal

    def _kept_random_states(self) -> AbstractContextManager[None]:
        """Nothing within changes what the training draws."""
        return torch.random.fork_rng(devices=[] if self.fabric.device.type == "cpu" else None)

    def _show(
        self, stage: Any, loss: float, rate: float, metrics: dict[str, float] | None = None, validated: float = 0.0
    ) -> None:
        if self.show is None:
            return
        batches = len(self.items)
        steps = (self.loop.epochs - self.at.epoch) * batches - self.at.batch
        validations = -(-(self.loop.epochs - self.at.epoch) // self.loop.validate_every)
        needed = self.step_pace.expected_s(steps) + validations * self.at.validation_s
        left = self.budget.left_s
        remaining = needed if left is None else min(needed, max(left, 0.0))
        self.show(
            Status(
                *(stage, self.at.epoch + 1, self.loop.epochs, self.at.batch, batches, self.at.step, loss, rate),
                remaining if self.step_pace.mean_s is not None else None,
                metrics or {},
                self.best.metrics or {},
                validated,
            )
        )
