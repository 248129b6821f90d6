"""Seconds of several tools in turn (A B A B) on the same pairs: what else the machine does, it does to all of them."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from .pairs import Pair, prepared
from .process import ToolFailure, run_tool

Seconds = tuple[float, float]
"""Of the clock and of the processor, for a whole process."""


def take_turns(
    pairs: Sequence[Pair], tools: Sequence[str], rounds: int, threads: int, timeout_s: float, pythons: Mapping[str, str]
) -> str:
    """Run every tool on every pair in turn and give a Markdown table: medians, and ratios to the first tool.

    Args:
        pairs: scans.
        tools: the first one is what the others are divided by.
        rounds: how often each tool runs on each pair.
        threads: that a tool may use.
        timeout_s: seconds after which a tool is stopped.
        pythons: interpreters of tools that live in another environment.
    """
    found: dict[str, list[list[Seconds]]] = {tool: [] for tool in tools}
    for pair in pairs:
        for tool in tools:
            found[tool].append([])
        for _ in range(rounds):
            for tool in tools:
                found[tool][-1].append(_run(pair, tool, threads, timeout_s, pythons))
                print(tool, pair.pair_id, "{:.1f} s, {:.1f} s of processor".format(*found[tool][-1][-1]), flush=True)
    lines = ["| tool | s | processor s | times the first | times the first, processor |", "|---|---|---|---|---|"]
    for tool in tools:
        own = [_median(rounds_of) for rounds_of in found[tool]]
        ratios = [
            [_median(a)[n] / _median(b)[n] for n in (0, 1)] for a, b in zip(found[tool], found[tools[0]], strict=True)
        ]
        cells = [
            median(s[0] for s in own),
            median(s[1] for s in own),
            median(r[0] for r in ratios),
            median(r[1] for r in ratios),
        ]
        lines.append(f"| {tool} | " + " | ".join(f"{cell:.2f}" for cell in cells) + " |")
    return "\n".join(lines)


def _run(pair: Pair, tool: str, threads: int, timeout_s: float, pythons: Mapping[str, str]) -> Seconds:
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        own = tool.startswith("anamorph")
        fixed, moving = (pair.fixed, pair.moving) if own else prepared(pair, scratch)
        files = {"fixed": fixed, "moving": moving} | {key: pair.files.get(key) for key in ("fixed_mask", "moving_mask")}
        begin, before = time.perf_counter(), os.times()
        interpreter = {"python": pythons[tool]} if tool in pythons else {}
        try:
            run_tool(tool, files, scratch, threads, timeout_s, **interpreter)
        except ToolFailure as failure:
            print(tool, pair.pair_id, failure, flush=True)
            return (float("nan"), float("nan"))
        after = os.times()
        used = (after.children_user + after.children_system) - (before.children_user + before.children_system)
        return time.perf_counter() - begin, used


def _median(rounds: list[Seconds]) -> Seconds:
    return median(s[0] for s in rounds), median(s[1] for s in rounds)
