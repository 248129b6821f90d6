"""This project with its automatic preset, on the files as they are, without masks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..geometry import Geometry
from ..job import Job


def register(job: Job, *, masked: bool = False, **options: Any) -> NDArray[np.float32]:
    """Return the displacement of ``fixed_to_moving`` on the fixed grid; the time is the sum of the package's stages.

    Options go to ``anamorph.register``.
    """
    import anamorph

    result = anamorph.register(
        str(job.fixed),
        str(job.moving),
        fixed_mask=str(job.fixed_mask) if masked and job.fixed_mask else None,
        moving_mask=str(job.moving_mask) if masked and job.moving_mask else None,
        **options,
    )
    job.watch.seconds = sum(result.timings.values())
    fixed = Geometry.of_file(job.fixed)
    grid = anamorph.Grid(fixed.shape, np.diag([-1.0, -1.0, 1.0, 1.0]) @ fixed.affine)
    disp_vox = result.fixed_to_moving.displacement_on(grid).disp_vox
    return np.einsum("cd,dijk->ijkc", fixed.affine[:3, :3], disp_vox).astype(np.float32)
