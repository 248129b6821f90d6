"""Supervoxel layers: a scan cut many times into a fixed number of connected pieces, the targets of ``slicreg``."""

from anamorph.supervoxels.layers import Layers, layer_grid, make_layers, warp_layers

__all__ = ["Layers", "layer_grid", "make_layers", "warp_layers"]
