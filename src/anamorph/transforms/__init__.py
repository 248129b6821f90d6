"""Maps of fixed points to moving points, and their files."""

from anamorph.transforms.inversion import Inversion, invert
from anamorph.transforms.lattice import Lattice
from anamorph.transforms.maps import Affine, Composite, Displacement, Transform
from anamorph.transforms.projection import project

__all__ = ["Affine", "Composite", "Displacement", "Inversion", "Lattice", "Transform", "invert", "project"]
