"""How a batch is split so that a training stays below a stated memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from anamorph.errors import UserError
from anamorph.memory import gigabytes
from anamorph.training.settings import LoopSettings

if TYPE_CHECKING:
    from torch import Tensor, nn

OPTIMISER_COPIES = 4
"""Of every weight: itself, its gradient and two moments."""
TRANSIENT_SHARE = 0.7
"""What the way back needs beyond what was kept, as a share of all activations; measured 0.3 without and 0.6 with
recomputation for the network of ``symmetric``, whose full resolution holds more than half of them."""


@dataclass(frozen=True)
class MemoryPlan:
    """Passes per batch, whether activations are recomputed, and the predicted peak."""

    accumulate: int
    checkpointing: bool
    peak_bytes: int


def plan_passes(
    network: nn.Module, loss_of_one: Callable[[], Tensor], loop: LoopSettings, processes: int
) -> MemoryPlan:
    """How a process splits its share of a batch; sets ``network.checkpointing``.

    Raises:
        UserError: the batch cannot be shared so, the network cannot recompute, or the memory is too small.
    """
    share = loop.batch_size // processes
    if loop.checkpointing and not hasattr(network, "checkpointing"):
        raise UserError("this network cannot recompute its activations; pass --set checkpointing=false")
    if loop.batch_size % processes or share % loop.accumulate:
        raise UserError(
            f"batch_size={loop.batch_size} cannot be shared by {processes} processes in {loop.accumulate} passes each; "
            "choose a multiple of both"
        )
    if loop.max_memory_gb is None:
        if hasattr(network, "checkpointing"):
            network.checkpointing = loop.checkpointing  # type: ignore[assignment]
        return MemoryPlan(loop.accumulate, loop.checkpointing, 0)
    least = [n for n in range(loop.accumulate, share + 1) if share % n == 0]
    return plan_memory(network, loss_of_one, share, least, loop.max_memory_gb * 1e9, loop.checkpointing)


def plan_memory(
    network: nn.Module,
    loss_of_one: Callable[[], Tensor],
    share: int,
    passes: Sequence[int],
    limit_bytes: float,
    checkpointing: bool,
) -> MemoryPlan:
    """Split a batch into as few passes as the limit allows; activations are recomputed only if that is not enough.

    What one item keeps for the way back is measured in one forward pass, on any device.

    Args:
        network: with a boolean ``checkpointing`` if it can recompute.
        loss_of_one: the forward pass of one item.
        share: items of a batch that this process sees.
        passes: into which it may be split, ascending.
        limit_bytes: of weights, optimiser and activations.
        checkpointing: recompute in any case.

    Raises:
        UserError: not even one item fits.
    """
    fixed = OPTIMISER_COPIES * sum(p.numel() * p.element_size() for p in network.parameters())
    able = hasattr(network, "checkpointing")
    needed, everything = 0, 0
    for recompute in [False, True] if able else [False]:
        if able:
            network.checkpointing = recompute  # type: ignore[assignment]
        kept = kept_bytes(network, loss_of_one)
        everything = everything or kept
        if checkpointing and not recompute:
            continue
        per_item = int(kept + TRANSIENT_SHARE * everything)
        for accumulate in passes:
            needed = fixed + per_item * share // accumulate
            if needed <= limit_bytes:
                return MemoryPlan(accumulate, recompute, needed)
    raise UserError(
        f"one item of a batch needs about {gigabytes(needed)} but max_memory_gb allows {gigabytes(int(limit_bytes))}; "
        "raise it, or take a narrower network or a smaller shape"
    )


def kept_bytes(network: nn.Module, forward: Callable[[], Tensor]) -> int:
    """Bytes that a forward pass keeps for the way back, each tensor once, without the weights themselves."""
    seen = {p.untyped_storage().data_ptr() for p in network.parameters()}
    total = 0

    def keep(tensor: Tensor) -> Tensor:
        nonlocal total
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in seen:
            seen.add(storage.data_ptr())
            total += storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = forward()
    del loss
    return total
