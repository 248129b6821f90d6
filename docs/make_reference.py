"""The reference pages that are written from the code and from cards: commands, settings, metrics and models.

Usage: python docs/make_reference.py
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_type_hints

import typer

from anamorph.cli.main import app
from anamorph.evaluation.metrics import METRICS
from anamorph.evaluation.metrics.metric import columns_of, load
from anamorph.methods import DEFAULT_METHOD, METHODS
from anamorph.networks.model import ModelCard, read_card
from anamorph.networks.model_folders import CARD
from anamorph.registration.folder import DESCRIPTIONS
from anamorph.settings import as_text, describe_kind
from anamorph.training import TASKS
from anamorph.training.settings import LoopSettings
from anamorph.transforms.files import FORMATS

FOLDER = Path(__file__).parent / "reference"
MODELS = {"anamorph": "src/anamorph/models", "anamorph-models": "packages/anamorph-models/src/anamorph_models"}
"""Folders of the models that are shipped, by the distribution that brings them."""
NOTE = "<!-- Written by docs/make_reference.py from the code; edit there. -->\n"


def pages() -> dict[str, str]:
    """Text of each page by its file name."""
    return {
        "cli.md": cli_page(),
        "settings.md": settings_page(),
        "metrics.md": metrics_page(),
        "models.md": models_page(),
    }


def cli_page() -> str:
    """Every command with its arguments and options."""
    commands = dict(_commands(typer.main.get_command(app)))
    names = ", ".join(f"[`{name}`](#anamorph-{name.replace(' ', '-')})" for name in commands)
    parts = [
        NOTE,
        "# Command line\n",
        f"Commands: {names}. `anamorph COMMAND --help` prints the same text; `anamorph --version` the version.\n",
        "Results go to standard output, progress and news to standard error. Exit code 0: done. 2: the input or the "
        "options are wrong. 1: the run failed. 3: the verdict is one that `--fail-on` names. 130: "
        "interrupted. An error is one line that starts with `error:` and "
        "ends with the remedy; `ANAMORPH_DEBUG=1` shows the traceback. Without `--fail-on` the verdict of a "
        "registration is no exit code: read `status` in `result.json`.\n",
    ]
    for name, command in commands.items():
        parts += _command(name, command)
        if name == "register":
            parts.append("### What is in the folder\n")
            parts.append(_table(("file", "content"), ((f"`{file}`", text) for file, text in DESCRIPTIONS.items())))
            parts.append(
                "`warped_labels.nii.gz` needs `--moving-labels`, the `.h5` files `--composite`. The keys of "
                "`result.json` are in [file formats](file-formats.md#resultjson).\n"
            )
        if name == "convert":
            rows = (
                (f"`{kind}`", ", ".join(FORMATS.find(kind).suffixes), FORMATS.find(kind).summary)
                for kind in FORMATS.own
            )
            parts.append(_table(("format", "suffixes", "what it is"), rows))
    return "\n".join(parts)


def _commands(group: Any, prefix: str = "") -> Iterable[tuple[str, Any]]:
    """Every command by its full name, those of groups included."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command


def _command(name: str, command: Any) -> list[str]:
    shown = [one for one in command.params if not getattr(one, "hidden", False)]
    arguments = [one for one in shown if one.param_type_name == "argument"]
    usage = " ".join(_argument(one) for one in arguments)
    text = "\n".join(line.strip() for line in command.help.splitlines())
    parts = [
        f"## anamorph {name}\n",
        f"{text}\n",
        f"```text\nanamorph {name} {usage + ' ' if usage else ''}[OPTIONS]\n```\n",
    ]
    if arguments:
        parts.append(_table(("argument", "meaning"), ((f"`{_argument(one)}`", one.help) for one in arguments)))
    options = [one for one in shown if one.param_type_name == "option"]
    if not options:
        return parts
    rows = ((_option(one), one.help + (" **Required.**" if one.required else ""), _default(one)) for one in options)
    parts.append(_table(("option", "meaning", "default"), rows))
    return parts


def _argument(parameter: Any) -> str:
    name = parameter.metavar or parameter.name.upper()
    return name if parameter.required else f"[{name}]"


def _option(parameter: Any) -> str:
    if parameter.is_flag:
        return ", ".join(f"`{name}`" for name in parameter.opts)
    value = (
        parameter.metavar
        or next(name for name in parameter.opts if name.startswith("--")).lstrip("-").replace("-", "_").upper()
    )
    return ", ".join(f"`{name} {value}`" for name in parameter.opts)


def _default(parameter: Any) -> str:
    return "" if parameter.is_flag or parameter.default is None else f"`{parameter.default}`"


