"""What several commands ask for in the same words."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from anamorph.errors import UserError

if TYPE_CHECKING:
    from anamorph.registration.tissue import KeepLike

REGISTRATION, INPUTS, TISSUE, RUN = "Registration", "Inputs", "Tissue", "Run"
DataSet = Annotated[Path, typer.Option(help="The data set: its *_dataset.json, or the folder that holds it.")]
TemplatePairs = Annotated[
    str | None,
    typer.Option(
        metavar="to:ID", help="In place of the listed pairs: scan ID, fixed, with each other scan of the split."
    ),
]
MethodName = Annotated[str, typer.Option(help="`anamorph methods` describes them.", rich_help_panel=REGISTRATION)]
Preset = Annotated[
    str, typer.Option(help="Kind of scan; auto: by what the scans look like.", rich_help_panel=REGISTRATION)
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="A setting of the method; repeatable.", rich_help_panel=REGISTRATION
    ),
]
Init = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|NAME",
        help="A fixed-to-moving transform, or a name: auto, affine, similarity, rigid and translation look for the "
        "best map of that kind (auto: affine), any-pose among all rotations; world takes the headers as they are, "
        "centres the middles of the scans; frame is for methods with a network.",
        rich_help_panel=REGISTRATION,
    ),
]
SamePatient = Annotated[
    bool,
    typer.Option(
        "--same-patient",
        help="Two dates of one patient: rigid start, stiff deformation, and a map of what changed.",
        rich_help_panel=REGISTRATION,
    ),
]
FixedMask = Annotated[
    str | None, typer.Option(help="Weights 0..1 on the fixed grid: the voxels that count.", rich_help_panel=INPUTS)
]
MovingMask = Annotated[str | None, typer.Option(help="The same for the moving scan.", rich_help_panel=INPUTS)]
Resample = Annotated[
    bool,
    typer.Option("--resample", help="Bring masks and labels on another grid to their scan.", rich_help_panel=INPUTS),
]
Masks = Annotated[
    bool, typer.Option("--masks", help="Give the method the masks of the data set.", rich_help_panel=REGISTRATION)
]
KeepRigid = Annotated[
    list[str] | None,
    typer.Option(
        metavar="MASK[=WEIGHT]",
        help="Of the fixed scan or reference: each connected piece moves rigidly, exactly or by a weight; repeatable.",
        rich_help_panel=TISSUE,
    ),
]
KeepVolume = Annotated[
    list[str] | None,
    typer.Option(
        metavar="MASK[=WEIGHT]",
        help="Of the fixed scan or reference: each connected piece keeps its volume; repeatable.",
        rich_help_panel=TISSUE,
    ),
]
Stiffness = Annotated[
    str | None,
    typer.Option(
        metavar="MAP", help="Factor of the smoothness per voxel of the fixed scan or reference.", rich_help_panel=TISSUE
    ),
]
Sliding = Annotated[
    str | None,
    typer.Option(
        metavar="MASK|lungs",
        help="Of the fixed scan or reference: what slides along its surroundings; 'lungs' are found in CT.",
        rich_help_panel=TISSUE,
    ),
]
NoPartner = Annotated[
    str | None,
    typer.Option(
        metavar="MASK",
        help="What the fixed scan or reference alone shows, such as a resection: left out of every comparison.",
        rich_help_panel=TISSUE,
    ),
]
MovingNoPartner = Annotated[
    str | None, typer.Option(metavar="MASK", help="The same for the moving scan.", rich_help_panel=TISSUE)
]
SeriesChoice = Annotated[
    str | None,
    typer.Option(
        "--series",
        metavar="UID|NUMBER|MODALITY|TEXT",
        help="Of DICOM folders with several series: UID, number, modality or a part of the description.",
        rich_help_panel=INPUTS,
    ),
]
DeviceName = Annotated[str, typer.Option(help="The device that computes.", rich_help_panel=RUN)]
Seed = Annotated[int, typer.Option(help="Of every random choice.", rich_help_panel=RUN)]
Threads = Annotated[int | None, typer.Option(help="CPU threads; all by default.", rich_help_panel=RUN)]
LeaveOutFailed = Annotated[
    bool,
    typer.Option("--leave-out-failed", help="Go on without scans that fail.", rich_help_panel=RUN),
]
Workers = Annotated[
    str | None,
    typer.Option(
        metavar="N|ADDRESS|SYSTEM:N",
        help="Processes, one per core by default, as far as memory goes; a dask scheduler such as tls://node1:8786; or "
        "workers of a batch system: slurm:64, pbs:64:queue.toml.",
        rich_help_panel=RUN,
    ),
]
FailOn = Annotated[
    str | None,
    typer.Option(
        metavar="warn|fail",
        help="Exit with code 3 when the verdict is WARN or FAIL (warn), or FAIL (fail); all files are kept.",
        rich_help_panel=RUN,
    ),
]
VERDICT_TRIPPED = 3
"""Exit code of a run with a verdict that ``--fail-on`` names."""
TRIPS = {"warn": ("WARN", "FAIL"), "fail": ("FAIL",)}
"""Verdicts by what ``--fail-on`` names."""
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print errors only.", rich_help_panel=RUN)]
Number = TypeVar("Number", int, float)


def of_series(source: str, series: str | None) -> str:
    """A scan, and the series that is meant where it is a folder that does not say so itself."""
    from anamorph.image.dicom.headers import SEPARATOR

    return f"{source}{SEPARATOR}{series}" if series is not None and Path(source).is_dir() else source


def kept(masks: list[str] | None) -> KeepLike | None:
    """Masks of the command line with their weights."""
    from anamorph.registration.tissue import given_as, with_weight

    return given_as([with_weight(mask) for mask in masks]) if masks else None


def workers_of(workers: str | None) -> int | str:
    """A number of processes, or the words for machines elsewhere; one process per core by default.

    Raises:
        UserError: it is neither.
    """
    from anamorph.batch.cluster import machines_named
    from anamorph.runtime.threads import usable_cores

    if workers is None:
        return usable_cores()
    try:
        count = int(workers)
    except ValueError:
        machines_named(workers)
        return workers
    if count < 1:
        raise UserError(f"--workers must be at least 1, not {workers}")
    return count


def check_fail_on(fail_on: str | None) -> None:
    """See that ``--fail-on`` names verdicts.

    Raises:
        UserError: it does not.
    """
    if fail_on not in (None, *TRIPS):
        raise UserError(f"--fail-on takes warn or fail, not '{fail_on}'")


def say_failure(name: str, reason: str) -> None:
    """Print the line of a scan or pair that failed."""
    from anamorph.cli.logs import say

    say(f"failed: {name}: {reason}")


def three_whole_numbers(option: str, text: str) -> tuple[int, int, int]:
    """``192,160,256`` or ``192x160x256``.

    Raises:
        UserError: the text is something else.
    """
    i, j, k = _numbers(option, text, int, 3, "three whole numbers such as 192,160,256")
    return i, j, k


def two_numbers(option: str, text: str) -> tuple[float, float]:
    """``-160,240``; errors as of :func:`three_whole_numbers`."""
    low, high = _numbers(option, text, float, 2, "two numbers such as -160,240")
    return low, high


def _numbers(option: str, text: str, kind: type[Number], count: int, what: str) -> list[Number]:
    try:
        numbers = [kind(part) for part in text.replace("x", ",").split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != count:
        raise UserError(f"{option} wants {what}, not '{text}'")
    return numbers


def _methods() -> list[str]:
    from anamorph.methods import METHODS

    return [*METHODS]


def _presets() -> list[str]:
    from anamorph.methods.presets import SHARED

    return ["auto", "default", *SHARED]


def _formats() -> list[str]:
    from anamorph.transforms.files import FORMATS

    return [*FORMATS]


def _importers() -> list[str]:
    from anamorph.data.importers import IMPORTERS

    return [*IMPORTERS]


CHOICES: dict[str, Callable[[], list[str]]] = {
    "method": _methods,
    "preset": _presets,
    "transform_format": _formats,
    "written_by": _formats,
    "frame": lambda: ["ras", "lps"],
    "layout": _importers,
    "device": lambda: ["auto", "cpu", "cuda"],
    "fail_on": lambda: ["warn", "fail"],
}
"""By the names of the parameters of the commands."""


def refuse_existing(path: Path, overwrite: bool, inputs: Iterable[str | Path | None] = ()) -> None:
    """Do not overwrite a file that nobody gave up.

    Raises:
        UserError: it exists and ``overwrite`` is off, or it is one of the ``inputs``.
    """
    if path.exists() and not overwrite:
        raise UserError(f"{path} already exists; choose another name or pass --overwrite to replace it")
    if path.exists() and any(given is not None and Path(given).exists() and path.samefile(given) for given in inputs):
        raise UserError(f"{path} is read and not replaced; choose another name")
