"""Plans of small cohorts, and what is left on disk of a run."""

from __future__ import annotations

import json
from pathlib import Path

from anamorph.batch.records import Store
from anamorph.workflows.cohort.run import CohortStatus, find_status

FAST = """
[method.settings]
init = "world"
search_scales = [2]
search_cells = [2]
search_radius_mm = [0.0]
refine_iterations = [2, 2]
"""


def write_plan(folder: Path, data: str = 'manifest = "raw"', method: str = 'label = "fast"', rest: str = "") -> Path:
    """A plan beside the data set in ``raw``, with one cheap method."""
    path = folder / "plan.toml"
    path.write_text(f"[[dataset]]\n{data}\n[[method]]\n{method}\n{FAST}\n{rest}")
    return path


def status_of(run: Path) -> CohortStatus:
    return find_status(Store(run))


def results_of(run: Path) -> dict[str, bytes]:
    """What has to be the same whenever and wherever it is computed: all files, and the records of results."""
    found = {str(path.relative_to(run)): path.read_bytes() for path in (run / "results").rglob("[!.]*.*")}
    for key, records in Store(run).records().items():
        versions = {json.dumps(record.result, sort_keys=True) for record in records}
        assert len(versions) == 1
        found[key] = versions.pop().encode()
    return found


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
