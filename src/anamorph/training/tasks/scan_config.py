"""Settings of the tasks whose network is an encoder and a decoder."""

from __future__ import annotations

from dataclasses import dataclass

from anamorph.methods.base import setting
from anamorph.networks.convolutions import Activation
from anamorph.networks.encoder import CONVOLUTIONS
from anamorph.training.tasks.reading_config import ReadingConfig


@dataclass(frozen=True)
class ScanConfig(ReadingConfig):
    """Settings of every task that trains an encoder and a decoder on scans."""

    mult: int = setting(8, "width of the network: channels are 4, 8, 16, ... times this")
    convolutions: tuple[int, ...] = setting(CONVOLUTIONS, "3x3x3 convolutions after each halving of the resolution")
    activation: Activation = setting("relu", "activation of the network")
    residual: bool = setting(False, "add the up-sampled features to the output of each block of the decoder")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mult < 1 or not self.convolutions or min(self.convolutions) < 0:
            raise ValueError("mult must be at least 1, and convolutions needs one number, 0 or more, per resolution")

    @property
    def multiple(self) -> int:
        return 2 ** len(self.convolutions)

    def architecture(self, inputs: int) -> dict[str, object]:
        """What the networks of all tasks are made from, as plain values."""
        return {
            "inputs": inputs,
            "mult": self.mult,
            "convolutions": list(self.convolutions),
            "activation": self.activation,
            "residual": self.residual,
        }
