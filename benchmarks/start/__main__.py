"""Disturbed pairs with a known answer, judged against the same pairs undisturbed.

``python -m benchmarks.start --data DATA_ROOT -o OUT --sample 60 --start-only``

Finished cases are skipped when a run is started again. Several runs may write to one folder.
"""

from __future__ import annotations

import argparse
from fnmatch import fnmatchcase
from pathlib import Path

from .cases import Case, all_cases, sampled
from .peer import peer
from .run import RESULTS, Bench
from .table import read_rows, summary
from .tools import OWN, START, compile_first, start_alone, whole

PEERS = ("greedy", "antspy_syn", "convexadam", "greedy_search", "antspy_multistart", "convexadam_search")


def main() -> None:
    """Parse the command line, run, and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.start", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder with the data sets")
    parser.add_argument("-o", "--output", type=Path, help="folder for results and kept undisturbed results")
    parser.add_argument("--tool", default=OWN, choices=(OWN, *PEERS))
    parser.add_argument("--start-only", action="store_true", help="the linear start alone")
    parser.add_argument("--method", default="convex", help="of the package")
    parser.add_argument(
        "--set", dest="settings", action="append", default=[], metavar="KEY=VALUE", help="of the method"
    )
    parser.add_argument("--name", help="what the tool is called in the table, to compare settings in one folder")
    parser.add_argument("--only", action="append", metavar="GLOB", help="of case names, such as 'abdomen_ct/rotate/*'")
    parser.add_argument("--split", choices=("dev", "test"), help="dev for tuning, test for proof")
    parser.add_argument("--sample", type=int, metavar="N", help="so many cases, evenly from sets and disturbances")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--list", action="store_true", help="print the names of the cases and stop")
    parser.add_argument("--summary", action="store_true", help="print the table and stop")
    parser.add_argument("--peer-python", type=Path, help="Python that has the other tools")
    parser.add_argument("--threads", type=int, default=1, help="of the other tools")
    parser.add_argument("--timeout", type=float, default=1800, help="seconds after which another tool is stopped")
    wanted = parser.parse_args()
    cases = chosen(wanted.only, wanted.split, wanted.start_only or wanted.tool != OWN, wanted.sample, wanted.seed)
    if wanted.list:
        print("\n".join(case.name for case in cases))
        return
    if wanted.output is None or (wanted.data is None and not wanted.summary):
        parser.error("give --data and --output")
    if not wanted.summary:
        if wanted.tool != OWN:
            if wanted.peer_python is None:
                parser.error(f"{wanted.tool} needs --peer-python")
            tool = peer(wanted.tool, wanted.peer_python.absolute(), wanted.output, wanted.threads, wanted.timeout)
            name = wanted.tool
        else:
            tool = (start_alone if wanted.start_only else whole)(wanted.method, wanted.settings)
            name = START if wanted.start_only else OWN
            compile_first(tool)
        Bench(wanted.name or name, tool, wanted.data, wanted.output, wanted.start_only).run(cases)
    print(summary(read_rows(wanted.output / RESULTS)))


def chosen(only: list[str] | None, split: str | None, no_verdict: bool, sample: int | None, seed: int) -> list[Case]:
    """The cases asked for; without a verdict there is nothing to say of unrelated scans."""
    found = [
        case
        for case in all_cases()
        if (only is None or any(fnmatchcase(case.name, one) for one in only))
        and split in (None, case.split)
        and not (no_verdict and case.disturbance == "unrelated")
    ]
    return found if sample is None else sampled(found, sample, seed)


if __name__ == "__main__":
    main()
