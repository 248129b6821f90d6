"""What a tool is given and what it gives back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import SimpleITK as sitk


class Stopwatch:
    """Add up the seconds spent inside ``with watch.running():``, so that reading and writing are left out."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count the time spent in this block."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - start


@dataclass(frozen=True)
class Job:
    """Two scans to register; ``scratch`` is an empty folder the tool may write to."""

    fixed: Path
    moving: Path
    fixed_mask: Path | None
    moving_mask: Path | None
    scratch: Path
    watch: Stopwatch = field(default_factory=Stopwatch)

    def images(self) -> tuple[sitk.Image, sitk.Image]:
        """Return the fixed and the moving scan as 32-bit SimpleITK images."""
        import SimpleITK as sitk

        return sitk.ReadImage(str(self.fixed), sitk.sitkFloat32), sitk.ReadImage(str(self.moving), sitk.sitkFloat32)


def field_array(image: sitk.Image) -> NDArray[np.float32]:
    """Return a SimpleITK vector image as (I, J, K, 3), the form in which every tool hands back its field in LPS mm."""
    import SimpleITK as sitk

    return sitk.GetArrayFromImage(image).transpose(2, 1, 0, 3).astype(np.float32)


def sampled(transform: sitk.Transform, fixed: sitk.Image) -> NDArray[np.float32]:
    """Return the displacement of a SimpleITK transform at every fixed voxel, (I, J, K, 3), LPS mm."""
    import SimpleITK as sitk

    to_field = sitk.TransformToDisplacementFieldFilter()
    to_field.SetReferenceImage(fixed)
    to_field.SetOutputPixelType(sitk.sitkVectorFloat64)
    return field_array(to_field.Execute(transform))
