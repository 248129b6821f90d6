from __future__ import annotations

import numpy as np

from anamorph.image import Points
from anamorph.transforms import Transform


def tre_mm(fixed_points: Points, moving_points: Points, transform: Transform) -> np.ndarray:
    """Target registration error: distance between each mapped fixed point and its moving point.

    Args:
        fixed_points: landmarks of the fixed scan.
        moving_points: the same landmarks in the moving scan; matched by name when both are named, else by order.
        transform: fixed to moving.

    Returns:
        ``(N,)`` float64, millimetres.

    Raises:
        UserError: the two sets do not correspond.
    """
    return np.linalg.norm(_errors_mm(fixed_points, moving_points, transform), axis=1)


def tre_axes_mm(fixed_points: Points, moving_points: Points, transform: Transform) -> np.ndarray:
    """The same error along each axis: ``(N, 3)``, the absolute distance to the right, anterior and superior.

    Arguments and errors as of :func:`tre_mm`.
    """
    return np.abs(_errors_mm(fixed_points, moving_points, transform))


def _errors_mm(fixed_points: Points, moving_points: Points, transform: Transform) -> np.ndarray:
    fixed, moving = fixed_points.matched(moving_points)
    return transform.map_world(fixed.positions_mm) - moving.positions_mm
