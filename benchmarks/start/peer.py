"""Another tool on scans in memory, by way of ``benchmarks/peers``."""

from __future__ import annotations

import resource
import tempfile
from pathlib import Path

import numpy as np

from anamorph.geometry.frames import flip_ras_lps
from anamorph.image import Image
from anamorph.image.background import looks_like_ct
from anamorph.image.write import write_image
from anamorph.transforms import Displacement

from ..peers.pairs import PERCENTILES
from ..peers.process import ToolFailure, run_tool
from .tools import Answer, Tool


def peer(name: str, python: Path, out: Path, threads: int, timeout_s: float) -> Tool:
    """A tool run by the Python that has it, with scratch files in ``out``.

    Scans that are no CT get their 1st to 99th percentile mapped to 0 to 255, as in ``benchmarks/peers``. Wall seconds
    are those of the registration, CPU seconds those of the whole process.
    """

    def run(fixed: Image, moving: Image) -> Answer:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out, prefix="scratch-") as folder:
            scratch = Path(folder)
            files: dict[str, Path | None] = {"fixed_mask": None, "moving_mask": None}
            for role, image in (("fixed", fixed), ("moving", moving)):
                files[role] = scratch / f"{role}.nii.gz"
                write_image(_rescaled(image), scratch / f"{role}.nii.gz")
            cpu = _children_s()
            try:
                field_lps_mm, cost = run_tool(name, files, scratch, threads, timeout_s, python)
            except ToolFailure as failure:
                return Answer(None, 0.0, _children_s() - cpu, error=str(failure))
        vectors = np.moveaxis(flip_ras_lps(field_lps_mm), -1, 0)
        found = Displacement.from_world(vectors, fixed.grid)
        return Answer(found, float(cost["registration_s"]), _children_s() - cpu)

    return run


def _rescaled(image: Image) -> Image:
    if looks_like_ct(image):
        return image
    low, high = np.percentile(image.data, PERCENTILES)
    level = (np.clip(image.data.astype(np.float32), low, high) - low) / max(float(high - low), 1e-6)
    return image.with_data(255 * level)


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
