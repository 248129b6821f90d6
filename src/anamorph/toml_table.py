"""Tables of a TOML file that know where they stand, so that a mistake is reported with its line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args, get_origin

from anamorph.errors import UserError
from anamorph.reading import read_text, understood
from anamorph.registry import closest
from anamorph.settings import describe_kind

_NO_DEFAULT: Any = object()
_NAMES = {list: "a list", dict: "a table"}
_HEADER = re.compile(r"\s*\[{1,2}\s*([^\]]+?)\s*\]{1,2}\s*(?:#.*)?$")


class TomlTable:
    """One table of a file: every key is taken once, and what is left over is a mistake.

    Args:
        content: keys and values.
        path: of the file.
        text: of the file.
        name: of the table as its header has it; empty at the top of the file.
        place: which one of an array of tables of this name.
        what: the file is called in messages.
    """

    def __init__(
        self, content: Mapping[str, Any], path: Path, text: str, name: str = "", place: int = 0, what: str = "plan"
    ) -> None:
        self._left, self._what = dict(content), what
        self.path, self._text, self.name, self._place = path, text, name, place
        self._known: list[str] = []

    def has(self, key: str) -> bool:
        """Whether the key is there and was not taken yet."""
        return key in self._left

    def take(self, key: str, kind: Any, default: Any = _NO_DEFAULT) -> Any:
        """The value of a key.

        Args:
            key: its name.
            kind: ``str``, ``int``, ``float``, ``bool``, ``list``, ``dict`` or a ``Literal`` of texts.
            default: the value of a key that is not there.

        Raises:
            UserError: it is of another kind, or missing without a default.
        """
        self._known.append(key)
        if key not in self._left:
            if default is _NO_DEFAULT:
                self.fail(None, f"{self._own()} has no '{key}'; add it")
            return default
        value = self._left.pop(key)
        if get_origin(kind) is Literal:
            if value not in get_args(kind):
                words = [str(option) for option in get_args(kind)]
                self.fail(key, f"{key} is {value!r}{closest(str(value), words)}; choose one of: {', '.join(words)}")
        elif isinstance(value, bool) != (kind is bool) or not isinstance(
            value, (int, float) if kind is float else kind
        ):
            self.fail(key, f"{key} must be {_NAMES.get(kind) or describe_kind(kind)}, not {value!r}")
        return value

    def tables(self, key: str) -> list[TomlTable]:
        """The tables of an array of tables, which is not empty.

        Raises:
            UserError: it is missing, empty or something else.
        """
        rows = self.take(key, list, [])
        if not rows or not all(isinstance(row, dict) for row in rows):
            self.fail(key, f"there is no [[{key}]]; a {self._what} needs at least one")
        return [TomlTable(row, self.path, self._text, key, place, self._what) for place, row in enumerate(rows)]

    def holds_table(self, key: str) -> bool:
        """Whether the key is there and its value is a table."""
        return isinstance(self._left.get(key), dict)

    @property
    def left(self) -> tuple[str, ...]:
        """The keys that were not taken yet."""
        return tuple(self._left)

    def table(self, key: str) -> TomlTable:
        """A table, empty if it is missing.

        Raises:
            UserError: the key holds something else.
        """
        return TomlTable(self.take(key, dict, {}), self.path, self._text, key, what=self._what)

    def done(self) -> None:
        """See that nothing is left.

        Raises:
            UserError: a key is not known.
        """
        for key in self._left:
            self.fail(key, f"{self._own()} has no key '{key}'{closest(key, self._known)}; it has: "
                      f"{', '.join(self._known)}")  # fmt: skip

    def fail(self, key: str | None, reason: str) -> NoReturn:
        """Raise the :class:`UserError` of a mistake with its line."""
        line = _line_of(self._text, self.name, self._place, key)
        raise UserError(f"{self.path.name}, line {line}: {reason}" if line else f"{self.path.name}: {reason}")

    def _own(self) -> str:
        return f"[{self.name}]" if self.name else f"the {self._what}"


def read_toml(path: Path, what: str = "plan") -> TomlTable:
    """The table at the top of a file, which messages call ``what``.

    Raises:
        UserError: it is missing or no TOML.
    """
    with understood(path, "cannot be read", f"name a {what}"):
        text = read_text(path)
    with understood(path, "no TOML", "mend that line"):
        return TomlTable(tomllib.loads(text), path, text, what=what)


def _line_of(text: str, table: str, place: int, key: str | None) -> int | None:
    """The line of a key, or of the header of its table; None where the file has it in another form."""
    own_key = None if key is None else re.compile(rf"\s*[\"']?{re.escape(key)}[\"']?\s*[=.]")
    key_header = re.compile(r"\s*\[+\s*" + re.escape(key or table) + r"\b")
    current, count, of_header = "", -1, None
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            current = header[1]
            count += current == table
            if (count == place and current == table) or (not table and key_header.match(line)):
                of_header = of_header or number
        elif own_key and current == table and count == (place if table else -1) and own_key.match(line):
            return number
    return of_header
