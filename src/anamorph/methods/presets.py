"""Settings per kind of scan that the discrete methods share, chosen on the scans measured in docs/results.md."""

from __future__ import annotations

from typing import Any

SHARED: dict[str, dict[str, Any]] = {
    "abdomen-ct": {"working_spacing_mm": 2.0, "descriptor_spacing_mm": 4.0, "intensity_weight": 2.0, "diffusion": 0.15},
    "lung-ct": {"descriptor_spacing_mm": 2.7, "intensity_weight": 1.5, "mind_dilation": 1},
    "head-neck-ct": {"init": "rigid", "descriptor_spacing_mm": 5.0, "local_weight": 1.0},
    "brain-mr": {
        "descriptor_spacing_mm": 1.6,
        "intensity_weight": 9.0,
        "intensity_in_start": 0.67,
        "local_weight": 1.0,
        "control_cell": 1,
    },
    "cardiac-mr": {"intensity_weight": 40.0, "diffusion": 0.15},
    "small-mr": {
        "descriptor_spacing_mm": 1.0,
        "intensity_weight": 20.0,
        "local_weight": 1.0,
        "guide_weight": 64.0,
    },
    "generic-ct": {},
    "generic-mr": {"intensity_weight": 12.0, "intensity_in_start": 0.25},
}
GUIDES: dict[str, dict[str, Any]] = {
    "cardiac-mr": {"guide": "guide-heart,none", "guide_weight": 40.0, "guide_diffusion": 1.0},
    "small-mr": {"guide": "symmetric-hippocampus/guide,none"},
    "head-neck-ct": {"guide": "guide-head-neck,none", "guide_weight": 10.0, "guide_diffusion": 0.4},
}
"""Models that know the anatomy of a kind of scans, where they are installed, and how much what they see counts."""
AS_TRAINED: dict[str, dict[str, Any]] = {"head-neck-ct": {"init": "frame"}}
"""Networks see scans from the start that they were trained with."""
AFTER_A_NETWORK: dict[str, dict[str, Any]] = AS_TRAINED | {
    "small-mr": {"control_cell": 1, "refine_scales": (1,), "refine_iterations": (5,), "rate": 0.1},
}
"""A network that was trained with labels leaves less to refine, and more detail to keep, than a search."""


def with_own(*own: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The shared presets, with what one method adds or changes; later values go before earlier ones."""
    return {kind: {key: value for one in (SHARED, *own) for key, value in one.get(kind, {}).items()} for kind in SHARED}


STARTS: dict[str, dict[str, Any]] = {
    kind: {
        key: value
        for key, value in values.items()
        if key in ("init", "intensity_weight", "intensity_in_start", "guide")
    }
    for kind, values in with_own(GUIDES).items()
}
"""Those of the linear start alone."""
