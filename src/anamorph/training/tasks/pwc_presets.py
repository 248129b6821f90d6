"""Recipes of ``pwc`` for small scans on a processor."""

from __future__ import annotations

from typing import Any

SMALL: dict[str, Any] = {
    "rotation_deg": 10.0,
    "zoom": 1.1,
    "shift": 0.03,
    "gamma": 0.3,
    "mse": 0.0,
    "lcc": 1.0,
    "dice": 1.0,
    "diffusion": 0.2,
    "rate": 1e-3,
    "epochs": 60,
    "batch_size": 2,
    "schedule": "cosine",
    "warmup_steps": 50,
    "validate_every": 5,
}
"""For scans of up to about 64 x 64 x 64 voxels on a few cores."""
PRESETS: dict[str, dict[str, Any]] = {
    "small-hippocampus": SMALL | {"spacing_mm": 1.0, "shape": (48, 64, 48), "flip_axes": (0,)},
    "small-head-neck": SMALL
    | {
        "spacing_mm": 6.0,
        "shape": (64, 48, 64),
        "normalise": "windows",
        "windows": (-160.0, 240.0, -1000.0, 1000.0),
    },
}
