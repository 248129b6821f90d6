"""How a preprocessed scan came from its original, and how results go back."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anamorph.errors import UserError
from anamorph.geometry import Grid
from anamorph.image import Mask
from anamorph.reading import read_json, understood
from anamorph.transforms import Affine, Composite, Transform


@dataclass(frozen=True)
class ScanRecord:
    """The geometry of one scan before and after.

    Args:
        key: of the scan, such as ``0001_0000``.
        original: its grid.
        preprocessed: its grid in the new data set.
        to_original: maps points of the preprocessed scan to the same anatomy in the original; the identity unless the
            scan was aligned to a reference.
    """

    key: str
    original: Grid
    preprocessed: Grid
    to_original: Affine

    def as_json(self) -> dict[str, Any]:
        """Plain values; matrices and points are RAS mm."""
        return {
            "scan": self.key,
            "original": _grid_as_json(self.original),
            "preprocessed": _grid_as_json(self.preprocessed),
            "preprocessed_to_original_ras_mm": self.to_original.matrix.tolist(),
        }


def field_of_view(record: ScanRecord) -> Mask | None:
    """Where a preprocessed scan shows the original one rather than padding; None if it does everywhere."""
    places = record.to_original.moving_positions(record.preprocessed, record.original)
    last = np.array(record.original.shape, np.float32)[:, None, None, None] - 0.5
    inside = np.all((places >= -0.5) & (places <= last), axis=0, keepdims=True)
    return None if inside.all() else Mask(inside.astype(np.uint8), record.preprocessed, f"{record.key} (padding)")


def map_back(transform: Transform, fixed: ScanRecord, moving: ScanRecord) -> Transform:
    """The transform between two original scans, from one found between their preprocessed versions.

    A point of the original fixed scan goes to the preprocessed one, through the transform, and to the original moving
    scan. Beyond a crop a dense field continues with its value at the border.
    """
    return Composite.of(fixed.to_original.inverse(), transform, moving.to_original)


def read_record(path: str | os.PathLike[str]) -> ScanRecord:
    """Read the record of a scan.

    Raises:
        UserError: no such file, or it is no record.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file; records are in the folder records of a preprocessed data set")
    with understood(path, "is no record of `anamorph preprocess`", "name one of the folder records"):
        content = read_json(path)
        try:
            return ScanRecord(
                str(content["scan"]),
                _grid_of(content["original"]),
                _grid_of(content["preprocessed"]),
                Affine(np.array(content["preprocessed_to_original_ras_mm"], np.float64)),
            )
        except UserError as error:  # of a grid or an affine
            raise ValueError(str(error)) from error


def _grid_as_json(grid: Grid) -> dict[str, Any]:
    return {"shape": list(grid.shape), "affine": grid.affine.tolist()}


def _grid_of(content: dict[str, Any]) -> Grid:
    return Grid(tuple(content["shape"]), np.array(content["affine"], np.float64))
