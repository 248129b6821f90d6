"""What a metric is: one record that tables, reports, files, gates and rankings read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from anamorph.errors import UserError
from anamorph.evaluation.metrics import METRICS
from anamorph.evaluation.numbers import Direction, Numbers, aggregate

if TYPE_CHECKING:
    from anamorph.evaluation.gates import Gate
    from anamorph.evaluation.measure import RegisteredPair

Need = Literal["labels", "points", "outlines", "images", "both directions", "kept tissue"]
Per = Literal["pair", "label", "point", "axis"]
Prominence = Literal["tile", "table", "file"]
Value = float | Mapping[int, float] | Sequence[float] | None
POINT_KINDS = ("landmarks", "keypoints")
"""Sets of points that a pair may have; a metric of points is measured for each of them."""


@dataclass(frozen=True, eq=False)
class Metric:
    """A quantity that is measured of a registered pair.

    Args:
        name: column of tables and key of files, with the unit at its end: ``hd95_mm``.
        title: heading in reports, without the unit.
        better: which end is the better one.
        measure: the value of a pair: a number, one per label, or one per point; None where the pair has none.
        unit: of the value.
        needs: what a pair must have besides the transform from fixed to moving; the metric is left out of pairs that
            lack it. With ``points``, ``measure`` is called once per set of points, as ``pair.fixed_points`` and
            ``pair.moving_points``.
        per: what the value is given for.
        meaning: one line of text.
        at_rest: the value without any deformation, for a metric of the map alone; None where the state before
            registration has to be measured.
        digits: decimals in reports.
        prominence: ``tile`` is shown large, ``table`` in the tables of reports, ``file`` in the files of numbers and in
            the table of the pair's own report.
        group: key of ``metrics`` in ``result.json`` under which the number stands; by default ``before`` and ``after``.
            The empty group stands for ``metrics`` itself.
        gates: limits on the number, which enter the verdict.
        note: remark below a tile.
        phrase: the number in the words of a verdict; used for tiles alone.
        over_cohort: summary of the values of all pairs: ``mean``, ``std``, ``30`` (the quantile that the worse 30 % do
            not reach) and ``n``.
    """

    name: str
    title: str
    better: Direction
    measure: Callable[[RegisteredPair], Value]
    unit: str = ""
    needs: tuple[Need, ...] = ()
    per: Per = "pair"
    meaning: str = ""
    at_rest: float | None = None
    digits: int = 3
    prominence: Prominence = "table"
    group: str | None = None
    gates: tuple[Gate, ...] = ()
    note: Callable[[Numbers], str] | None = None
    phrase: Callable[[Numbers], str] | None = None
    over_cohort: Callable[[Sequence[float], Direction], dict[str, float]] = aggregate

    def __post_init__(self) -> None:
        for what, given, kind in (
            ("better", (self.better,), Direction),
            ("per", (self.per,), Per),
            ("prominence", (self.prominence,), Prominence),
            ("needs", self.needs, Need),
        ):
            if unknown := set(given) - set(get_args(kind)):
                raise ValueError(f"metric {self.name}: {what} is {unknown.pop()!r}, not {' or '.join(get_args(kind))}")

    def value(self, pair: RegisteredPair) -> Value:
        """Measure a pair.

        Raises:
            TypeError: the value is not given for what ``per`` says.
        """
        value = self.measure(pair)
        found = "label" if isinstance(value, Mapping) else "point" if hasattr(value, "__len__") else "pair"
        if value is not None and found != ("point" if self.per == "axis" else self.per):
            raise TypeError(f"gives {type(value).__name__}, so set per={found!r}")
        return value

    @property
    def compares(self) -> bool:
        """Whether labels, landmarks or outlines of both scans are compared, so that the number speaks of accuracy."""
        return not {"labels", "points", "outlines"}.isdisjoint(self.needs)


@dataclass(frozen=True)
class Column:
    """A metric in a table; one of points has a column for each set of points."""

    metric: Metric
    points: str = ""

    @property
    def name(self) -> str:
        """The key in files and in :class:`Numbers`."""
        return f"{self.metric.name}_{self.points}" if self.points else self.metric.name

    @property
    def key(self) -> str:
        """The key in ``result.json``, where landmarks are the points that are meant."""
        return self.metric.name if self.points == "landmarks" else self.name

    @property
    def title(self) -> str:
        """The heading without the unit."""
        return f"{self.metric.title} ({self.points})" if self.points == "keypoints" else self.metric.title

    @property
    def heading(self) -> str:
        """The heading with the unit."""
        return f"{self.title}, {self.metric.unit}" if self.metric.unit else self.title


def all_metrics() -> Iterator[Metric]:
    """Every metric of this package, then those of others that can be loaded."""
    for name in METRICS:
        try:
            yield load(name)
        except UserError:  # measuring a pair says so
            if name in METRICS.own:
                raise


def load(name: str) -> Metric:
    """The metric of a name.

    Raises:
        UserError: there is none, or what another package calls a metric is none.
    """
    metric = METRICS.find(name)
    if not isinstance(metric, Metric):
        raise UserError(f"metric '{name}' is {type(metric).__name__}, not a Metric; mend the package that adds it")
    if metric.name != name:
        raise UserError(f"metric '{name}' calls itself '{metric.name}'; give its entry point the same name")
    return metric


def all_columns() -> list[Column]:
    """The columns of all metrics in the order of reports."""
    return [column for metric in all_metrics() for column in columns_of(metric)]


def shown_columns() -> list[Column]:
    """The columns for people; the others are in the files of numbers."""
    return [column for column in all_columns() if column.metric.prominence != "file"]


def columns_of(metric: Metric) -> list[Column]:
    """One column, or one for each set of points."""
    return [Column(metric, kind) for kind in POINT_KINDS] if "points" in metric.needs else [Column(metric)]
