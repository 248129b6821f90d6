"""anamorph: registration of 3D medical images that deform a lot.

``result = anamorph.register(fixed, moving)`` returns both directions of the transform. Every transform maps fixed
points to moving points and pulls moving images onto the fixed grid. The public names are listed in ``__init__.pyi``.
"""

import re as _re
from importlib import import_module as _import_module
from pathlib import Path as _Path

__version__ = "0.1.0"

_LISTED = _re.compile(r"^from (\S+) import (\w+) as \2$", _re.MULTILINE)
_STUB = _Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8")
_HOMES = {name: home for home, name in _LISTED.findall(_STUB)}
__all__ = ["__version__", *sorted(_HOMES)]


def __getattr__(name: str) -> object:
    # Imported on first use, so that `anamorph --help` starts at once.
    if name not in _HOMES:
        raise AttributeError(f"module 'anamorph' has no attribute {name!r}")
    return getattr(_import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
