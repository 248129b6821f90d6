from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anamorph.cli import common_options as common
from anamorph.cli.common_options import Quiet, Workers, say_failure, workers_of
from anamorph.cli.console import make_table, progress_bar, show, warn_of_page
from anamorph.cli.logs import say

if TYPE_CHECKING:
    from anamorph.batch.registration import RegistrationSettings
    from anamorph.data.dataset import Pair
    from anamorph.workflows.submission.formats import ArchiveFormat
    from anamorph.workflows.submission.run import Submission

ARCHIVE, RUN = "Archive", "Run"


def submit(
    dataset: Annotated[Path, typer.Option(help="The data set: its *_dataset.json, or the folder that holds it.")],
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="ZIP", help="Archive to write; with --container, a folder.")
    ],
    split: Annotated[
        str | None,
        typer.Option(
            help="Which pairs of the data set: val, test or training; val by default, with --container test if its "
            "scans are there."
        ),
    ] = None,
    pairs: common.TemplatePairs = None,
    method: common.MethodName = "convex",
    preset: common.Preset = "auto",
    settings: common.Settings = None,
    masks: common.Masks = False,
    year: Annotated[int, typer.Option(help="Format of the challenge: 2020 to 2025.", rich_help_panel=ARCHIVE)] = 2025,
    task: Annotated[
        int | None,
        typer.Option(help="2020 and 2021: its number, if the name does not tell.", rich_help_panel=ARCHIVE),
    ] = None,
    names: Annotated[
        str | None,
        typer.Option(
            help="long, short, both or by-pair; by default what the evaluator of the year looks for.",
            rich_help_panel=ARCHIVE,
        ),
    ] = None,
    file_type: Annotated[str | None, typer.Option(help="nii.gz or, from 2023, npz.", rich_help_panel=ARCHIVE)] = None,
    folder: Annotated[
        str | None,
        typer.Option(help="In the archive; task_NN in 2020 and 2021, else none.", rich_help_panel=ARCHIVE),
    ] = None,
    container: Annotated[
        bool,
        typer.Option(
            "--container",
            help="Answer as the container of a challenge: a folder of scans, perhaps with the JSON beside it, in, a "
            "folder with a file per pair out; nothing is evaluated.",
            rich_help_panel=RUN,
        ),
    ] = False,
    work: Annotated[
        Path | None,
        typer.Option(help="Keeps finished pairs, for another run or year; beside ZIP by default.", rich_help_panel=RUN),
    ] = None,
    zero_failed: Annotated[
        bool, typer.Option("--zero-failed", help="Store zeros for pairs that fail.", rich_help_panel=RUN)
    ] = False,
    device: common.DeviceName = "auto",
    seed: common.Seed = 0,
    threads: common.Threads = None,
    workers: Workers = "1",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier archive.", rich_help_panel=RUN)
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Register the pairs of a Learn2Reg data set and write the archive that the challenge of a year takes.

    Finished pairs are kept: after an interruption, and for the format of another year, the same command goes on from
    them. The archive is read back and evaluated before the command ends. With --container the command does what the
    challenge asks of a container.
    """
    from anamorph.cli.common_options import refuse_existing
    from anamorph.runtime.threads import limit_threads

    limit_threads(threads)
    from anamorph.batch.registration import RegistrationSettings
    from anamorph.data.manifest import read_dataset
    from anamorph.errors import UserError
    from anamorph.workflows.submission.container import read_input, wanted_split
    from anamorph.workflows.submission.formats import archive_format
    from anamorph.workflows.submission.run import make_submission

    if split not in (None, "val", "test", "training"):
        raise UserError(f"--split must be val, test or training, not '{split}'")
    if container:
        source = read_input(dataset)
        split = wanted_split(source, split)  # type: ignore[arg-type]  # checked above
    else:
        if out.suffix.lower() != ".zip":
            raise UserError(
                f"{out.name} is no archive; name a file that ends in .zip, or pass --container for a folder"
            )
        refuse_existing(out, overwrite)
        source, split = read_dataset(dataset), split or "val"
    source = source.with_pairs(pairs, split)  # type: ignore[arg-type]
    layout = archive_format(year, source, task=task, folder=folder, container=file_type, names=names)
    wanted = RegistrationSettings(method, preset, tuple(settings or ()), device, seed, masks)  # type: ignore[arg-type]
    say(f"Learn2Reg {year}: {layout.describe()}", quiet)
    if container:
        _fill(source.pairs(split), wanted, layout, out, work, workers_of(workers), zero_failed, overwrite, quiet)  # type: ignore[arg-type]
        return

    kept = work or out.with_suffix(".work")
    try:
        with progress_bar(quiet) as progress:
            submission = make_submission(
                source, split, wanted, layout, out, kept,  # type: ignore[arg-type]
                workers=workers_of(workers), zero_failed=zero_failed, progress=progress, on_failure=say_failure,
            )  # fmt: skip
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"interrupted; finished pairs are kept in {kept}, the same command goes on from there"
        ) from None
    warn_of_page(submission.page_failure)
    if not quiet:
        _show(submission)
        say(f"{out}: {len(submission.pairs)} pairs; settings, times and evaluation are in {kept}")


def _fill(
    pairs: tuple[Pair, ...],
    wanted: RegistrationSettings,
    layout: ArchiveFormat,
    out: Path,
    work: Path | None,
    workers: int | str,
    zero_failed: bool,
    overwrite: bool,
    quiet: bool,
) -> None:
    from tempfile import TemporaryDirectory

    from anamorph.errors import UserError
    from anamorph.workflows.submission.container import fill_output

    files = [out / member for pair in pairs for member in layout.members(pair)]
    there = next((path for path in files if path.exists()), None)
    if there is not None and not overwrite:
        raise UserError(f"{there} is there already; pass --overwrite, or name another folder")
    say(f"pairs to register: {len(pairs)}, of {pairs[0].fixed.image.parent}", quiet)
    with TemporaryDirectory() as passing, progress_bar(quiet) as progress:
        ran = fill_output(
            pairs, wanted, layout, out, work or Path(passing),
            keep=work is not None, workers=workers, zero_failed=zero_failed, progress=progress, on_failure=say_failure,
        )  # fmt: skip
    say(f"{out}: {len(ran.records)} registered, {len(ran.failed)} of zeros", quiet)


def _show(submission: Submission) -> None:
    from anamorph.geometry.lengths import lengths_text
    from anamorph.workflows.submission.run import dice_by_pair

    computed, stored = dice_by_pair(submission.computed), dice_by_pair(submission.stored)
    table = make_table("pair", ">time", ">storage error, mean / max", ">Dice computed", ">Dice stored", title="Pairs")
    ran = submission.ran
    for pair, error in zip(submission.pairs, submission.errors, strict=True):
        key, seconds = pair.key, "zeros"
        if key in ran.records:
            seconds = f"{ran.records[key]['run']['seconds']:.1f} s" + (" (kept)" if key in ran.reused else "")
        values = (f"{dice[key]:.4f}" if key in dice else "" for dice in (computed, stored))
        table.add_row(key, seconds, lengths_text((error.mean_mm, error.max_mm), 3, " / "), *values)
    show(table)
    summary = make_table("as Learn2Reg counts", ">computed", ">stored", ">identity", title="Mean over the pairs")
    aggregates = [
        submission.computed.compatible_aggregates(),
        submission.stored.compatible_aggregates(),
        submission.stored.compatible_aggregates(baseline=True),
    ]
    for name in aggregates[0]:
        summary.add_row(name, *(f"{one[name]['mean']:.4f}" for one in aggregates))
    show(summary)
    for key, reason in submission.stored.errors.items():
        say(f"not evaluated: {key}: {reason}")
