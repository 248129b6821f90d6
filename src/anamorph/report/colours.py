"""Colours: of labels, and of maps of numbers over the fixed scan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

# Far apart on a grey scan to people who see all colours and to those who do not see red or green; one blue alone.
_COLOURS = (
    "#11bbbb",
    "#ffaa00",
    "#bb55ff",
    "#ff3300",
    "#ffff00",
    "#11ff77",
    "#88aaff",
    "#ff2288",
    "#cc7755",
    "#ffffff",
)


def label_colour(rank: int) -> str:
    """The colour of the ``rank``-th label as a CSS colour; they repeat after ten."""
    return _COLOURS[rank % len(_COLOURS)]


_MAPS = {
    "viridis": (
        "440154 470d60 48186a 482374 472d7b 453681 424086 3f4989 3b528b 375a8d 33638d "
        "2f6a8e 2c728e 297a8e 26818e 23898e 21908c 1f988b 1f9f88 21a685 28ae80 31b57b "
        "3ebc74 4cc26c 5dc963 6ece58 82d34c 96d83f abdc32 c0df24 d5e21a eae51a fde725"
    ),
    "magma": (
        "000004 030311 0a0822 130d33 1d1146 28115a 36106a 430f76 50127c 5d177f 691c81 "
        "762181 822681 8f2a81 9c2e7f a9327d b63779 c33b75 cf4170 db486a e65163 ee5c5e "
        "f5695c f9785d fb8761 fd9668 fea571 feb47b fec387 fed194 fde0a2 fceeb0 fcfdbf"
    ),
    "RdBu_r": ("053061 2166ab 4393c3 92c5de d1e5f0 f7f7f6 fddbc7 f4a582 d6604d b2182b 67001f"),
}
"""Colours at even distances of the maps of matplotlib, which takes half a second to import."""


FOLD_COLOUR = (57, 255, 20)
UNKNOWN_GREY = 110


@dataclass(frozen=True)
class ColourScale:
    """From numbers to colours.

    Args:
        name: of a colour map, as matplotlib calls it: viridis, magma or RdBu_r.
        low: number at its start.
        high: number at its end.
        logarithmic: spread the logarithm of the numbers evenly, so that halving and doubling are equally far from 1.
    """

    name: str
    low: float
    high: float
    logarithmic: bool = False

    def paint(self, values: np.ndarray, behind: np.ndarray | None = None) -> np.ndarray:
        """``(rows, columns, 3)`` 8-bit colours, each as the colour bar shows it.

        Where there is no number a grey picture ``behind`` is seen, or one grey.
        """
        known = np.isfinite(values)
        colours = self.table()[np.clip(np.where(known, self.place(values), 0) * 255, 0, 255).astype(np.uint8)]
        elsewhere = np.full(values.shape, UNKNOWN_GREY, np.uint8) if behind is None else behind
        return np.where(known[..., None], colours, elsewhere[..., None])

    def place(self, values: np.ndarray) -> np.ndarray:
        """Where numbers lie on the scale: 0 at its start, 1 at its end, beyond both for numbers beyond it."""
        low, high = self._spread(np.array([self.low, self.high]))
        return (self._spread(values.astype(np.float32)) - low) / (high - low)

    def joined(self, other: ColourScale) -> ColourScale:
        """The scale that shows all numbers of this one and of another of the same colours."""
        return replace(self, low=min(self.low, other.low), high=max(self.high, other.high))

    def css_gradient(self, stops: int = 17) -> str:
        """The colour bar as a CSS background."""
        colours = self.table()[np.linspace(0, 255, stops).astype(int)]
        return f"linear-gradient(to right,{','.join('#' + bytes(colour).hex() for colour in colours)})"

    def ticks(self) -> tuple[str, str, str]:
        """Numbers at the start, the middle and the end of the colour bar."""
        middle = np.sqrt(self.low * self.high) if self.logarithmic else (self.low + self.high) / 2
        return f"{self.low:.3g}", f"{middle:.3g}", f"{self.high:.3g}"

    def _spread(self, values: np.ndarray) -> np.ndarray:
        return np.log(np.maximum(values, 1e-6)) if self.logarithmic else values

    def table(self, colours: int = 256) -> np.ndarray:
        """``(colours, 3)`` 8-bit colours from the start of the scale to its end."""
        given = np.array([list(bytes.fromhex(colour)) for colour in _MAPS[self.name].split()])
        places = np.linspace(0, colours - 1, len(given))
        between = [np.interp(np.arange(colours), places, values) for values in given.T]
        return np.stack(between, axis=-1).astype(np.uint8)


SHOWN_SD, LIMIT_SD = 3.0, 12.0
"""Change between two dates is coloured from the first to the second, in standard deviations."""
CHANGE = ColourScale("RdBu_r", -LIMIT_SD, LIMIT_SD)


def magnitude_scale(slices: Sequence[np.ndarray], name: str, smallest_range: float) -> ColourScale:
    """From zero to about the largest number."""
    values = np.concatenate([part[np.isfinite(part)].ravel() for part in slices])
    high = float(np.percentile(values, 99.5)) if values.size else 0.0
    return ColourScale(name, 0.0, max(high, smallest_range))


def jacobian_scale(slices: Sequence[np.ndarray]) -> ColourScale:
    """Symmetric about 1 (white): blue where the moving scan is smaller than the fixed one, red where it is larger."""
    values = np.concatenate([part[np.isfinite(part) & (part > 0)].ravel() for part in slices])
    largest = float(np.percentile(np.abs(np.log(values)), 99)) if values.size else 0.0
    limit = float(np.exp(np.clip(largest, np.log(1.25), np.log(8))))
    return ColourScale("RdBu_r", 1 / limit, limit, logarithmic=True)


def mark_folds(picture: np.ndarray, jacobian: np.ndarray) -> np.ndarray:
    """The picture with folded voxels (det J <= 0) in green."""
    return np.where((jacobian <= 0)[..., None], np.array(FOLD_COLOUR, np.uint8), picture)
