"""``toy``: a shift, from anamorph's search for a start."""

from dataclasses import dataclass

from anamorph.methods.base import Config, Method, setting
from anamorph.methods.linear_start import linear_start_bytes
from anamorph.methods.recipe import prepared, prepared_bytes, search_start
from anamorph.methods.start.settings import StartConfig
from anamorph.transforms import Affine, Composite


@dataclass(frozen=True)
class ToyConfig(Config):
    fraction: float = setting(1.0, "how much of the shift to apply, 0 to 1")


class Toy(Method):
    """Shifts the moving scan to where it fits best."""

    name = "toy"
    summary = "a shift, from a package outside of anamorph"
    Config = ToyConfig

    def __call__(self, pair, run):
        with run.stage("shift", 0.0):
            if pair.start is None:
                start = search_start(StartConfig(init="translation"), prepared(pair), run)
                there = Affine.translation(self.config.fraction * start.transform.matrix[:3, 3])
            else:
                there = Composite.of(pair.start)
        return run.outcome(there, there.inverse())

    def peak_memory_bytes(self, fixed, moving):
        return prepared_bytes(fixed, moving) + linear_start_bytes(fixed, moving, "translation")
