"""What a result needs to say so that it can be repeated."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

import anamorph
from anamorph.errors import UserError
from anamorph.image import Image
from anamorph.methods.guide import NONE, guide_model
from anamorph.networks.model import CARD, WEIGHTS, find_model


def input_hash(image: Image) -> str:
    """SHA-256 over dtype, shape, voxel values and affine: the same scan in another container has the same hash."""
    digest = hashlib.sha256()
    digest.update(f"{image.data.dtype.newbyteorder('<').str}{image.data.shape}".encode())
    digest.update(np.ascontiguousarray(image.data).data)
    digest.update(np.ascontiguousarray(image.grid.affine).data)
    return digest.hexdigest()


def file_hash(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def current_hash(path: Path) -> str:
    """SHA-256 of a file that many runs use; it is read again only once it was changed or replaced.

    Raises:
        OSError: there is no such file.
    """
    status = path.stat()
    return _remembered_hash(path, status.st_ino, status.st_mtime_ns, status.st_size)


@cache
def _remembered_hash(path: Path, inode: int, modified_ns: int, size: int) -> str:
    return file_hash(path)


def models_of(settings: Mapping[str, Any]) -> dict[str, Path]:
    """Folders of the models that the settings of a method name, by their names; with the guide that came with one.

    Raises:
        UserError: there is no such model.
    """
    model, guide = (str(settings.get(key, "")) for key in ("model", "guide"))
    names = {model, guide_model(guide or NONE, model) or ""}
    return {name: find_model(name) for name in sorted(names - {""})}


def model_hashes(settings: Mapping[str, Any]) -> dict[str, str]:
    """SHA-256 of card and weights of every model that settings name: what a result depends on besides the settings.

    Raises:
        UserError: there is no such model, or it lacks its weights.
    """
    return {name: _model_hash(folder) for name, folder in models_of(settings).items()}


def _model_hash(folder: Path) -> str:
    try:
        return hashlib.sha256("".join(current_hash(folder / name) for name in (CARD, WEIGHTS)).encode()).hexdigest()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(f"{folder}: is no whole model ({reason}); copy the whole model folder again") from error


def versions() -> dict[str, str]:
    """Versions of this package, Python and the libraries that compute or read; torch only if the run loaded it."""
    found = {"anamorph": anamorph.__version__, "python": platform.python_version()}
    found |= _installed()
    if "torch" in sys.modules:
        found["torch"] = str(sys.modules["torch"].__version__)
    return found


@cache
def _installed() -> dict[str, str]:
    """Looking them up takes 10 ms, longer than the registration of a small pair."""
    found = {}
    for package in ("numpy", "numba", "scipy", "nibabel", "SimpleITK"):
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def machine() -> dict[str, Any]:
    """Operating system, processor family and number of cores this process may use."""
    return {"platform": platform.platform(), "processor": platform.machine(), "cpu_count": usable_cores()}


def usable_cores() -> int:
    """How many cores this process may use, which on a shared machine are fewer than there are."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return cores or 1


def describe_run(
    *,
    method: str,
    preset: str,
    preset_reason: str,
    settings: dict[str, Any],
    seed: int,
    device: str,
    inputs: dict[str, Image],
) -> dict[str, Any]:
    """Everything needed to repeat a registration, as plain values for ``result.json``."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "machine": machine(),
        "device": device,
        "method": method,
        "preset": preset,
        "preset_reason": preset_reason,
        "settings": settings,
        "seed": seed,
        "inputs": {
            role: {
                "name": image.name,
                "shape": list(image.data.shape),
                "dtype": image.data.dtype.name,
                "spacing_mm": [float(s) for s in image.grid.spacing_mm],
                "affine": image.grid.affine.tolist(),
                "sha256": input_hash(image),
            }
            for role, image in inputs.items()
        },
    }


def peak_memory_mb() -> float:
    """Largest resident size of this process so far, in megabytes of 10^6 bytes; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 1e6
