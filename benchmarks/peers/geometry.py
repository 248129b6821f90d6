"""Where the voxels of a file are, in LPS millimetres, read from its header alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Geometry:
    """Shape (I, J, K) and 4 x 4 affine from voxel index to LPS mm."""

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]

    @classmethod
    def of_file(cls, path: Path) -> Geometry:
        """Read the header of any format SimpleITK knows."""
        import SimpleITK as sitk

        reader = sitk.ImageFileReader()
        reader.SetFileName(str(path))
        reader.ReadImageInformation()
        affine = np.eye(4)
        affine[:3, :3] = np.reshape(reader.GetDirection(), (3, 3)) * reader.GetSpacing()
        affine[:3, 3] = reader.GetOrigin()
        i, j, k = reader.GetSize()
        return cls((i, j, k), affine)

    @property
    def spacing_mm(self) -> NDArray[np.float64]:
        """Distance between neighbouring voxels along each axis."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)

    @property
    def diagonal_mm(self) -> float:
        """Length from the first to the last corner."""
        return float(np.linalg.norm(self.spacing_mm * self.shape))

    def to_world(self, vox: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map (..., 3) voxel indices to LPS mm."""
        return vox @ self.affine[:3, :3].T + self.affine[:3, 3]

    def to_voxel(self, world: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map (..., 3) LPS mm to continuous voxel indices."""
        inverse = np.linalg.inv(self.affine)
        return world @ inverse[:3, :3].T + inverse[:3, 3]
