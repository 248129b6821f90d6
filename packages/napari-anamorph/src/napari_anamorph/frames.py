"""Where layers of napari lie in the world of anamorph, the one place that knows both.

The world of napari is taken as millimetres along ``(z, y, x)`` in LPS: an array of SimpleITK with its spacing and
origin reversed lies where its header says, slices are axial, the patient's right is on the left of the screen, and
the front is up. anamorph has voxels in the order ``(i, j, k)``, the reverse, and millimetres in RAS.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from anamorph import Grid, Image, Points, UserError
from anamorph.geometry.frames import flip_ras_lps

if TYPE_CHECKING:
    from napari.layers import Image as ImageLayer
    from napari.layers import Points as PointsLayer


def to_napari(points_mm: np.ndarray) -> np.ndarray:
    """Turn ``(..., 3)`` points or vectors in RAS mm into napari's ``(z, y, x)``."""
    return flip_ras_lps(np.asarray(points_mm, float))[..., ::-1]


def from_napari(points: np.ndarray) -> np.ndarray:
    """Turn ``(..., 3)`` points or vectors of napari's world ``(z, y, x)`` into RAS mm."""
    return flip_ras_lps(np.asarray(points, float)[..., ::-1])


def layer_affine(grid: Grid) -> np.ndarray:
    """The 4 x 4 ``affine`` of a layer whose array has the axes of a grid in reverse, ``(k, j, i)``."""
    matrix = np.eye(4)
    matrix[:3, :3] = to_napari(grid.affine[:3, :3].T).T[:, ::-1]
    matrix[:3, 3] = to_napari(grid.affine[:3, 3])
    return matrix


def image_of(layer: ImageLayer) -> Image:
    """A scan from an image layer, with its scale, shift, rotation, shear and affine; a plane is one slice.

    Raises:
        UserError: the layer holds colours, has time or channels, or no voxels.
    """
    data = layer.data[0] if layer.multiscale else layer.data
    values = np.asarray(data)
    if layer.rgb:
        raise UserError(f"layer '{layer.name}' holds colours; give one of grey values")
    if values.ndim not in (2, 3):
        raise UserError(f"layer '{layer.name}' has {values.ndim} axes; give one volume (three axes) or one slice (two)")
    matrix = data_to_world(layer)
    if values.ndim == 2:
        values, matrix = values[None], _lifted(matrix)
    affine = np.eye(4)
    affine[:3, :3] = from_napari(matrix[:3, :3].T).T[:, ::-1]
    affine[:3, 3] = from_napari(matrix[:3, 3])
    grid = Grid(values.shape[::-1], affine)
    return Image(np.ascontiguousarray(values.transpose()), grid, layer.name)


def data_to_world(layer: Any) -> np.ndarray:
    """The matrix from array indices of a layer to napari's world, whichever of its transforms make it."""
    count = layer.ndim
    origin = np.array(layer.data_to_world(np.zeros(count)), float)
    matrix = np.eye(count + 1)
    for axis, unit in enumerate(np.eye(count)):
        matrix[:count, axis] = np.array(layer.data_to_world(unit), float) - origin
    matrix[:count, count] = origin
    return matrix


def _lifted(matrix: np.ndarray) -> np.ndarray:
    """The matrix of a plane as that of one slice, as thick as its voxels are wide."""
    lifted = np.eye(4)
    lifted[0, 0] = float(np.sqrt(abs(np.linalg.det(matrix[:2, :2]))))
    lifted[1:, 1:] = matrix
    return lifted


def image_layer(image: Image) -> tuple[np.ndarray, dict[str, Any]]:
    """The array ``(k, j, i)`` of a scan's first channel, and the options that put the layer in its place."""
    return image.data[0].transpose(), {"affine": layer_affine(image.grid)}


def points_of(layer: PointsLayer) -> Points:
    """Landmarks in RAS mm from a points layer, with the names of a text feature ``name`` if it has one.

    Raises:
        UserError: the layer has another number of axes than three.
    """
    if layer.ndim != 3:
        raise UserError(f"the points of layer '{layer.name}' have {layer.ndim} axes; place them in a volume")
    world = [layer.data_to_world(point) for point in layer.data]
    names = layer.features.get("name", ())
    return Points(from_napari(np.array(world, float).reshape(-1, 3)), tuple(str(name) for name in names))
