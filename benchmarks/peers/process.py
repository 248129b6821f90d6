"""A tool in a fresh process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).parents[2]
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "ANAMORPH_NUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)


class ToolFailure(Exception):
    """The tool ended without a result, or did not end in time."""


def run_tool(
    tool: str,
    files: dict[str, Path | None],
    scratch: Path,
    threads: int,
    timeout_s: float,
    python: str | Path = sys.executable,
    options: Mapping[str, Any] = MappingProxyType({}),
) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """Run a tool on a pair.

    Args:
        tool: module below ``benchmarks.peers.tools``.
        files: ``fixed``, ``moving``, ``fixed_mask`` and ``moving_mask``.
        scratch: an empty folder.
        threads: that the tool may use.
        timeout_s: seconds after which it is stopped.
        python: interpreter of the environment that has the tool.
        options: of the tool, plain values.

    Returns:
        the displacement at every fixed voxel, (I, J, K, 3), LPS mm, and what it cost.

    Raises:
        ToolFailure: with the last line of the tool's error.
    """
    description = scratch / "job.json"
    places = {key: path and path.absolute() for key, path in files.items()}
    told = {"tool": tool, "scratch": scratch.absolute(), "options": dict(options)} | places
    description.write_text(json.dumps(told, default=str))
    environment = os.environ | dict.fromkeys(THREAD_VARIABLES, str(threads))
    command = [str(python), "-m", "benchmarks.peers.worker", str(description.absolute())]
    try:
        subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=True, timeout=timeout_s)
    except subprocess.TimeoutExpired as late:
        raise ToolFailure(f"no result within {timeout_s:g} s") from late
    except subprocess.CalledProcessError as failure:
        lines = failure.stderr.decode(errors="replace").strip().splitlines()
        raise ToolFailure(f"exit {failure.returncode}: {lines[-1] if lines else 'no message'}") from failure
    return np.load(scratch / "field.npy"), json.loads((scratch / "cost.json").read_text())
