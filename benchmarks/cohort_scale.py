"""Many small pairs: throughput, what a pair costs beside its registration, memory: `python -m benchmarks.cohort_scale`.

Phantoms of 24 x 24 x 24 voxels, every pair by `convex` with settings that need little time, on a local cluster. The
data set is made once, below the folder; a run goes on where it stopped. Prints one row of a Markdown table:

- pairs, processes and threads, seconds (with looking and starting), pairs per second;
- milliseconds of one process per pair: for the registration; for reading, measuring and writing around it; and for the
  rest, which is sending batches, records, starting and waiting;
- milliseconds of processor time per pair, of all processes together: a busy machine does not change them much;
- memory of the process that holds plan and scheduler, and of the largest worker.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import psutil

SHAPE = (24, 24, 24)
PLAN = """
[[dataset]]
csv = "pairs.csv"

[[method]]
name = "convex"
preset = "default"
[method.settings]
init = "world"
search_scales = [2]
search_cells = [2]
search_radius_mm = [0.0]
refine_iterations = [2, 2]

[output]
transforms = {transforms}

[run]
threads = {threads}
"""


def main() -> None:
    """Make the data, run the plan, print the row."""
    from anamorph.batch.records import Store
    from anamorph.workflows.cohort.run import Listeners, find_status, run_cohort

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pairs", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=None)
    parser.add_argument("--threads", type=int, default=1, help="of every process")
    parser.add_argument("--numbers-only", action="store_true", help="keep metrics, but no transforms")
    wanted = parser.parse_args()
    plan = write_cohort(wanted.folder, wanted.pairs, not wanted.numbers_only, wanted.threads)
    me, peak, begin = psutil.Process(), {"driver": 0.0, "worker": 0.0, "cpu": 0.0}, {"workers": 1, "threads": 1}

    def watch(_: object) -> None:
        peak["driver"] = max(peak["driver"], me.memory_info().rss)
        family = [me, *me.children(recursive=True)]
        peak["worker"] = max([peak["worker"], *(child.memory_info().rss for child in family[1:])])
        peak["cpu"] = max(peak["cpu"], sum(sum(one.cpu_times()[:2]) for one in family))

    def note(_: object, machines: object) -> None:
        begin.update(workers=machines.workers, threads=machines.threads)  # type: ignore[attr-defined]

    run = wanted.folder / "run"
    start = time.perf_counter()
    news = run_cohort(run, plan, workers=wanted.workers, listeners=Listeners(begin=note, news=watch))
    seconds = time.perf_counter() - start
    records = find_status(Store(run), quick=True).records.values()
    registration = 1000 * sum(record.run["registration_seconds"] for record in records) / len(records)
    around = 1000 * sum(record.run["seconds"] for record in records) / len(records) - registration
    rest = 1000 * news.seconds * begin["workers"] / news.complete - registration - around
    print(
        "| pairs | processes | seconds | per s | registration, around, rest, ms | processor, ms | driver, worker, MB |"
    )
    print("|---|---|---|---|---|---|---|")
    processor = 1000 * peak["cpu"] / news.complete
    print(
        f"| {news.complete} | {begin['workers']} x {begin['threads']} | {news.seconds:.0f} ({seconds:.0f}) "
        f"| {news.per_second:.1f} | {registration:.1f}, {around:.1f}, {rest:.1f} | {processor:.1f} "
        f"| {peak['driver'] / 1e6:.0f}, {peak['worker'] / 1e6:.0f} |"
    )


def write_cohort(folder: Path, pairs: int, transforms: bool, threads: int = 1) -> Path:
    """Phantoms of different bodies, a table of the first pairs of all, and the plan."""
    from anamorph.image.write import write_image
    from anamorph.phantom import make_pair

    count = math.ceil((1 + math.sqrt(1 + 8 * pairs)) / 2)
    for number in range(0, count, 2):
        paths = [folder / "scans" / f"phantom_{number + side:04d}_0000.nii.gz" for side in (0, 1)]
        if not all(path.is_file() for path in paths):
            pair = make_pair(SHAPE, seed=number)
            for image, path in zip((pair.fixed, pair.moving), paths, strict=True):
                write_image(image, path)
    names = [f"scans/phantom_{number:04d}_0000.nii.gz" for number in range(count)]
    rows = [f"{fixed},{moving}" for at, fixed in enumerate(names) for moving in names[at + 1 :]]
    (folder / "pairs.csv").write_text("\n".join(["fixed,moving", *rows[:pairs]]) + "\n", encoding="utf-8")
    path = folder / "plan.toml"
    path.write_text(PLAN.format(transforms=json.dumps(transforms), threads=threads), encoding="utf-8")
    return path


if __name__ == "__main__":
    main()
