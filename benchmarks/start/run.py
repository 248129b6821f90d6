"""Cases one after the other: finished ones are left out, undisturbed results are made once and kept."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from anamorph.geometry import Grid
from anamorph.transforms import Affine
from anamorph.transforms.files import read_transform, write_transform

from .cases import Case
from .disturb import View
from .sources import Source, Subject
from .success import Judgement, judge
from .table import append, read_rows
from .tools import Answer, Tool

RESULTS = "results.csv"
KEPT = "undisturbed"


@dataclass(frozen=True)
class Bench:
    """A tool, the scans, and the folder that everything is written to.

    ``data`` is the folder with the data sets; ``start_only`` allows what a linear map alone cannot reach.
    """

    name: str
    tool: Tool
    data: Path
    out: Path
    start_only: bool = False

    def run(self, cases: Iterable[Case]) -> None:
        """Run the cases that have no row yet, and print a line for each."""
        self.out.mkdir(parents=True, exist_ok=True)
        done = {row["case"] for row in read_rows(self.out / RESULTS) if row["tool"] == self.name}
        loaded: tuple[tuple[str, int], Subject] | None = None
        for case in cases:
            if case.name in done:
                continue
            if loaded is None or loaded[0] != case.source.key:
                loaded = case.source.key, case.source.load(self.data)
            row = self._row(case, loaded[1])
            append(self.out / RESULTS, row)
            figures = " ".join(f"{key} {value:.3f}" for key in _FIGURES if isinstance(value := row.get(key), float))
            right = {True: "right", False: "WRONG", None: "not judged"}[row["success"]]  # type: ignore[index]
            print(
                f"{self.name} {case.name}: {right}; {row['unit']} {figures} {row['verdict']} {row['error']}", flush=True
            )

    def _row(self, case: Case, subject: Subject) -> dict[str, object]:
        row: dict[str, object] = {
            "tool": self.name, "case": case.name, "set": case.dataset, "disturbance": case.disturbance,
            "parameter": case.parameter, "split": case.split,
        }  # fmt: skip
        views = case.views(subject)
        undisturbed = None
        if case.disturbance not in ("exact", "exact_phantom", "unrelated"):
            undisturbed = self._undisturbed(case.source, subject)
        if case.disturbance == "undisturbed":
            answer = undisturbed
        elif case.disturbance == "swapped":
            answer = self.tool(views[1].image, views[0].image)
        else:
            answer = self.tool(views[0].image, views[1].image)
        assert answer is not None
        row |= {key: getattr(answer, key) for key in ("wall_s", "cpu_s", "verdict", "start", "error")}
        return row | asdict(self._judged(case, subject, views, answer, undisturbed))

    def _judged(
        self, case: Case, subject: Subject, views: tuple[View, View], answer: Answer, undisturbed: Answer | None
    ) -> Judgement:
        if case.disturbance == "unrelated":
            return Judgement(answer.verdict == "FAIL", "", None, None, None)
        if any(np.ptp(view.image.data) == 0 for view in views):  # a crop may leave nothing of a brain
            return Judgement(None, "", None, None, None)
        if answer.transform is None or (undisturbed is not None and undisturbed.transform is None):
            return Judgement(False, "", None, None, None)
        wanted = None if undisturbed is None else undisturbed.transform
        return judge(case, subject, views, answer.transform, wanted, self.start_only)

    def _undisturbed(self, source: Source, subject: Subject) -> Answer:
        """The answer for the pair as it is, from the folder if it is there."""
        place = self.out / KEPT / self.name / f"{source.dataset}-{source.number}"
        if not (place / "answer.json").is_file():
            self._keep(place, self.tool(subject.fixed, subject.moving), subject.fixed.grid)
        told = json.loads((place / "answer.json").read_text())
        name = told.pop("file")
        return Answer(read_transform(place / name) if name else None, **told)

    def _keep(self, place: Path, answer: Answer, grid: Grid) -> None:
        """Write an answer; the small file that says so comes last."""
        place.mkdir(parents=True, exist_ok=True)
        told = {key: value for key, value in vars(answer).items() if key != "transform"} | {"file": None}
        if answer.transform is not None:
            linear = isinstance(answer.transform, Affine)
            told["file"], kind = ("there.tfm", "itk-tfm") if linear else ("there.h5", "itk-h5")
            write_transform(answer.transform, place / told["file"], kind, grid)
        partial = place / f"answer.{os.getpid()}.json"
        partial.write_text(json.dumps(told))
        partial.replace(place / "answer.json")


_FIGURES = ("figure", "undisturbed", "before", "wall_s", "cpu_s")
