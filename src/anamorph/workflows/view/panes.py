"""The page of one or several results, and the volumes that it asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from anamorph.errors import UserError
from anamorph.evaluation.metrics.metric import all_columns
from anamorph.image.image import Image
from anamorph.registration.opened import OpenedResult
from anamorph.report.colours import ColourScale
from anamorph.report.numbers import flat_rows, shown
from anamorph.report.page import fill
from anamorph.report.pair import colours_of_labels
from anamorph.report.viewer.page import NIIVUE, niivue_script, parts
from anamorph.report.viewer.scene import make_scene
from anamorph.workflows.view.server import Pages

MOST_VOXELS = 1 << 40
"""Scans are shown as they are."""
MOST_OF_MAPS = 3_000_000
SHARED = ("fixed", "moving")
"""Volumes that all results of a pair have."""
MOST_RESULTS = 5
"""Each takes three drawing contexts, of which browsers have sixteen."""


def make_pages(results: Sequence[OpenedResult]) -> Pages:
    """A page of results of one pair, side by side, with their numbers beneath.

    Raises:
        UserError: the results are of different pairs, or too many.
    """
    if len(results) > MOST_RESULTS:
        raise UserError(f"{len(results)} results are too many to see; name at most {MOST_RESULTS}")
    for other in results[1:]:
        if not all(_alike(getattr(other.report, role), getattr(results[0].report, role)) for role in SHARED):
            raise UserError(f"{other.folder}: is of other scans than {results[0].folder}; view them one by one")
    called, painted = (_joined(results, kind) for kind in ("label_names", "label_colours"))
    reports = [replace(one.report, label_names=called, label_colours=painted) for one in results]
    scenes = [make_scene(one, colours_of_labels(one), MOST_VOXELS, MOST_OF_MAPS) for one in reports]
    scales: dict[str, ColourScale] = {}
    for one in (one for scene in scenes for one in scene.maps):
        scales[one.key] = one.scale if one.key not in scales else scales[one.key].joined(one.scale)
    files: dict[str, bytes] = {NIIVUE.stem: niivue_script()}
    panes: list[dict[str, Any]] = []
    for n, (result, scene) in enumerate(zip(results, scenes, strict=True)):
        scene = scene.in_scales(scales)
        volumes = {}
        for key, volume in scene.files().items():
            volumes[key] = f"volumes/{0 if key in SHARED else n}/{key}"
            files.setdefault(volumes[key], volume)
        panes.append({**scene.described(), **_beneath(result, results), "volumes": volumes})
    explorer = parts(panes) | {"source": NIIVUE.stem, "inside": {}, "at_once": True}
    names = ", ".join(str(result.folder) for result in results)
    return Pages(fill("viewer/page.html.j2", title=f"{results[0].report.title}: {names}", explorer=explorer), files)


def _joined(results: Sequence[OpenedResult], kind: str) -> dict[int, str]:
    """Names or colours of labels that any of the results knows; the first has the say."""
    return {value: text for one in reversed(results) for value, text in getattr(one.report, kind).items()}


def _alike(one: Image, other: Image) -> bool:
    return one.grid.matches(other.grid) and np.array_equal(one.data, other.data)


def _beneath(result: OpenedResult, results: Sequence[OpenedResult]) -> dict[str, Any]:
    """What stands beneath a result: method, numbers before and after, and settings in which the results differ."""
    provenance = result.record["provenance"]
    own = dict(flat_rows(provenance["settings"]))
    others = [dict(flat_rows(other.record["provenance"]["settings"])) for other in results if other is not result]
    preset = provenance.get("preset")
    return {
        "title": str(result.folder),
        "method": f"{provenance['method']}, {preset}" if preset else provenance["method"],
        "numbers": _numbers(result.record["metrics"]),
        "settings": [(name, value) for name, value in own.items() if any(one.get(name) != value for one in others)],
    }


def _numbers(metrics: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Name, before and after of what a record has of the metrics that people look at."""
    rows, voxel_mm = [], metrics.get("voxel_mm", 1.0)
    for column in all_columns():
        metric, key = column.metric, column.key if column.metric.per == "pair" else f"mean_{column.key}"
        if metric.prominence == "file" or metric.per == "axis":
            continue
        if metric.group is None:
            before, after = (metrics.get(state, {}).get(key) for state in ("before", "after"))
        else:
            held = metrics.get(metric.group, {}) if metric.group else metrics
            before, after = None, held.get(column.key.removeprefix(f"{metric.group}_"))
        if isinstance(after, int | float):
            started = "" if before is None else shown(metric, before, voxel_mm)
            rows.append((column.heading, started, shown(metric, after, voxel_mm)))
    return rows
