"""The commands of ``anamorph predict``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anamorph.cli.console import make_table, progress_bar, show
from anamorph.cli.guard import Group, add_command
from anamorph.cli.logs import say

predict = typer.Typer(cls=Group, no_args_is_help=True, help="Use a trained network on whole data sets.")


@predict.callback()
def root() -> None:
    """Use a trained network on whole data sets."""


def segment(
    dataset: Annotated[
        list[Path],
        typer.Option(metavar="JSON", help="A cohort: its *_dataset.json, or the folder that holds it; repeatable."),
    ],
    model: Annotated[str, typer.Option(help="Of `anamorph train segment`: a run, a model folder, or a name.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder with a new data set per cohort, by its name.")],
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace earlier label maps.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print errors only.")] = False,
) -> None:
    """Give every scan a complete label map: known labels where there are, predicted ones elsewhere.

    A label that a scan annotates (annotated_labels of its entry or of the manifest, else all) is taken from its own map
    and never predicted. Labels go by their names and get the numbers of the model. The new manifests name the original
    scans.
    """
    from anamorph.data import read_dataset
    from anamorph.errors import UserError
    from anamorph.networks.segmentation_model import KIND, SegmentationModel
    from anamorph.runtime.device import resolve_device
    from anamorph.training.pseudo_labels import predict_dataset

    cohorts = [read_dataset(one) for one in dataset]
    names = [one.name for one in cohorts]
    if len(set(names)) < len(names):
        raise UserError(f"two data sets have the same name ({', '.join(names)}); rename one in its manifest")
    loaded = SegmentationModel.load(model, KIND, resolve_device(device))
    table = make_table("cohort", ">scans", "known", "predicted")
    for cohort in cohorts:
        with progress_bar(quiet) as progress:
            made = predict_dataset(loaded, cohort, out / cohort.name, overwrite=overwrite, progress=progress)
        known = made.extra["pseudo_labels"]["known"]
        predicted = [label for label in loaded.labels if label not in known]
        table.add_row(str(made.path), str(len(made.cases)), _list(known), _list(predicted))
    say("predicted labels are noisy: train on them first, then on labels that people made", quiet)
    if not quiet:
        show(table)


def _list(labels: list[int]) -> str:
    return ", ".join(map(str, labels)) or "none"


add_command(predict, segment, "segment")
