"""The commands of ``anamorph dataset``, and a data set on the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anamorph.cli.common_options import Quiet
from anamorph.cli.console import make_table, progress_bar, show
from anamorph.cli.guard import Group, add_command
from anamorph.cli.logs import say
from anamorph.cli.preprocess import slices

if TYPE_CHECKING:
    from rich.table import Table

    from anamorph.data.check import CaseFacts, Problem
    from anamorph.data.dataset import Dataset
    from anamorph.data.scans import ScanFolder

FILES, LABELS, SPLIT, RUN = "Which files", "Labels", "Split and pairs", "Run"
_MOST_PROBLEMS = 40
_MOST_REMARKS = 5

dataset = typer.Typer(
    cls=Group, no_args_is_help=True, help="Make, import and check data sets with a Learn2Reg manifest."
)

Out = Annotated[Path, typer.Option("-o", "--out", help="Folder to make; it appears when it is complete.")]
Name = Annotated[
    str | None, typer.Option(help="Of the task, in all file names; by default the folder's or the download's.")
]
Pairs = Annotated[
    str, typer.Option(help="paired: scans of one patient; unpaired: two patients; auto.", rich_help_panel=SPLIT)
]
Validation = Annotated[
    float | None, typer.Option(help="Patients: a share below 1 (0.2 by default), or a number.", rich_help_panel=SPLIT)
]
Test = Annotated[float | None, typer.Option(help="Likewise.", rich_help_panel=SPLIT)]
Ids = Annotated[
    list[str] | None,
    typer.Option(
        metavar="SPLIT=ID,...",
        help="Who is in a split, in place of a draw: validation=1,4,7; repeat for test. All others are for training.",
        rich_help_panel=SPLIT,
    ),
]
Seed = Annotated[int, typer.Option(help="Of the split and the choice of pairs.", rich_help_panel=SPLIT)]
MaxPairs = Annotated[int, typer.Option(help="Most pairs listed for validation, and for test.", rich_help_panel=SPLIT)]
Files = Annotated[
    str, typer.Option(help="link to the scans, copy them, or reference them in the JSON alone.", rich_help_panel=FILES)
]
Relabel = Annotated[
    list[str] | None,
    typer.Option(
        metavar="OLD=NEW,...|FILE",
        help="Other numbers and names: liver=1,tumour=1 merges, 1=6:liver, 3=drop, kidney=2:left kidney/3:right kidney "
        "splits by side. A JSON or TOML file holds the same. Repeatable.",
        rich_help_panel=LABELS,
    ),
]
Unknown = Annotated[
    str | None,
    typer.Option(
        metavar="LABEL,...|all",
        help="Labels that are unknown, not background, in scans whose label map lacks them.",
        rich_help_panel=LABELS,
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an earlier data set.", rich_help_panel=RUN)]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be made, and stop.", rich_help_panel=RUN)]


def check(
    source: Annotated[Path, typer.Argument(metavar="DIR|JSON", help="A manifest, or the folder that holds it.")],
    cases: Annotated[bool, typer.Option("--cases", help="List every scan.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    quiet: Quiet = False,
) -> None:
    """Open every file of a data set, and compare grids, labels, points, splits and pairs with the manifest.

    The exit code is 2 if there are errors; warnings leave it at 0.
    """
    from anamorph.data.check import absent_labels, check_dataset
    from anamorph.data.manifest import read_dataset
    from anamorph.errors import UserError

    with progress_bar(quiet or json_output) as progress:
        result = check_dataset(read_dataset(source), progress)
    content, errors = result.dataset, len(result.errors)
    warnings = len(result.problems) - errors
    if json_output:
        import json

        print(json.dumps(result.as_dict(), indent=2, ensure_ascii=False))
    elif not quiet:
        labels = labels_table(content, result.facts)
        show(splits_table(content), scans_table(content, result.facts), *([labels] if labels else []))
        for line in absent_labels(content, result.facts):
            show(line)
        if cases:
            show(cases_table(result.facts))
    if not json_output and not (quiet and not errors):
        show_problems(result.problems, _MOST_PROBLEMS)
    if errors:
        raise UserError(f"{content.path}: {errors} errors and {warnings} warnings; mend the files or the manifest")
    if not json_output and not quiet:
        show(f"{content.path}: sound" + (f", {warnings} warnings" if warnings else ""))


def create(
    folder: Annotated[
        Path, typer.Argument(help="Holds images, and folders labels, masks, landmarks beside or inside.")
    ],
    out: Out,
    name: Name = None,
    images: Annotated[
        str | None,
        typer.Option(metavar="PATTERN", help="Scans below FOLDER, such as '*_image.nii.gz'.", rich_help_panel=FILES),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(metavar="PATTERN", help="Label maps; * stands for the same name.", rich_help_panel=FILES),
    ] = None,
    masks: Annotated[str | None, typer.Option(metavar="PATTERN", help="Masks.", rich_help_panel=FILES)] = None,
    keypoints: Annotated[
        str | None, typer.Option(metavar="PATTERN", help="Automatic points.", rich_help_panel=FILES)
    ] = None,
    landmarks: Annotated[
        str | None, typer.Option(metavar="PATTERN", help="Points set by people.", rich_help_panel=FILES)
    ] = None,
    modalities: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="Modalities or time points in the names, fixed first.", rich_help_panel=FILES),
    ] = None,
    subject: Annotated[
        str | None,
        typer.Option(
            metavar="REGEX",
            help="The patient in a name, in parentheses; the rest is the modality.",
            rich_help_panel=FILES,
        ),
    ] = None,
    label_names: Annotated[
        str | None,
        typer.Option(metavar="1=NAME,...|TABLE", help="Names of the labels in the files.", rich_help_panel=LABELS),
    ] = None,
    relabel: Relabel = None,
    unknown_if_absent: Unknown = None,
    files: Files = "link",
    pairs: Pairs = "auto",
    validation: Validation = None,
    test: Test = None,
    ids: Ids = None,
    seed: Seed = 0,
    max_pairs: MaxPairs = 100,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    quiet: Quiet = False,
) -> None:
    """Make a data set of a folder of scans: numbered files, a split by patient, pair lists, the manifest."""
    from dataclasses import replace

    from anamorph.data.scans import find_scans
    from anamorph.image.label_names import read_label_names

    patterns = {"image": images, "label": labels, "mask": masks, "keypoints": keypoints, "landmarks": landmarks}
    found = find_scans(
        folder,
        {kind: pattern for kind, pattern in patterns.items() if pattern is not None},
        subject=subject,
        modalities=[part.strip() for part in modalities.split(",")] if modalities else (),
    )
    found = replace(found, labels=dict(read_label_names(label_names).names) if label_names else {})
    choices = {"files": files, "pairings": pairs, "seed": seed, "max_pairs": max_pairs}
    choices |= {"unknown_if_absent": _list(unknown_if_absent), **_split(validation, test, ids)}
    _make(found, name or _task_name(folder), out, relabel or [], choices, overwrite, dry_run, quiet, folder)


def import_(
    layout: Annotated[str, typer.Argument(help="decathlon, kits19 or pancreas-ct.")],
    folder: Annotated[Path, typer.Argument(help="As downloaded.")],
    out: Out,
    name: Name = None,
    channel: Annotated[
        str | None, typer.Option(help="Of Decathlon files that hold several, such as T2.", rich_help_panel=FILES)
    ] = None,
    labelled_only: Annotated[
        bool, typer.Option("--labelled-only", help="Leave out scans without label map.", rich_help_panel=FILES)
    ] = False,
    relabel: Relabel = None,
    unknown_if_absent: Unknown = None,
    files: Files = "link",
    validation: Validation = None,
    test: Test = None,
    ids: Ids = None,
    seed: Seed = 0,
    max_pairs: MaxPairs = 100,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    quiet: Quiet = False,
) -> None:
    """Make a data set of a download: Medical Segmentation Decathlon, KiTS19, or TCIA Pancreas-CT.

    decathlon: the folder of one task with its dataset.json. kits19: case_00000/imaging.nii.gz and segmentation.nii.gz.
    pancreas-ct: DICOM folders PANCREAS_0001 and label0001.nii.gz; these scans are converted.
    """
    from dataclasses import replace

    from anamorph.data.importers import find_download

    found = find_download(layout, folder, channel=channel)
    if labelled_only:
        found = replace(found, scans=tuple(scan for scan in found.scans if "label" in scan.files))
    choices = {"files": files, "seed": seed, "max_pairs": max_pairs}
    choices |= {"unknown_if_absent": _list(unknown_if_absent), **_split(validation, test, ids)}
    named = name or found.name or _task_name(folder)
    _make(found, named, out, relabel or [], choices, overwrite, dry_run, quiet, folder)


def _make(
    found: ScanFolder,
    name: str,
    out: Path,
    relabel: list[str],
    choices: dict[str, Any],
    overwrite: bool,
    dry_run: bool,
    quiet: bool,
    source: Path,
) -> None:
    from anamorph.data.create import Recipe, create_dataset, plan_dataset
    from anamorph.data.relabel import make_relabelling, relabelled

    if relabel:
        found = relabelled(found, make_relabelling(relabel, found.labels))
    recipe = Recipe(name, modalities=found.modalities, labels=found.labels, extra=found.extra, **choices)
    for note in found.notes:
        say(f"note: {note}", quiet)
    if dry_run:
        planned = plan_dataset(found.scans, recipe, out)
        show(splits_table(planned), plan_table(planned), "nothing was written")
        return
    with progress_bar(quiet) as progress:
        made = create_dataset(found.scans, recipe, out, inputs=[source], overwrite=overwrite, progress=progress)
    for remark in remarks(made, _MOST_REMARKS):
        say(f"note: {remark}", quiet)
    if not quiet:
        show(splits_table(made), f"{made.pairings}, seed {recipe.seed}: {made.path}")


def _split(validation: float | None, test: float | None, ids: list[str] | None) -> dict[str, Any]:
    from anamorph.errors import UserError

    shares = {key: share for key, share in (("validation", validation), ("test", test)) if share is not None}
    if ids and shares:
        raise UserError(f"--ids says who is in which split; drop --{' and --'.join(shares)}")
    return {"ids": tuple(ids)} if ids else shares


def _task_name(folder: Path) -> str:
    """The folder's name without what does not suit file names."""
    import re

    return re.sub(r"[^A-Za-z0-9]+", "", folder.resolve().name.title() if "_" in folder.name else folder.resolve().name)


