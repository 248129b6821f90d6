"""Is a data set what its manifest says? Every file is opened, every pair looked up."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from anamorph.data.check_files import case_facts
from anamorph.data.check_lists import list_problems
from anamorph.data.dataset import Dataset
from anamorph.data.findings import CaseFacts, Problem

__all__ = ["CaseFacts", "DatasetCheck", "Problem", "check_dataset"]

_WORKERS = 2  # large scans must fit into memory together


@dataclass(frozen=True)
class DatasetCheck:
    """All findings."""

    dataset: Dataset
    facts: tuple[CaseFacts, ...]
    problems: tuple[Problem, ...]

    @property
    def errors(self) -> tuple[Problem, ...]:
        """What makes the data set unusable in part."""
        return tuple(one for one in self.problems if one.severity == "error")

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "path": str(self.dataset.path),
            "name": self.dataset.name,
            "scans": [
                {
                    "key": one.case.key,
                    "split": one.case.split,
                    "image": str(one.case.image),
                    "shape": None if one.grid is None else list(one.grid.shape),
                    "spacing_mm": None if one.grid is None else [round(float(s), 6) for s in one.grid.spacing_mm],
                    "dtype": one.dtype,
                    "label_volumes_ml": {str(value): round(ml, 4) for value, ml in one.volumes_ml.items()},
                    "points": one.points,
                }
                for one in self.facts
            ],
            "pairs": {name: len(pairs) for name, pairs in self.dataset.listed_pairs.items()},
            "problems": [asdict(one) for one in self.problems],
        }


def check_dataset(dataset: Dataset, progress: Callable[[str, float], None] | None = None) -> DatasetCheck:
    """Open every file, compare grids, labels and points, and look at the lists.

    Errors: files that are missing or cannot be read, label maps and masks on another grid than their scan, labels that
    the manifest does not name, points outside the scan, pairs whose points do not correspond, a patient in two splits,
    two scans under one key. Warnings: what works but surprises, such as pairs on different grids, which Learn2Reg's
    evaluator refuses.
    """
    facts = []
    with ThreadPoolExecutor(_WORKERS) as pool:
        for n, one in enumerate(pool.map(lambda case: case_facts(case, dataset), dataset.cases)):
            facts.append(one)
            if progress:
                progress("opening files", (n + 1) / len(dataset.cases))
    problems = [problem for one in facts for problem in one.problems]
    problems += list_problems(dataset, facts)
    problems.sort(key=lambda one: one.severity)
    return DatasetCheck(dataset, tuple(facts), tuple(problems))
