"""The folder of a result, opened again to be looked at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anamorph.errors import UserError
from anamorph.evaluation.uncertainty import Uncertainty
from anamorph.evaluation.verdict import Verdict
from anamorph.geometry.grid import Grid
from anamorph.image.image import Image
from anamorph.image.point_files import read_points
from anamorph.image.points import Points
from anamorph.image.read import read_image, read_labels, read_map
from anamorph.reading import read_json, understood
from anamorph.registration.folder import (
    FIXED_TO_MOVING,
    JACOBIAN,
    MOVING_TO_FIXED,
    RESULT,
    UNCERTAINTY,
    WARPED,
    WARPED_LABELS,
)
from anamorph.registration.provenance import input_hash
from anamorph.report.pair import PairReport
from anamorph.transforms.files import read_transform


@dataclass(frozen=True, eq=False)
class OpenedResult:
    """A result that was read back.

    Args:
        folder: where it lies.
        record: content of its ``result.json``.
        report: what can be shown of the pair.
    """

    folder: Path
    record: Mapping[str, Any]
    report: PairReport


def open_result(folder: Path, given: Mapping[str, str] | None = None) -> OpenedResult:
    """Read the folder of a result, and the scans that it was made of.

    Args:
        folder: that ``anamorph register`` has written.
        given: files of the scans by role (``fixed``, ``moving``), where they are no longer where they were.

    Raises:
        UserError: it is no such folder, the run failed, or a scan is gone or is another one.
    """
    path = folder / RESULT
    if not path.is_file():
        raise UserError(
            f"{folder}: holds no {RESULT}; name the folder of a result, as `anamorph register -o` writes it"
        )
    with understood(path, "no record of a result", "register again"):
        record = read_json(path)
        if record["status"] == "FAILED":
            raise UserError(f"{folder}: the run failed, and has nothing to look at; its report.html says why")
        inputs = {role: record["provenance"]["inputs"][role] for role in ("fixed", "moving")}
        files = {role: str(folder / name) for role, name in record.get("given", {}).items()} | dict(given or {})
        names = {int(value): str(name) for value, name in record.get("label_names", {}).items()}
        colours = {int(value): str(colour) for value, colour in record.get("label_colours", {}).items()}
    fixed, moving = (_scan(folder, role, files.get(role), known) for role, known in inputs.items())
    there, back = (read_transform(folder / name) for name in (FIXED_TO_MOVING, MOVING_TO_FIXED))
    labels = {role: read_labels(files[role]) for role in ("fixed_labels", "moving_labels") if _exists(files.get(role))}
    points = _points(files, fixed, moving)
    report = PairReport(
        title=f"{moving.name} registered to {fixed.name}",
        fixed=fixed,
        moving=moving,
        verdict=Verdict(record["status"], []),
        warped=read_map(folder / WARPED),
        fixed_to_moving=there,
        moving_to_fixed=back,
        fixed_labels=labels.get("fixed_labels"),
        moving_labels=labels.get("moving_labels"),
        warped_labels=read_labels(folder / WARPED_LABELS) if (folder / WARPED_LABELS).is_file() else None,
        label_names=names,
        label_colours=colours,
        fixed_points=points[0],
        moving_points=points[1],
        jacobian=read_map(folder / JACOBIAN),
        uncertainty=_uncertainty(folder, record),
    )
    return OpenedResult(folder, record, report)


def _scan(folder: Path, role: str, source: str | None, known: Mapping[str, Any]) -> Image:
    if source is None:
        raise UserError(f"{folder}: does not say where its {role} scan lies; add --{role} FILE")
    if not _exists(source):
        raise UserError(f"{folder}: its {role} scan is no longer at {source}; say where it is by --{role} FILE")
    image = read_image(source)
    # Headers round the place of voxels: what counts is that the values are the same, and lie where they lay.
    grid = Grid(image.grid.shape, np.array(known["affine"]))
    if not image.grid.matches(grid) or input_hash(Image(image.data, grid)) != known["sha256"]:
        raise UserError(
            f"{source}: is not the {role} scan that {folder} was made of; say where that is by --{role} FILE"
        )
    return image


def _exists(source: str | None) -> bool:
    from anamorph.image.dicom.volumes import split_choice

    return source is not None and split_choice(source)[0].exists()


def _points(files: Mapping[str, str], fixed: Image, moving: Image) -> tuple[Points | None, Points | None]:
    roles = ("fixed_points", "moving_points")
    if not all(_exists(files.get(role)) for role in roles):
        return None, None
    here, there = (read_points(files[role], scan.grid) for role, scan in zip(roles, (fixed, moving), strict=True))
    return here, there


def _uncertainty(folder: Path, record: Mapping[str, Any]) -> Uncertainty | None:
    found = record.get("uncertainty")
    if not isinstance(found, dict) or not (folder / UNCERTAINTY).is_file():
        return None
    return Uncertainty(read_map(folder / UNCERTAINTY), **{key: found[key] for key in found if key != "calibration"})
