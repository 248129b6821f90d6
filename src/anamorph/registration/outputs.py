"""The names of everything a run writes, and the writing of it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from anamorph.errors import RegistrationFailure
from anamorph.evaluation import RegisteredPair
from anamorph.evaluation.numbers import plain
from anamorph.geometry import Grid
from anamorph.image import Image
from anamorph.image.atomic import write_text
from anamorph.image.write import SCANNER, write_image
from anamorph.methods.base import Result
from anamorph.transforms import Affine, Transform
from anamorph.transforms.files import write_transform

WARPED = "warped.nii.gz"
WARPED_LABELS = "warped_labels.nii.gz"
FIXED_TO_MOVING = "fixed_to_moving.nii.gz"
MOVING_TO_FIXED = "moving_to_fixed.nii.gz"
FIXED_TO_MOVING_COMPOSITE = "fixed_to_moving.h5"
MOVING_TO_FIXED_COMPOSITE = "moving_to_fixed.h5"
LINEAR_FILES = {".tfm": "itk-tfm", ".mat": "itk-mat"}
"""Further files of a transform that does not deform, beside its field: suffix and format."""
JACOBIAN = "jacobian.nii.gz"
INVERSE_CONSISTENCY = "inverse_consistency_mm.nii.gz"
RESULT = "result.json"
REPORT = "report.html"

DESCRIPTIONS = {
    WARPED: "the moving scan on the fixed grid, from its original voxels",
    WARPED_LABELS: "the moving labels on the fixed grid",
    FIXED_TO_MOVING: "ITK displacement field (LPS mm) on the fixed grid: pulls moving images, maps fixed points",
    MOVING_TO_FIXED: "ITK displacement field (LPS mm) on the moving grid: pulls fixed images, maps moving points",
    FIXED_TO_MOVING_COMPOSITE: "the same as an ITK composite transform, affine and field apart",
    MOVING_TO_FIXED_COMPOSITE: "the same as an ITK composite transform, affine and field apart",
    **{
        name.replace(".nii.gz", suffix): f"the same as an ITK affine ({suffix}), where nothing deforms"
        for name in (FIXED_TO_MOVING, MOVING_TO_FIXED)
        for suffix in LINEAR_FILES
    },
    JACOBIAN: "local change of volume on the fixed grid; <= 0 is folded",
    INVERSE_CONSISTENCY: "distance in mm after going to the moving scan and back; NaN outside the moving scan",
    RESULT: "metrics, timings, settings, versions, input hashes, verdict",
    REPORT: "the report",
}


def write_maps(
    folder: Path,
    pair: RegisteredPair,
    world: int = SCANNER,
    composite: Transform | None = None,
) -> None:
    """Write all images and fields of a run, several files at a time because zlib lets go of the interpreter.

    Args:
        folder: exists.
        pair: what to write, its transforms as they were given.
        world: NIfTI's code of the world of the fixed scan, which the outputs share.
        composite: the fixed-to-moving transform in its parts, to write both directions as ITK ``.h5`` too. The other
            direction is written dense: its field lies on the fixed side, and ITK takes it for zero outside.
    """
    grid, moving_grid, back = pair.fixed_grid, pair.moving_grid, pair.moving_to_fixed
    assert back is not None
    jobs: list[Callable[[], None]] = [
        lambda: write_transform(pair.fixed_to_moving, folder / FIXED_TO_MOVING, "itk", grid),
        lambda: write_transform(back, folder / MOVING_TO_FIXED, "itk", moving_grid),
        lambda: write_image(pair.warped, folder / WARPED, world),
        lambda: write_image(Image(pair.jacobian, grid, "jacobian"), folder / JACOBIAN, world),
        lambda: write_image(
            Image(pair.inverse_consistency_mm, grid, "inverse consistency"), folder / INVERSE_CONSISTENCY, world
        ),
    ]
    if pair.moving_labels is not None:
        jobs.append(lambda: write_image(pair.warped_labels, folder / WARPED_LABELS, world))
    if composite is not None:
        jobs += [
            lambda: write_transform(composite, folder / FIXED_TO_MOVING_COMPOSITE, "itk-h5", grid),
            lambda: write_transform(back, folder / MOVING_TO_FIXED_COMPOSITE, "itk-h5", moving_grid),
        ]
    # Sheared fields are resampled while they are written, by kernels that may not run in two threads at a time.
    sheared = grid.is_sheared or moving_grid.is_sheared
    with ThreadPoolExecutor(max_workers=1 if sheared else min(len(jobs), os.cpu_count() or 1)) as pool:
        for done in [pool.submit(job) for job in jobs]:
            done.result()


def write_linear(folder: Path, result: Result, fixed: Grid, moving: Grid) -> None:
    """Write both directions of a result that does not deform as ITK affines too; nothing of one that does."""
    sides = (FIXED_TO_MOVING, result.fixed_to_moving, fixed), (MOVING_TO_FIXED, result.moving_to_fixed, moving)
    for name, transform, grid in sides:
        if isinstance(transform, Affine):
            for suffix, kind in LINEAR_FILES.items():
                write_transform(transform, folder / name.replace(".nii.gz", suffix), kind, grid)


def write_result(folder: Path, content: dict[str, Any]) -> None:
    """Write ``result.json``; numbers that are not finite become null."""
    text = json.dumps(plain(content), indent=2, ensure_ascii=False, default=_plain_numpy)
    write_text(folder / RESULT, text + "\n")


def check_space(out: Path, needed: int) -> None:
    """See that the outputs will fit before anything is computed.

    Raises:
        RegistrationFailure: they may not.
    """
    folder = next(parent for parent in out.resolve().parents if parent.exists())
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise RegistrationFailure(
            f"the disk is full: writing {out} may take {needed / 1e6:.0f} MB but {free / 1e6:.0f} MB are free; "
            "free some space or write elsewhere"
        )


def _plain_numpy(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    return str(value)
