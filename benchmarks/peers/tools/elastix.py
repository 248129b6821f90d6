"""itk-elastix: its default affine, then its default B-spline parameter map."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..job import Job


def register(job: Job) -> NDArray[np.float32]:
    """Return the field of elastix' final transform."""
    import itk

    fixed, moving = (itk.imread(str(path), itk.F) for path in (job.fixed, job.moving))
    parameters = itk.ParameterObject.New()
    for name in ("affine", "bspline"):
        parameters.AddParameterMap(parameters.GetDefaultParameterMap(name))
    run = itk.elastix_registration_method  # the first access loads its libraries, which is not registration
    with job.watch.running():
        _, transform = run(fixed, moving, parameter_object=parameters, log_to_console=False)
    field = itk.transformix_deformation_field(moving, transform)
    return itk.array_from_image(field).transpose(2, 1, 0, 3).astype(np.float32)
