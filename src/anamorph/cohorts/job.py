"""One pair by one method, and the key that its result has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from anamorph.batch.key import Contents, key_of, origin_of
from anamorph.batch.registration import RegistrationSettings
from anamorph.cohorts.plan import Plan, PlannedMethod
from anamorph.data import Pair
from anamorph.evaluation.learn2reg.config import EvaluationConfig, default_measures
from anamorph.geometry import Grid
from anamorph.image.read import read_grid


@dataclass(frozen=True)
class Job:
    """What a worker gets to know of one pair.

    Args:
        key: of the result: a hash of everything it depends on.
        id: of the pair within the plan.
        pair: its scans.
        method: label of the method.
        settings: of the method.
        evaluation: what to measure; None for nothing.
        transforms: whether both fields are kept.
        warped: whether the warped scan is kept.
        threads: to use; as many as the worker has if None.
        hashes: of its files, by path.
    """

    key: str
    id: str
    pair: Pair
    method: str
    settings: RegistrationSettings
    evaluation: EvaluationConfig | None
    transforms: bool
    warped: bool
    threads: int | None
    hashes: dict[Path, str]

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.id} by {self.method}"

    def grids(self) -> tuple[Grid, Grid]:
        """Of the fixed and of the moving scan.

        Raises:
            UserError: a scan cannot be read.
        """
        return read_grid(self.pair.fixed.image), read_grid(self.pair.moving.image)


def jobs_of(plan: Plan, contents: Contents) -> list[Job]:
    """Every pair of a plan by every method; pairs that share the fixed scan are neighbours.

    Args:
        plan: what is wanted.
        contents: has looked at all files of the plan.
    """
    return [job for method in plan.methods for job in _jobs(plan, method, contents)]


def _jobs(plan: Plan, method: PlannedMethod, contents: Contents) -> Iterator[Job]:
    wanted = plan.wanted
    same = {
        "method": method.label,
        "run": method.described,
        "output": {"transforms": wanted.transforms, "warped": wanted.warped, "metrics": wanted.metrics},
        "threads": wanted.threads,
    }
    for planned in plan.pairs:
        files = plan.files_of(planned)
        measured = None
        if wanted.metrics:
            measures = default_measures((planned.pair,), planned.labels)
            measured = EvaluationConfig(planned.dataset.name, measures, ())
        origin = origin_of(
            **same,
            pair=planned.id,
            inputs={role: contents[path] for role, path in files.items()},
            measures=None if measured is None else [asdict(measure) for measure in measured.measures],
        )
        yield Job(
            key=key_of(origin),
            id=planned.id,
            pair=_lean(planned.pair),
            method=method.label,
            settings=method.settings,
            evaluation=measured,
            transforms=wanted.transforms,
            warped=wanted.warped,
            threads=wanted.threads,
            hashes={path: contents[path] for path in files.values()},
        )


def _lean(pair: Pair) -> Pair:
    """The pair as it travels: of the further keys only the files of points."""
    return Pair(*(
        replace(case, extra={key: value for key, value in case.extra.items() if isinstance(value, Path)})
        for case in (pair.fixed, pair.moving)
    ))  # fmt: skip
