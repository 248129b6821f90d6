"""Lists of what there is: ``anamorph methods`` and ``anamorph metrics``."""

from __future__ import annotations

from typing import Annotated

import typer

from anamorph.cli.console import make_table, show


def methods(
    name: Annotated[str | None, typer.Argument(help="A method, for all of its settings.")] = None,
) -> None:
    """List the methods, or every setting of one: meaning, unit, default and presets."""
    if name is None:
        _show_all()
    else:
        _show_one(name)


def _show_all() -> None:
    from anamorph.errors import UserError
    from anamorph.methods import DEFAULT_METHOD, METHODS, find_method

    table = make_table("method", "what it does", "presets")
    for name in METHODS:
        label = f"{name} (default)" if name == DEFAULT_METHOD else name
        try:
            method = find_method(name)
        except UserError as error:  # of another package: the rest of the list is of use all the same
            table.add_row(label, str(error), "")
        else:
            table.add_row(label, method.summary, ", ".join(method.presets))
    show(table)


def _show_one(name: str) -> None:
    import dataclasses
    from typing import get_type_hints

    from anamorph.methods import find_method
    from anamorph.settings import as_text, describe_kind

    method = find_method(name)
    config, presets = method.Config, method.presets
    kinds = get_type_hints(config)
    show(f"{name}: {method.summary}")
    table = make_table("setting", ">default", "unit", "meaning", title="Settings, changed with --set key=value")
    for field in dataclasses.fields(config):
        meaning = field.metadata.get("meaning", "")
        table.add_row(
            field.name,
            as_text(field.default),
            field.metadata.get("unit", ""),
            f"{meaning} ({describe_kind(kinds[field.name])})",
        )
    show(table)
    table = make_table(
        "preset", "what it changes", title="Presets, chosen by what the scans look like or with --preset"
    )
    for preset, values in presets.items():
        table.add_row(preset, ", ".join(f"{key}={as_text(value)}" for key, value in values.items()) or "nothing")
    show(table)


def metrics() -> None:
    """List what is measured of a registered pair: name, unit, better end, and what the pair must have for it."""
    from anamorph.errors import UserError
    from anamorph.evaluation.metrics import METRICS
    from anamorph.evaluation.metrics.metric import load

    table = make_table("metric", "title", "unit", "better", "needs", "meaning")
    for name in METRICS:
        try:
            metric = load(name)
        except UserError as error:  # of another package: the rest of the list is of use all the same
            table.add_row(name, str(error), "", "", "", "")
        else:
            table.add_row(name, metric.title, metric.unit, metric.better, ", ".join(metric.needs), metric.meaning)
    show(table)
