"""The metrics of Learn2Reg's own evaluator, number for number, with its oddities.

Re-implemented from the behaviour of ``evaluation.py`` (version 2.0) and tested against independent references. They are
for comparison with its tables; what is right in millimetres is in :mod:`anamorph.evaluation`. A displacement ``u`` is
``(3, I, J, K)``: moving voxel minus fixed voxel at every voxel of the fixed image.
"""

from anamorph.evaluation.learn2reg.aggregate import aggregate
from anamorph.evaluation.learn2reg.dice import dice
from anamorph.evaluation.learn2reg.hd95 import hd95_vox
from anamorph.evaluation.learn2reg.sdlogj import foldings_counted, sdlogj
from anamorph.evaluation.learn2reg.surface import SurfaceElements, surface_elements
from anamorph.evaluation.learn2reg.tre import tre_mm
from anamorph.evaluation.learn2reg.warp import warp_labels

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
