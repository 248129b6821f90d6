"""SimpleITK: rigid and affine by mutual information, then diffeomorphic demons over three resolutions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..job import Job, sampled

if TYPE_CHECKING:
    import SimpleITK as sitk

LEVELS = ((4, 100), (2, 50), (1, 25))  # shrink factor, iterations
SAMPLES = 200_000  # voxels the mutual information is computed from
SMALLEST_AXIS = 16  # voxels; an axis is not shrunk below this
SIGMA_VOX = 1.5  # of the Gaussian that regularises the field


def aligned_by_information(fixed: sitk.Image, moving: sitk.Image, start: sitk.Transform) -> sitk.Transform:
    """Return ``start`` optimised for mutual information, coarse to fine."""
    import SimpleITK as sitk

    levels = [factor for factor in (4, 2, 1) if factor == 1 or min(fixed.GetSize()) >= factor * SMALLEST_AXIS]
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(min(1.0, SAMPLES / fixed.GetNumberOfPixels()), 1)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-3, 200)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel(levels)
    method.SetSmoothingSigmasPerLevel([factor / 2 if factor > 1 else 0 for factor in levels])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOff()
    method.SetInitialTransform(start, inPlace=True)
    method.Execute(fixed, moving)
    return start


def affine(fixed: sitk.Image, moving: sitk.Image) -> sitk.Transform:
    """Return an affine found from a rigid transform, which is found from aligned image centres."""
    import SimpleITK as sitk

    centres = sitk.CenteredTransformInitializerFilter.GEOMETRY
    rigid = sitk.Euler3DTransform(sitk.CenteredTransformInitializer(fixed, moving, sitk.Euler3DTransform(), centres))
    aligned_by_information(fixed, moving, rigid)
    start = sitk.AffineTransform(3)
    start.SetMatrix(rigid.GetMatrix())
    start.SetCenter(rigid.GetCenter())
    start.SetTranslation(rigid.GetTranslation())
    return aligned_by_information(fixed, moving, start)


def shrunk(image: sitk.Image, factor: int) -> sitk.Image:
    """Return the image smoothed and subsampled along the axes that stay long enough."""
    import SimpleITK as sitk

    factors = [factor if size >= factor * SMALLEST_AXIS else 1 for size in image.GetSize()]
    for axis, (axis_factor, spacing) in enumerate(zip(factors, image.GetSpacing(), strict=True)):
        if axis_factor > 1:
            image = sitk.RecursiveGaussian(image, 0.5 * axis_factor * spacing, False, 0, axis)
    return sitk.Shrink(image, factors)


def demons(fixed: sitk.Image, moving: sitk.Image) -> sitk.Image:
    """Return the displacement field of diffeomorphic demons for two images on one grid, coarse to fine."""
    import SimpleITK as sitk

    field = sitk.Image(fixed.GetSize(), sitk.sitkVectorFloat64, 3)
    field.CopyInformation(fixed)
    for factor, iterations in LEVELS:
        level_fixed, level_moving = shrunk(fixed, factor), shrunk(moving, factor)
        level = sitk.DiffeomorphicDemonsRegistrationFilter()
        level.SetNumberOfIterations(iterations)
        level.SetSmoothDisplacementField(True)
        level.SetStandardDeviations(SIGMA_VOX)
        start = sitk.Resample(
            field,
            level_fixed,
            sitk.Transform(),
            sitk.sitkLinear,
            0.0,
            field.GetPixelID(),
            useNearestNeighborExtrapolator=True,
        )
        field = level.Execute(level_fixed, level_moving, start)
    return field


def register(job: Job) -> NDArray[np.float32]:
    """Return the demons displacement followed by the affine."""
    import SimpleITK as sitk

    fixed, moving = job.images()
    with job.watch.running():
        initial = affine(fixed, moving)
        background = float(sitk.GetArrayViewFromImage(moving).min())
        aligned = sitk.Resample(moving, fixed, initial, sitk.sitkLinear, background)
        matched = sitk.HistogramMatching(aligned, fixed, 256, 7, True)
        field = sitk.Cast(demons(fixed, matched), sitk.sitkVectorFloat64)
    # A composite applies its last transform first.
    return sampled(sitk.CompositeTransform([initial, sitk.DisplacementFieldTransform(field)]), fixed)
