"""The metrics of Learn2Reg's own evaluator, number for number, with its oddities.

Re-implemented from the behaviour of ``evaluation.py`` (version 2.0) and tested against independent references. They are
for comparison with its tables; what is right in millimetres is in :mod:`anamorph.evaluation`. A displacement ``u`` is
``(3, I, J, K)``: moving voxel minus fixed voxel at every voxel of the fixed image.
"""

from anamorph.evaluation.learn2reg.measures import (
    aggregate,
    dice,
    foldings_counted,
    hd95_vox,
    sdlogj,
    tre_mm,
    warp_labels,
)
from anamorph.evaluation.learn2reg.surface import SurfaceElements, surface_elements

__all__ = [
    "SurfaceElements",
    "aggregate",
    "dice",
    "foldings_counted",
    "hd95_vox",
    "sdlogj",
    "surface_elements",
    "tre_mm",
    "warp_labels",
]
