"""Grids, coordinate frames and sampling: everything that knows where a voxel is."""

from anamorph.geometry.grid import Grid

__all__ = ["Grid"]
