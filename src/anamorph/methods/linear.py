"""``linear``: as ``affine``, but its presets choose a rigid map for bodies that keep their shape."""

from __future__ import annotations

from typing import Any, ClassVar

from anamorph.methods.affine import Affine
from anamorph.methods.presets import STARTS


class Linear(Affine):
    """The linear map that every other method starts from."""

    name = "linear"
    summary = "the linear start alone: a shift, a rigid or an affine map; deforms nothing"
    presets: ClassVar[dict[str, dict[str, Any]]] = STARTS
