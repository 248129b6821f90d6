"""The files of deeds as its published tool writes and reads them, index by index from its description."""

from __future__ import annotations

from pathlib import Path

import numpy as np

TABLE = np.array([[0.97, 0.06, -0.02, 0], [-0.05, 1.04, 0.03, 0], [0.02, -0.04, 1.02, 0], [1.3, -2.4, 0.7, 1]])


def save(stem: Path, size: tuple[int, int, int], spacing: int, table: np.ndarray | None = TABLE) -> Path:
    """Files as the published tool leaves them, with random vectors of about two voxels."""
    count = int(np.prod([n // spacing for n in size]))
    np.random.default_rng(spacing).normal(0, 2, 3 * count).astype("<f4").tofile(f"{stem}_displacements.dat")
    if table is not None:
        lines = ["  ".join(f"{value:g}" for value in row) for row in table]
        Path(f"{stem}_matrix.txt").write_text("\n".join(lines) + "\n")
    return Path(f"{stem}_displacements.dat")


def published_places(path: Path, table: np.ndarray, size: tuple[int, int, int], spacing: int | None = None):
    """``(3, m, n, o)``: the moving voxel of every fixed voxel."""
    flow = np.frombuffer(path.read_bytes(), "<f4").astype(float)
    m, n, o = size
    cells = len(flow) // 3
    g = spacing or round((m * n * o / cells) ** (1 / 3))
    m1, n1, o1 = m // g, n // g, o // g
    assert m1 * n1 * o1 == cells
    i, j, k = np.indices(size)

    def upsampled(block: int) -> np.ndarray:
        total = np.zeros(size)
        low = [
            np.floor(index * coarse / fine) for index, coarse, fine in zip((i, j, k), (m1, n1, o1), size, strict=True)
        ]
        rest = [index * c / f - a for index, c, f, a in zip((i, j, k), (m1, n1, o1), size, low, strict=True)]
        for corner in np.ndindex(2, 2, 2):
            a, b, c = (
                np.clip(x + step, 0, last - 1).astype(int)
                for x, step, last in zip(low, corner, (m1, n1, o1), strict=True)
            )
            weight = np.prod([r if step else 1 - r for r, step in zip(rest, corner, strict=True)], axis=0)
            total += weight * flow[block * cells + a + b * m1 + c * m1 * n1]
        return total

    u, v, w = (upsampled(block) for block in range(3))
    t = table
    return np.stack(
        [
            i * t[0, 0] + j * t[1, 0] + k * t[2, 0] + t[3, 0] + v,
            i * t[0, 1] + j * t[1, 1] + k * t[2, 1] + t[3, 1] + u,
            i * t[0, 2] + j * t[1, 2] + k * t[2, 2] + t[3, 2] + w,
        ]
    )


def published_nearest(labels: np.ndarray, places: np.ndarray) -> np.ndarray:
    away_from_zero = np.trunc(places + np.copysign(0.5, places)).astype(int)
    return labels[tuple(np.clip(p, 0, n - 1) for p, n in zip(away_from_zero, labels.shape, strict=True))]
