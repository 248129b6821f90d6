"""ITK transform text files (.tfm, .txt): affines, or composites of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from anamorph.errors import UserError
from anamorph.geometry import Grid
from anamorph.image.atomic import write_text
from anamorph.transforms.base import Transform
from anamorph.transforms.composite import Composite
from anamorph.transforms.files.itk_linear import AFFINE_TYPE, check_size, from_itk, to_itk

_FIRST_LINE = "#Insight Transform File V1.0"


def write(transform: Transform, path: Path, fixed_grid: Grid, moving_grid: Grid | None = None) -> None:
    """Write an affine."""
    parameters, centre = to_itk(transform)
    numbers, fixed = (" ".join(repr(float(v)) for v in values) for values in (parameters, centre))
    text = f"{_FIRST_LINE}\n#Transform 0\nTransform: {AFFINE_TYPE}\nParameters: {numbers}\nFixedParameters: {fixed}\n"
    write_text(path, text)


def read(path: Path, grid: Grid | None, moving_grid: Grid | None) -> Transform:
    """Read an affine, or a composite of affines (the last one listed is applied first)."""
    check_size(path)
    text = path.read_text(encoding="utf-8", errors="replace")
    if not text.startswith("#Insight Transform File"):
        raise UserError(f"no ITK transform: the first line must be '{_FIRST_LINE}'")
    blocks: list[dict[str, str]] = []
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if not colon or line.startswith("#"):
            continue
        if key == "Transform":
            blocks.append({})
        if not blocks:
            raise UserError(f"the line '{line[:40]}' belongs to no transform; export it again")
        blocks[-1][key] = value.strip()
    composite = bool(blocks) and blocks[0]["Transform"].startswith("CompositeTransform")
    parts = blocks[1:] if composite else blocks
    if not parts or (len(parts) > 1 and not composite):
        raise UserError(f"holds {len(parts)} separate transforms; save them as one composite")
    affines = [
        from_itk(part["Transform"], _numbers(part["Parameters"]), _numbers(part.get("FixedParameters", "")))
        for part in parts
    ]
    return Composite.of(*reversed(affines))


def _numbers(text: str) -> np.ndarray:
    return np.array(text.split(), np.float64)
