"""Files into the folders of a data set: linked, copied, or converted where Learn2Reg asks for another format."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from anamorph.data.dataset import POINT_KINDS
from anamorph.data.scans import Source
from anamorph.errors import UserError
from anamorph.image.atomic import atomic_path

FileMode = Literal["link", "copy", "reference"]


@dataclass(frozen=True)
class Copied:
    """What came of placing a file.

    Args:
        names: of converted points in the order written, which must be the same in the other scan of a pair.
        remark: what a person should look at; mostly empty.
    """

    names: tuple[str, ...] = ()
    remark: str = ""


def copy_file(source: Source, target: Path, kind: str, mode: FileMode, image: Path) -> Copied:
    """Put one file where the manifest names it.

    Gzipped NIfTI and point tables of voxel indices are linked or copied as they are; other formats are converted.

    Args:
        source: a file, a DICOM folder, or what writes the file.
        target: to make; ends in .nii.gz, or in .csv for points.
        kind: ``image``, ``label``, ``mask``, ``keypoints`` or ``landmarks``.
        mode: ``link`` or ``copy``.
        image: the scan that points belong to, already in its place.

    Raises:
        UserError: the file cannot be read.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if not isinstance(source, Path):
        return Copied(remark=source(target, image) or "")
    if not fits(source, kind):
        return Copied(_convert(source, target, kind, image))
    if mode == "copy":
        shutil.copy2(source, target)
    else:
        try:
            target.symlink_to(source.resolve())
        except OSError as error:
            raise UserError(
                f"this file system takes no links ({os.strerror(error.errno or 0)}); pass --files copy"
            ) from error
    return Copied()


def fits(path: Path, kind: str) -> bool:
    """True when Learn2Reg's tools read the file as it is."""
    if kind not in POINT_KINDS:
        return path.name.lower().endswith(".nii.gz")
    if path.suffix.lower() != ".csv":
        return False
    with path.open(encoding="utf-8") as stream:
        return all(_is_number(cell) for cell in stream.readline().split(","))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _convert(source: Path, target: Path, kind: str, image: Path) -> tuple[str, ...]:
    from anamorph.image.read import read_image, read_labels, read_mask, read_points
    from anamorph.image.write import write_image

    if kind not in POINT_KINDS:
        read = {"image": read_image, "label": read_labels, "mask": read_mask}[kind]
        write_image(read(source), target)
        return ()
    grid = read_image(image).grid
    points = read_points(source, grid)
    names = sorted(points.labels, key=_natural)
    rows = [points.labels.index(name) for name in names] if names else list(range(len(points)))
    with atomic_path(target) as temporary:
        np.savetxt(temporary, points.to_voxel(grid)[rows], fmt="%.4f", delimiter=",")
    return tuple(names)


def _natural(name: str) -> tuple[float, str]:
    """Numbers by value, names after them."""
    return (float(name), "") if _is_number(name) else (np.inf, name)
