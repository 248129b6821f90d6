"""What is measured: Learn2Reg's ``*_evaluation_config.json``, or the same made from a data set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from anamorph.data.dataset import POINT_KINDS, Dataset, Pair, PairSplit
from anamorph.data.manifest import parse_name
from anamorph.errors import UserError
from anamorph.evaluation.learn2reg.measures import Metric
from anamorph.reading import read_json, understood


@dataclass(frozen=True)
class Measure:
    """One column of the evaluator's result.

    Args:
        name: of the column, such as ``DSC``.
        metric: how it is computed.
        labels: of ``dice`` and ``hd95``, in the order of the detailed values.
        dest: ``landmarks`` or ``keypoints`` for ``tre``.
    """

    name: str
    metric: Metric
    labels: tuple[int, ...] = ()
    dest: str = ""


@dataclass(frozen=True)
class EvaluationConfig:
    """Which pairs are evaluated by which measures.

    Args:
        task: name of the task.
        measures: the columns.
        pairs: in the order of the result.
        expected_shape: of the fixed images; whatever they have if None.
        masked: SDlogJ within the mask of the fixed scan, where there is one.
    """

    task: str
    measures: tuple[Measure, ...]
    pairs: tuple[Pair, ...]
    expected_shape: tuple[int, ...] | None = None
    masked: bool = False

    @property
    def labels(self) -> tuple[int, ...]:
        """All labels that any measure asks for, ascending."""
        return tuple(sorted({label for measure in self.measures for label in measure.labels}))

    @property
    def destinations(self) -> tuple[str, ...]:
        """The kinds of points that any measure asks for."""
        return tuple(dict.fromkeys(measure.dest for measure in self.measures if measure.dest))


def default_config(dataset: Dataset, split: PairSplit, labels: Iterable[int]) -> EvaluationConfig:
    """What a data set allows: SDlogJ, Dice and HD95 of the labels, TRE of landmarks and keypoints.

    Args:
        dataset: where the pairs come from.
        split: which of its pairs.
        labels: that occur in the label maps.

    Raises:
        UserError: the data set lists no pairs for the split.
    """
    pairs = dataset.pairs(split)
    return EvaluationConfig(dataset.name, default_measures(pairs, labels), pairs)


def default_measures(pairs: Sequence[Pair], labels: Iterable[int]) -> tuple[Measure, ...]:
    """What can be measured of all these pairs: the labels and points that every one of them has."""
    labels = tuple(sorted(labels))
    measures = [Measure("LogJacDetStd", "sdlogj")]
    if labels and all(pair.fixed.label and pair.moving.label for pair in pairs):
        measures += [Measure("DSC", "dice", labels), Measure("HD95", "hd95", labels)]
    for dest, name in (("landmarks", "TRE_lm"), ("keypoints", "TRE_kp")):
        if all(None not in pair.points(dest) for pair in pairs):
            measures.append(Measure(name, "tre", dest=dest))
    return tuple(measures)


def read_config(path: Path, dataset: Dataset) -> EvaluationConfig:
    """Read an evaluation configuration of Learn2Reg; its paths start from the folder of the data set.

    Raises:
        UserError: missing or damaged file, an unknown metric, names that are not unique, or a scan that the data set
            does not have.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; check the path")
    with understood(
        path, "cannot be read as an evaluation configuration", "it needs evaluation_methods and eval_pairs"
    ):
        content = read_json(path)
        rows, pairs = content["evaluation_methods"], content["eval_pairs"]
        measures = tuple(_measure(row, path) for row in rows)
        shape = content.get("expected_shape")
        config = EvaluationConfig(
            task=str(content.get("task_name") or dataset.name),
            measures=measures,
            pairs=tuple(_pair(row, dataset, path) for row in pairs),
            expected_shape=None if shape is None else tuple(int(n) for n in shape[:3]),
            masked=bool(content.get("masked_evaluation", False)),
        )
    names = [measure.name for measure in measures]
    if len(set(names)) < len(names):
        raise UserError(f"{path}: the names of the evaluation methods must differ from each other: {', '.join(names)}")
    return config


def measure_from(row: Mapping[str, Any]) -> Measure:
    """A measure of the content of a JSON file.

    Raises:
        ValueError: it is of no kind that is known.
    """
    if row["metric"] not in get_args(Metric):
        raise ValueError(f"no metric is called {str(row['metric'])[:40]}")
    return Measure(str(row["name"]), row["metric"], tuple(int(label) for label in row["labels"]), str(row["dest"]))


def _measure(row: Mapping[str, Any], path: Path) -> Measure:
    metric, dest = row["metric"], str(row.get("dest", ""))
    if metric not in get_args(Metric):
        raise UserError(f"{path}: unknown metric '{metric}'; there are {', '.join(get_args(Metric))}")
    if metric == "tre" and dest not in POINT_KINDS:
        raise UserError(f"{path}: {row['name']} measures '{dest}'; set dest to {' or '.join(POINT_KINDS)}")
    labels = tuple(int(label) for label in row.get("labels", ())) if metric in ("dice", "hd95") else ()
    return Measure(str(row["name"]), metric, labels, dest if metric == "tre" else "")


def _pair(row: Mapping[str, str], dataset: Dataset, path: Path) -> Pair:
    """The scans of the data set with these paths, or else with these subjects and modalities."""
    by_path = {case.image: case for case in dataset.cases}
    by_key = {case.key: case for case in dataset.cases}
    cases = []
    for role in ("fixed", "moving"):
        key = "_".join(parse_name(row[role]))
        case = by_path.get(Path(dataset.root, row[role])) or by_key.get(key)
        if case is None:
            raise UserError(f"{path}: {row[role]} is no scan of {dataset.path.name}; is this its configuration?")
        cases.append(case)
    return Pair(*cases)
