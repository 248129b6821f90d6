"""Streamlines of tractography (.tck of MRtrix, .trk of TrackVis) as points, by nibabel: RAS mm of the scan."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from anamorph.errors import UserError
from anamorph.geometry.grid import Grid
from anamorph.image.atomic import atomic_path

STREAMLINES = (".tck", ".trk")


def read_streamlines(
    path: Path,
) -> tuple[np.ndarray, Callable[[np.ndarray, Path, Grid | None], None], tuple[str, ...]]:
    """The points of all streamlines, what writes the file with other points, and notes.

    Raises:
        UserError: there are none.
    """
    from nibabel import streamlines
    from nibabel.streamlines.array_sequence import ArraySequence
    from nibabel.streamlines.tractogram import Tractogram
    from nibabel.streamlines.tractogram_file import HeaderWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        file = streamlines.load(path)
    notes = tuple(
        f"{path.name}: {' '.join(str(one.message).split())}"
        for one in caught
        if issubclass(one.category, HeaderWarning)
    )
    lines = file.tractogram.streamlines
    if not lines:
        raise UserError(f"{path}: holds no streamlines")
    ends = np.cumsum([len(line) for line in lines])
    trackvis = path.name.lower().endswith(".trk")

    def save(positions_mm: np.ndarray, target: Path, grid: Grid | None) -> None:
        moved = Tractogram(
            ArraySequence(np.split(positions_mm.astype(np.float32), ends[:-1])),
            file.tractogram.data_per_streamline,
            file.tractogram.data_per_point,
            affine_to_rasmm=np.eye(4),
        )
        header = _placed(file.header, grid) if trackvis and grid is not None else file.header
        with atomic_path(target) as temporary:
            type(file)(moved, header).save(str(temporary))

    if trackvis:
        notes = (*notes, f"{path.name}: --moving names the scan whose voxels the header shall count in")
    return np.concatenate(list(lines)).astype(np.float64), save, notes


def _placed(header: dict[str, Any], grid: Grid) -> dict[str, Any]:
    """A header of TrackVis that counts in the voxels of a grid."""
    return header | {
        "voxel_to_rasmm": grid.affine.astype(np.float32),
        "voxel_sizes": grid.spacing_mm.astype(np.float32),
        "dimensions": np.array(grid.shape, np.int16),
        "voxel_order": grid.orientation.encode(),
    }
