from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anamorph.cli.common_options import Quiet
from anamorph.cli.console import progress_bar, show
from anamorph.cli.guard import Group, add_command
from anamorph.cli.logs import say

if TYPE_CHECKING:
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
Validation = Annotated[float, typer.Option(help="Patients: a share below 1, or a number.", rich_help_panel=SPLIT)]
Test = Annotated[float, typer.Option(help="Likewise.", rich_help_panel=SPLIT)]
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
    from anamorph.cli import dataset_tables as tables
    from anamorph.data.check import check_dataset
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
        labels = tables.labels_table(content, result.facts)
        show(tables.splits_table(content), tables.scans_table(content, result.facts), *([labels] if labels else []))
        for line in tables.absent_labels(content, result.facts):
            show(line)
        if cases:
            show(tables.cases_table(result.facts))
    if not json_output and not (quiet and not errors):
        tables.show_problems(result.problems, _MOST_PROBLEMS)
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
        typer.Option(metavar="1=NAME,2=...", help="Names of the labels in the files.", rich_help_panel=LABELS),
    ] = None,
    relabel: Relabel = None,
    unknown_if_absent: Unknown = None,
    files: Files = "link",
    pairs: Pairs = "auto",
    validation: Validation = 0.2,
    test: Test = 0.2,
    seed: Seed = 0,
    max_pairs: MaxPairs = 100,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    quiet: Quiet = False,
) -> None:
    """Make a data set of a folder of scans: numbered files, a split by patient, pair lists, the manifest."""
    from dataclasses import replace

    from anamorph.data.scans import find_scans

    patterns = {"image": images, "label": labels, "mask": masks, "keypoints": keypoints, "landmarks": landmarks}
    found = find_scans(
        folder,
        {kind: pattern for kind, pattern in patterns.items() if pattern is not None},
        subject=subject,
        modalities=[part.strip() for part in modalities.split(",")] if modalities else (),
    )
    found = replace(found, labels=_label_names(label_names))
    choices = {"files": files, "pairings": pairs, "validation": validation, "test": test, "seed": seed}
    choices |= {"max_pairs": max_pairs, "unknown_if_absent": _list(unknown_if_absent)}
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
    validation: Validation = 0.2,
    test: Test = 0.2,
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
    choices = {"files": files, "validation": validation, "test": test, "seed": seed, "max_pairs": max_pairs}
    choices["unknown_if_absent"] = _list(unknown_if_absent)
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
    from anamorph.cli import dataset_tables as tables
    from anamorph.data.create import Recipe, create_dataset, plan_dataset
    from anamorph.data.relabel import make_relabelling, relabelled

    if relabel:
        found = relabelled(found, make_relabelling(relabel, found.labels))
    recipe = Recipe(name, modalities=found.modalities, labels=found.labels, extra=found.extra, **choices)
    for note in found.notes:
        say(f"note: {note}", quiet)
    if dry_run:
        planned = plan_dataset(found.scans, recipe, out)
        show(tables.splits_table(planned), tables.plan_table(planned), "nothing was written")
        return
    with progress_bar(quiet) as progress:
        made = create_dataset(found.scans, recipe, out, inputs=[source], overwrite=overwrite, progress=progress)
    for remark in tables.remarks(made, _MOST_REMARKS):
        say(f"note: {remark}", quiet)
    if not quiet:
        show(tables.splits_table(made), f"{made.pairings}, seed {recipe.seed}: {made.path}")


def _task_name(folder: Path) -> str:
    """The folder's name without what does not suit file names."""
    import re

    return re.sub(r"[^A-Za-z0-9]+", "", folder.resolve().name.title() if "_" in folder.name else folder.resolve().name)


def _list(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def _label_names(text: str | None) -> dict[int, str]:
    """``1=liver,2=left kidney``.

    Raises:
        UserError: a part is not of that form.
    """
    from anamorph.errors import UserError

    names = {}
    for part in (text or "").split(",") if text else ():
        value, equals, name = part.partition("=")
        if not equals or not value.strip().isdigit() or int(value) == 0 or not name.strip():
            raise UserError(f"--label-names wants 1=liver,2=spleen, not '{part.strip()}'")
        names[int(value)] = name.strip()
    return names


for function, command in ((check, "check"), (create, "create"), (import_, "import")):
    add_command(dataset, function, command)
