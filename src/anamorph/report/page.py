from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anamorph.errors import AnamorphError
from anamorph.image.atomic import write_text

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"


def fill(template: str, **content: Any) -> str:
    """A page from a template of this package; everything that comes from outside (names, messages) is escaped."""
    from anamorph import __version__

    return _templates().get_template(template).render(content, version=__version__)


@cache
def _templates() -> Environment:
    """The templates of this package, each compiled once."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def inline_script(name: str) -> dict[str, Any]:
    """A script of this package and the hash by which the page's policy allows it, and no other, to run."""
    from markupsafe import Markup

    script = (TEMPLATES / name).read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return {"script": Markup(script), "script_hash": digest}


def drawn(path: Path, draw: Callable[[], object]) -> str | None:
    """Draw a page or a picture, and tell in one line why it could not be drawn; None if it could.

    What was computed is not lost for want of a picture, whatever drawing stumbles over. An earlier file at ``path``,
    which would show something else, does not stay.
    """
    try:
        draw()
    except Exception as error:
        with suppress(OSError):
            path.unlink(missing_ok=True)
        text = " ".join(str(error).split())[:200]
        return text if isinstance(error, AnamorphError) else f"{type(error).__name__}: {text}"
    return None


def save(path: str | os.PathLike[str], page: str) -> None:
    """Write a page; what a file name has that is no text becomes a question mark.

    Raises:
        UserError: the file cannot be written.
        RegistrationFailure: the disk is full.
    """
    write_text(path, page.encode("utf-8", "replace").decode("utf-8"))
