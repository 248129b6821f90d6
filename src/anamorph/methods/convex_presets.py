"""Settings of ``convex`` per kind of scan, chosen on the scans measured in docs/results.md."""

from __future__ import annotations

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    "abdomen-ct": {"working_spacing_mm": 2.0, "descriptor_spacing_mm": 4.0, "intensity_weight": 2.0},
    "lung-ct": {"descriptor_spacing_mm": 2.7, "intensity_weight": 1.5, "mind_dilation": 1},
    "head-neck-ct": {"init": "rigid", "descriptor_spacing_mm": 5.0},
    "brain-mr": {"descriptor_spacing_mm": 1.6, "control_cell": 1},
    "cardiac-mr": {"intensity_weight": 10.0},
    "small-mr": {
        "descriptor_spacing_mm": 1.0,
        "intensity_weight": 20.0,
        "search_scales": (2, 1),
        "search_cells": (2, 2),
        "search_radius_mm": (0.0, 0.0),
    },
    "generic-ct": {},
    "generic-mr": {},
}
