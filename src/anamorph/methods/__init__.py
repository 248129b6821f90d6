"""One file per registration method, and the table of their names."""

from anamorph.registry import Registry

METHODS = Registry(
    "anamorph.methods",
    "method",
    {
        "convex": "anamorph.methods.convex:Convex",
        "linear": "anamorph.methods.linear:Linear",
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
