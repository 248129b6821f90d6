from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anamorph.cli.console import make_table, progress_bar, show, warn_of_page
from anamorph.cli.logs import say

if TYPE_CHECKING:
    from anamorph.classification.run import Classification

DATA, FEATURES, MODELS = "Which registrations", "What is looked at", "Models"
READ = 0.2  # share of the whole that is done once the registrations are read


def classify(
    registrations: Annotated[
        Path,
        typer.Argument(
            help="Folder of output folders of `register`, named after the subjects; or of fields, --dataset."
        ),
    ],
    labels: Annotated[Path, typer.Option("--labels", metavar="CSV", help="subject,label: any two words as labels.")],
    out: Annotated[
        Path, typer.Option("-o", "--out", help="Folder to write: classification.json, predictions.csv, report.html.")
    ],
    positive: Annotated[
        str | None,
        typer.Option(metavar="LABEL", help="Predict this one; by default the last in the alphabet."),
    ] = None,
    dataset: Annotated[
        Path | None,
        typer.Option(
            metavar="JSON", help="Take the fields disp_FFFF_MMMM.. of the pairs of a data set.", rich_help_panel=DATA
        ),
    ] = None,
    split: Annotated[
        str, typer.Option(help="Which pairs of the data set: val, test or training.", rich_help_panel=DATA)
    ] = "val",
    affine: Annotated[
        str,
        typer.Option(
            help="Affine part: taken away if kept apart, fitted, or keep it; auto: apart if all have one.",
            rich_help_panel=FEATURES,
        ),
    ] = "auto",
    cells: Annotated[
        int, typer.Option(help="Of the common grid, along its longest side.", rich_help_panel=FEATURES)
    ] = 32,
    box: Annotated[
        float | None,
        typer.Option(
            metavar="MM",
            help="Longest side of the common grid; the field of view by default.",
            rich_help_panel=FEATURES,
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(help="summaries, field or cnn; repeatable, all by default.", rich_help_panel=MODELS),
    ] = None,
    folds: Annotated[int, typer.Option(help="Of patients, each predicted by the others.", rich_help_panel=MODELS)] = 5,
    repeats: Annotated[int, typer.Option(help="Cuts into folds, averaged over.", rich_help_panel=MODELS)] = 3,
    permutations: Annotated[
        int, typer.Option(help="Of the labels, for the simple models; 0: none.", rich_help_panel=MODELS)
    ] = 200,
    epochs: Annotated[int, typer.Option(help="Of the network.", rich_help_panel=MODELS)] = 50,
    rate: Annotated[
        float, typer.Option(help="Learning rate of the network, halved every 50 epochs.", rich_help_panel=MODELS)
    ] = 1e-3,
    device: Annotated[str, typer.Option(help="Of the network: auto, cpu or cuda.", rich_help_panel=MODELS)] = "auto",
    seed: Annotated[int, typer.Option(help="Of every random choice.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier result.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print the table only.")] = False,
) -> None:
    """Ask whether the deformation that registrations found tells a label of the patients: ill or not, say.

    Two simple models (a few numbers of the deformation; its principal components) and a shallow network are
    cross-validated by patient: nobody is predicted by a model that has seen any scan of them.
    """
    from anamorph.classification.features import FeatureSettings, read_cohort
    from anamorph.classification.registrations import find_fields, find_results, read_label_table
    from anamorph.classification.run import MODELS as ALL
    from anamorph.classification.run import RESULTS, Plan, write_files
    from anamorph.classification.run import classify as run
    from anamorph.data.manifest import read_dataset
    from anamorph.evaluation.cohort import REPORT
    from anamorph.evaluation.predictions import opened
    from anamorph.image.atomic import atomic_directory
    from anamorph.report.classification import write_classification_page
    from anamorph.report.page import drawn

    table = read_label_table(labels, positive)
    inputs = [path for path in (registrations, labels, dataset) if path is not None]
    plan = Plan(tuple(model or ALL), folds, repeats, permutations, seed, epochs, device, rate)
    settings = FeatureSettings(affine, cells, box)  # type: ignore[arg-type]
    with (
        atomic_directory(out, overwrite, marker=RESULTS, inputs=inputs) as folder,
        opened(registrations) as place,
        progress_bar(quiet) as progress,
    ):
        if dataset is None:
            found = find_results(place, table)
        else:
            found = find_fields(place, table, read_dataset(dataset), split)  # type: ignore[arg-type]
        plan.check(found)
        cohort = read_cohort(found, settings, lambda stage, share: progress(stage, READ * share))
        outcome = run(
            cohort,
            (table.negative, table.positive),
            plan,
            lambda stage, share: progress(stage, READ + (1 - READ) * share),
        )
        write_files(folder, outcome)
        page = folder / REPORT
        warn_of_page(drawn(page, lambda: write_classification_page(page, outcome)))
    _print(outcome)
    for warning in outcome.warnings:
        say(f"warning: {warning}", quiet)
    say(f"wrote {out}", quiet)


def _print(outcome: Classification) -> None:
    negative, positive = outcome.words
    title = f"{positive} ({outcome.positive.sum()}) against {negative} ({(~outcome.positive).sum()})"
    table = make_table(
        "model", ">AUC", ">95 %", ">accuracy", ">balanced", ">sensitivity", ">specificity", ">p", title=title
    )
    for model in outcome.models:
        scores, shuffled = model.scores, model.permutation
        table.add_row(
            model.name,
            f"{scores.auc:.3f}",
            "{:.2f} to {:.2f}".format(*scores.auc_interval),
            f"{scores.accuracy.value:.3f}",
            f"{scores.balanced_accuracy:.3f}",
            f"{scores.sensitivity.value:.3f}",
            f"{scores.specificity.value:.3f}",
            "" if shuffled is None else f"{shuffled.p_value:.3f}",
        )
    show(table)
