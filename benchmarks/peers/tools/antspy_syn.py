"""ANTsPy: rigid, affine and SyN (``SyNRA``) with the package's default settings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..job import Job, field_array

if TYPE_CHECKING:
    import ants

SEARCH_VOXELS = 32  # along the longest axis while poses are tried
STEP_DEGREES = 45


def register(job: Job, *, search: bool = False) -> NDArray[np.float32]:
    """Return the composition of ANTs' affine and warp; ``search`` looks for the pose over all rotations first."""
    import ants
    import SimpleITK as sitk

    fixed, moving = (ants.image_read(str(path), pixeltype="float") for path in (job.fixed, job.moving))
    with job.watch.running():
        start = [_best_pose(fixed, moving, job.scratch)] if search else None
        result = ants.registration(
            fixed,
            moving,
            type_of_transform="SyNRA",
            initial_transform=start,
            outprefix=f"{job.scratch}/ants_",
            random_seed=1,
        )
    composed = ants.apply_transforms(fixed, moving, result["fwdtransforms"], compose=f"{job.scratch}/total_")
    return field_array(sitk.ReadImage(composed))


def _best_pose(fixed: ants.ANTsImage, moving: ants.ANTsImage, scratch: Path) -> str:
    """Return the file of the best start over the whole sphere of directions, sought with few voxels."""
    import ants

    small = []
    for image in (fixed, moving):
        coarsest = max(n * length for n, length in zip(image.shape, image.spacing, strict=True)) / SEARCH_VOXELS
        spacing = [max(coarsest, length) for length in image.spacing]
        small.append(ants.resample_image(image, spacing, use_voxels=False, interp_type=0))
    return ants.affine_initializer(
        *small, search_factor=STEP_DEGREES, radian_fraction=1.0, local_search_iterations=10, txfn=f"{scratch}/pose.mat"
    )
