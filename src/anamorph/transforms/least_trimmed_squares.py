"""Robust fit of a linear map to point correspondences."""

from __future__ import annotations

from typing import Literal

import numpy as np

LinearModel = Literal["translation", "rigid", "affine"]
SINGULAR_VALUES = (0.5, 2.0)
"""A map that stretches beyond this is a failed fit, not anatomy."""


def fit_least_trimmed_squares(
    source: np.ndarray, target: np.ndarray, model: LinearModel, iterations: int = 15, trim: float = 0.5
) -> np.ndarray:
    """Fit ``target = matrix @ [source, 1]`` to the half of the correspondences that agrees best.

    Least squares on all, then repeatedly on those with the smallest residuals (deeds' linear stage; Rousseeuw 1984).

    Args:
        source: ``(N, 3)``.
        target: ``(N, 3)``.
        model: which maps are allowed; rigid is a rotation and a translation, never a reflection.
        iterations: refits.
        trim: fraction of the points that each refit keeps.

    Returns:
        4x4 matrix. Directions that the points do not span keep the identity.
    """
    kept = np.ones(len(source), bool)
    matrix = np.eye(4)
    for _ in range(iterations + 1):
        matrix = _fit(source[kept], target[kept], model)
        residual = np.linalg.norm(source @ matrix[:3, :3].T + matrix[:3, 3] - target, axis=1)
        kept = residual <= np.quantile(residual, trim)
    return matrix


def is_plausible(matrix: np.ndarray) -> bool:
    """Whether a 4x4 fit is a map at all, mirrors nothing and stretches no direction too much."""
    if not np.isfinite(matrix).all() or np.linalg.det(matrix[:3, :3]) <= 0:
        return False
    stretch = np.linalg.svd(matrix[:3, :3], compute_uv=False)
    return bool(stretch.min() >= SINGULAR_VALUES[0] and stretch.max() <= SINGULAR_VALUES[1])


def _fit(source: np.ndarray, target: np.ndarray, model: LinearModel) -> np.ndarray:
    matrix = np.eye(4)
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    if model == "affine":
        # Relative to the identity with a pseudo-inverse: points in a plane or on a line leave the rest untouched.
        centred = source - source_mean
        matrix[:3, :3] += (np.linalg.pinv(centred, rcond=1e-3) @ (target - target_mean - centred)).T
    elif model == "rigid":
        u, _, vt = np.linalg.svd((source - source_mean).T @ (target - target_mean))
        sign = np.sign(np.linalg.det(vt.T @ u.T)) or 1.0
        matrix[:3, :3] = vt.T @ np.diag([1.0, 1.0, sign]) @ u.T
    matrix[:3, 3] = target_mean - matrix[:3, :3] @ source_mean
    return matrix
