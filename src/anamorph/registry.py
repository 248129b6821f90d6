"""What other packages can add: a table of things by name, found through entry points.

A package adds a method by one line in its ``pyproject.toml``, and it is there on the command line, in Python and in
the workers of cohorts:

    [project.entry-points."anamorph.methods"]
    toy = "toy_package:Toy"
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from anamorph.errors import UserError


@dataclass(frozen=True)
class Registry:
    """Things of one kind by name: those of this package, then those of others.

    Args:
        group: of the entry points, such as ``anamorph.methods``.
        noun: what one of them is called in messages.
        own: ``"module:attribute"`` by name; imported when it is asked for.
    """

    group: str
    noun: str
    own: Mapping[str, str]

    def __iter__(self) -> Iterator[str]:
        """All names, those of this package first."""
        return iter([*self.own, *sorted(set(self._others()) - set(self.own))])

    def find(self, name: str) -> Any:
        """The thing of a name.

        Raises:
            UserError: there is none, or the package that adds it cannot be imported.
        """
        if name in self.own:
            module, _, attribute = self.own[name].partition(":")
            return getattr(import_module(module), attribute)
        others = self._others()
        if name not in others:
            names = list(self)
            raise UserError(
                f"there is no {self.noun} '{name}'{closest(name, names)}; choose one of: {', '.join(names)}"
            )
        try:
            return others[name].load()
        except Exception as error:
            distribution = others[name].dist
            package = others[name].value if distribution is None else distribution.name
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UserError(f"{self.noun} '{name}' of the package {package} cannot be loaded: {reason}") from error

    def _others(self) -> Mapping[str, EntryPoint]:
        return installed(self.group)


def installed(group: str) -> Mapping[str, EntryPoint]:
    """What installed packages add to a group, by name."""
    return _entry_points(group, tuple(sys.path))


@cache
def _entry_points(group: str, path: tuple[str, ...]) -> dict[str, EntryPoint]:
    """Looked for once for a search path: that takes as long as measuring a small pair."""
    return {point.name: point for point in entry_points(group=group)}


def closest(word: str, words: Iterable[str]) -> str:
    """``" (did you mean 'x'?)"`` when a name is near, else nothing."""
    found = difflib.get_close_matches(word, list(words), n=1, cutoff=0.5)
    return f" (did you mean '{found[0]}'?)" if found else ""
