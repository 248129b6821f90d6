"""The files of one scan: do they open, and do they fit each other?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from anamorph.data.dataset import POINT_KINDS, Case, Dataset
from anamorph.data.findings import CaseFacts, Problem, some
from anamorph.errors import UserError
from anamorph.geometry import SAME_GRID_MM, Grid
from anamorph.geometry.lengths import length_text
from anamorph.image.points import POINT_MARGIN_VOX


def case_facts(case: Case, dataset: Dataset) -> CaseFacts:
    """Open every file of a scan; what is wrong is among the problems, nothing is raised."""
    from anamorph.image.read import read_image

    problems: list[Problem] = []
    grid, dtype = None, ""
    volumes: dict[int, float] = {}
    points: dict[str, int] = {}
    if case.image.is_file():
        try:
            image = read_image(case.image)
            grid, dtype = image.grid, str(image.data.dtype)
            del image
        except UserError as error:
            problems.append(Problem("error", case.key, str(error)))
    if case.label is not None:
        volumes = _label_volumes(case, case.label, grid, dataset, problems)
    if case.mask is not None:
        _check_mask(case, case.mask, grid, problems)
    tables = {kind: case.file(kind) for kind in POINT_KINDS}
    tables |= {kind: path for kind, path in case.extra.items() if isinstance(path, Path)}
    for kind, path in tables.items():
        count = None if path is None or grid is None else _count_points(case, path, grid, problems)
        points |= {} if count is None else {kind: count}
    return CaseFacts(case, grid, dtype, volumes, points, tuple(problems))


def _label_volumes(
    case: Case, path: Path, grid: Grid | None, dataset: Dataset, problems: list[Problem]
) -> dict[int, float]:
    from anamorph.image.read import read_labels

    try:
        labels = read_labels(path)
    except UserError as error:
        problems.append(Problem("error", case.key, str(error)))
        return {}
    _check_grid(case, "label map", labels.grid, grid, problems)
    values, counts = np.unique(labels.data, return_counts=True)
    voxel_ml = abs(float(np.linalg.det(labels.grid.affine[:3, :3]))) / 1000
    volumes = {int(v): float(n) * voxel_ml for v, n in zip(values, counts, strict=True) if v != 0}
    strange = [value for value in volumes if value < 0 or (dataset.labels and value not in dataset.labels)]
    if strange:
        known = f"; the manifest names {_range(dataset.labels)}" if dataset.labels else "; labels are positive"
        problems.append(Problem("error", case.key, f"{path.name} holds the labels {some(map(str, strange))}{known}"))
    return volumes


def _check_mask(case: Case, path: Path, grid: Grid | None, problems: list[Problem]) -> None:
    from anamorph.image.read import read_mask

    try:
        mask = read_mask(path)
    except UserError as error:
        problems.append(Problem("error", case.key, str(error)))
        return
    _check_grid(case, "mask", mask.grid, grid, problems)
    if not mask.data.any():
        problems.append(Problem("error", case.key, f"{path.name} is empty: nothing of the scan would count"))


def _check_grid(case: Case, what: str, own: Grid, grid: Grid | None, problems: list[Problem]) -> None:
    if grid is None:
        return
    if own.shape != grid.shape:
        text = " x ".join(map(str, own.shape))
        problems.append(
            Problem("error", case.key, f"the {what} has {text} voxels, its scan {' x '.join(map(str, grid.shape))}")
        )
    elif not own.matches(grid, SAME_GRID_MM):
        apart = own.corner_distance_mm(grid)
        problems.append(
            Problem(
                "error", case.key, f"the {what} lies up to {length_text(apart, 1)} from its scan: a header was changed"
            )
        )


def _count_points(case: Case, path: Path, grid: Grid, problems: list[Problem]) -> int | None:
    from anamorph.image.read import read_points

    try:
        points = read_points(path, grid)
    except UserError as error:
        problems.append(Problem("error", case.key, str(error)))
        return None
    outside = int((~grid.contains(points.positions_mm, POINT_MARGIN_VOX)).sum())
    if outside:
        problems.append(
            Problem("error", case.key, f"{path.name}: {outside} of {len(points)} points lie outside the scan")
        )
    return len(points)


def _range(labels: Mapping[int, str]) -> str:
    values = sorted(labels)
    return (
        f"{values[0]} to {values[-1]}" if values == list(range(values[0], values[-1] + 1)) else some(map(str, values))
    )
