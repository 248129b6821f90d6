"""The grid of a preprocessed scan."""

from __future__ import annotations

import numpy as np

from anamorph.features.body import body_centre_mm
from anamorph.geometry import Grid
from anamorph.image import Image
from anamorph.preprocess.resample import resample
from anamorph.preprocess.settings import PreprocessSettings
from anamorph.transforms import Affine


def wanted_grid(image: Image, settings: PreprocessSettings, is_ct: bool) -> Grid:
    """The grid that the settings ask for: the axes of the scan, the spacing, and the shape around the centre.

    At the scan's own spacing the voxels are those of the scan, so that cropping and padding copy values.
    """
    grid = image.grid if settings.spacing_mm is None else image.grid.resampled(settings.spacing_mm)
    if settings.shape is None:
        return grid
    centre = grid.centre_mm
    if settings.crop == "body":
        centre = body_centre_mm(resample(image, Affine.identity(), grid), is_ct)
    start = grid.world_to_voxel(centre) - (np.array(settings.shape) - 1) / 2
    if settings.spacing_mm is None:
        start = np.floor(start + 0.5)
    affine = grid.affine.copy()
    affine[:3, 3] = grid.voxel_to_world(start)
    return Grid(settings.shape, affine)
