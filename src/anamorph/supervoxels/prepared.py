"""A data set whose scans have supervoxel layers, as ``anamorph slicreg prepare`` leaves it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anamorph.data import Case, Dataset
from anamorph.errors import UserError
from anamorph.supervoxels.files import load_layers
from anamorph.supervoxels.layers import Layers
from anamorph.transforms import Affine, Transform

KEY = "slicreg"
"""Of the manifest."""
TEMPLATE_LAYERS = Path("template", "layers.npz")


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
