"""Where models live: in anamorph, in a folder of the user, to which they can be brought, and in packages.

A package brings models by an entry point that names a package of its own, whose folder holds model folders:

    [project.entry-points."anamorph.models"]
    my-models = "my_models"
"""

from __future__ import annotations

import dataclasses
import errno
import json
import logging
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import EntryPoint
from importlib.util import find_spec
from pathlib import Path

from anamorph.errors import RegistrationFailure, UserError
from anamorph.image.atomic import atomic_directory, write_text
from anamorph.registry import installed
from anamorph.types import Progress

CARD = "model.json"
WEIGHTS = "weights.safetensors"
YOURS = "yours"
GROUP = "anamorph.models"
SHIPPED = Path(__file__).parents[1] / "models"
"""Models under licences that ask for nothing that the code's own does not ask for."""
ELSEWHERE = {"symmetric-hippocampus": "anamorph-models"}
"""Packages of this repository by the models that they bring."""
LOG = logging.getLogger(__name__)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


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
    given = os.environ.get("ANAMORPH_MODELS")
    if given:
        return Path(given)
    from platformdirs import user_data_path

    return user_data_path("anamorph", appauthor=False) / "models"


def places() -> Iterator[Place]:
    """All folders with models, in the order in which a name is looked for; packages last, as they take time to find."""
    yield Place(SHIPPED, "anamorph")
    yield Place(own_folder(), YOURS)
    yield from _brought(tuple(installed(GROUP).values()), tuple(sys.path))


@cache
def _brought(points: tuple[EntryPoint, ...], path: tuple[str, ...]) -> list[Place]:
    """The folders that packages bring, looked for once for a search path: a guide asks for its model many times."""
    found: list[Place] = []
    for point in points:
        package = point.value if point.dist is None else f"{point.dist.name} {point.dist.version}"
        try:
            spec = find_spec(point.module)  # imports nothing of the package
            folders = [*(spec.submodule_search_locations or ())] if spec is not None else []
        except Exception as error:  # of another package: the other models are of use all the same
            LOG.debug("looking for the models of %s", package, exc_info=error)
            folders = []
        if not folders:
            LOG.warning("%s brings models in '%s', which is no package; install it again", package, point.module)
        found += (Place(Path(folder), package) for folder in folders)
    return found


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
    folder = _found(name_or_path)
    if folder is not None:
        return folder
    path, name = Path(name_or_path), str(name_or_path)
    known, first = known_models(), path.parts[0] if path.parts else ""
    package = ELSEWHERE.get(first)
    if package is not None and first not in known:
        raise UserError(
            f"the model '{name}' is in the package {package}, which is not installed; "
            f"in a clone of anamorph: pip install ./packages/{package}"
        )
    names = ", ".join(sorted(known)) or "none"
    raise UserError(f"there is no model '{name}'; name a folder with {CARD}, or one of these: {names}")


def is_model(name_or_path: str | Path) -> bool:
    """Whether :func:`find_model` finds a model."""
    return _found(name_or_path) is not None


def _found(name_or_path: str | Path) -> Path | None:
    path = Path(name_or_path)
    for folder in (path, path / "model"):
        if (folder / CARD).is_file():
            return folder
    return next((p.folder / path for p in places() if (p.folder / path / CARD).is_file()), None)


