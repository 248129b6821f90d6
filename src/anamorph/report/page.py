from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path
from typing import Any

from anamorph.image.atomic import atomic_path

TEMPLATES = Path(__file__).parent / "templates"


def fill(template: str, **content: Any) -> str:
    """A page from a template of this package; everything that comes from outside (names, messages) is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    from anamorph import __version__

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(content, version=__version__)


def inline_script(name: str) -> dict[str, Any]:
    """A script of this package and the hash by which the page's policy allows it, and no other, to run."""
    from markupsafe import Markup

    script = (TEMPLATES / name).read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return {"script": Markup(script), "script_hash": digest}


def save(path: str | os.PathLike[str], page: str) -> None:
    """Write a page; what a file name has that is no text becomes a question mark.

    Raises:
        UserError: the file cannot be written.
        RegistrationFailure: the disk is full.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="replace")
