"""anamorph: registration of 3D medical images that deform a lot.

``result = anamorph.register(fixed, moving)`` returns both directions of the transform. Every transform maps fixed
points to moving points and pulls moving images onto the fixed grid.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from anamorph.runtime.compilation import keep_kernels

__version__ = "0.1.0"

keep_kernels()

if TYPE_CHECKING:
    from anamorph.errors import AnamorphError, RegistrationFailure, UserError
    from anamorph.geometry import Grid
    from anamorph.image import Image, Labels, Mask, Points
    from anamorph.image.read import read_image, read_labels, read_points
    from anamorph.registration.result import Result
    from anamorph.registration.run import register
    from anamorph.transforms import Affine, Composite, Displacement, Transform
    from anamorph.transforms.files import read_transform, write_transform

_HOMES = {
    "register": "anamorph.registration.run",
    "AnamorphError": "anamorph.errors",
    "RegistrationFailure": "anamorph.errors",
    "UserError": "anamorph.errors",
    "Grid": "anamorph.geometry",
    "Image": "anamorph.image",
    "Labels": "anamorph.image",
    "Mask": "anamorph.image",
    "Points": "anamorph.image",
    "read_image": "anamorph.image.read",
    "read_labels": "anamorph.image.read",
    "read_points": "anamorph.image.read",
    "Result": "anamorph.registration.result",
    "Affine": "anamorph.transforms",
    "Composite": "anamorph.transforms",
    "Displacement": "anamorph.transforms",
    "Transform": "anamorph.transforms",
    "read_transform": "anamorph.transforms.files",
    "write_transform": "anamorph.transforms.files",
}

__all__ = [
    "Affine",
    "AnamorphError",
    "Composite",
    "Displacement",
    "Grid",
    "Image",
    "Labels",
    "Mask",
    "Points",
    "RegistrationFailure",
    "Result",
    "Transform",
    "UserError",
    "__version__",
    "read_image",
    "read_labels",
    "read_points",
    "read_transform",
    "register",
    "write_transform",
]


def __getattr__(name: str) -> object:
    # Imported on first use, so that `anamorph --help` starts at once.
    if name not in _HOMES:
        raise AttributeError(f"module 'anamorph' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
