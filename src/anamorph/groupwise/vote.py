"""One label map from those of all scans."""

from __future__ import annotations

import numpy as np

from anamorph.geometry import Grid
from anamorph.image import Image, Labels


class MajorityVote:
    """Counts label maps on one grid; every voxel gets the label that most of them give it (ties: the lower)."""

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.voters = 0
        self.votes: dict[int, np.ndarray] = {}

    def add(self, labels: Labels) -> None:
        """Count a label map on the grid."""
        self.voters += 1
        for name in labels.present():
            votes = self.votes.setdefault(name, np.zeros(self.grid.shape, np.uint16))
            votes += labels.data[0] == name

    def result(self, name: str) -> tuple[Labels, Image]:
        """The label map, and ``(I, J, K)`` float32 the share of the maps that agree with it."""
        best = np.full(self.grid.shape, self.voters, np.uint16)
        for votes in self.votes.values():
            best -= votes  # what is left voted for background
        winner = np.zeros(self.grid.shape, np.int32)
        for label in sorted(self.votes):
            better = self.votes[label] > best
            winner[better] = label
            np.maximum(best, self.votes[label], out=best)
        kind = np.uint8 if max(self.votes, default=0) < 256 else np.int32
        agreement = (best / max(self.voters, 1)).astype(np.float32)
        return Labels(winner.astype(kind), self.grid, name), Image(agreement, self.grid, f"agreement on {name}")
