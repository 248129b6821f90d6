"""What a result needs to say of its inputs and models so that it can be repeated."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from anamorph.errors import UserError
from anamorph.image.image import Image
from anamorph.methods.base import Config, Pair
from anamorph.methods.tissue import Kept
from anamorph.networks.model_folders import CARD, WEIGHTS, find_model
from anamorph.runtime.machine import current_hash


def input_hash(image: Image) -> str:
    """SHA-256 over dtype, shape, voxel values and affine: the same scan in another container has the same hash."""
    digest = hashlib.sha256()
    digest.update(f"{image.data.dtype.newbyteorder('<').str}{image.data.shape}".encode())
    digest.update(np.ascontiguousarray(image.data).data)
    digest.update(np.ascontiguousarray(image.grid.affine).data)
    return digest.hexdigest()


def describe_input(image: Image) -> dict[str, Any]:
    """A scan or mask as plain values, with the hash of its content."""
    return {
        "name": image.name,
        "shape": list(image.data.shape),
        "dtype": image.data.dtype.name,
        "spacing_mm": [float(s) for s in image.grid.spacing_mm],
        "affine": image.grid.affine.tolist(),
        "sha256": input_hash(image),
    }


def describe_given(pair: Pair) -> dict[str, Any]:
    """What else was given that a result depends on, as plain values with hashes; empty where nothing was."""
    found: dict[str, Any] = {}
    if pair.marks is not None:
        marks = pair.marks
        arrays = [marks.landmarks.here, marks.landmarks.there, marks.landmarks.sigma_mm]
        arrays += [side for one in marks.outlines for side in (one.here, one.there, np.array(one.sigma_mm))]
        found["marks"] = {"landmarks": len(marks.landmarks), "outlines": len(marks.outlines), "sha256": _hash(arrays)}
    if pair.labels is not None:
        sides = {"fixed": describe_input(pair.labels.fixed), "moving": describe_input(pair.labels.moving)}
        found["labels"] = {"values": list(pair.labels.values), "weight": pair.labels.weight, **sides}
    for role, tissue in zip(("fixed_tissue", "moving_tissue"), pair.tissues, strict=True):
        told: dict[str, Any] = {
            name: [_describe_kept(kept) for kept in some]
            for name, some in (("keep_rigid", tissue.rigid), ("keep_volume", tissue.volume))
            if some
        }
        maps = {"stiffness": tissue.stiffness, "sliding_depth_mm": tissue.sliding}
        told |= {name: describe_input(image) for name, image in maps.items() if image is not None}
        if told:
            found[role] = told
    return found


def _describe_kept(kept: Kept) -> dict[str, Any]:
    pieces = kept.pieces
    weight = "exact" if kept.weight is None else kept.weight
    return {"pieces": [one.name for one in pieces], "weight": weight, "sha256": _hash([p.centres_mm for p in pieces])}


def _hash(arrays: Sequence[np.ndarray]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.shape}".encode())
        digest.update(np.ascontiguousarray(array, np.float64).data)
    return digest.hexdigest()


def models_of(config: Config) -> dict[str, Path]:
    """Folders of the models that the settings of a method name, by their names; with the guide that came with one.

    Raises:
        UserError: there is no such model.
    """
    return {name: find_model(name) for name in sorted({*config.models()})}


def model_hashes(config: Config) -> dict[str, str]:
    """SHA-256 of card and weights of every model that settings name: what a result depends on besides the settings.

    Raises:
        UserError: there is no such model, or it lacks its weights.
    """
    return {name: _model_hash(folder) for name, folder in models_of(config).items()}


def _model_hash(folder: Path) -> str:
    try:
        return hashlib.sha256("".join(current_hash(folder / name) for name in (CARD, WEIGHTS)).encode()).hexdigest()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(f"{folder}: is no whole model ({reason}); copy the whole model folder again") from error
