"""Left and right parts of a label, such as kidneys, by the side of the body on which they lie."""

from __future__ import annotations

import numpy as np

from anamorph.geometry import Grid
from anamorph.image import Image
from anamorph.image.background import looks_like_ct

_TISSUE_HU = -300.0
_SAMPLED_MM = 4.0
_CROSSING = 0.1
_PAIRED = 0.25


def on_the_right(inside: np.ndarray, image: Image) -> tuple[np.ndarray, str]:
    """Which voxels of a label are of the right one of two organs, and what a person should look at.

    Each connected component goes to the side of the body's middle on which its centroid lies (RAS: x rises to the
    right). A component of which 10 % or more lies on either side (kidneys that touch, a horseshoe kidney) is cut at the
    middle. The middle is the median x of the body (of a CT what is above -300 HU, else what is above the mean) in the
    slices that hold the label.

    Args:
        inside: ``(I, J, K)``, true in the label.
        image: the scan, on the same grid.

    Returns:
        ``(I, J, K)``, true in the right part; and a remark if a component was cut, if there is nothing on one side, or
        if two large components lie on one side; else an empty string.
    """
    from scipy import ndimage

    if not inside.any():
        return np.zeros(inside.shape, bool), ""
    x_mm = _world(image.grid, 0)
    middle_mm = _middle_mm(inside, image, x_mm)
    x_mm = np.broadcast_to(x_mm, inside.shape)
    components, count = ndimage.label(inside, np.ones((3, 3, 3)))
    numbers = np.arange(1, count + 1)
    sizes = np.bincount(components.ravel(), minlength=count + 1)[1:]
    beyond = np.bincount(components[x_mm > middle_mm], minlength=count + 1)[1:] / sizes
    is_right = ndimage.mean(x_mm, components, numbers) > middle_mm
    crosses = (beyond >= _CROSSING) & (beyond <= 1 - _CROSSING)
    right = np.concatenate([[False], is_right])[components]
    cut = np.concatenate([[False], crosses])[components]
    right = np.where(cut, x_mm > middle_mm, right)
    return right, _remark(right, inside, sizes, is_right, crosses, middle_mm)


def _remark(
    right: np.ndarray,
    inside: np.ndarray,
    sizes: np.ndarray,
    is_right: np.ndarray,
    crosses: np.ndarray,
    middle_mm: float,
) -> str:
    large = sizes >= _PAIRED * sizes.max()
    if crosses[large].any():
        return (
            f"a part crosses the middle of the body and was cut at x = {middle_mm:.0f} mm (touching, or a horseshoe?)"
        )
    share = np.count_nonzero(right) / np.count_nonzero(inside)
    side = "right" if share > 0.5 else "left"
    if large.sum() > 1 and len({*is_right[large].tolist()}) == 1:
        return f"{large.sum()} large parts all lie on the {side} of the body's middle at x = {middle_mm:.0f} mm"
    return f"everything lies on the {side} (a single organ?)" if share in (0.0, 1.0) else ""


def _middle_mm(inside: np.ndarray, image: Image, x_mm: np.ndarray) -> float:
    """Of the body, along x, in the slices of the label."""
    values = image.data[0]
    z_mm = _world(image.grid, 2)
    labelled = np.broadcast_to(z_mm, inside.shape)[inside]
    steps = tuple(slice(None, None, max(1, int(_SAMPLED_MM // spacing))) for spacing in image.grid.spacing_mm)
    seen, z = values[steps], np.broadcast_to(z_mm, inside.shape)[steps]
    body = seen > (_TISSUE_HU if looks_like_ct(image) else float(seen.mean()))
    near = (z >= labelled.min() - _SAMPLED_MM) & (z <= labelled.max() + _SAMPLED_MM)
    found = np.broadcast_to(x_mm, inside.shape)[steps][body & near]
    return float(np.median(found)) if found.size else float(image.grid.centre_mm[0])


def _world(grid: Grid, axis: int) -> np.ndarray:
    """One RAS coordinate of every voxel, mm; no array of positions is made where the grid is not oblique."""
    i, j, k = (
        (weight * np.arange(n)).reshape([-1 if m == a else 1 for m in range(3)]) if weight else np.zeros((1, 1, 1))
        for a, (n, weight) in enumerate(zip(grid.shape, grid.affine[axis, :3], strict=True))
    )
    return np.asarray(i + j + k + grid.affine[axis, 3], np.float32)
