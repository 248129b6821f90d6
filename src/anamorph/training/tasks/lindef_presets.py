"""The published training of ``lindef``, and our own for small scans on a processor."""

from __future__ import annotations

from typing import Any

PUBLISHED: dict[str, Any] = {
    "width": 32,
    "pooling": "mean",
    "order": "deform-first",
    "gradient_gain": 1.0,
    "mse": 1.0,
    "affine_l1": 1e-6,
    "gradient_l1": 1e-6,
    "rate": 1e-3,
    "batch_size": 2,
    "epochs": 1000,
    "schedule": "plateau",
    "plateau_factor": 0.9,
    "plateau_patience": 50,
    "patience": 100,
    "gradient_clip": 0.0,
    "precision": "32-true",
    "accumulate": 2,
    "checkpointing": True,
}
"""As far as it is stated; the number of epochs is not: waiting in vain ends the training. The last two bound memory."""
SMALL: dict[str, Any] = {
    "width": 8,
    "pooling": "moments",
    "gradient_gain": 0.1,
    "diffusion": 0.2,
    "gradient_l1": 0.0,
    "rate": 1e-3,
    "batch_size": 1,
    "schedule": "cosine",
    "warmup_steps": 50,
}
"""For scans of up to about 64 x 64 x 64 voxels on a few cores: a narrow network, a rate that falls."""

PRESETS: dict[str, dict[str, Any]] = {
    "published": PUBLISHED,
    "small-hippocampus": SMALL | {
        "spacing_mm": 1.0,
        "shape": (48, 64, 48),
        "flip_axes": (0,),
        "mse": 0.0,
        "lcc": 1.0,
        "rotation_deg": 10.0,
        "zoom": 1.1,
        "shift": 0.03,
        "gamma": 0.3,
        "epochs": 10,
    },
    "small-cardiac": SMALL | {
        "spacing_mm": (2.5, 2.5, 8.0),
        "shape": (64, 64, 16),
        "crop_in_use": True,
        "mse": 100.0,
        "flip_axes": (0, 1),
        "rotation_deg": 15.0,
        "zoom": 1.15,
        "shift": 0.03,
        "epochs": 150,
        "validate_every": 25,
    },
}  # fmt: skip
