"""One file per registration method, and the table of their names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anamorph.errors import UserError
from anamorph.registry import Registry

if TYPE_CHECKING:
    from anamorph.methods.base import Method

METHODS = Registry(
    "anamorph.methods",
    "method",
    {
        "convex": "anamorph.methods.convex:Convex",
        "linear": "anamorph.methods.affine:Linear",
        "affine": "anamorph.methods.affine:Affine",
        "deeds": "anamorph.methods.deeds:Deeds",
        "symmetric": "anamorph.methods.symmetric:Symmetric",
        "pdd": "anamorph.methods.pdd:Pdd",
        "lindef": "anamorph.methods.lindef:Lindef",
        "pwc": "anamorph.methods.pwc:Pwc",
        "slicreg": "anamorph.methods.slicreg:Slicreg",
        "regression": "anamorph.methods.regression:Regression",
    },
)
DEFAULT_METHOD = "convex"
LINEAR = "linear"


def find_method(method: str | type[Method] | Method) -> type[Method]:
    """The class of a method, by its name, the class itself or an instance.

    Raises:
        UserError: there is no such method, or what is given or was found in another package is none.
    """
    from anamorph.methods.base import Config, Method

    found = METHODS.find(method) if isinstance(method, str) else method if isinstance(method, type) else type(method)
    if not (isinstance(found, type) and issubclass(found, Method)):
        what = f"'{method}' is" if isinstance(method, str) else f"{found.__name__} is"
        raise UserError(f"{what} no subclass of anamorph.methods.base.Method; give a name of `anamorph methods`")
    if not issubclass(found.Config, Config):
        raise UserError(f"{found.__name__}.Config must inherit anamorph.methods.base.Config")
    return found
