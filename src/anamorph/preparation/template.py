"""The template cut into layers, and the layers brought to the scans."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anamorph
from anamorph.data import Case
from anamorph.errors import UserError
from anamorph.image.read import read_grid, read_image
from anamorph.methods.base import Progress
from anamorph.preparation.settings import LayerSettings
from anamorph.runtime.machine import file_hash
from anamorph.supervoxels import Layers, layer_grid, warp_layers
from anamorph.supervoxels.files import load_layers, save_layers
from anamorph.supervoxels.prepared import TEMPLATE_LAYERS, layers_path, transform_path
from anamorph.transforms.files import read_transform


def cut_template(template: Case, cutting: LayerSettings, folder: Path, progress: Progress) -> Layers:
    """The layers of the template, read if an earlier run made them of the same files in the same way.

    Raises:
        UserError: the template cannot be read or cut.
    """
    path = folder / TEMPLATE_LAYERS
    source = {"body": None, "organs": template.label, "given": template.mask}[cutting.mask]
    origin: dict[str, Any] = {
        "anamorph": anamorph.__version__,
        **dataclasses.asdict(cutting),
        "files": [file_hash(file) for file in (template.image, source) if file is not None],
    }
    earlier = _readable(path)
    if earlier is not None and earlier.provenance.get("origin") == origin:
        return earlier
    image = read_image(template.image)
    made = cutting.cut(image, cutting.mask_of(template, image), progress)
    layers = dataclasses.replace(made, provenance={**made.provenance, "origin": origin})
    save_layers(layers, path)
    return layers


def warp_to_scans(
    layers: Layers, cases: Sequence[Case], template: Case, spacing_mm: float | None, folder: Path, progress: Progress
) -> None:
    """Write the layers of every scan, by the transforms that are in the folder."""
    for number, case in enumerate(cases):
        progress(f"layers of scan {number + 1} of {len(cases)}", number / len(cases))
        if case.key == template.key:
            warped = layers
        else:
            transform = read_transform(folder / transform_path(case.key))
            warped = warp_layers(layers, transform, layer_grid(read_grid(case.image), spacing_mm))
        save_layers(warped, folder / layers_path(case.key))


def _readable(path: Path) -> Layers | None:
    try:
        return load_layers(path)
    except UserError:
        return None
