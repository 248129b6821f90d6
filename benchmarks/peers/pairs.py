"""Pair lists, the files they name, and the start every peer is given."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

# Files without a common position or intensity scale: started from aligned image centres, intensities by percentiles.
CENTRED = frozenset({"hippocampus", "cardiac_mr"})
PERCENTILES = (1, 99)


@dataclass(frozen=True)
class Pair:
    """One row of a pair list; paths are ``None`` where the row has none."""

    dataset: str
    pair_id: str
    files: dict[str, Path | None]

    @property
    def fixed(self) -> Path:
        """The fixed scan."""
        return self._scan("fixed")

    @property
    def moving(self) -> Path:
        """The moving scan."""
        return self._scan("moving")

    def _scan(self, side: str) -> Path:
        path = self.files[side]
        if path is None:
            raise ValueError(f"{self.pair_id}: the column {side!r} is empty")
        return path


def read_pairs(path: Path, root: Path) -> list[Pair]:
    """Return the pairs of a CSV whose paths are relative to ``root``."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [
        Pair(r.pop("dataset"), r.pop("pair_id"), {key: root / value if value else None for key, value in r.items()})
        for r in rows
    ]


def prepared(pair: Pair, folder: Path) -> tuple[Path, Path]:
    """Return the files peers start from: the originals, or copies in ``folder`` for the data sets in ``CENTRED``."""
    if pair.dataset not in CENTRED:
        return pair.fixed, pair.moving
    import SimpleITK as sitk

    fixed, moving = (_rescaled(sitk.ReadImage(str(path), sitk.sitkFloat32)) for path in (pair.fixed, pair.moving))
    shift = np.subtract(_centre(fixed), _centre(moving))
    moving.SetOrigin((np.asarray(moving.GetOrigin()) + shift).tolist())
    paths = folder / "fixed.nii.gz", folder / "moving.nii.gz"
    for image, path in zip((fixed, moving), paths, strict=True):
        sitk.WriteImage(image, str(path))
    return paths


def _centre(image) -> tuple[float, ...]:
    return image.TransformContinuousIndexToPhysicalPoint([(size - 1) / 2 for size in image.GetSize()])


def _rescaled(image):
    """Return the image with its percentiles mapped to 0 and 255 and everything beyond clipped."""
    import SimpleITK as sitk

    low, high = np.percentile(sitk.GetArrayViewFromImage(image), PERCENTILES)
    return sitk.IntensityWindowing(image, float(low), float(high), 0.0, 255.0)


def read_labels(path: Path) -> NDArray[np.int32]:
    """Return a label image as (I, J, K)."""
    import SimpleITK as sitk

    return np.rint(sitk.GetArrayFromImage(sitk.ReadImage(str(path)))).astype(np.int32).transpose(2, 1, 0)


def read_points(path: Path) -> dict[int, NDArray[np.float64]]:
    """Return landmarks by name as voxel indices.

    An elastix point file (``index``, count, one point a line) names points by their row, an image by its voxel values.
    """
    if path.suffix == ".txt":
        kind, _, *rows = path.read_text().split("\n")
        if kind.strip() != "index":
            raise ValueError(f"{path}: expected an elastix point file of voxel indices, found {kind!r}")
        return {name: np.array(row.split(), float) for name, row in enumerate(filter(str.strip, rows), start=1)}
    image = read_labels(path)
    return {int(image[tuple(index)]): index.astype(float) for index in np.argwhere(image)}
