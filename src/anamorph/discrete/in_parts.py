"""Work on a large array part by part, so that what is made on the way never exceeds one part."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

AT_ONCE = 2**22
"""Values that one part may hold at a time."""
AT_ONCE_ON_GPU = 2**26
"""What the caches of a processor hold is nothing to a GPU, where every part costs the launches of all its kernels."""


def in_parts(
    function: Callable[[Tensor], Tensor],
    values: Tensor,
    values_per_row: int,
    *,
    dim: int = 0,
    at_once: int = AT_ONCE,
    out: Tensor | None = None,
) -> Tensor:
    """``function(values)``, where the function treats the rows along one axis independently.

    Under autograd a part keeps nothing but its inputs and is computed again on the way back.

    Args:
        function: maps ``n`` rows to ``n`` rows.
        values: any shape.
        values_per_row: values that the function holds for a row, which sets the rows of a part.
        dim: the axis of the rows, in values and result.
        at_once: values held at a time; more on a GPU.
        out: where the result is written if no gradient is wanted; may be ``values``.

    Returns:
        The result for all rows.
    """
    import torch
    from torch.utils.checkpoint import checkpoint

    if values.device.type != "cpu":
        at_once = max(at_once, AT_ONCE_ON_GPU)
    parts = values.split(max(1, at_once // values_per_row), dim)
    if torch.is_grad_enabled():
        # Whether parameters that the function closes over want a gradient cannot be seen from here.
        if len(parts) == 1:
            return function(parts[0])
        return torch.cat(
            [checkpoint(function, part, use_reentrant=False, preserve_rng_state=False) for part in parts], dim
        )
    first = 0
    for part in parts:
        result = function(part)
        if out is None:
            shape = list(result.shape)
            shape[dim] = values.shape[dim]
            out = result.new_empty(shape)
        out.narrow(dim, first, part.shape[dim]).copy_(result)
        first += part.shape[dim]
    assert out is not None
    return out
