"""Where a training computes: device, mixed precision, and the processes that share it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from anamorph.errors import UserError
from anamorph.runtime.device import resolve_device

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from lightning_fabric.strategies.ddp import DDPStrategy

T = TypeVar("T")
LONGEST_VALIDATION = timedelta(hours=12)
"""The first process validates while the others wait."""


def make_fabric(device: str = "auto", processes: int = 1, precision: str = "32-true") -> Fabric:
    """Lightning Fabric for one or several processes, each with a device of its own; not launched yet.

    Args:
        device: ``auto``, ``cpu`` or ``cuda``.
        processes: GPUs, or processes on the CPU; more than one share every batch (DDP).
        precision: what :func:`~anamorph.training.precision.choose_precision` took.

    Raises:
        UserError: Fabric is not installed, or there are not as many devices.
    """
    try:
        from lightning_fabric import Fabric
    except ImportError:
        raise UserError('training needs Lightning Fabric; install it with: pip install "anamorph[train]"') from None
    kind = resolve_device(device)
    if processes < 1:
        raise UserError(f"--processes must be at least 1, not {processes}")
    if kind == "cuda":
        import torch

        if processes > torch.cuda.device_count():
            raise UserError(f"--processes {processes} needs as many GPUs; there are {torch.cuda.device_count()}")
    return Fabric(
        accelerator=kind,
        devices=processes,
        strategy=_shared() if processes > 1 else "auto",
        precision=precision,  # type: ignore[arg-type]
    )


def from_first(fabric: Fabric, value: T) -> T:
    """The value of the first process, in all of them."""
    if fabric.world_size == 1:
        return value
    told: Any = fabric.broadcast(value)
    return told


def mean_over(fabric: Fabric, value: float) -> float:
    """The mean of a number over all processes."""
    import torch

    if fabric.world_size == 1:
        return value
    mean: Any = fabric.all_reduce(torch.tensor(value, device=fabric.device), reduce_op="mean")
    return float(mean)


def _shared() -> DDPStrategy:
    from lightning_fabric.strategies.ddp import DDPStrategy

    # A network may have heads that a setting leaves without a loss.
    return DDPStrategy(timeout=LONGEST_VALIDATION, find_unused_parameters=True)
