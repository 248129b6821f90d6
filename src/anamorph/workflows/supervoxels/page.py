"""What the page of a preparation shows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from anamorph.data import Case
from anamorph.image.read import read_image
from anamorph.report.layers_page import LayersReport, ScanRow, write_layers_page
from anamorph.supervoxels import Layers
from anamorph.workflows.supervoxels.registration import RegistrationJob

COLUMNS = ("split", "transform", "seconds", "folding, %", "Dice before", "Dice after")
NOTES = (
    "Dice: mean over the labels that a scan and the template have in common, centres aligned and after the "
    "registration. Nothing is learnt from labels.",
)


def layer_facts(layers: Layers) -> list[tuple[str, str]]:
    """How layers were made, in words."""
    told = layers.provenance
    return [
        ("layers", str(layers.count)),
        ("supervoxels of each", str(layers.supervoxels)),
        ("voxels", " x ".join(map(str, layers.grid.shape))),
        ("spacing", " x ".join(f"{s:.3g}" for s in layers.grid.spacing_mm) + " mm"),
        ("mask", str(told.get("mask", ""))),
        ("seed", str(told.get("seed", ""))),
        ("compactness", str(told.get("compactness", ""))),
    ]


def write_page(
    path: Path,
    template: Case,
    layers: Layers,
    jobs: Mapping[str, RegistrationJob],
    scans: Mapping[str, dict[str, Any]],
) -> None:
    """Write the page of the template's layers and of the scans that were registered to it."""
    rows = [ScanRow(key, _cells(jobs[key].case, told), _picture(jobs[key])) for key, told in scans.items()]
    labelled = any(told["dice"] for told in scans.values())
    report = LayersReport(
        f"Supervoxel layers of the template {template.key}",
        read_image(template.image),
        layers,
        layer_facts(layers),
        COLUMNS,
        rows,
        NOTES if labelled else (),
    )
    write_layers_page(path, report)


def _picture(job: RegistrationJob) -> Path | None:
    """The picture of a scan, if it could be drawn."""
    return job.picture if job.picture.is_file() else None


def _cells(case: Case, told: Mapping[str, Any]) -> tuple[str, ...]:
    overlap = [f"{told['dice'][when]:.3f}" if told["dice"] else "" for when in ("before", "after")]
    return case.split, told["how"], f"{told['seconds']:.1f}", f"{told['folding_percent']:.3g}", *overlap
