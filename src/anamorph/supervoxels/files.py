"""Files of layers: ``.npz`` without pickles, with grid and provenance."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from anamorph.errors import UserError
from anamorph.geometry import Grid
from anamorph.image.atomic import atomic_path
from anamorph.image.bounds import check_arrays, most_values
from anamorph.reading import reason_of
from anamorph.supervoxels.layers import Layers

FORMAT = 1
SUFFIX = ".npz"
MOST_BYTES = 16 << 30
"""Of 128 layers of 512 x 512 x 512 voxels."""


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
