"""What the viewer shows of a pair: volumes on one grid, and what is known about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from anamorph.evaluation.label_regions import label_boxes
from anamorph.evaluation.uncertainty import inside_body
from anamorph.geometry.grid import Grid
from anamorph.image.background import looks_like_ct
from anamorph.image.image import Labels
from anamorph.report.colours import ColourScale
from anamorph.report.viewer.maps import ShownMap, shown_maps
from anamorph.report.viewer.places import worst_places
from anamorph.report.viewer.volumes import grey, nifti_bytes, scan_on, shown_grid
from anamorph.report.views import focus_voxel
from anamorph.transforms.maps import Affine

if TYPE_CHECKING:
    from anamorph.report.pair import PairReport

MOST_LABELS = 255
MOST_IN_TABLE = 1 << 16


@dataclass(frozen=True, eq=False)
class Scene:
    """What a page needs to show a pair.

    Args:
        content: names, colours, numbers and places, as plain values.
        volumes: NIfTI files of scans and labels by name.
        maps: on a grid that may be coarser.
        map_grid: that grid.
    """

    content: Mapping[str, Any]
    volumes: Mapping[str, bytes]
    maps: Sequence[ShownMap]
    map_grid: Grid

    def in_scales(self, scales: Mapping[str, ColourScale]) -> Scene:
        """The same scene with other colour scales of its maps, by their keys."""
        return replace(self, maps=[replace(one, scale=scales[one.key]) for one in self.maps])

    def described(self) -> dict[str, Any]:
        """Everything but the volumes, as plain values."""
        return {**self.content, "maps": [one.described() for one in self.maps]}

    def files(self) -> dict[str, bytes]:
        """All volumes as NIfTI files by name."""
        return {**self.volumes, **{one.key: nifti_bytes(one.quantised(), self.map_grid) for one in self.maps}}


def make_scene(report: PairReport, painted: Mapping[int, str], most_voxels: int, most_of_maps: int) -> Scene:
    """Everything about a registered pair.

    Args:
        report: what is known of the pair.
        painted: the CSS colour of each label of the fixed scan.
        most_voxels: of scans and labels; above it they are read on a coarser grid.
        most_of_maps: the same for maps, if that is less.
    """
    assert report.warped is not None
    source = report.fixed.grid
    grid = shown_grid(source, most_voxels)
    of_maps = shown_grid(grid, most_of_maps)
    fixed, moving, warped = (scan_on(scan, grid) for scan in (report.fixed, report.moving, report.warped))
    both_ct = looks_like_ct(report.fixed) and looks_like_ct(report.moving)
    labels, arrays = _labels(report, painted, grid)
    arrays |= dict(zip(("fixed", "moving", "warped"), grey(fixed, moving, warped, both_ct), strict=True))
    body = inside_body(report.fixed, of_maps)
    if of_maps is not grid:
        fixed, warped = (scan_on(scan, of_maps) for scan in (report.fixed, report.warped))
    maps = shown_maps(report, of_maps, fixed, warped, body)
    focus = focus_voxel(report.fixed, report.fixed_labels, report.fixed_points, report.fixed_to_moving)
    content = {
        "numbers": [],
        "reduced": _reduced(source, grid),
        "names": {"fixed": report.fixed.name, "moving": report.moving.name},
        "focus": _ras(source, focus),
        "grid": {
            "shape": list(source.shape),
            "shown": list(grid.shape),
            "spacing_mm": [round(float(s), 3) for s in grid.spacing_mm],
            "to_voxel": np.linalg.inv(source.affine).tolist(),
        },
        "labels": labels,
        "landmarks": _landmarks(report),
        "places": [vars(place) for place in worst_places(maps, of_maps, body)],
    }
    return Scene(content, {name: nifti_bytes(values, grid) for name, values in arrays.items()}, maps, of_maps)


def _reduced(source: Grid, grid: Grid) -> str:
    """What is lost of the resolution, in a sentence."""
    if source.shape == grid.shape:
        return ""
    spacing = " × ".join(f"{mm:.2g}" for mm in grid.spacing_mm)
    return f"The volumes have voxels of {spacing} mm here; the command anamorph view shows every voxel of a result."


def _ras(grid: Grid, voxel: tuple[int, int, int]) -> list[float]:
    return [float(value) for value in grid.voxel_to_world(np.array(voxel, float))]


def _labels(
    report: PairReport, painted: Mapping[int, str], grid: Grid
) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """The labels of the fixed scan with their colours and middles, and their maps, in which they are counted from 1."""
    if report.fixed_labels is None:
        return [], {}
    values = sorted(painted)[:MOST_LABELS]
    shown = _labels_on(report.fixed_labels, grid)
    boxes = label_boxes(shown)
    described = []
    for value in values:
        described.append(
            {
                "value": int(value),
                "name": report.label_names.get(int(value), ""),
                "colour": painted[value],
                "ras_mm": _middle(shown, value, boxes[value], grid) if value in boxes else None,
            }
        )
    sides = {
        "fixed_labels": report.fixed_labels,
        "moving_labels": report.moving_labels,
        "warped_labels": report.warped_labels,
    }
    return described, {key: _ranked(labels, grid, values) for key, labels in sides.items() if labels is not None}


def _middle(shown: np.ndarray, value: int, box: tuple[slice, ...], grid: Grid) -> list[float]:
    """The voxel of a label nearest to its centre of mass, in RAS mm."""
    voxels = np.argwhere(shown[box] == value) + [part.start for part in box]
    nearest = voxels[np.linalg.norm((voxels - voxels.mean(axis=0)) * grid.spacing_mm, axis=1).argmin()]
    return [float(value) for value in grid.voxel_to_world(nearest.astype(float))]


def _labels_on(labels: Labels, grid: Grid) -> np.ndarray:
    return labels.data[0] if labels.grid.matches(grid) else Affine.identity().warp_labels(labels, grid).data[0]


def _ranked(labels: Labels, grid: Grid, values: list[int]) -> np.ndarray:
    shown = _labels_on(labels, grid)
    known, ranks = np.array(values), np.arange(1, len(values) + 1, dtype=np.uint8)
    if known.min() >= 0 and known.max() < MOST_IN_TABLE:  # a look-up is many times faster than a search
        table = np.zeros(MOST_IN_TABLE, np.uint8)
        table[known] = ranks
        return np.where(
            (shown >= 0) & (shown < MOST_IN_TABLE), table[np.clip(shown, 0, MOST_IN_TABLE - 1)], np.uint8(0)
        )
    place = np.searchsorted(known, shown).clip(0, len(known) - 1)
    return np.where(known[place] == shown, ranks[place], np.uint8(0))


def _landmarks(report: PairReport) -> list[dict[str, Any]]:
    """Pairs of landmarks, and where the moving one lies after registration, RAS mm."""
    there, back = report.fixed_to_moving, report.moving_to_fixed
    if report.fixed_points is None or report.moving_points is None or there is None or back is None:
        return []
    fixed, moving = report.fixed_points.matched(report.moving_points)
    mapped, returned = there.map_world(fixed.positions_mm), back.map_world(moving.positions_mm)
    names = fixed.labels or tuple(str(n) for n in range(1, len(fixed) + 1))
    return [
        {
            "name": name,
            "fixed_mm": here.tolist(),
            "moving_mm": other.tolist(),
            "warped_mm": home.tolist(),
            "before_mm": float(np.linalg.norm(here - other)),
            "after_mm": float(np.linalg.norm(found - other)),
        }
        for name, here, other, home, found in zip(
            names, fixed.positions_mm, moving.positions_mm, returned, mapped, strict=True
        )
    ]