def get_model(
    source: str,
    name: str | None = None,
    sha256: str | None = None,
    *,
    overwrite: bool = False,
    progress: Progress = lambda stage, fraction: None,
) -> Path:
    """Put a model among the user's own, where its name finds it.

    Args:
        source: a model folder or a run, a ``.zip`` or ``.tar.gz`` of a model folder, or the URL of such an archive.
        name: under which it is found; by default the name on its card.
        sha256: hash that the archive must have; a URL needs one.
        overwrite: replace an earlier model of the user with this name.
        progress: called while a URL is loaded.

    Returns:
        its folder.

    Raises:
        UserError: there is no such source, another hash, damage, files that are no part of a model, paths or links
            that lead elsewhere, or a name that is taken.
        RegistrationFailure: the disk is full.
    """
    from anamorph.networks.model import read_card
    from anamorph.networks.model_sources import SOURCE, archive_of, hash_of, model_in, parts_of, unpack, without_secrets
    from anamorph.networks.trained import check_model

    if name is not None:
        _free_place(name, overwrite)
    expected = hash_of(sha256)
    with tempfile.TemporaryDirectory(prefix="anamorph-") as scratch, _full_disk_reported():
        archive = archive_of(source, expected, Path(scratch), progress)
        shown = without_secrets(source)
        if archive is None:
            folder = find_model(Path(source))
        else:
            folder = Path(scratch) / "unpacked"
            with _named(archive, shown):
                unpack(archive, folder, shown)
            folder = model_in(folder, shown)
        parts = parts_of(folder, shown)
        with _named(folder, shown):
            target = _free_place(name or read_card(folder).name, overwrite)
        with atomic_directory(target, overwrite, marker=CARD, inputs=[folder]) as made, _named(made, shown):
            for part in parts:
                (made / part).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(folder / part, made / part)
            for card in sorted(made.rglob(CARD)):
                check_model(card.parent)
            record = {"source": shown, "sha256": expected, "date": datetime.now(UTC).isoformat(timespec="seconds")}
            write_text(made / SOURCE, json.dumps(record, indent=2) + "\n")
    return target


def shrink_model(name_or_path: str | Path, out: Path, *, overwrite: bool = False) -> Path:
    """Copy a model folder with its weights, and those of its guide, in 8 bits.

    The card says so beside what it was measured on: with weights of 32 bits.

    Args:
        name_or_path: a folder, or a name that :func:`~anamorph.networks.model_folders.find_model` knows.
        out: the new folder.
        overwrite: replace an earlier model in it.

    Returns:
        the new folder.

    Raises:
        UserError: no such model, one that is damaged, in 8 bits already, or not finite; or a folder that is taken.
    """
    from anamorph.networks.model_sources import parts_of

    source = find_model(name_or_path)
    with atomic_directory(out, overwrite, marker=CARD, inputs=[source]) as made:
        for part in parts_of(source, str(name_or_path)):
            target = made / part
            target.parent.mkdir(parents=True, exist_ok=True)
            if part.name == CARD:
                _shrink(source / part.parent, target.parent)
            elif part.name != WEIGHTS:
                shutil.copyfile(source / part, target)
    return out


def _shrink(source: Path, target: Path) -> None:
    from anamorph.networks.eight_bits import in_eight_bits
    from anamorph.networks.model import load_weights, save_model

    card, state = load_weights(source)
    if "eight_bits_of" in card.provenance:
        raise UserError(f"{source}: its weights are in 8 bits already; copy the folder as it is")
    measured = f"{card.measured_on}; with weights of 32 bits" if card.metrics else card.measured_on
    told = card.provenance | {"eight_bits_of": card.sha256}
    try:
        save_model(
            target, state, dataclasses.replace(card, measured_on=measured, provenance=told), kept_as=in_eight_bits
        )
    except ValueError as error:
        raise UserError(f"{source}: {error}; train it again") from error


def _free_place(name: str, overwrite: bool) -> Path:
    """The folder of a new model of the user.

    Raises:
        UserError: the name can be none of a folder, or is taken.
    """
    if not _NAME.fullmatch(name):
        raise UserError(
            f"'{name[:60]}' cannot be the name of a model folder; give --name with letters, digits, '.', '_' and '-'"
        )
    taken = known_models().get(name)
    if taken is not None and taken.origin != YOURS:
        raise UserError(f"{taken.origin} brings a model '{name}' already; give this one another name with --name")
    target = own_folder() / name
    if target.exists() and not overwrite:
        raise UserError(f"{target} is there already; give this model another name with --name, or pass --overwrite")
    return target


@contextmanager
def _named(folder: Path, shown: str) -> Iterator[None]:
    """Say of a temporary folder what it was made from."""
    try:
        yield
    except UserError as error:
        raise UserError(str(error).replace(str(folder), shown)) from error


@contextmanager
def _full_disk_reported() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise RegistrationFailure(f"the disk is full: no room for the model in {tempfile.gettempdir()}") from error