def _list(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


for function, command in ((check, "check"), (create, "create"), (import_, "import"), (slices, "slices")):
    add_command(dataset, function, command)


def splits_table(dataset: Dataset) -> Table:
    """Patients, scans and pairs of every split."""
    shown = (("training", "training"), ("validation", "val"), ("test", "test"))
    table = make_table("split", ">patients", ">scans", ">with labels", ">with points", ">pairs", title=dataset.name)
    for split, key in shown:
        cases = [case for case in dataset.cases if case.split == split]
        listed = dataset.listed_pairs.get(key)
        pairs = len(dataset.pairs("training")) if split == "training" else len(listed or ())
        counts = (
            len({case.subject for case in cases}),
            len(cases),
            sum(case.label is not None for case in cases),
            sum(bool(case.keypoints or case.landmarks) for case in cases),
            pairs,
        )
        table.add_row(split, *map(str, counts))
    return table


def scans_table(dataset: Dataset, facts: Sequence[CaseFacts]) -> Table:
    """Shapes and spacings of every modality."""
    table = make_table("modality", "name", ">scans", "shape", "spacing (mm)", "type")
    for modality in sorted({one.case.modality for one in facts}):
        own = [one for one in facts if one.case.modality == modality]
        grids = [one.grid for one in own if one.grid is not None]
        shape = " x ".join(_range(axis, "d") for axis in zip(*(grid.shape for grid in grids), strict=True))
        spacing = " x ".join(_range(axis, ".3g") for axis in zip(*(grid.spacing_mm for grid in grids), strict=True))
        types = ", ".join(sorted({one.dtype for one in own if one.dtype}))
        table.add_row(modality, dataset.modalities.get(modality, ""), str(len(own)), shape, spacing, types)
    return table


def labels_table(dataset: Dataset, facts: Sequence[CaseFacts]) -> Table | None:
    """How often every label occurs, and how large it is."""
    from statistics import median

    labelled = [one for one in facts if one.case.label is not None]
    if not labelled:
        return None
    table = make_table(">label", "name", ">in scans", ">smallest (ml)", ">median (ml)", ">largest (ml)")
    for value in sorted({*dataset.labels, *(value for one in labelled for value in one.volumes_ml)}):
        sizes = [one.volumes_ml[value] for one in labelled if value in one.volumes_ml]
        numbers = (f"{size:.3g}" for size in (min(sizes), median(sizes), max(sizes))) if sizes else ("", "", "")
        table.add_row(str(value), dataset.labels.get(value, "?"), f"{len(sizes)} of {len(labelled)}", *numbers)
    return table


def remarks(dataset: Dataset, most: int) -> Iterator[str]:
    """What a person should look at in the scans of a new data set; of many, the first ones."""
    from anamorph.data.dataset import REMARK

    found = [
        f"{case.extra.get('source', case.key)}: {case.extra[REMARK]}" for case in dataset.cases if REMARK in case.extra
    ]
    yield from found[:most]
    if len(found) > most:
        yield f"and {len(found) - most} scans more; `anamorph dataset check` lists all"


def cases_table(facts: Sequence[CaseFacts]) -> Table:
    """Every scan."""
    table = make_table("scan", "split", "shape", "spacing (mm)", "labels", "points", "file")
    for one in facts:
        grid = one.grid
        table.add_row(
            one.case.key,
            one.case.split,
            "unreadable" if grid is None else " x ".join(map(str, grid.shape)),
            "" if grid is None else " x ".join(f"{s:.3g}" for s in grid.spacing_mm),
            " ".join(map(str, one.volumes_ml)),
            ", ".join(f"{count} {kind}" for kind, count in one.points.items()),
            one.case.extra.get("source") or one.case.image.name,
        )
    return table


def plan_table(dataset: Dataset) -> Table:
    """Which file every scan of a data set in the making comes from."""
    table = make_table("scan", "split", "modality", "files", "from")
    for case in dataset.cases:
        kinds = ", ".join(kind for kind in ("label", "mask", "keypoints", "landmarks") if case.file(kind))
        table.add_row(case.key, case.split, dataset.modalities[case.modality], kinds, case.extra["source"])
    return table


def show_problems(problems: Sequence[Problem], most: int) -> None:
    """Errors first; of many, the first ones."""
    if not problems:
        return
    table = make_table("", "where", "what")
    for one in problems[:most]:
        table.add_row(one.severity, one.place, one.message)
    show(table)
    if len(problems) > most:
        show(f"and {len(problems) - most} more; --json lists all")


def _range(values: Iterable[float], form: str) -> str:
    values = list(values)
    low, high = f"{min(values):{form}}", f"{max(values):{form}}"
    return low if low == high else f"{low}-{high}"
