"""``PLAN.toml``: data sets and their pairs, methods with their settings, and what is wanted of every pair."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any, Literal

from anamorph.batch.registration import RegistrationSettings, roles_of
from anamorph.data.dataset import POINT_KINDS
from anamorph.errors import UserError
from anamorph.methods import DEFAULT_METHOD
from anamorph.registration.pulling import check_exactness_mm, chosen_labels
from anamorph.toml_table import TomlTable, read_toml
from anamorph.workflows.cohort.pairs import PairsTable, PlannedPair, planned_pairs

MOST_ATTEMPTS = 20
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}")
"""Labels of methods are names of folders."""


@dataclass(frozen=True)
class PlannedMethod:
    """A method with its settings under the name that tables and folders show."""

    label: str
    settings: RegistrationSettings

    @cached_property
    def described(self) -> dict[str, Any]:
        """Everything a result depends on apart from the scans, as plain values.

        Raises:
            UserError: there is no such method, preset, setting or model.
        """
        # Workers on other machines may have the GPU that this one lacks.
        return replace(self.settings, device="cpu").described() | {"device": self.settings.device}


@dataclass(frozen=True)
class Wanted:
    """What is kept of every pair, how often a pair is tried, and by how many threads it is done.

    Results are the same to the last bit where the number of threads is; None leaves it to the machine.
    """

    transforms: bool = True
    warped: bool = False
    metrics: bool = True
    attempts: int = 3
    threads: int | None = None


@dataclass(frozen=True)
class CohortPlan:
    """A whole plan: every pair is registered by every method."""

    path: Path
    pairs: tuple[PlannedPair, ...]
    methods: tuple[PlannedMethod, ...]
    wanted: Wanted

    def files(self) -> set[Path]:
        """Every file that a result depends on."""
        return {path for one in self.pairs for how in self.methods for path in self.files_of(one, how).values()}

    def files_of(self, planned: PlannedPair, method: PlannedMethod) -> dict[str, Path]:
        """Every file that the result of a pair by a method depends on, by its role, with its weight if it has one."""
        cases = {"fixed": planned.pair.fixed, "moving": planned.pair.moving}
        files = {role: case.image for role, case in cases.items()}
        files |= roles_of(method.settings.known_of(planned.pair))
        if self.wanted.metrics:
            files |= {f"{role}_label": case.label for role, case in cases.items() if case.label}
            for kind in POINT_KINDS:
                points = zip(cases, planned.pair.points(kind), strict=True)
                files |= {f"{role}_{kind}": path for role, path in points if path}
        return files


def read_plan(path: Path, base: Path | None = None) -> CohortPlan:
    """Read a plan and the data sets it names; scans are looked for, not opened.

    Args:
        path: the file.
        base: the folder that its relative paths start from; its own by default.

    Raises:
        UserError: missing, no TOML, or something in it is wrong; the message names the line.
    """
    top = read_toml(path)
    base = (base or path.parent).absolute()
    pairs = planned_pairs([_source(table, base) for table in top.tables("dataset")], path)
    methods = [_method(table) for table in top.tables("method")]
    labels = [method.label for method in methods]
    repeated = next((label for label in labels if labels.count(label) > 1), None)
    if repeated is not None:
        raise UserError(f"{path.name}: two methods are called '{repeated}'; give each [[method]] a label of its own")
    wanted = _wanted(top.table("output"), top.table("run"))
    top.done()
    for planned, method in product(pairs, methods):
        _check_pull(planned, method, path)
    return CohortPlan(path, pairs, tuple(methods), wanted)


def _check_pull(planned: PlannedPair, method: PlannedMethod, path: Path) -> None:
    """See that a pair has what is to pull, and outlines of both scans or of none."""
    known, where = method.settings.known_of(planned.pair), f"{path.name}: the pair {planned.id}"
    if len({"fixed_outlines", "moving_outlines"} & {*known}) == 1:
        raise UserError(f"{where} has outlines of one scan alone; add those of the other, or drop them")
    if method.settings.use_points is not None and not {"fixed_points", "fixed_outlines"} & {*known}:
        raise UserError(f"{where} has no points or outlines for use_points of '{method.label}'; add them, or drop it")
    if method.settings.use_labels is not None and not {"fixed_labels", "moving_labels"} <= {*known}:
        raise UserError(f"{where} has no labels for use_labels of '{method.label}'; add them, or drop it")


def _source(table: TomlTable, base: Path) -> PairsTable:
    """One ``[[dataset]]``."""

    def path_of(key: str) -> Path | None:
        value = table.take(key, str, None)
        return None if value is None else base / value

    choice = PairsTable(
        manifest=path_of("manifest"),
        table=path_of("csv"),
        choose=table.take("pairs", str, None),
        split=table.take("split", Literal["training", "validation", "test"], None),
        both_directions=table.take("both_directions", bool, False),
        labels=tuple(table.take("labels", list, [])),
        name=table.take("name", str, None),
    )
    if not all(isinstance(label, int) and not isinstance(label, bool) and label > 0 for label in choice.labels):
        table.fail("labels", "labels must be a list of whole numbers above 0, such as [1, 2]")
    table.done()
    try:
        choice.check()
    except UserError as error:
        table.fail(None, str(error))
    return choice


def _method(table: TomlTable) -> PlannedMethod:
    """One ``[[method]]``."""
    name = table.take("name", str, DEFAULT_METHOD)
    label = table.take("label", str, name)
    if not _LABEL.fullmatch(label):
        table.fail("label", f"label {label!r} is no name of a folder; use letters, digits and _ . + -")
    settings = RegistrationSettings(
        method=name,
        preset=table.take("preset", str, "auto"),
        settings=tuple(f"{key}={_as_text(value)}" for key, value in table.take("settings", dict, {}).items()),
        device=table.take("device", Literal["cpu", "cuda"], "cpu"),
        seed=table.take("seed", int, 0),
        masks=table.take("masks", bool, False),
        use_points=table.take("use_points", float, None),
        use_labels=table.take("use_labels", str, None),
    )
    table.done()
    planned = PlannedMethod(label, settings)
    try:
        _ = planned.described
        if settings.use_points is not None:
            check_exactness_mm(settings.use_points, "use_points")
        if settings.use_labels is not None:
            chosen_labels(settings.use_labels)
    except UserError as error:
        table.fail(None, str(error))
    return planned


def _as_text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _wanted(output: TomlTable, run: TomlTable) -> Wanted:
    wanted = Wanted(
        transforms=output.take("transforms", bool, Wanted.transforms),
        warped=output.take("warped", bool, Wanted.warped),
        metrics=output.take("metrics", bool, Wanted.metrics),
        attempts=run.take("attempts", int, Wanted.attempts),
        threads=run.take("threads", int, None),
    )
    if wanted.threads is not None and wanted.threads < 1:
        run.fail("threads", f"threads must be at least 1, not {wanted.threads}")
    if not 1 <= wanted.attempts <= MOST_ATTEMPTS:
        run.fail("attempts", f"attempts must be 1 to {MOST_ATTEMPTS}, not {wanted.attempts}")
    output.done()
    run.done()
    return wanted
