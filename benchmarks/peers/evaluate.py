"""One evaluation for all tools: it sees only displacement fields and files, and shares no code with the package."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .geometry import Geometry
from .pairs import read_labels, read_points

Labels = NDArray[np.int32]


def evaluate(
    field_mm: NDArray[np.float32], fixed: Geometry, moving: Geometry, files: dict[str, Path | None]
) -> dict[str, float | str]:
    """Return the metrics a pair has files for.

    Args:
        field_mm: (I, J, K, 3), displacement in LPS mm at every fixed voxel; fixed point + displacement = moving point.
        fixed: geometry of the fixed scan, shared by its labels and landmarks.
        moving: geometry of the moving scan as the tool saw it, shared by its labels and landmarks.
        files: ``fixed_labels``, ``moving_labels``, ``fixed_points`` and ``moving_points``.
    """
    if field_mm.shape != (*fixed.shape, 3) or not np.isfinite(field_mm).all():
        raise ValueError(
            f"the field has shape {field_mm.shape} for {fixed.shape} voxels, or values that are not finite"
        )
    metrics: dict[str, float | str] = dict(jacobian(field_mm, fixed))
    fixed_labels, moving_labels = files.get("fixed_labels"), files.get("moving_labels")
    if fixed_labels and moving_labels:
        metrics |= overlap(read_labels(fixed_labels), read_labels(moving_labels), field_mm, fixed, moving)
    fixed_points, moving_points = files.get("fixed_points"), files.get("moving_points")
    if fixed_points and moving_points:
        metrics["tre_mm"] = target_error(read_points(fixed_points), read_points(moving_points), field_mm, fixed, moving)
    return metrics


def jacobian(field_mm: NDArray[np.float32], fixed: Geometry) -> dict[str, float]:
    """Return the standard deviation of log det J (det below 1e-9 counted as 1e-9) and the share of det J <= 0.

    The derivative is taken by central differences in voxel coordinates, where the determinant is that of the physical
    map; the outermost voxels are left out.
    """
    disp_vox = field_mm @ np.linalg.inv(fixed.affine[:3, :3]).T.astype(np.float32)
    derivative = np.stack([np.gradient(disp_vox, axis=axis) for axis in range(3)], axis=-1)[1:-1, 1:-1, 1:-1]
    det = np.linalg.det(derivative + np.eye(3, dtype=np.float32))
    return {
        "sdlogj": float(np.log(np.maximum(det, 1e-9)).std()),
        "folding_percent": float(100 * (det <= 0).mean()),
    }


def warped(labels: Labels, field_mm: NDArray[np.float32], fixed: Geometry, moving: Geometry) -> Labels:
    """Return the moving labels on the fixed grid, nearest neighbour, 0 outside the moving grid."""
    vox = np.stack(np.meshgrid(*map(np.arange, fixed.shape), indexing="ij"), axis=-1).astype(float)
    positions = moving.to_voxel(fixed.to_world(vox) + field_mm)
    return ndimage.map_coordinates(labels, np.moveaxis(positions, -1, 0), order=0, mode="grid-constant", cval=0)


def overlap(
    fixed_labels: Labels, moving_labels: Labels, field_mm: NDArray[np.float32], fixed: Geometry, moving: Geometry
) -> dict[str, float | str]:
    """Return Dice and HD95, both averaged over the labels present in both scans, and Dice per label."""
    for labels, geometry in ((fixed_labels, fixed), (moving_labels, moving)):
        if labels.shape != geometry.shape:
            raise ValueError(f"labels of shape {labels.shape} do not fit a scan of shape {geometry.shape}")
    result = warped(moving_labels, field_mm, fixed, moving)
    names = sorted((set(np.unique(fixed_labels)) & set(np.unique(moving_labels))) - {0})
    dices = {name: dice(fixed_labels == name, result == name) for name in names}
    distances = [hd95(fixed_labels == name, result == name, fixed) for name in names]
    return {
        "dice": float(np.mean(list(dices.values()))),
        "hd95_mm": float(np.mean(distances)),
        "dice_by_label": " ".join(f"{name}:{value:.3f}" for name, value in dices.items()),
    }


def dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Return twice the intersection over the sum of the sizes."""
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def hd95(a: NDArray[np.bool_], b: NDArray[np.bool_], geometry: Geometry) -> float:
    """Return the larger directed 95th percentile of the surface distances in mm; the image diagonal if one is empty."""
    if not (a.any() and b.any()):
        return geometry.diagonal_mm
    # Nothing outside the joint bounding box can be nearest; one voxel of margin keeps the border a surface.
    box = ndimage.find_objects((a | b).astype(np.uint8))[0]
    surfaces = []
    for mask in (np.pad(a[box], 1), np.pad(b[box], 1)):
        surfaces.append(mask & ~ndimage.binary_erosion(mask))
    distances = [ndimage.distance_transform_edt(~surface, sampling=geometry.spacing_mm) for surface in surfaces]
    return float(max(np.percentile(distances[1 - side][surfaces[side]], 95) for side in (0, 1)))


def target_error(
    fixed_points: dict[int, NDArray[np.float64]],
    moving_points: dict[int, NDArray[np.float64]],
    field_mm: NDArray[np.float32],
    fixed: Geometry,
    moving: Geometry,
) -> float:
    """Return the mean distance in mm between mapped fixed landmarks and the moving landmarks of the same name."""
    names = sorted(fixed_points.keys() & moving_points.keys())
    vox = np.array([fixed_points[name] for name in names])
    shift = [ndimage.map_coordinates(field_mm[..., axis], vox.T, order=1, mode="nearest") for axis in range(3)]
    mapped = fixed.to_world(vox) + np.stack(shift, axis=-1)
    targets = moving.to_world(np.array([moving_points[name] for name in names]))
    return float(np.linalg.norm(mapped - targets, axis=1).mean())
