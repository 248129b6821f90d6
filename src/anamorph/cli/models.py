"""The commands of ``anamorph models``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anamorph.cli.console import make_table, show
from anamorph.cli.guard import Group, add_command

models = typer.Typer(cls=Group, no_args_is_help=True, help="List, describe and check models.")
Model = Annotated[str, typer.Argument(help="A name of `anamorph models list`, a model folder, or a run folder.")]


def list_models(
    folder: Annotated[Path | None, typer.Argument(help="Also look in the folders below this one.")] = None,
) -> None:
    """List the models that come with anamorph, and those below a folder."""
    from anamorph.networks.model import CARD, SHIPPED, read_card, shipped_models

    found = {name: SHIPPED / name for name in shipped_models()}
    if folder is not None:
        found |= {str(path.parent): path.parent for path in sorted(folder.rglob(CARD))}
    table = make_table("model", "kind", ">parameters", "licence", "what it is", paths_first=folder is not None)
    for name, one in found.items():
        card = read_card(one)
        table.add_row(name, card.kind, f"{card.parameters:,}", card.licence, card.summary)
    show(table if found else "no models; train one with `anamorph train`")


def show_model(model: Model) -> None:
    """Describe a model: what it expects, what it was trained on, how good it was, its licence."""
    from anamorph.networks.model import find_model, read_card

    folder = find_model(model)
    card = read_card(folder)
    show(f"{card.name} ({card.kind}): {card.summary}")
    table = make_table("", "", title=str(folder))
    table.show_header = False
    for key in ("licence", "attribution", "parameters", "sha256", "anamorph"):
        table.add_row(key, str(getattr(card, key)))
    for part in ("architecture", "preprocessing", "labels", "metrics"):
        for key, value in getattr(card, part).items():
            table.add_row(f"{part}: {key}", f"{value:.4f}" if isinstance(value, float) else str(value))
    for one in card.training_data:
        scans = ", ".join(f"{count} {split}" for split, count in one.get("scans", {}).items())
        table.add_row(
            f"trained on: {one.get('name', '?')}", f"scans: {scans}; sha256 {one.get('sha256', 'not stated')}"
        )
    show(table)


def check_model(model: Model) -> None:
    """See that the weights are those of the card and fit the network it describes; exit code 2 if not."""
    from typing import get_args

    from anamorph.networks.model import Model, find_model, read_card
    from anamorph.networks.template_model import Kind, TemplateModel

    folder = find_model(model)
    one = TemplateModel if read_card(folder).kind in get_args(Kind) else Model
    card = one.load(folder).card
    show(f"{folder}: sound ({card.kind}, {card.parameters:,} parameters, sha256 {card.sha256[:12]})")


add_command(models, list_models, "list")
add_command(models, show_model, "show")
add_command(models, check_model, "check")
