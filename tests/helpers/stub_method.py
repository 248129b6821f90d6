"""A method that only aligns the centres of two grids, or fails as told: what the pipeline needs to be tested."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from anamorph.errors import RegistrationFailure, UserError
from anamorph.methods.base import Config, Method, Outcome, setting
from anamorph.transforms import Affine


@dataclass(frozen=True)
class StubConfig(Config):
    init: Literal["world", "translation"] = setting("translation", "how to start")
    gain: float = setting(1.0, "how far to go to the aligned centres", "1")
    rounds: int = setting(2, "iterations told in the trace")
    levels: tuple[int, ...] = setting((4, 2), "factors")
    fail: Literal["", "failure", "memory", "interrupt", "bug"] = setting("", "how to fail")

    @property
    def trusts_headers(self) -> bool:
        return self.init == "world"

    def __post_init__(self) -> None:
        if not 0 <= self.gain <= 1:
            raise UserError(f"gain must lie in [0, 1], not {self.gain}")


class Stub(Method):
    name = "stub"
    summary = "aligns centres"
    Config = StubConfig
    presets: ClassVar = {"small-mr": {"rounds": 5}, "generic-mr": {}, "abdomen-ct": {}}

    def __call__(self, pair, run):
        failures = {
            "failure": RegistrationFailure("the scans have nothing in common"),
            "memory": MemoryError(),
            "interrupt": KeyboardInterrupt(),
            "bug": IndexError("list index out of range"),
        }
        if self.config.fail:
            raise failures[self.config.fail]
        run.progress("aligning centres", 0.5)
        offset = pair.moving.grid.centre_mm - pair.fixed.grid.centre_mm
        forward = pair.start or Affine.translation(self.config.gain * offset)
        return Outcome(
            forward,
            forward.inverse(),
            timings={"aligning centres": 0.01},
            trace={"aligning": np.linspace(1, 0, self.config.rounds).tolist()},
            provenance={"device": "cpu"},
        )

    def peak_memory_bytes(self, fixed, moving):
        return 50_000_000
