"""What there is, and the use of trained networks: ``anamorph methods``, ``metrics``, ``models`` and ``predict``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anamorph.cli.console import make_table, progress_bar, show
from anamorph.cli.guard import Group, add_command
from anamorph.cli.logs import say

if TYPE_CHECKING:
    from anamorph.networks.trained import SegmentationModel

models = typer.Typer(cls=Group, no_args_is_help=True, help="List, describe, check, get and shrink models.")
Model = Annotated[str, typer.Argument(help="A name of `anamorph models list`, a model folder, or a run folder.")]


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


def list_models(
    folder: Annotated[Path | None, typer.Argument(help="Also look in the folders below this one.")] = None,
) -> None:
    """List the models that are found by name, with where they come from, and those below a folder."""
    from anamorph.errors import UserError
    from anamorph.networks.model import read_card
    from anamorph.networks.model_folders import CARD, Place, known_models
    from anamorph.networks.model_sources import source_of

    found = known_models()
    if folder is not None:
        found |= {str(path.parent): Place(path.parent, "this folder") for path in sorted(folder.rglob(CARD))}
    columns = ("model", "kind", ">parameters", "licence", "from", "what it is")
    table = make_table(*columns, paths_first=folder is not None)
    for name, place in found.items():
        origin = source_of(place.folder) or place.origin
        try:
            card = read_card(place.folder)
        except UserError as error:  # the rest of the list is of use all the same
            table.add_row(name, "", "", "", origin, str(error))
        else:
            table.add_row(name, card.kind, f"{card.parameters:,}", card.licence, origin, card.summary)
    show(table if found else "no models; train one with `anamorph train`, or take one with `anamorph models get`")


def show_model(model: Model) -> None:
    """Describe a model: what it expects, was trained and measured on, must not be used for, and its licence."""
    from anamorph.networks.model import read_card
    from anamorph.networks.model_folders import find_model

    folder = find_model(model)
    card = read_card(folder)
    show(f"{card.name} ({card.kind}): {card.summary}")
    table = make_table("", "", title=str(folder))
    table.show_header = False
    for key in ("licence", "attribution", "not_for", "measured_on", "parameters", "sha256", "anamorph"):
        table.add_row(key.replace("_", " "), str(getattr(card, key)))
    for part in ("architecture", "preprocessing", "labels", "metrics"):
        for key, value in getattr(card, part).items():
            table.add_row(f"{part}: {key}", f"{value:.4f}" if isinstance(value, float) else str(value))
    for one in card.training_data:
        scans = ", ".join(f"{count} {split}" for split, count in one.get("scans", {}).items())
        licence, sha256 = (one.get(key, "not stated") for key in ("licence", "sha256"))
        table.add_row(f"trained on: {one.get('name', '?')}", f"scans: {scans}; licence: {licence}; sha256 {sha256}")
    show(table)


def check_model(model: Model) -> None:
    """See that the weights are those of the card and fit the network it describes; exit code 2 if not."""
    from anamorph.networks.model_folders import find_model
    from anamorph.networks.trained import check_model as checked

    folder = find_model(model)
    card = checked(folder)
    show(f"{folder}: sound ({card.kind}, {card.parameters:,} parameters, sha256 {card.sha256[:12]})")


def get_model(
    source: Annotated[str, typer.Argument(help="A model folder, a .zip or .tar.gz of one, or the URL of such a file.")],
    name: Annotated[str | None, typer.Option(help="What to call it; by default the name on its card.")] = None,
    sha256: Annotated[str | None, typer.Option(metavar="HASH", help="SHA-256 of the file; a URL needs it.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace your own model of this name.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print errors only.")] = False,
) -> None:
    """Put a model among your own, where its name finds it: checked, and whole or not at all.

    Your models are in $ANAMORPH_MODELS, else in the folder that the system has for the data of programs.
    """
    from anamorph.networks.model import read_card
    from anamorph.networks.model_folders import get_model as get

    with progress_bar(quiet) as progress:
        folder = get(source, name, sha256, overwrite=overwrite, progress=progress)
    if not quiet:
        card = read_card(folder)
        show(f"{folder}: {card.kind}, licence {card.licence}, not for {card.not_for}")


def shrink_model(
    model: Model,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of the smaller model.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier model in the folder.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print errors only.")] = False,
) -> None:
    """Write a model with its weights in 8 bits, a quarter of the size; the numbers on its card are those of 32 bits."""
    from anamorph.networks.model_folders import WEIGHTS, find_model
    from anamorph.networks.model_folders import shrink_model as shrink

    folder = shrink(model, out, overwrite=overwrite)
    if not quiet:
        before, after = (sum(f.stat().st_size for f in one.rglob(WEIGHTS)) for one in (find_model(model), folder))
        show(f"{folder}: weights of {after / 1e6:.1f} MB in place of {before / 1e6:.1f} MB")


add_command(models, list_models, "list")
add_command(models, show_model, "show")
add_command(models, check_model, "check")
add_command(models, get_model, "get")
add_command(models, shrink_model, "shrink")


predict = typer.Typer(cls=Group, no_args_is_help=True, help="Use a trained network on a scan, or on whole data sets.")


@predict.callback()
def root() -> None:
    """Use a trained network on a scan, or on whole data sets."""


def segment(
    model: Annotated[str, typer.Option(help="Of `anamorph train segment`: a run, a model folder, or a name.")],
    out: Annotated[
        Path,
        typer.Option("-o", "--out", help="Label map of SCAN, or folder with a new data set per cohort, by its name."),
    ],
    scan: Annotated[Path | None, typer.Argument(help="One scan, in place of data sets.")] = None,
    dataset: Annotated[
        list[Path] | None,
        typer.Option(metavar="JSON", help="A cohort: its *_dataset.json, or the folder that holds it; repeatable."),
    ] = None,
    strip: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write SCAN with its background outside the labels.")
    ] = None,
    outside: Annotated[str, typer.Option(help="Labels that --strip takes away too, by name, with commas.")] = "head",
    keep_all_labels: Annotated[
        bool,
        typer.Option("--keep-all-labels", help="Keep labels that the model does not know, from the data set's maps."),
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace earlier label maps.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print errors only.")] = False,
) -> None:
    """Give a scan, or every scan of data sets, a complete label map.

    Of a data set, a label that a scan annotates (annotated_labels of its entry or of the manifest, else all) is taken
    from its own map and never predicted; all others are. Labels go by their names and get the numbers of the model. The
    new manifests name the original scans.
    """
    from anamorph.errors import UserError
    from anamorph.networks.trained import SEGMENT, SegmentationModel
    from anamorph.runtime.device import resolve_device

    if (scan is None) == (not dataset):
        raise UserError("name a scan, or data sets with --dataset, and not both")
    if dataset and strip is not None:
        raise UserError("--strip is for one scan; name it in place of --dataset")
    if scan is not None and keep_all_labels:
        raise UserError("--keep-all-labels keeps labels of data sets; name them with --dataset, or drop it")
    loaded = SegmentationModel.load(model, SEGMENT, resolve_device(device))
    if scan is not None:
        _segment_scan(
            loaded, scan, out, strip, [name.strip() for name in outside.split(",") if name.strip()], overwrite
        )
    else:
        _segment_datasets(loaded, dataset or [], out, keep_all_labels, overwrite, quiet)


def _segment_scan(
    model: SegmentationModel, scan: Path, out: Path, strip: Path | None, outside: list[str], overwrite: bool
) -> None:
    from anamorph.cli.common_options import refuse_existing
    from anamorph.image.read import read_image
    from anamorph.image.write import world_code, write_image

    for path in filter(None, (out, strip)):
        refuse_existing(path, overwrite, (scan,))
    image, world = read_image(scan), world_code(scan)
    labels = model.predict(image)
    stripped = None if strip is None else model.stripped(image, labels, outside)
    write_image(labels, out, world)
    if strip is not None and stripped is not None:
        write_image(stripped, strip, world)


def _segment_datasets(
    model: SegmentationModel, dataset: list[Path], out: Path, keep_all_labels: bool, overwrite: bool, quiet: bool
) -> None:
    from anamorph.data.manifest import read_dataset
    from anamorph.errors import UserError
    from anamorph.training.pseudo_labels import predict_dataset

    cohorts = [read_dataset(one) for one in dataset]
    names = [one.name for one in cohorts]
    if len(set(names)) < len(names):
        raise UserError(f"two data sets have the same name ({', '.join(names)}); rename one in its manifest")
    table = make_table("cohort", ">scans", "known", "predicted")
    for cohort in cohorts:
        with progress_bar(quiet) as progress:
            made = predict_dataset(
                model,
                cohort,
                out / cohort.name,
                keep_all_labels=keep_all_labels,
                overwrite=overwrite,
                progress=progress,
            )
        known = made.extra["pseudo_labels"]["known"]
        predicted = [label for label in model.labels if label not in known]
        table.add_row(str(made.path), str(len(made.cases)), _list(known), _list(predicted))
    say("predicted labels are noisy: train on them first, then on labels that people made", quiet)
    if not quiet:
        show(table)


def _list(labels: list[int]) -> str:
    return ", ".join(map(str, labels)) or "none"


add_command(predict, segment, "segment")
