"""One file per registration method, and the table of their names."""

from importlib import import_module

from anamorph.errors import UserError

METHODS = {
    "convex": "anamorph.methods.convex:Convex",
    "linear": "anamorph.methods.linear:Linear",
    "deeds": "anamorph.methods.deeds:Deeds",
    "symmetric": "anamorph.methods.symmetric:Symmetric",
    "pdd": "anamorph.methods.pdd:Pdd",
    "lindef": "anamorph.methods.lindef:Lindef",
    "pwc": "anamorph.methods.pwc:Pwc",
    "slicreg": "anamorph.methods.slicreg:Slicreg",
    "regression": "anamorph.methods.regression:Regression",
}
DEFAULT_METHOD = "convex"
LINEAR = "linear"


def find_method(name: str) -> type:
    """The method class of a name.

    Raises:
        UserError: there is no such method.
    """
    if name not in METHODS:
        raise UserError(f"there is no method '{name}'; choose one of: {', '.join(METHODS)}")
    module, _, attribute = METHODS[name].partition(":")
    return getattr(import_module(module), attribute)
