"""A method that knows how the scans of the small cohort lie, and fails for the scan it is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from anamorph.errors import RegistrationFailure
from anamorph.geometry.sampling import identity_positions
from anamorph.methods.base import Config, Method, Outcome, setting
from anamorph.transforms import Affine, Displacement


@dataclass(frozen=True)
class CohortConfig(Config):
    step_mm: float = setting(6.0, "shift from scan to scan along every axis", "mm")
    wave_mm: float = setting(0.0, "height of a wave on top, of four voxels' length", "mm")
    fail: str = setting("none", "scan for which to fail")
    interrupt: str = setting("none", "scan at which to be interrupted")


class CohortStub(Method):
    name = "cohort-stub"
    summary = "knows the answer"
    Config = CohortConfig
    presets: ClassVar = {"abdomen-ct": {}, "generic-ct": {}, "generic-mr": {}}

    def __call__(self, pair, run):
        numbers = [int(image.name.split("_")[1]) for image in (pair.fixed, pair.moving)]
        for number in numbers:
            if self.config.fail.startswith(f"{number:04d}"):
                raise RegistrationFailure("no overlap")
            if self.config.interrupt.startswith(f"{number:04d}"):
                raise KeyboardInterrupt
        forward = Affine.translation(np.full(3, self.config.step_mm * (numbers[1] - numbers[0])))
        field = forward.displacement_on(pair.fixed.grid).vectors_mm()
        field[0] += self.config.wave_mm * np.sin(identity_positions(pair.fixed.grid.shape)[1] * np.pi / 2)
        forward = Displacement.from_world(field, pair.fixed.grid)
        return Outcome(forward, Affine.identity())

    def peak_memory_bytes(self, fixed, moving):
        return 50_000_000
