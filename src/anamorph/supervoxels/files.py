"""Files of layers, and the folder of a data set whose scans have them, as ``anamorph slicreg prepare`` leaves it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anamorph.data.dataset import Case, Dataset
from anamorph.errors import UserError
from anamorph.geometry.grid import Grid
from anamorph.image.atomic import atomic_path
from anamorph.image.bounds import check_arrays, most_values
from anamorph.reading import reason_of
from anamorph.supervoxels.layers import Layers
from anamorph.transforms.maps import Affine, Transform

FORMAT = 1
SUFFIX = ".npz"
MOST_BYTES = 16 << 30
"""Of 128 layers of 512 x 512 x 512 voxels."""
KEY = "slicreg"
"""Of the manifest."""
TEMPLATE_LAYERS = Path("template", "layers.npz")


def save_layers(layers: Layers, path: str | os.PathLike[str]) -> None:
    """Write layers, compressed: ``labels``, ``affine`` (voxel to RAS mm) and ``about``, which is JSON.

    Raises:
        UserError: the name has another suffix, or the file cannot be written.
        RegistrationFailure: the disk is full.
    """
    if Path(path).suffix != SUFFIX:
        raise UserError(f"{Path(path).name}: a file of layers must end in {SUFFIX}")
    about = json.dumps({"format": FORMAT, "provenance": dict(layers.provenance)})
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, labels=layers.labels, affine=layers.grid.affine, about=np.array(about))


def load_layers(path: str | os.PathLike[str]) -> Layers:
    """Read what :func:`save_layers` wrote.

    Raises:
        UserError: there is no such file, or it holds no layers.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file; layers are made by `anamorph slicreg prepare` and `slicreg layers`")
    try:
        check_arrays(path, min(MOST_BYTES, most_values(path.stat().st_size)))
        with np.load(path, allow_pickle=False) as content:
            labels, affine = content["labels"], content["affine"]
            about: dict[str, Any] = dict(json.loads(str(content["about"])))
            provenance = about.get("provenance")
    except Exception as error:  # damaged archives make the reader raise anything, also what is no memory
        raise UserError(f"{path}: cannot be read as layers ({reason_of(error)}); is it complete?") from error
    if about.get("format") != FORMAT:
        told = str(about.get("format"))[:20]
        raise UserError(f"{path}: is of format {told}, not {FORMAT}; make it anew with this version")
    if labels.ndim != 4 or labels.dtype != np.uint8:
        raise UserError(f"{path}: layers are 8-bit maps (L, I, J, K), not {labels.dtype} of shape {labels.shape}")
    if not isinstance(provenance, dict) or affine.dtype.kind != "f":
        raise UserError(f"{path}: says not how it was made, or where it lies; make it anew")
    try:
        return Layers(labels, Grid(labels.shape[1:], affine), provenance)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def layers_path(key: str) -> Path:
    """Of the layers of a scan, relative to the prepared folder."""
    return Path("layers", f"{key}.npz")


def transform_path(key: str) -> Path:
    """Of the transform from a scan to the template, relative to the prepared folder."""
    return Path("transforms", f"{key}.h5")


@dataclass(frozen=True, eq=False)
class Prepared:
    """A prepared data set.

    Args:
        dataset: its manifest.
        template: the scan to which all are registered.
        cases: those with layers, the template among them if it is of a prepared split.
        settings: all that the manifest tells under ``slicreg``.
    """

    dataset: Dataset
    template: Case
    cases: tuple[Case, ...]
    settings: Mapping[str, Any]

    @classmethod
    def of(cls, dataset: Dataset) -> Prepared:
        """What a manifest says about its preparation.

        Raises:
            UserError: it was not prepared, or files are missing.
        """
        told = dataset.extra.get(KEY)
        if not isinstance(told, dict) or not {"template", "scans"} <= set(told):
            raise UserError(f"{dataset.path} has no layers; prepare the data set with `anamorph slicreg prepare`")
        by_key = {case.key: case for case in dataset.cases}
        keys = [told["template"], *told["scans"]]
        lost = [key for key in keys if key not in by_key]
        lost += [str(path) for path in _files(told) if not (dataset.root / path).is_file()]
        if lost:
            raise UserError(f"{dataset.path}: {lost[0]} is missing; prepare the data set again")
        return cls(dataset, by_key[told["template"]], tuple(by_key[key] for key in told["scans"]), told)

    def template_layers(self) -> Layers:
        """The layers of the template, on its own grid."""
        return load_layers(self.dataset.root / TEMPLATE_LAYERS)

    def layers(self, case: Case) -> Layers:
        """The template's layers, warped to a scan."""
        return load_layers(self.dataset.root / layers_path(case.key))

    def scan_to_template(self, case: Case) -> Transform:
        """The map of points of a scan to points of the template; the identity for the template."""
        if case.key == self.template.key:
            return Affine.identity()
        from anamorph.transforms.files import read_transform

        return read_transform(self.dataset.root / transform_path(case.key))


def _files(told: Mapping[str, Any]) -> list[Path]:
    scans = list(told["scans"])
    transforms = [transform_path(key) for key in scans if key != told["template"]]
    return [TEMPLATE_LAYERS, *map(layers_path, scans), *transforms]
