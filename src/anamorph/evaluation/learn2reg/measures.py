"""The metrics of Learn2Reg's evaluator, one function each."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal

import numpy as np

from anamorph.evaluation.label_regions import voxel_counts
from anamorph.evaluation.learn2reg.surface import SurfaceElements


def dice(fixed: np.ndarray, moving: np.ndarray, warped: np.ndarray, labels: Iterable[int]) -> list[float]:
    """Overlap of each label between fixed and warped map, as the evaluator counts it.

    Args:
        fixed: ``(I, J, K)`` integers.
        moving: the label map before warping, on its own grid.
        warped: the moving map on the fixed grid.
        labels: which labels, in the order of the result.

    Returns:
        One value per label: NaN if it is missing in the fixed map or in the **unwarped** moving one, 0 if it was lost
        in warping.
    """
    in_fixed, in_moving, in_warped = voxel_counts(fixed), voxel_counts(moving), voxel_counts(warped)
    in_both = voxel_counts(np.where(fixed == warped, fixed, 0))
    return [
        2 * in_both.get(name, 0) / (in_fixed[name] + in_warped.get(name, 0))
        if name in in_fixed and name in in_moving
        else float("nan")
        for name in labels
    ]


def hd95_vox(
    fixed: Mapping[int, SurfaceElements],
    warped: Mapping[int, SurfaceElements],
    in_moving: Collection[int],
    labels: Iterable[int],
) -> list[float]:
    """95 % Hausdorff distance of each label **in voxels**, whatever the spacing, as the evaluator computes it.

    The larger of the two directed distances below which surface elements of 95 % of the area lie (Nikolov et al. 2021,
    ``surface-distance``).

    Args:
        fixed: :func:`surface_elements` of the fixed map.
        warped: the moving label map on the fixed grid.
        in_moving: labels that occur in the moving map before warping.
        labels: which labels, in the order of the result.

    Returns:
        One value per label: NaN if it is missing in the fixed or in the unwarped moving map, infinite if it was lost in
        warping.
    """
    distances = []
    for name in labels:
        if name not in fixed or name not in in_moving:
            distances.append(float("nan"))
        elif name not in warped:
            distances.append(float("inf"))
        else:
            a, b = fixed[name], warped[name]
            distances.append(max(_directed(a, b), _directed(b, a)))
    return distances


def _directed(a: SurfaceElements, b: SurfaceElements) -> float:
    distances = b.tree.query(a.cells)[0]
    order = np.lexsort((a.areas, distances))  # as the original sorts, so that sums round alike
    reached = np.cumsum(a.areas[order]) / np.sum(a.areas[order])
    return float(distances[order][min(np.searchsorted(reached, 0.95), len(order) - 1)])


SHIFT = 3
LIMITS = (1e-9, 1e9)
BORDER = 2


def sdlogj(jacobian: np.ndarray, mask: np.ndarray | None = None) -> float:
    """What the evaluator calls SDlogJ: the standard deviation of ``log(clip(det + 3, 1e-9, 1e9))``.

    It is no standard deviation of the log Jacobian; see :func:`anamorph.evaluation.jacobian_summary` for that.

    Args:
        jacobian: ``(I, J, K)`` determinants by central differences; the two outermost voxels on each side are left out
            (on axes that have more than four).
        mask: ``(I, J, K)`` of the fixed image; only voxels of value 1 count. Everything by default.

    Returns:
        NaN where no voxel counts.
    """
    determinants = inner(jacobian)
    values = shifted_log(determinants.ravel() if mask is None else determinants[inner(mask) == 1])
    return float(values.std(dtype=np.float64)) if values.size else float("nan")


def shifted_log(determinants: np.ndarray) -> np.ndarray:
    """``log(clip(det + 3, 1e-9, 1e9))``, of which the evaluator takes the standard deviation."""
    return np.log(_shifted(determinants))


def foldings_counted(jacobian: np.ndarray) -> float:
    """What the evaluator reports as ``num_foldings``: never above 0, as it counts after clipping to positive values."""
    return float(np.count_nonzero(_shifted(inner(jacobian)) <= 0))


def _shifted(determinants: np.ndarray) -> np.ndarray:
    return np.clip(determinants + np.float32(SHIFT), *LIMITS)


def inner(volume: np.ndarray) -> np.ndarray:
    """An ``(I, J, K)`` volume without its border."""
    return volume[inner_box(volume.shape)]


def inner_box(shape: tuple[int, ...]) -> tuple[slice, ...]:
    """What the border leaves: nothing is taken away along an axis of at most four voxels."""
    return tuple(slice(BORDER, n - BORDER) if n > 2 * BORDER else slice(0, n) for n in shape)


def tre_mm(
    fixed_vox: np.ndarray, moving_vox: np.ndarray, disp_vox: np.ndarray, moving_spacing_mm: np.ndarray
) -> np.ndarray:
    """Landmark error as the evaluator computes it.

    The field is read by cubic splines and is zero beyond the outermost voxel centres; voxel differences are scaled by
    the spacing of the **moving** image.

    Args:
        fixed_vox: ``(N, 3)`` voxel indices in the fixed image.
        moving_vox: ``(N, 3)`` the same landmarks in the moving image.
        disp_vox: ``(3, I, J, K)``.
        moving_spacing_mm: ``(3,)``.

    Returns:
        ``(N,)`` millimetres.
    """
    from scipy.ndimage import map_coordinates

    moved = np.stack([map_coordinates(part, fixed_vox.T, output=np.float64, order=3) for part in disp_vox], axis=1)
    return np.linalg.norm((fixed_vox + moved - moving_vox) * moving_spacing_mm, axis=1)


def warp_labels(moving: np.ndarray, disp_vox: np.ndarray) -> np.ndarray:
    """Pull a label map through a field as the evaluator does: nearest neighbour, 0 outside.

    Equal to ``scipy.ndimage.map_coordinates(moving, id + u, order=0)``: a half is rounded up, and beyond the centres of
    the outermost voxels, not half a voxel later, there is background.

    Args:
        moving: ``(I', J', K')`` integers; may differ in shape from the fixed image.
        disp_vox: ``(3, I, J, K)``.

    Returns:
        ``(I, J, K)`` of the same type.
    """
    out = np.zeros(disp_vox.shape[1:], moving.dtype)
    j, k = np.ogrid[tuple(map(slice, out.shape[1:]))]
    flat = moving.ravel()
    for i, plane in enumerate(out):  # plane by plane, as double precision takes room
        places = [index + disp.astype(np.float64) for index, disp in zip((i, j, k), disp_vox[:, i], strict=True)]
        inside, voxel = np.ones(plane.shape, bool), np.zeros(plane.shape, np.intp)
        for place, size in zip(places, moving.shape, strict=True):
            inside &= (place >= 0) & (place <= size - 1)
            with np.errstate(invalid="ignore"):  # what is not a number is nowhere inside
                voxel = voxel * size + (place + 0.5).astype(np.intp)
        plane[inside] = flat[voxel[inside]]
    return out


Metric = Literal["sdlogj", "dice", "hd95", "tre"]
_UPPER_TAIL = ("sdlogj", "tre")


def aggregate(values: Sequence[float], metric: Metric) -> dict[str, float]:
    """Mean, standard deviation and the quantile called "30" of the pairs' values, as the evaluator computes them.

    "30" is meant to describe the hard cases: the 0.7 quantile of SDlogJ and TRE, the 0.3 quantile of Dice and also of
    HD95, where it describes the easy ones. NaN and infinity go into mean and standard deviation as they are.
    """
    array = np.asarray(values, np.float64)
    if array.size == 0:
        return dict.fromkeys(("mean", "std", "30"), float("nan"))
    with np.errstate(invalid="ignore"):
        quantile = np.quantile(array, 0.7 if metric in _UPPER_TAIL else 0.3)
        return {"mean": float(array.mean()), "std": float(array.std()), "30": float(quantile)}
