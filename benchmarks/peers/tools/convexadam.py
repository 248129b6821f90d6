"""ConvexAdam (MIND features, its default settings) after Greedy's affine, since it has no affine stage of its own."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..job import Job, sampled
from . import greedy


def register(job: Job, *, start: str = greedy.CENTRES) -> NDArray[np.float32]:
    """Return ConvexAdam's displacement followed by the affine; ``start`` holds Greedy's options of its start."""
    import SimpleITK as sitk
    from convexAdam.convex_adam_MIND import convex_adam_pt

    original, moving = job.images()
    fixed, moving = greedy.with_slices(original), greedy.with_slices(moving)
    with job.watch.running():
        ras = np.asarray(greedy.affine(fixed, moving, start)["affine"])
        flip = np.diag([-1.0, -1.0, 1.0, 1.0])
        lps = flip @ ras @ flip
        affine = sitk.AffineTransform(lps[:3, :3].ravel().tolist(), lps[:3, 3].tolist())
        background = float(sitk.GetArrayViewFromImage(moving).min())
        aligned = sitk.Resample(moving, fixed, affine, sitk.sitkLinear, background)
        arrays = [np.ascontiguousarray(sitk.GetArrayFromImage(image).transpose(2, 1, 0)) for image in (fixed, aligned)]
        disp_vox = convex_adam_pt(*arrays)  # (I, J, K, 3)
    to_mm = np.reshape(fixed.GetDirection(), (3, 3)) * fixed.GetSpacing()
    vectors = np.ascontiguousarray((disp_vox @ to_mm.T).transpose(2, 1, 0, 3))
    disp_mm = sitk.GetImageFromArray(vectors, isVector=True)
    disp_mm.CopyInformation(fixed)
    # A composite applies its last transform first.
    total = sitk.CompositeTransform([affine, sitk.DisplacementFieldTransform(disp_mm)])
    return sampled(total, original)
