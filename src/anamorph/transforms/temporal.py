"""Smoothing over time: what every frame of a series shows on its own, made to agree with the frames beside it.

The smooth series ``u`` minimises ``sum |u_t - v_t|^2 + strength * sum |u_{t+3} - 3 u_{t+2} + 3 u_{t+1} - u_t|^2``
(Whittaker 1923; Eilers, Analytical Chemistry 2003): even acceleration costs nothing, a jump costs much. The strength
can be the one that predicts left-out frames best, by generalised cross-validation (Craven and Wahba, Numerische
Mathematik 1978).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FEWEST_FRAMES = 5
"""Frames from which a strength can be chosen by cross-validation."""
STRENGTHS = np.geomspace(1e-3, 1e7, 101)


@dataclass(frozen=True, eq=False)
class TemporalSmoother:
    """The linear map that smooths a series, of any number of values at a time.

    Args:
        frames: in the series.
        cyclic: the first frame follows the last one, as in a heart beat.
        still: a frame that is known to be zero, such as the velocity of the reference; None for none.
    """

    frames: int
    cyclic: bool = False
    still: int | None = None

    @property
    def free(self) -> list[int]:
        """The frames that are not known."""
        return [frame for frame in range(self.frames) if frame != self.still]

    def roughness(self) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues and eigenvectors, as columns, of the penalty of the free frames."""
        identity = np.eye(self.frames)
        ahead = [np.roll(identity, step, axis=1) for step in range(4)]
        third = ahead[3] - 3 * ahead[2] + 3 * ahead[1] - identity
        third = (third if self.cyclic else third[:-3])[:, self.free]
        values, vectors = np.linalg.eigh(third.T @ third)
        return np.maximum(values, 0), vectors

    def strength(self, values: np.ndarray) -> float:
        """The strength with the least generalised cross-validation score over all values together.

        It is 0 for fewer than five frames that are not known.

        Args:
            values: ``(T, ...)`` of all frames.
        """
        if len(self.free) < FEWEST_FRAMES:
            return 0.0
        roughness, vectors = self.roughness()
        free = values[self.free].reshape(len(roughness), -1)
        power = ((vectors.T @ free).astype(np.float64) ** 2).sum(axis=1)
        kept = 1 / (1 + STRENGTHS[:, None] * roughness)
        residual, freedom = (1 - kept) ** 2 @ power, (1 - kept).sum(axis=1)
        return float(STRENGTHS[np.argmin(residual / freedom**2)])

    def smooth(self, values: np.ndarray, strength: float) -> np.ndarray:
        """The smooth series, float32.

        Args:
            values: ``(T, ...)`` of all frames; the still one is zero.
            strength: of the penalty.
        """
        roughness, vectors = self.roughness()
        matrix = (vectors / (1 + strength * roughness) @ vectors.T).astype(np.float32)
        smooth = np.array(values, np.float32)
        smooth[self.free] = (matrix @ smooth[self.free].reshape(len(matrix), -1)).reshape(-1, *values.shape[1:])
        return smooth
