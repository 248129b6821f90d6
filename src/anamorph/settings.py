"""A method's settings: defaults, then the preset, then what the user asked for."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints

from anamorph.errors import UserError
from anamorph.registry import closest

if TYPE_CHECKING:
    from anamorph.methods.base import Method

GivenSettings = Mapping[str, Any] | Iterable[str] | None
"""A mapping of names to values, or strings such as ``"search_radius_mm=32"``."""


def make_config(
    method: type[Method],
    preset: str,
    given: GivenSettings = None,
    patient_mm: float = 1.0,
    same_patient: bool = False,
) -> Any:
    """The config of a method.

    Args:
        method: whose settings they are.
        preset: one of ``method.presets``, or ``"default"`` for none.
        given: settings that go before the preset's.
        patient_mm: what stands for a millimetre of the preset, whose lengths were chosen on patients, in these scans.
        same_patient: whether the method's settings for two dates of one patient go before the preset's.

    Raises:
        UserError: an unknown preset or setting, or a value of the wrong type or out of its range.
    """
    config = method.Config
    lengths = {one.name for one in dataclasses.fields(config) if one.metadata.get("unit") == "mm"}
    chosen = preset_settings(method, preset)
    values = {key: _scaled(value, patient_mm) if key in lengths else value for key, value in chosen.items()}
    values |= method.same_patient if same_patient else {}
    values.update(parse_settings(config, given, method.name))
    try:
        return config(**values)
    except ValueError as error:
        raise UserError(f"--set: {error}") from error


def preset_settings(method: type[Method], preset: str) -> dict[str, Any]:
    """What a preset changes.

    Raises:
        UserError: the method has no such preset.
    """
    presets = method.presets
    if preset == "default":
        return {}
    if preset not in presets:
        names = [*presets, "default", "auto"]
        raise UserError(f"there is no preset '{preset}'{closest(preset, names)}; choose one of: {', '.join(names)}")
    return presets[preset]


def _scaled(lengths: Any, factor: float) -> Any:
    return tuple(one * factor for one in lengths) if isinstance(lengths, tuple) else lengths * factor


def parse_settings(config: type, given: GivenSettings, method_name: str) -> dict[str, Any]:
    """Check names and bring values to the types of the config's fields.

    Raises:
        UserError: the setting is unknown or its value has the wrong type.
    """
    kinds = get_type_hints(config)
    renamed = {field.name: field.metadata.get("renamed", {}) for field in dataclasses.fields(config)}
    names = list(renamed)
    pairs = given.items() if isinstance(given, Mapping) else [_split(text) for text in given or ()]
    values = {}
    for key, value in pairs:
        if key not in names:
            raise UserError(
                f"method '{method_name}' has no setting '{key}'{closest(key, names)}; it has: {', '.join(names)}"
            )
        try:
            values[key] = coerce(value, kinds[key])
        except (ValueError, TypeError, OverflowError):
            if str(value) in renamed[key]:
                raise UserError(f"{key}={value} is now called {key}={renamed[key][str(value)]}") from None
            if get_origin(kinds[key]) is Literal:
                choices = [str(option) for option in get_args(kinds[key])]
                raise UserError(
                    f"method '{method_name}' has no {key}={value}{closest(str(value), choices)}; "
                    f"choose one of: {', '.join(choices)}"
                ) from None
            raise UserError(f"setting {key} must be {describe_kind(kinds[key])}, not {value!r}") from None
    return values


def coerce(value: Any, kind: Any) -> Any:
    """Bring a value, often text of the command line, to the type of a field.

    Raises:
        ValueError: it cannot be read as that type.
    """
    origin, options = get_origin(kind), get_args(kind)
    if origin is Literal:
        for option in options:
            if str(option) == str(value):
                return option
        raise ValueError(value)
    if origin in (Union, types.UnionType):
        return _coerce_union(value, options)
    if origin is tuple:
        return _coerce_tuple(value, options)
    if kind is bool:
        words = {
            "true": True,
            "yes": True,
            "on": True,
            "1": True,
            "false": False,
            "no": False,
            "off": False,
            "0": False,
        }
        if str(value).lower() not in words:
            raise ValueError(value)
        return words[str(value).lower()]
    if isinstance(value, bool):
        raise ValueError(value)
    if kind is int:
        if float(value) != int(float(value)):
            raise ValueError(value)
        return int(float(value))
    if kind is float:
        return float(value)
    return str(value)


def _coerce_union(value: Any, options: tuple[Any, ...]) -> Any:
    if types.NoneType in options and (value is None or str(value).lower() == "none"):
        return None
    for option in options:
        if option is not types.NoneType:
            try:
                return coerce(value, option)
            except (ValueError, TypeError, OverflowError):
                continue
    raise ValueError(value)


def _coerce_tuple(value: Any, options: tuple[Any, ...]) -> tuple[Any, ...]:
    parts = _listed(value.strip("()[] ")) if isinstance(value, str) else list(value)
    if len(options) == 2 and options[1] is Ellipsis:
        return tuple(coerce(part, options[0]) for part in parts)
    if len(parts) != len(options):
        raise ValueError(value)
    return tuple(coerce(part, option) for part, option in zip(parts, options, strict=True))


def _listed(text: str) -> list[str]:
    """The parts of a list as text; an empty text is an empty list."""
    return [part.strip() for part in text.split(",")] if text else []


def describe_kind(kind: Any) -> str:
    """How messages and tables name a type."""
    origin, options = get_origin(kind), get_args(kind)
    if origin is Literal:
        return "one of " + "|".join(map(str, options))
    if origin in (Union, types.UnionType):
        return " or ".join("none" if option is types.NoneType else describe_kind(option) for option in options)
    if origin is tuple:
        if len(options) == 2 and options[1] is Ellipsis:
            return f"a list such as 4,2,1, each {describe_kind(options[0])}"
        return f"{len(options)} values, each {describe_kind(options[0])}"
    return {int: "a whole number", float: "a number", bool: "true or false", str: "text"}.get(kind, str(kind))


def as_text(value: Any) -> str:
    """A value as ``--set`` takes it."""
    return ",".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


def _split(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UserError(f"--set wants key=value, not '{text}'")
    return key.strip(), value.strip()
