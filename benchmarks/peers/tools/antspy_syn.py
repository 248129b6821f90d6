"""ANTsPy: rigid, affine and SyN (``SyNRA``) with the package's default settings."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..job import Job, field_array


def register(job: Job) -> NDArray[np.float32]:
    """Return the composition of ANTs' affine and warp."""
    import ants
    import SimpleITK as sitk

    fixed, moving = (ants.image_read(str(path), pixeltype="float") for path in (job.fixed, job.moving))
    with job.watch.running():
        result = ants.registration(
            fixed, moving, type_of_transform="SyNRA", outprefix=f"{job.scratch}/ants_", random_seed=1
        )
    composed = ants.apply_transforms(fixed, moving, result["fwdtransforms"], compose=f"{job.scratch}/total_")
    return field_array(sitk.ReadImage(composed))
