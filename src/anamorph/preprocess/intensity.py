"""Intensities of a scan brought to a known range."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from anamorph.errors import UserError
from anamorph.image import Image, Mask
from anamorph.image.background import looks_like_ct
from anamorph.preprocess.settings import PreprocessSettings

PERCENTILES = (1.0, 99.0)
_NOT_CT = re.compile(r"\b(MR\w*|T[12]\w*|FLAIR|PET|US|ultrasound)\b", re.IGNORECASE)


def is_ct(image: Image, modality: str) -> bool:
    """Whether a scan holds Hounsfield units: as the data set names its modality, if the name tells, else by values."""
    if "CT" in modality.upper():
        return True
    return not _NOT_CT.search(modality) and looks_like_ct(image)


def intensity_steps(image: Image, mask: Mask | None, settings: PreprocessSettings, ct: bool) -> dict[str, Any]:
    """What to do to the intensities of a scan, in numbers, from its original voxels.

    Statistics are taken over the mask, else over the voxels above the lowest value, which is the background.

    Returns:
        ``{"windows": [[low, high], ...]}``, ``{"offset": a, "scale": s, "clip": bool}`` for ``(value - a) / s``, or
        nothing.

    Raises:
        UserError: windows for a scan of several channels, or a scan without contrast.
    """
    if ct and settings.windows:
        if image.channels != 1:
            raise UserError(f"{image.name} has {image.channels} channels; windows are for scans of one")
        return {"windows": [list(window) for window in settings.windows]}
    if settings.normalise == "none":
        return {}
    values = image.data[:, mask.data[0] > 0] if mask is not None else image.data[image.data > image.data.min()]
    if settings.normalise == "percentile":
        low, high = np.percentile(values, PERCENTILES)
        offset, scale = float(low), float(high - low)
    else:
        offset, scale = float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))
    if not scale > 0:
        raise UserError(f"{image.name}: the voxels that count have no contrast; is the mask right?")
    return {"offset": offset, "scale": scale, "clip": settings.normalise == "percentile"}


def apply_steps(image: Image, steps: dict[str, Any]) -> Image:
    """Do the steps to a scan: float32, one channel per window."""
    if not steps:
        return image
    if "windows" in steps:
        channels = [
            np.clip((image.data[0].astype(np.float32) - low) / (high - low), 0, 1) for low, high in steps["windows"]
        ]
        return image.with_data(np.stack(channels))
    values = (image.data.astype(np.float32) - np.float32(steps["offset"])) / np.float32(steps["scale"])
    return image.with_data(np.clip(values, 0, 1) if steps["clip"] else values)
