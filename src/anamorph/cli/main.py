"""The ``anamorph`` command. Everything heavy is imported by the command that needs it."""

from __future__ import annotations

import io
import os
import signal
import sys
from types import FrameType
from typing import Annotated

import typer

import anamorph
from anamorph.cli.apply import apply, convert
from anamorph.cli.bids import bids
from anamorph.cli.boutiques import boutiques
from anamorph.cli.classify import classify
from anamorph.cli.cohort import cohort
from anamorph.cli.dataset import dataset
from anamorph.cli.demo import demo
from anamorph.cli.evaluate import evaluate, rank
from anamorph.cli.guard import Group, add_command
from anamorph.cli.inspect import inspect
from anamorph.cli.models import methods, metrics, models, predict
from anamorph.cli.preprocess import map_back, preprocess
from anamorph.cli.propagate import propagate
from anamorph.cli.register import register
from anamorph.cli.series import series
from anamorph.cli.slicreg import slicreg
from anamorph.cli.submit import submit
from anamorph.cli.template import template
from anamorph.cli.train import train
from anamorph.cli.view import view

app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    register,
    series,
    propagate,
    apply,
    convert,
    inspect,
    view,
    demo,
    methods,
    metrics,
    evaluate,
    rank,
    classify,
    bids,
    preprocess,
    map_back,
    submit,
    train,
    boutiques,
):
    add_command(app, command, config=command is register)
app.add_typer(cohort, name="cohort")
app.add_typer(dataset, name="dataset")
app.add_typer(models, name="models")
app.add_typer(predict, name="predict")
app.add_typer(slicreg, name="slicreg")
app.add_typer(template, name="template")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"anamorph {anamorph.__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Registration of medical images that deform a lot: both directions, honest numbers, a report.

    Every transform maps fixed points to moving points, and so pulls moving images onto the fixed grid.
    """


def main() -> None:
    """Entry point of the console script."""
    # Threads of PyTorch that spin while they wait make all else many times slower on a machine that has other work too.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    # Some microseconds they may: PyTorch's short loops would else wake them thousands of times.
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")
    for stream in (sys.stdout, sys.stderr):  # a name that the terminal has no letters for must not cost a result
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    signal.signal(signal.SIGTERM, _interrupt)
    app()


def _interrupt(signum: int, frame: FrameType | None) -> None:
    # A stopped batch job cleans up as a user's Ctrl-C does.
    raise KeyboardInterrupt
