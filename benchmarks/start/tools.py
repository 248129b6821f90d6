"""What is asked for an answer: this project, its linear start alone, or another tool in an environment of its own."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass

from anamorph.errors import AnamorphError, RegistrationFailure
from anamorph.evaluation import RegisteredPair, failed, measure, verdict
from anamorph.image import Image
from anamorph.methods.linear_start import linear_start
from anamorph.methods.working_frame import Scan
from anamorph.phantom.pair import make_pair
from anamorph.registration.plan import make_plan
from anamorph.registration.run import register
from anamorph.transforms import Affine, Transform

OWN = "anamorph"
START = "anamorph-start"


@dataclass(frozen=True)
class Answer:
    """A result, which maps fixed points to moving points, or why there is none.

    ``verdict`` is the product's own word without labels; ``start`` what it says about its start.
    """

    transform: Transform | None
    wall_s: float
    cpu_s: float
    verdict: str = ""
    start: str = ""
    error: str = ""


Tool = Callable[[Image, Image], Answer]


def whole(method: str, settings: list[str], preset: str = "auto") -> Tool:
    """The package's registration with a method, settings and a preset."""

    def run(fixed: Image, moving: Image) -> Answer:
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            result = register(fixed, moving, method=method, preset=preset, settings=settings, device="cpu")
        except Exception as error:  # one case that fails must not end the run
            word = failed(str(error)).status if isinstance(error, RegistrationFailure) else ""
            return Answer(None, time.perf_counter() - wall, time.process_time() - cpu, word, error=_told(error))
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        there, back = result.fixed_to_moving, result.moving_to_fixed
        judged = verdict(measure(RegisteredPair(fixed, moving, there, back)), result.warnings)
        start = result.provenance.get("start", "")
        told = start if isinstance(start, str) else json.dumps(start, default=str)
        return Answer(there, wall, cpu, judged.status, told)

    return run


def start_alone(method: str, settings: list[str]) -> Tool:
    """The linear start of that method and of those settings, and nothing after it."""

    def run(fixed: Image, moving: Image) -> Answer:
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            there, told = linear_start_of(fixed, moving, method, settings)
        except Exception as error:
            return Answer(None, time.perf_counter() - wall, time.process_time() - cpu, error=_told(error))
        return Answer(there, time.perf_counter() - wall, time.process_time() - cpu, start=told)

    return run


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, AnamorphError) else f"{type(error).__name__}: {error}"


def compile_first(tool: Tool) -> None:
    """Run the tool on small scans, so that no case is timed with the compilation of its kernels."""
    made = make_pair((24, 20, 22), seed=0)
    tool(made.fixed, made.moving)


def linear_start_of(fixed: Image, moving: Image, method: str, settings: list[str]) -> tuple[Affine, str]:
    """The linear map that a method starts from, and a line about how it was found.

    This is the one place of the benchmark that knows how the start is called.
    """
    config = make_plan(fixed, moving, method=method, settings=settings).method.config
    scans = Scan.prepare(fixed, None), Scan.prepare(moving, None)
    found = linear_start(*scans, config.init, config.start_weight)
    return found.transform, "; ".join([f"intensities: {found.comparison.kind}", *found.steps])
