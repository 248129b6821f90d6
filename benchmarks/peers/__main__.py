"""Run tools on a pair list, one at a time.

``python -m benchmarks.peers PAIRS.csv --data ROOT --tools identity,greedy -o RESULTS.csv --summary``

Every tool runs in a process of its own and hands back a displacement field, which is judged here. Rows are appended as
they come, and pairs that already have one are skipped, so an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import csv
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from .evaluate import evaluate
from .geometry import Geometry
from .pairs import Pair, prepared, read_pairs
from .process import ToolFailure, run_tool
from .summary import METRICS, TITLES, read_rows, tables
from .turns import take_turns

COLUMNS = ("dataset", "pair_id", "tool", *METRICS, "dice_by_label", "threads", "error")


def measure(pair: Pair, tool: str, threads: int, timeout_s: float) -> dict[str, object]:
    """Return the row of one tool on one pair; a failure of the tool is a row with its last line of error."""
    row: dict[str, object] = {"dataset": pair.dataset, "pair_id": pair.pair_id, "tool": tool, "threads": threads}
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        # This project gets the files as they are: finding the start is its own task.
        own = tool.startswith("anamorph")
        fixed, moving = (pair.fixed, pair.moving) if own else prepared(pair, scratch)
        files = {"fixed": fixed, "moving": moving} | {key: pair.files.get(key) for key in ("fixed_mask", "moving_mask")}
        start = time.perf_counter()
        try:
            field_mm, cost = run_tool(tool, files, scratch, threads, timeout_s)
            row["process_s"] = time.perf_counter() - start
            row |= {key: cost[key] for key in ("registration_s", "peak_mb")}
            row |= evaluate(field_mm, Geometry.of_file(fixed), Geometry.of_file(moving), pair.files)
        except (ToolFailure, ValueError) as failure:
            row["error"] = str(failure)
    return row


def forget_failures(results: Path, tools: list[str]) -> None:
    """Rewrite a result file without the failed rows of these tools."""
    kept = [row for row in read_rows(results) if not (row["error"] and row["tool"] in tools)]
    partial = results.with_suffix(".partial")
    with partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept)
    partial.replace(results)


def written(row: Mapping[str, object]) -> dict[str, object]:
    """Return the row with numbers cut to the digits that mean something."""
    return {key: f"{value:.4f}" if isinstance(value, float) else value for key, value in row.items()}


def run(pairs: list[Pair], tools: list[str], results: Path, threads: int, timeout_s: float) -> None:
    """Measure every tool on every pair that has no row in ``results`` yet."""
    results.parent.mkdir(parents=True, exist_ok=True)
    done = {(row["pair_id"], row["tool"]) for row in read_rows(results)}
    with results.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
        if results.stat().st_size == 0:
            writer.writeheader()
        for tool in tools:
            for pair in pairs:
                if (pair.pair_id, tool) in done:
                    continue
                row = written(measure(pair, tool, threads, timeout_s))
                writer.writerow(row)
                file.flush()
                print(tool, pair.pair_id, row.get("error") or f"Dice {row.get('dice', '-')}", flush=True)


def main() -> None:
    """Parse the command line, measure, and print the table when asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("pairs", type=Path, nargs="?", help="pair list; leave it out to only print --summary")
    parser.add_argument("--data", type=Path, help="folder that the paths of the pair list are relative to")
    parser.add_argument("--tools", default="identity", help=f"comma-separated, of {','.join(TITLES)}")
    parser.add_argument("-o", "--output", type=Path, help="result CSV, appended to")
    parser.add_argument(
        "--turns", type=int, help="seconds alone: run the tools in turn so often, and print ratios to the first"
    )
    parser.add_argument("--first", type=int, help="with --turns: so many pairs of the list")
    parser.add_argument("--peer-python", help="with --turns: interpreter of the environment of the other tools")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="threads each tool may use")
    parser.add_argument("--timeout", type=float, default=1800, help="seconds after which a tool is stopped")
    parser.add_argument("--retry-failed", action="store_true", help="measure pairs again whose row is a failure")
    parser.add_argument("--summary", action="store_true", help="print the result file as markdown")
    arguments = parser.parse_args()
    tools = arguments.tools.split(",")
    if unknown := set(tools) - TITLES.keys():
        parser.error(f"unknown tools: {', '.join(sorted(unknown))}; choose from {', '.join(TITLES)}")
    if (arguments.output is None) == (arguments.turns is None):
        parser.error("give -o, or --turns")
    if arguments.pairs:
        if arguments.data is None:
            parser.error("a pair list needs --data")
        pairs = read_pairs(arguments.pairs, arguments.data.resolve())
        if arguments.turns is not None:
            others = {t: arguments.peer_python for t in tools if arguments.peer_python and not t.startswith("anamorph")}
            few = pairs[: arguments.first]
            print(take_turns(few, tools, arguments.turns, arguments.threads, arguments.timeout, others))
            return
        if arguments.retry_failed and arguments.output.exists():
            forget_failures(arguments.output, tools)
        run(pairs, tools, arguments.output, arguments.threads, arguments.timeout)
    if arguments.summary:
        print(tables(read_rows(arguments.output)))


if __name__ == "__main__":
    main()
