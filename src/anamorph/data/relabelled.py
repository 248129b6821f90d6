"""The scans of a folder with other labels: their label maps are written anew when the data set is made."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from anamorph.data.place import place
from anamorph.data.relabel import Relabelling, Target
from anamorph.data.scans import ScanFolder, Source
from anamorph.errors import UserError
from anamorph.image import Image, Labels


def relabelled(found: ScanFolder, relabelling: Relabelling) -> ScanFolder:
    """The same scans, whose label maps are written with the new numbers; the manifest keeps the rules."""
    scans = [
        replace(scan, files={**scan.files, "label": partial(_write, scan.files["label"], relabelling)})
        if "label" in scan.files
        else scan
        for scan in found.scans
    ]
    record = {"rules": list(relabelling.rules), "labels_before": {str(n): name for n, name in found.labels.items()}}
    return replace(found, scans=tuple(scans), labels=relabelling.labels, extra={**found.extra, "relabelled": record})


def relabel(labels: Labels, image: Image, relabelling: Relabelling) -> tuple[Labels, str]:
    """A label map with the new numbers, and a remark on what a person should look at, or an empty string.

    Labels with the same left and right number are split together.

    Args:
        labels: with the old numbers.
        image: the scan, of which the middle of the body is taken where a label is split.
        relabelling: what becomes of every label.

    Raises:
        UserError: nothing but background is left, or a label that is split is not on the grid of its scan.
    """
    old = labels.data[0]
    values, places = np.unique(old, return_inverse=True)
    targets = [relabelling.targets.get(int(value), Target(int(value))) for value in values]
    taken = {number for target in relabelling.targets.values() for number in target.numbers if number}
    unsaid = [int(value) for value in values if int(value) in taken and int(value) not in relabelling.targets]
    if unsaid:
        raise UserError(
            f"{labels.name}: holds label {unsaid[0]}, into which --relabel would merge others without a word; add "
            f"{unsaid[0]}={unsaid[0]} to merge them, or take another number"
        )
    highest = max(number for target in targets for number in target.numbers)
    new = np.array([target.left for target in targets], np.min_scalar_type(highest))[places].reshape(old.shape)
    remarks = []
    for target in dict.fromkeys(target for target in targets if target.right is not None):
        inside = np.array([one == target for one in targets])[places].reshape(old.shape)
        right, remark = _right_of(inside, labels, image)
        new[right] = target.right
        remarks += [f"{_names(target, relabelling)}: {remark}"] if remark else []
    if not new.any():
        raise UserError(f"{labels.name}: --relabel leaves nothing but background; keep a label or leave the scan out")
    return Labels(new, labels.grid, labels.name), "; ".join(remarks)


def _right_of(inside: np.ndarray, labels: Labels, image: Image) -> tuple[np.ndarray, str]:
    from anamorph.data.sides import on_the_right

    if image.grid.shape != labels.grid.shape:
        raise UserError(f"{labels.name}: is not on the grid of its scan {image.name}, so left and right are not known")
    return on_the_right(inside, Image(image.data, labels.grid, image.name))


def _names(target: Target, relabelling: Relabelling) -> str:
    return "/".join(relabelling.labels.get(number, str(number)) for number in target.numbers)


def _write(source: Source, relabelling: Relabelling, target: Path, image: Path) -> str:
    """Write a label map, and return the notes on it."""
    from anamorph.image.read import read_image, read_labels
    from anamorph.image.write import world_code, write_image

    if isinstance(source, Path):
        before = read_labels(source)
    else:
        place(source, target, "label", "copy", image)
        before = read_labels(target)
    labels, remark = relabel(before, read_image(image), relabelling)
    write_image(labels, target, world_code(image))
    return remark