def settings_page() -> str:
    """Settings and presets of every method and training."""
    parts = [
        NOTE,
        "# Settings\n",
        "Every setting of every method, as `anamorph methods NAME` prints them. Change one with `--set key=value` or "
        '`anamorph.register(..., settings={"key": value})`; several values are joined by commas '
        "(`--set search_scales=4,2`). What you ask for goes before the preset, the preset before the default. "
        "How to choose: [settings and presets](../how-to/choose-settings-and-presets.md).\n",
    ]
    for name in METHODS:
        method: Any = METHODS.find(name)
        parts += _described(f"`{name}`{' (default method)' if name == DEFAULT_METHOD else ''}", method)
    parts += [
        "## Trainings\n",
        "Settings of `anamorph train`, likewise changed with `--set key=value`: those that every training has, then "
        "those of each task. A preset may change both. How to train: [train a model](../how-to/train-a-model.md).\n",
        _settings(LoopSettings),
    ]
    for name in TASKS:
        parts += _described(f"`train {name}`", TASKS.find(name))
    return "\n".join(parts)


def metrics_page() -> str:
    """Every metric in the order of reports."""
    columns = [column for name in METRICS for column in columns_of(load(name))]
    rows = (
        (
            f"`{column.name}`",
            column.title,
            column.metric.unit,
            column.metric.better,
            ", ".join(column.metric.needs),
            column.metric.per,
            column.metric.meaning,
        )
        for column in columns
    )
    return "\n".join(
        [
            NOTE,
            "# Metrics\n",
            "What is measured of a registered pair: `register`, `evaluate` and cohorts measure by one engine and print "
            "the same numbers for the same pair. The name is the column of CSV and of `results.json`; `anamorph rank "
            "--metric NAME` ranks by it. How each is defined: [the verdict](verdict.md#how-the-numbers-are-measured). "
            "How to add one: [add a metric](../how-to/add-a-metric.md).\n",
            _table(("name", "title", "unit", "better", "needs", "one value per", "meaning"), rows),
        ]
    )


def models_page() -> str:
    """The cards of all models that are shipped."""
    parts = [
        NOTE,
        "# Models\n",
        "The card of each network that is shipped, as its `model.json` says; `anamorph models show NAME` also prints "
        "architecture and preprocessing. [Get others, or train your own](../how-to/train-a-model.md). "
        "None is for decisions about patients: [intended use](../concepts/intended-use.md).\n",
    ]
    for package, folder in MODELS.items():
        root = FOLDER.parents[1] / folder
        for path in sorted(root.rglob(CARD), key=lambda path: len(path.parts)):
            parts += _card(read_card(path.parent), package)
    return "\n".join(parts)


def _card(card: ModelCard, package: str) -> list[str]:
    data = "; ".join(
        f"{one['name']}: {', '.join(f'{count} {split}' for split, count in one['scans'].items() if count)} "
        f"({one['licence']})"
        for one in card.training_data
    )
    rows = (
        ("what it does", f"{card.kind}: {card.summary}"),
        ("comes with", f"`{package}`"),
        ("trained on", data),
        ("whom to name", card.attribution),
        ("licence of the weights", card.licence),
        ("labels", ", ".join(f"{value} {name}" for value, name in card.labels.items())),
        ("measured on", card.measured_on),
        ("measured", ", ".join(f"{name} {value:.3f}" for name, value in card.metrics.items())),
        ("**not for**", card.not_for),
        ("parameters", f"{card.parameters:,}"),
        ("weights, SHA-256", f"`{card.sha256}`"),
    )
    return [f"## {card.name}\n", _table(("", ""), rows)]


def _described(title: str, owner: Any) -> list[str]:
    """Settings and presets of a method or of the task of a training."""
    presets = ((f"`{preset}`", _changes(values)) for preset, values in owner.presets.items())
    return [
        f"## {title}\n",
        f"{owner.summary[0].upper()}{owner.summary[1:]}.\n",
        _settings(owner.Config),
        "### Presets\n",
        _table(("preset", "what it changes"), presets),
    ]


def _settings(config: Any) -> str:
    kinds = get_type_hints(config)
    rows = (
        (
            f"`{field.name}`",
            f"`{as_text(field.default)}`" if as_text(field.default) else "",
            field.metadata["unit"],
            f"{field.metadata['meaning']} ({describe_kind(kinds[field.name])})",
        )
        for field in dataclasses.fields(config)
    )
    return _table(("setting", "default", "unit", "meaning"), rows)


def _changes(values: dict[str, Any]) -> str:
    return ", ".join(f"`{key}={as_text(value)}`" for key, value in values.items()) or "nothing"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


if __name__ == "__main__":
    for file, text in pages().items():
        (FOLDER / file).write_text(text, encoding="utf-8")
