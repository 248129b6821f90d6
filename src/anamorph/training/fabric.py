"""Where a training computes: device, precision, and the processes that share it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from anamorph.errors import UserError
from anamorph.runtime.device import resolve_device

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from lightning_fabric.strategies.ddp import DDPStrategy


Precision = Literal["auto", "32-true", "16-mixed", "bf16-mixed"]
SINGLE, HALF, BRAIN = "32-true", "16-mixed", "bf16-mixed"
CPU_INFO = Path("/proc/cpuinfo")
INSTRUCTIONS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""Of processors that multiply bfloat16 matrices: AVX-512 and AMX of x86, and those of ARM. Without them PyTorch
emulates: a step of a small ``segment`` then took 12 times as long (docs/results.md)."""


@dataclass(frozen=True)
class ChosenPrecision:
    """What Fabric is given, and why; ``warning`` if it is slow here."""

    value: str
    why: str
    warning: str = ""


def choose_precision(wanted: str, device: str, stored: str | None = None) -> ChosenPrecision:
    """The precision of a training on a device.

    Args:
        wanted: ``auto``, or the one to take.
        device: ``cpu`` or ``cuda``.
        stored: that of the run which goes on.

    Raises:
        UserError: the device cannot compute so, and no run that goes on asks for it.
    """
    found = sorted(bfloat16_instructions()) if device == "cpu" else []
    if device == "cpu":
        fast = f"the processor has {', '.join(found)}" if found else "the processor has no bfloat16 instructions"
        best = BRAIN if found else SINGLE
    else:
        native = _gpu_has_bfloat16()
        fast = "the GPU computes bfloat16" if native else "the GPU computes float16, not bfloat16"
        best = BRAIN if native else HALF
    if wanted == "auto":
        kept = "" if stored in (None, "auto", best) else f"; the run was begun with {stored}"
        return ChosenPrecision(best, fast + kept)
    if device == "cpu" and wanted == HALF:
        if stored != HALF:
            raise UserError(f"precision {HALF} needs a GPU; pass --precision auto, or {SINGLE}")
        return ChosenPrecision(SINGLE, f"{fast}; the run was begun with {HALF}, which only GPUs compute")
    why = "that of the run" if wanted == stored else "as asked for"
    slow = device == "cpu" and wanted == BRAIN and not found
    remedy = f"{wanted} is slow here, as {fast}: --precision {SINGLE} may be many times faster"
    return ChosenPrecision(wanted, why, remedy if slow else "")


def bfloat16_instructions() -> frozenset[str]:
    """Those of this processor; empty where the system does not tell."""
    try:
        text = CPU_INFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return frozenset()
    flags = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    return INSTRUCTIONS & frozenset(flags[1].split()) if flags else frozenset()


def _gpu_has_bfloat16() -> bool:
    import torch

    cuda: Any = torch.cuda
    return bool(cuda.is_bf16_supported(including_emulation=False))


T = TypeVar("T")
LONGEST_VALIDATION = timedelta(hours=12)
"""The first process validates while the others wait."""


def make_fabric(device: str = "auto", processes: int = 1, precision: str = "32-true") -> Fabric:
    """Lightning Fabric for one or several processes, each with a device of its own; not launched yet.

    Args:
        device: ``auto``, ``cpu`` or ``cuda``.
        processes: GPUs, or processes on the CPU; more than one share every batch (DDP).
        precision: what :func:`~anamorph.training.fabric.choose_precision` took.

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
    received: Any = fabric.broadcast(value)
    return received


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
