"""Pancreas-CT of The Cancer Imaging Archive: DICOM scans, and label maps whose headers do not say where they lie."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import numpy as np

from anamorph.data.importers import inside, refuse_channel
from anamorph.data.scans import Scan, ScanFolder, Source
from anamorph.errors import UserError
from anamorph.image.image import Image, Labels

FLIPS: tuple[tuple[int, ...], ...] = ((), (1,), (2,), (1, 2))
_RING_VOX = 3
_LEAST_CONTRAST = 0.5
_CLEARLY = 0.7


def find_pancreas_ct(folder: Path, channel: str | None = None) -> ScanFolder:
    """Find ``PANCREAS_0001/<study>/<series>/*.dcm`` and ``label0001.nii.gz`` anywhere below a folder.

    The scans are converted. The label maps hold the voxels of the DICOM slices, but were saved mirrored and without
    their position; each is turned the way in which it fits its scan, as :func:`matching_flip` finds.

    Source: Roth et al., DeepOrgan, MICCAI 2015; data doi:10.7937/K9/TCIA.2016.tNB1kqBU.

    Raises:
        UserError: there are no such scans, one has several series, or a channel is asked for.
    """
    refuse_channel("pancreas-ct", channel)
    patients = sorted(path for path in folder.rglob("PANCREAS_*") if path.is_dir())
    if not patients:
        raise UserError(f"{folder}: no folders PANCREAS_*; name the folder that holds them and the label*.nii.gz")
    labels = {
        match[1]: path
        for path in folder.rglob("label*.nii.gz")
        if (match := re.search(r"(\d{4})\.nii\.gz$", path.name))
    }
    scans, notes = [], []
    for patient in patients:
        number = patient.name.rpartition("_")[2]
        series = sorted({path.parent for path in patient.rglob("*.dcm")})
        if len(series) != 1:
            raise UserError(
                f"{patient}: {len(series)} folders with DICOM files in place of one; download the patient again"
            )
        files: dict[str, Source] = {}
        if number in labels:
            files["label"] = partial(_write_label, inside(folder, labels[number].absolute()))
        else:
            notes.append(number)
        scans.append(Scan(patient.name, "CT", inside(folder, series[0].absolute()), files, patient.name))
    told = [f"{len(notes)} scans have no label map: {', '.join(notes[:5])}"] if notes else []
    return ScanFolder(
        tuple(scans),
        ("CT",),
        notes=tuple(told),
        labels={1: "pancreas"},
        extra={"licence": "CC BY 3.0", "reference": "doi:10.7937/K9/TCIA.2016.tNB1kqBU"},
        name="PancreasCT",
    )


def _write_label(source: Path, target: Path, image: Path) -> None:
    import numpy as np

    from anamorph.image.image import Labels
    from anamorph.image.read import read_image, read_labels
    from anamorph.image.write import write_image

    scan, labels = read_image(image), read_labels(source)
    if labels.grid.shape != scan.grid.shape:
        raise UserError(f"{source}: {labels.grid.shape} voxels, its scan {scan.grid.shape}; are these of one patient?")
    axes = () if labels.grid.matches(scan.grid, 0.1) else matching_flip(labels, scan)
    data = np.flip(labels.data, tuple(axis + 1 for axis in axes)) if axes else labels.data
    write_image(Labels(data.astype(np.uint8), scan.grid, labels.name), target)


def matching_flip(labels: Labels, image: Image) -> tuple[int, ...]:
    """The axes to mirror (rows, slices, both or neither) so that the labels outline an organ of the scan.

    An organ differs from what surrounds it and is even inside: the flip is taken whose contrast, the difference between
    the mean in the label and the mean in a ring of 3 voxels around it in units of the deviation inside, is the largest.

    Args:
        labels: of the shape of the image; everything labelled counts as one organ.
        image: a CT scan.

    Raises:
        UserError: no flip gives a contrast of 0.5, or the second best comes to 0.7 of the best.
    """
    contrasts = {
        axes: _contrast(np.flip(labels.data[0] != 0, axes) if axes else labels.data[0] != 0, image) for axes in FLIPS
    }
    best, second = sorted(contrasts, key=lambda axes: -contrasts[axes])[:2]
    if contrasts[best] < _LEAST_CONTRAST or contrasts[second] > _CLEARLY * contrasts[best]:
        shown = ", ".join(f"{value:.2f}" for value in contrasts.values())
        raise UserError(
            f"{labels.name}: fits its scan in no way clearly (contrasts {shown}); check that both are of one patient"
        )
    return best


def _contrast(inside: np.ndarray, image: Image) -> float:
    from scipy import ndimage

    sites = np.argwhere(inside)
    low = np.maximum(sites.min(axis=0) - _RING_VOX, 0)
    box = tuple(slice(a, b + _RING_VOX + 1) for a, b in zip(low, sites.max(axis=0), strict=True))
    inside, values = inside[box], np.clip(image.data[0][box].astype(np.float32), -200, 300)
    ring = ndimage.binary_dilation(inside, iterations=_RING_VOX) & ~inside
    return abs(float(values[inside].mean() - values[ring].mean())) / (float(values[inside].std()) + 1)
