"""Seconds, processor seconds, memory and files of ``anamorph register`` by size: ``python -m benchmarks.speed``.

Phantoms of three sizes, and with ``--data`` a real pair of the hippocampus and of the abdomen. *Cold* is the whole
command in an environment where nothing ran before (Python's own cache of modules is an empty folder), *command* the
same once more, *registration* the part inside it; *warm* the best of two registrations in a process that did one.
``-o`` stores the rows with the processor and its kernels; ``--against`` prints ratios to stored rows of the same
kind of machine and fails when one is slower than ``--tolerance``. Compare processor seconds: other work hardly
changes them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # or every command would be cold

PHANTOMS = {"64^3": (64, 64, 64), "160x128x112": (160, 128, 112), "192x160x256": (192, 160, 256)}
CLINICAL = {"457x365x320": (457, 365, 320)}
REAL = {
    "hippocampus": ("hippocampus/images/hippocampus_126.nii.gz", "hippocampus/images/hippocampus_233.nii.gz"),
    "abdomen": ("abdomen_ct/images/crlm1004.nii.gz", "abdomen_ct/images/crlm1006.nii.gz"),
}
COLUMNS = {
    "cold_s": "cold, s", "command_s": "command, s", "command_cpu_s": "command, processor s",
    "registration_s": "registration, s",
    "warm_s": "warm, s", "warm_cpu_s": "warm, processor s", "peak_mb": "peak MB", "files_mb": "files, MB",
}  # fmt: skip


def main() -> int:
    """Measure every case in processes of its own, print the table, store and compare."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--data", type=Path, help="folder of real scans; phantoms alone without it")
    parser.add_argument("--clinical", action="store_true", help="also two phantoms of 53 million voxels each")
    parser.add_argument("--only", action="append", help="cases to measure, by name")
    parser.add_argument("-o", "--output", type=Path, help="store the rows in this JSON file")
    parser.add_argument("--against", type=Path, help="rows stored before; prints ratios of now to then")
    parser.add_argument("--tolerance", type=float, default=1.25, help="largest ratio of processor seconds (1.25)")
    arguments = parser.parse_args()
    phantoms = PHANTOMS | (CLINICAL if arguments.clinical else {})
    cases: dict[str, list[str]] = {name: ["phantom", *map(str, shape)] for name, shape in phantoms.items()}
    if arguments.data is not None:
        cases |= {name: ["files", *(str(arguments.data / file) for file in files)] for name, files in REAL.items()}
    if arguments.only:
        cases = {name: case for name, case in cases.items() if name in arguments.only}
    found = {"machine": machine(), "rows": {}}
    print(" | ".join(f"{key}: {value}" for key, value in found["machine"].items()), end="\n\n")
    print("| " + " | ".join(["pair", *COLUMNS.values()]) + " |\n" + "|---" * (len(COLUMNS) + 1) + "|")
    for name, case in cases.items():
        row = measure(case)
        found["rows"][name] = row
        print("| " + " | ".join([name, *(f"{row[column]:g}" for column in COLUMNS)]) + " |", flush=True)
    if arguments.output is not None:
        arguments.output.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    if arguments.against is None:
        return 0
    return compare(found, json.loads(arguments.against.read_text()), arguments.tolerance)


def machine() -> dict[str, str]:
    """What seconds depend on besides the program."""
    from anamorph.runtime.compiled import variant
    from anamorph.runtime.threads import most_threads

    return {"processor": processor_name(), "kernels": variant(), "threads": str(most_threads())}


def processor_name() -> str:
    """The processor in its maker's words, where the system gives them."""
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text().splitlines() if facts.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def measure(case: list[str]) -> dict[str, float]:
    """One row of the table."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        files = [Path(file) for file in case[1:]]
        if case[0] == "phantom":
            files = [folder / "fixed.nii.gz", folder / "moving.nii.gz"]
            run("make", *map(str, files), *case[1:])
        given = [str(file) for file in files]
        cold = command(given, folder / "cold", PYTHONPYCACHEPREFIX=str(folder / "modules"))
        row = command(given, folder / "out")
        return {"cold_s": cold["command_s"]} | row | json.loads(run("warm", *given))


def command(files: list[str], out: Path, **environment: str) -> dict[str, float]:
    """What ``anamorph register`` takes in a process of its own, and the size of what it wrote."""
    begin, before = time.perf_counter(), os.times()
    subprocess.run(
        [sys.executable, "-m", "anamorph", "register", *files, "-o", str(out), "--quiet"],
        check=True,
        env=os.environ | environment,
    )
    seconds, after = time.perf_counter() - begin, os.times()
    record = json.loads((out / "result.json").read_text())
    return {
        "command_s": round(seconds, 2),
        "command_cpu_s": round(processor_seconds(after) - processor_seconds(before), 2),
        "registration_s": round(record["timings_s"]["registration"], 2),
        "peak_mb": record["peak_memory_mb"],
        "files_mb": round(sum(file.stat().st_size for file in out.rglob("*") if file.is_file()) / 1e6, 1),
    }


def processor_seconds(times: Any) -> float:
    """Those of this process and of its children that ended."""
    return float(times.user + times.system + times.children_user + times.children_system)


def run(part: str, *arguments: str) -> str:
    """A part of this module in a process of its own; what it printed."""
    code = f"from benchmarks.speed import {part}; {part}({', '.join(map(repr, arguments))})"
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def make(fixed: str, moving: str, *shape: str) -> None:
    """Write two phantoms."""
    from anamorph.image.write import write_image
    from anamorph.phantom import make_pair

    pair = make_pair((int(shape[0]), int(shape[1]), int(shape[2])), seed=1)
    write_image(pair.fixed, Path(fixed))
    write_image(pair.moving, Path(moving))


def warm(fixed: str, moving: str) -> None:
    """Print the best of two registrations after a first one, of scans that are read already."""
    import anamorph

    scans = anamorph.read_image(fixed), anamorph.read_image(moving)
    found = []
    for _ in range(3):
        begin, before = time.perf_counter(), os.times()
        anamorph.register(*scans, device="cpu")
        found.append((time.perf_counter() - begin, processor_seconds(os.times()) - processor_seconds(before)))
    best = min(found[1:])
    print(json.dumps({"warm_s": round(best[0], 2), "warm_cpu_s": round(best[1], 2)}))


def compare(now: dict[str, Any], then: dict[str, Any], tolerance: float) -> int:
    """Print ratios of now to then; 1 when processor seconds grew by more than the tolerance, 2 when machines differ."""
    if now["machine"] != then["machine"]:
        print(f"\nerror: the stored rows are of another machine: {then['machine']}", file=sys.stderr)
        return 2
    shared = [name for name in now["rows"] if name in then["rows"]]
    print("\n| now / then | " + " | ".join(COLUMNS.values()) + " |\n" + "|---" * (len(COLUMNS) + 1) + "|")
    slower = False
    for name in shared:
        ratios = {c: now["rows"][name][c] / max(then["rows"][name][c], 1e-9) for c in COLUMNS}
        slower |= any(ratios[c] > tolerance for c in ("command_cpu_s", "warm_cpu_s"))
        print("| " + " | ".join([name, *(f"{ratio:.2f}" for ratio in ratios.values())]) + " |")
    return int(slower)


if __name__ == "__main__":
    sys.exit(main())
