"""Where models live: in anamorph, in a folder of the user, and in packages that bring models along.

A package brings models by an entry point that names a package of its own, whose folder holds model folders:

    [project.entry-points."anamorph.models"]
    my-models = "my_models"
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from anamorph.errors import UserError
from anamorph.registry import installed

CARD = "model.json"
WEIGHTS = "weights.safetensors"
SOURCE = "source.json"
"""What `anamorph models get` leaves beside a card: where the model came from."""
YOURS = "yours"
GROUP = "anamorph.models"
SHIPPED = Path(__file__).parents[1] / "models"
"""Models under licences that ask for nothing that the code's own does not ask for."""
ELSEWHERE = {"symmetric-hippocampus": "anamorph-models"}
"""Packages of this repository by the models that they bring."""
LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Place:
    """A folder with models, or of one model.

    Args:
        folder: where it lies.
        origin: the package that brought it, with its version, or ``yours``.
    """

    folder: Path
    origin: str


def own_folder() -> Path:
    """The user's models: ``$ANAMORPH_MODELS``, else the folder of the system for the data of programs."""
    from platformdirs import user_data_path

    given = os.environ.get("ANAMORPH_MODELS")
    return Path(given) if given else user_data_path("anamorph", appauthor=False) / "models"


def places() -> Iterator[Place]:
    """All folders with models, in the order in which a name is looked for; packages last, as they take time to find."""
    yield Place(SHIPPED, "anamorph")
    yield Place(own_folder(), YOURS)
    for point in installed(GROUP).values():
        package = point.value if point.dist is None else f"{point.dist.name} {point.dist.version}"
        try:
            spec = find_spec(point.module)  # imports nothing of the package
            folders = [*(spec.submodule_search_locations or ())] if spec is not None else []
        except Exception as error:  # of another package: the other models are of use all the same
            LOG.debug("looking for the models of %s", package, exc_info=error)
            folders = []
        if not folders:
            LOG.warning("%s brings models in '%s', which is no package; install it again", package, point.module)
        yield from (Place(Path(folder), package) for folder in folders)


def known_models() -> dict[str, Place]:
    """The folder of every model by its name; what guides a model lies within its folder.

    Of two models with one name the first of :func:`places` counts.
    """
    found: dict[str, Place] = {}
    for place in places():
        for folder in sorted(card.parent for card in place.folder.rglob(CARD)):
            name = folder.relative_to(place.folder)
            if name.parts and not any(part.startswith(".") for part in name.parts):
                found.setdefault(name.as_posix(), Place(folder, place.origin))
    return found


def find_model(name_or_path: str | Path) -> Path:
    """The folder of a model: a path, else a name. A run folder stands for its model.

    Raises:
        UserError: there is none.
    """
    path, name = Path(name_or_path), str(name_or_path)
    for folder in (path, path / "model"):
        if (folder / CARD).is_file():
            return folder
    for place in places():
        if (place.folder / name / CARD).is_file():
            return place.folder / name
    package = ELSEWHERE.get(path.parts[0] if path.parts else "")
    if package is not None:
        raise UserError(
            f"the model '{name}' is in the package {package}, which is not installed; "
            f"in a clone of anamorph: pip install ./packages/{package}"
        )
    known = ", ".join(sorted(known_models())) or "none"
    raise UserError(f"there is no model '{name}'; name a folder with {CARD}, or one of these: {known}")
