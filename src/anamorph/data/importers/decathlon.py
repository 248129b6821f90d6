"""Tasks of the Medical Segmentation Decathlon."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from anamorph.data.importers import inside
from anamorph.data.scans import Scan, ScanFolder
from anamorph.errors import UserError
from anamorph.reading import read_json, understood


def find_decathlon(folder: Path, channel: str | None = None) -> ScanFolder:
    """Find the scans of a task by its ``dataset.json``.

    Scans under ``test`` have no labels and are used for training.

    Source: Antonelli et al., The Medical Segmentation Decathlon, Nature Communications 13 (2022).

    Args:
        folder: of one task, such as ``Task04_Hippocampus``.
        channel: name or number of the channel to take, needed where each file holds several (prostate, brain tumours).

    Raises:
        UserError: there is no ``dataset.json`` of that form, or several channels and none or an unknown one chosen.
    """
    path = folder / "dataset.json"
    with understood(path, "is not a dataset.json of the Decathlon", "name the folder of one task"):
        content = read_json(path)
        names = {int(key): str(name) for key, name in content["modality"].items()}
        first = names[0]
        labels = {int(key): str(name) for key, name in content["labels"].items() if int(key) != 0}
        entries = [
            entry if isinstance(entry, dict) else {"image": entry} for entry in content["training"] + content["test"]
        ]
        pairs = [
            (inside(folder, entry["image"]), None if (label := entry.get("label")) is None else inside(folder, label))
            for entry in entries
        ]
    number = _channel(names, channel, path)
    taken = first if number is None else names[number]
    scans = []
    for image, label in pairs:
        files = {} if label is None else {"label": label}
        subject = re.sub(r"\.nii(\.gz)?$", "", image.name)
        source = image if number is None else partial(_write_channel, image, number)
        scans.append(Scan(subject, taken, source, files, image.name))
    return ScanFolder(
        tuple(scans),
        (taken,),
        labels=labels,
        extra={key: content[key] for key in ("description", "reference", "licence", "release") if key in content},
        name=re.sub(r"[^A-Za-z0-9.\-]+", "-", str(content.get("name", ""))).strip("-."),
    )


def _channel(names: dict[int, str], wanted: str | None, path: Path) -> int | None:
    """Which channel to cut out; None when there is one."""
    listed = ", ".join(names.values())
    if wanted is None:
        if len(names) > 1:
            raise UserError(f"{path}: each file holds {len(names)} channels; choose one of {listed} with --channel")
        return None
    for number, name in names.items():
        if wanted.lower() in (name.lower(), str(number)):
            return number if len(names) > 1 else None
    raise UserError(f"{path}: there is no channel '{wanted}'; choose one of {listed}")


def _write_channel(source: Path, number: int, target: Path, image: Path) -> None:
    from anamorph.image.nibabel_files import opened
    from anamorph.image.write import save_nifti

    with opened(source) as volumes:
        if len(volumes.shape) != 4 or volumes.shape[3] <= number:
            raise UserError(
                f"{source}: has shape {volumes.shape}, not the channels that dataset.json names; download it again"
            )
        save_nifti(volumes.slicer[..., number], target)
