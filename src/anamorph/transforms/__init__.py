"""Maps of fixed points to moving points, and their files."""

from anamorph.transforms.inversion import Inversion, invert
from anamorph.transforms.maps import Affine, Composite, Displacement, Transform

__all__ = ["Affine", "Composite", "Displacement", "Inversion", "Transform", "invert"]
