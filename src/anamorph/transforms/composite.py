"""Several transforms, one after the other."""

from __future__ import annotations

import numpy as np

from anamorph.geometry import Grid
from anamorph.transforms.affine import Affine
from anamorph.transforms.base import Transform


class Composite(Transform):
    """Transforms applied in the order given: the first one sees the fixed points."""

    def __init__(self, parts: tuple[Transform, ...]) -> None:
        self.parts = tuple(parts)

    @classmethod
    def of(cls, *parts: Transform) -> Transform:
        """Chain transforms, first applied first: nested chains are flattened and neighbouring affines multiplied."""
        flat: list[Transform] = []
        for part in parts:
            for one in part.parts if isinstance(part, Composite) else (part,):
                if flat and isinstance(one, Affine) and isinstance(flat[-1], Affine):
                    flat[-1] = Affine(one.matrix @ flat[-1].matrix)
                else:
                    flat.append(one)
        return flat[0] if len(flat) == 1 else cls(tuple(flat))

    def __repr__(self) -> str:
        return f"Composite({self.direction}: {', then '.join(map(repr, self.parts))})"

    def advance(self, positions_vox: np.ndarray, grid: Grid) -> None:
        for part in self.parts:
            part.advance(positions_vox, grid)

    def map_world(self, points_mm: np.ndarray) -> np.ndarray:
        for part in self.parts:
            points_mm = part.map_world(points_mm)
        return points_mm

    def inverse(self) -> Transform:
        return self._turned(Composite.of(*(part.inverse() for part in reversed(self.parts))))
