"""How a batch is split so that a training stays below a stated memory."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from anamorph.errors import UserError
from anamorph.runtime.memory import available_bytes, gigabytes
from anamorph.training.settings import LoopSettings
from anamorph.training.task import generator_at

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from torch import Tensor, nn

    from anamorph.training.task import Task

OPTIMISER_COPIES = 4
"""Of every weight: itself, its gradient and two moments."""
TRANSIENT_SHARE = 0.7
"""What the way back needs beyond what was kept, as a share of all activations; measured 0.3 without and 0.6 with
recomputation for the network of ``symmetric``, whose full resolution holds more than half of them."""
KEPT_PER_INPUT = 4000
"""Bytes that no network of ours keeps for a byte of its input; scans so small that this fits are not measured."""
MOST_OF_FREE = 0.9
"""The share of the free memory that a remedy names."""


@dataclass(frozen=True)
class MemoryPlan:
    """Passes per batch, whether activations are recomputed, the predicted peak, and how long one item took forwards."""

    accumulate: int
    checkpointing: bool
    peak_bytes: int
    forward_s: float


def plan_training(task: Task, network: nn.Module, loop: LoopSettings, fabric: Fabric) -> MemoryPlan:
    """How a process of a training splits its share of a batch; the network is left as it was but ``checkpointing``.

    Raises:
        UserError: as :func:`plan_passes`.
    """
    device, processes = fabric.device, fabric.world_size
    first = task.training_items(0, generator_at(loop.seed, 0))[:1]
    batch = task.batch(first, device, [generator_at(loop.seed, 0, 0, 0)])

    def loss_of_one() -> Tensor:
        with fabric.autocast():
            return task.loss(network, batch)["loss"]

    if device.type == "cuda":
        free: int | None = torch.cuda.mem_get_info(device)[0]
    else:
        free = available_bytes()
        free = None if free is None else free // processes
    size = 4 * sum(part.numel() for part in batch.values() if isinstance(part, torch.Tensor))
    small = [name for name in task.presets if name.startswith("small")]
    running = [buffer.clone() for buffer in network.buffers()]
    plan = plan_passes(network, loss_of_one, loop, processes, size, free, small)
    with torch.no_grad():
        for buffer, before in zip(network.buffers(), running, strict=True):
            buffer.copy_(before)
    return plan


def plan_passes(
    network: nn.Module,
    loss_of_one: Callable[[], Tensor],
    loop: LoopSettings,
    processes: int,
    input_bytes: int = 0,
    free_bytes: int | None = None,
    small_presets: Sequence[str] = (),
) -> MemoryPlan:
    """How a process splits its share of a batch; sets ``network.checkpointing``.

    A batch is split into as few passes as the memory allows, and activations are recomputed only if that is not enough,
    where ``max_memory_gb`` asks for it; else the settings are followed, if there is the memory. What one item keeps for
    the way back is measured in one forward pass.

    Args:
        network: with a boolean ``checkpointing`` if it can recompute.
        loss_of_one: the forward pass of one item.
        loop: the settings.
        processes: that share a batch.
        input_bytes: of one item, in single precision.
        free_bytes: for each process; None if the system does not tell.
        small_presets: which are named where not even one item fits.

    Raises:
        UserError: the batch cannot be shared so, the network cannot recompute, or the memory is too small.
    """
    share, able = loop.batch_size // processes, hasattr(network, "checkpointing")
    if loop.checkpointing and not able:
        raise UserError("this network cannot recompute its activations; pass --set checkpointing=false")
    if loop.batch_size % processes or share % loop.accumulate:
        raise UserError(
            f"batch_size={loop.batch_size} cannot be shared by {processes} processes in {loop.accumulate} passes each; "
            "choose a multiple of both"
        )
    passes = [n for n in range(loop.accumulate, share + 1) if share % n == 0]
    choices = [(n, recompute) for recompute in (False, True)[loop.checkpointing : 1 + able] for n in passes]
    if loop.max_memory_gb is not None:
        needs = _Needs(network, loss_of_one, share, int(loop.max_memory_gb * 1e9))
        plan = needs.first_below(choices)
        if plan.peak_bytes > needs.limit:
            raise UserError(
                f"one item of a batch needs {needs.in_words(plan)} but max_memory_gb allows {gigabytes(needs.limit)}; "
                "raise it, or take a narrower network or a smaller shape"
            )
        return plan
    if free_bytes is None or KEPT_PER_INPUT * input_bytes * share // loop.accumulate <= free_bytes:
        if able:
            network.checkpointing = loop.checkpointing  # type: ignore[assignment]
        return MemoryPlan(loop.accumulate, loop.checkpointing, 0, 0.0)
    needs = _Needs(network, loss_of_one, share, free_bytes, free_bytes)
    as_set = needs.of(loop.accumulate, loop.checkpointing)
    if as_set.peak_bytes > needs.limit:
        raise UserError(_remedy(needs, as_set, choices, loop.batch_size, small_presets))
    return as_set


def _remedy(
    needs: _Needs, as_set: MemoryPlan, choices: Sequence[tuple[int, bool]], batch: int, small_presets: Sequence[str]
) -> str:
    free = gigabytes(needs.limit)
    limit = int(MOST_OF_FREE * needs.limit)
    digits = 10 ** (len(str(limit)) - 2)  # the remedy names two of them
    asked = _Needs(needs.network, needs.loss_of_one, needs.share, limit // digits * digits, needs.counted)
    plan = asked.first_below(choices)
    if plan.peak_bytes > asked.limit:
        smaller = f"--preset {' or '.join(small_presets)}" if small_presets else "a smaller shape or a narrower network"
        return f"one item of a batch needs {asked.in_words(plan)} but {free} are free; a GPU may do, or take {smaller}"
    recomputed = " and recomputes activations" if plan.checkpointing and not as_set.checkpointing else ""
    return (
        f"a step of batch_size={batch} needs {needs.in_words(as_set)} but {free} are free; "
        f"pass --set max_memory_gb={asked.limit / 1e9:g}, which takes {plan.accumulate} passes{recomputed}"
    )


class _Needs:
    """What a step needs, split and recomputed in one way or another.

    Args:
        network: with a boolean ``checkpointing`` if it can recompute.
        loss_of_one: the forward pass of one item.
        share: items of a batch that this process sees.
        limit: in bytes.
        counted: bytes that one pass keeps are counted no further.
    """

    def __init__(
        self, network: nn.Module, loss_of_one: Callable[[], Tensor], share: int, limit: int, counted: int = sys.maxsize
    ) -> None:
        self.network, self.loss_of_one, self.share = network, loss_of_one, share
        self.limit, self.counted = limit, counted
        self.fixed = OPTIMISER_COPIES * sum(p.numel() * p.element_size() for p in network.parameters())
        self._kept: dict[bool, tuple[int, float]] = {}

    def first_below(self, choices: Sequence[tuple[int, bool]]) -> MemoryPlan:
        """The first that stays below the limit, else the last."""
        for accumulate, recompute in choices:
            plan = self.of(accumulate, recompute)
            if plan.peak_bytes <= self.limit:
                break
        return plan

    def of(self, accumulate: int, recompute: bool) -> MemoryPlan:
        """The plan of so many passes; ``network.checkpointing`` is as it says."""
        everything, _ = self._measure(False)
        kept, seconds = self._measure(recompute)
        if hasattr(self.network, "checkpointing"):
            self.network.checkpointing = recompute  # type: ignore[assignment]
        per_item = int(kept + TRANSIENT_SHARE * everything)
        return MemoryPlan(accumulate, recompute, self.fixed + per_item * self.share // accumulate, seconds)

    def in_words(self, plan: MemoryPlan) -> str:
        """The peak, of which more may not have been counted."""
        counted = all(kept < self.counted for kept, _ in self._kept.values())
        return f"{'about' if counted else 'more than'} {gigabytes(plan.peak_bytes)}"

    def _measure(self, recompute: bool) -> tuple[int, float]:
        """Bytes that one item keeps, and the seconds of its forward pass."""
        if recompute not in self._kept:
            if hasattr(self.network, "checkpointing"):
                self.network.checkpointing = recompute  # type: ignore[assignment]
            start = time.monotonic()
            kept = kept_bytes(self.network, self.loss_of_one, self.counted)
            self._kept[recompute] = kept, time.monotonic() - start
        return self._kept[recompute]


class _Enough(Exception):
    """More is kept than need be counted."""


def kept_bytes(network: nn.Module, forward: Callable[[], Tensor], limit: int = sys.maxsize) -> int:
    """Bytes that a forward pass keeps for the way back, each tensor once, without the weights themselves.

    Args:
        network: its weights are not counted.
        forward: gives the loss.
        limit: the pass is broken off when it keeps more; the bytes kept until then come back.
    """
    seen = {p.untyped_storage().data_ptr() for p in network.parameters()}
    total = 0

    def keep(tensor: Tensor) -> Tensor:
        nonlocal total
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in seen:
            seen.add(storage.data_ptr())
            total += storage.nbytes()
        if total > limit:
            raise _Enough
        return tensor

    with contextlib.suppress(_Enough), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        forward()
    return total
