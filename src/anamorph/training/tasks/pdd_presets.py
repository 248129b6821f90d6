"""The published recipe of ``pdd``, and our own for small scans on a processor; each with the steps of the ablation."""

from __future__ import annotations

from typing import Any

ABDOMEN: dict[str, Any] = {
    "spacing_mm": 1.5,
    "shape": (240, 168, 288),
    "normalise": "windows",
    "windows": (-500.0, 500.0),
    "affine_chance": 1.0,
    "rotation_deg": 3.0,
    "zoom": 1.04,
    "shift": 0.03,
    "shear": 0.04,
    "diffusion": 1.5,
    "rate": 0.01,
    "epochs": 250,
    "batch_size": 1,
    "gradient_clip": 0.0,
    "precision": "32-true",
    "validate_every": 25,
}
"""Of the paper, whose 6 or 7 scans in 250 epochs make about 1500 steps; its affine maps are not drawn as ours are."""
SMALL: dict[str, Any] = {
    "feature_spacing": 2,
    "pooled": False,
    "rotation_deg": 10.0,
    "zoom": 1.1,
    "shift": 0.03,
    "gamma": 0.3,
    "diffusion": 1.5,
    "rate": 5e-3,
    "batch_size": 1,
    "schedule": "cosine",
    "warmup_steps": 20,
    "measured_pairs": 20,
    "precision": "32-true",
}
"""For scans of up to about 64 x 64 x 64 voxels on a few cores: fine features, fewer control points."""
SMALL_HIPPOCAMPUS: dict[str, Any] = SMALL | {
    "spacing_mm": 1.0,
    "shape": (48, 64, 48),
    "control": (12, 16, 12),
    "width": 9,
    "reach": 0.35,
    "epochs": 6,
}
SMALL_HEAD_NECK: dict[str, Any] = SMALL | {
    "spacing_mm": 6.0,
    "shape": (64, 48, 64),
    "normalise": "windows",
    "windows": (-160.0, 240.0, -1000.0, 1000.0),
    "control": (16, 12, 16),
    "width": 11,
    "reach": 0.3,
    "epochs": 20,
    "validate_every": 2,
}


def _recipes(name: str, common: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        name: common,
        f"{name}-no-mean-field": common | {"mean_field": False},
        f"{name}-no-nonlocal": common | {"nonlocal_loss": False},
        f"{name}-dense": common | {"nonlocal_loss": False, "dense_loss": True},
        f"{name}-unsupervised": common | {"loss": "mind"},
    }


PRESETS: dict[str, dict[str, Any]] = {
    **_recipes("abdomen", ABDOMEN),
    **_recipes("small-hippocampus", SMALL_HIPPOCAMPUS),
    **_recipes("small-head-neck", SMALL_HEAD_NECK),
}
