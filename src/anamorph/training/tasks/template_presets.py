"""Settings of ``slicreg`` and ``regression`` per kind of scan."""

from __future__ import annotations

from typing import Any

PUBLISHED: dict[str, Any] = {
    "spacing_mm": 4.0,
    "shape": (96, 80, 128),
    "centre": "body",
    "batch_size": 4,
    "epochs": 1000,
    "validate_every": 10,
    "gradient_clip": 0.0,
    "checkpointing": True,
}
"""5000 steps of 4 of the 20 training scans, prepared at 2 mm in 192 x 160 x 256 voxels around the body; for a GPU."""
MR: dict[str, Any] = {"normalise": "percentile", "divisor": 1.0}

PRESETS: dict[str, dict[str, Any]] = {
    "abdomen-ct": PUBLISHED,
    "ct": {"batch_size": 2, "epochs": 150, "validate_every": 10, "schedule": "cosine", "rate": 2e-3},
    "small-mr": MR
    | {
        "spacing_mm": 1.0,
        "batch_size": 8,
        "epochs": 60,
        "validate_every": 5,
        "schedule": "cosine",
        "measured_scans": 20,
    },
}
