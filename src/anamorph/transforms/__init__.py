"""Maps of fixed points to moving points, and their files."""

from anamorph.transforms.affine import Affine
from anamorph.transforms.base import Transform
from anamorph.transforms.composite import Composite
from anamorph.transforms.displacement import Displacement
from anamorph.transforms.inversion import Inversion, invert

__all__ = ["Affine", "Composite", "Displacement", "Inversion", "Transform", "invert"]
