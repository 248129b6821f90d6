"""Grids, coordinate frames and sampling: everything that knows where a voxel is."""

from anamorph.geometry.grid import SAME_GRID_MM, Grid, voxel_scale

__all__ = ["SAME_GRID_MM", "Grid", "voxel_scale"]
