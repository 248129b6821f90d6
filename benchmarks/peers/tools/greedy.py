"""Greedy (picsl_greedy): affine, then deformable, both with NCC of radius 4, as in its quick start."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..job import Job, field_array

if TYPE_CHECKING:
    import SimpleITK as sitk
    from picsl_greedy import Greedy3D

SETTINGS = "-d 3 -m NCC 4x4x4 -n 100x50x10 -i fixed moving"
CENTRES = "-ia-image-centers"
FEWEST_SLICES = 18  # three resolutions here, and three control points in ConvexAdam, need as many


def with_slices(image: sitk.Image) -> sitk.Image:
    """Return a stack of too few slices with slices interpolated between its own; other images as they are."""
    import SimpleITK as sitk

    factors = [ceil((FEWEST_SLICES - 1) / (n - 1)) if n < FEWEST_SLICES else 1 for n in image.GetSize()]
    if factors == [1, 1, 1]:
        return image
    size = [(n - 1) * factor + 1 for n, factor in zip(image.GetSize(), factors, strict=True)]
    spacing = [length / factor for length, factor in zip(image.GetSpacing(), factors, strict=True)]
    origin, direction = image.GetOrigin(), image.GetDirection()
    return sitk.Resample(image, size, sitk.Transform(), sitk.sitkLinear, origin, spacing, direction)


def affine(fixed: sitk.Image, moving: sitk.Image, start: str = CENTRES) -> Greedy3D:
    """Return Greedy holding its 4 x 4 ``affine``, RAS mm, fixed to moving, started from aligned image centres."""
    from picsl_greedy import Greedy3D

    greedy = Greedy3D()
    greedy.execute(f"{SETTINGS} -a -dof 12 {start} -o affine", fixed=fixed, moving=moving, affine=None)
    return greedy


def register(job: Job, *, start: str = CENTRES) -> NDArray[np.float32]:
    """Return the composition of Greedy's affine and warp; ``start`` holds the options of the affine's start."""
    original, moving = job.images()
    fixed, moving = with_slices(original), with_slices(moving)
    with job.watch.running():
        greedy = affine(fixed, moving, start)
        greedy.execute(f"{SETTINGS} -it affine -o warp", warp=None)
    greedy.execute(
        "-d 3 -rf original -rm moving warped -rc total -r warp affine", original=original, warped=None, total=None
    )
    return field_array(greedy["total"])
