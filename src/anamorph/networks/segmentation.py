"""The segmentation network on a processor, by compiled kernels and without PyTorch.

Scores are those of :class:`~anamorph.networks.symmetric_network.SegmentationNetwork`, which is the readable twin
and has the same arguments and names of weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import numpy as np

from anamorph.networks.widths import CONVOLUTIONS, LEAK, Activation, channels_of, padding_after, padding_to_multiple
from anamorph.runtime.compiled import kernels, lanes
from anamorph.runtime.threads import over_slabs

LANES = 16
"""Weights are padded to so many outputs; kernels work on no more of them than hold any."""
EPSILON = 1e-5
"""Added to variances, as PyTorch does."""


@dataclass(frozen=True, eq=False)
class _Layer:
    """A convolution: weights ``(taps along i, j, k, inputs, padded outputs)``, and a bias for the padded outputs.

    Where a vector has room for the outputs of several voxels side by side, they are outputs of one convolution.
    """

    weights: np.ndarray
    bias: np.ndarray
    outputs: int

    @classmethod
    def of(cls, weight: np.ndarray, bias: np.ndarray, transposed: bool, together: int = 1) -> _Layer:
        """Of arrays as PyTorch orders them, for so many voxels along k at once."""
        outputs = len(bias)
        ordered = weight.transpose(2, 3, 4, 0, 1) if transposed else weight.transpose(2, 3, 4, 1, 0)
        if together > 1:
            shifted = [np.pad(ordered, [(0, 0)] * 2 + [(n, together - 1 - n)] + [(0, 0)] * 2) for n in range(together)]
            ordered, bias = np.concatenate(shifted, axis=-1), np.tile(bias, together)
        more = -ordered.shape[-1] % LANES
        return cls(
            np.pad(ordered, [(0, 0)] * 4 + [(0, more)]).astype(np.float32, order="C"),
            np.pad(bias, (0, more)).astype(np.float32),
            outputs,
        )


@dataclass(frozen=True, eq=False)
class _Channels:
    """Some channels of an array ``(I + 2, J + 2, K + 2, C)``, whose frame is zero."""

    values: np.ndarray
    first: int
    count: int

    @classmethod
    def zeros(cls, shape: Sequence[int], count: int, beside: int = 0) -> _Channels:
        """New ones, in an array with room for more channels before them."""
        return cls(np.zeros((*(n + 2 for n in shape), beside + count), np.float32), beside, count)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(n - 2 for n in self.values.shape[:3])


class CompiledSegmentation:
    """A segmentation network that the kernels run; arguments as of the network of PyTorch.

    Raises:
        ValueError: there is no such network.
    """

    answers_voxels: ClassVar[bool] = True
    """Whether cells of the stem are raised to voxels in the end."""

    def __init__(
        self,
        inputs: int = 1,
        classes: int = 12,
        mult: int = 4,
        convolutions: Sequence[int] = CONVOLUTIONS,
        activation: Activation = "leaky",
        residual: bool = False,
        stem: int = 1,
    ) -> None:
        if min(inputs, classes, mult, stem, *convolutions) < 1:
            raise ValueError("a number of channels or convolutions is 0")
        self.stem, self.cell, self.residual = stem, stem * 2 ** len(convolutions), residual
        self.raises = self.answers_voxels and stem > 1
        self.convolutions = tuple(convolutions)
        self.slope = 0.0 if activation == "relu" else LEAK
        self.widths = channels_of(mult, len(convolutions))
        self.classes = classes
        self.layers: dict[str, _Layer] = {}
        self._shapes = dict(self._described(inputs))

    def _described(self, inputs: int) -> list[tuple[str, tuple[int, ...]]]:
        """Names of all convolutions and the shapes of their weights."""
        finest, *_ = widths = self.widths
        found: list[tuple[str, tuple[int, ...]]] = [
            ("encoder.stages.0.first.0", (finest, inputs * self.stem**3, 3, 3, 3)),
            ("encoder.stages.0.second.0", (finest, finest, 3, 3, 3)),
        ]
        for level, count in enumerate(self.convolutions, start=1):
            finer, width = widths[level - 1 : level + 1]
            found.append((f"encoder.stages.{level}.0.0", (width, finer, 2, 2, 2)))
            found += [(f"encoder.stages.{level}.{n}.0", (width, width, 3, 3, 3)) for n in range(1, count + 1)]
        for stage, level in enumerate(reversed(range(len(self.convolutions)))):
            width, coarser = widths[level : level + 2]
            found.append((f"decoder.up.{stage}.0", (coarser, width, 2, 2, 2)))
            for n in range(self.convolutions[level]):
                found.append((f"decoder.blocks.{stage}.{n}.0", (width, width if n else coarser, 3, 3, 3)))
        found.append(("decoder.last", (finest if self.raises else self.classes, finest, 3, 3, 3)))
        if self.raises:
            found.append(("raised.1", (finest, self.classes, *(self.stem,) * 3)))
        return found

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Take the weights.

        Args:
            state: those of the network of PyTorch, by their names.

        Raises:
            ValueError: they are not those of this network.
        """
        known = {f"{name}.{part}" for name in self._shapes for part in ("weight", "bias")}
        if known != set(state):
            raise ValueError(f"{sorted(known ^ set(state))[0]} is missing, or is none of them")
        for name, shape in self._shapes.items():
            transposed = name.startswith(("decoder.up", "raised"))
            weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
            if weight.shape != shape or bias.shape != (shape[1 if transposed else 0],):
                raise ValueError(f"{name} has the shape {weight.shape}, not {shape}")
            if weight.dtype.kind not in "fiu" or bias.dtype.kind not in "fiu":
                raise ValueError(f"{name} holds no numbers")
            self.layers[name] = _Layer.of(weight, bias, transposed, self._together(name, len(bias)))

    def _together(self, name: str, outputs: int) -> int:
        """How many voxels along the last axis, a power of two that divides its length, share a vector."""
        level = len(self.convolutions)
        finest = name.startswith(("encoder.stages.0", f"decoder.blocks.{level - 1}", "decoder.last"))
        most = min(lanes() // outputs, 2**level) if finest else 1
        return 1 << max(most.bit_length() - 1, 0)

    def scores(self, channels: np.ndarray) -> np.ndarray:
        """``(C, I, J, K)`` float32, any size, to ``(classes, I, J, K)``."""
        scores, first = self._scores(channels)
        inside = tuple(slice(start, start + n) for start, n in zip(first, channels.shape[1:], strict=True))
        return np.ascontiguousarray(np.moveaxis(scores[inside], -1, 0))

    def probabilities(self, channels: np.ndarray) -> np.ndarray:
        """The softmax of the scores, of a volume as for :meth:`scores`."""
        scores, first = self._scores(channels)
        out = np.empty((self.classes, *channels.shape[1:]), np.float32)
        over_slabs(kernels.softmax, out.shape[1], scores, first, out)
        return out

    def _scores(self, channels: np.ndarray) -> tuple[np.ndarray, tuple[int, ...]]:
        """Scores ``(I', J', K', classes)`` of the padded volume, and where in them the volume begins."""
        padding = padding_to_multiple(channels.shape[1:], self.cell)
        before = tuple(pair[0] for pair in padding)
        last = self._last(self._cells(channels, padding))
        if not self.raises:
            return last.values, tuple(n + 1 for n in before)
        self._activate(last, self.slope)
        scores = np.empty((*(n * self.stem for n in last.shape), self.classes), np.float32)
        self._convolve("raised.1", last, _Channels(scores, 0, self.classes), frame=0)
        return scores, before

    def _last(self, cells: _Channels) -> _Channels:
        """The output of the decoder."""
        current = self._decoded(self._encoded(cells))
        last = _Channels.zeros(current.shape, self.layers["decoder.last"].outputs)
        self._convolve("decoder.last", current, last)
        return last

    def _cells(
        self, channels: np.ndarray, padding: Sequence[tuple[int, int]], mode: Literal["constant", "edge"] = "constant"
    ) -> _Channels:
        """The padded volume, each voxel of a cell of the stem in its own channel."""
        count, stem = len(channels), self.stem
        padded = np.pad(channels, [(0, 0), *padding], mode=mode)
        made = _Channels.zeros([n // stem for n in padded.shape[1:]], count * stem**3)
        # Channel by channel, which takes less time than one transposition.
        for n, (channel, *start) in enumerate(np.ndindex(count, stem, stem, stem)):
            inside = tuple(slice(first, None, stem) for first in start)
            made.values[1:-1, 1:-1, 1:-1, n] = padded[channel][inside]
        return made

    def _encoded(self, current: _Channels) -> list[_Channels]:
        """Features of every resolution, finest first, each in an array with room for what the decoder raises to it."""
        features: list[_Channels] = []
        for level, width in enumerate(self.widths):
            shape = current.shape if level == 0 else tuple(n // 2 for n in current.shape)
            new = partial(_Channels.zeros, shape, width)
            target = new(beside=width) if level < len(self.convolutions) else new()
            if level == 0:
                first = new()
                self._convolve("encoder.stages.0.first.0", current, first)
                self._activate(first, self.slope)
                self._convolve("encoder.stages.0.second.0", first, target)
                self._activate(target, self.slope, plus=first)
                current = target
            else:
                for n in range(count := self.convolutions[level - 1] + 1):
                    current = self._block(f"encoder.stages.{level}.{n}.0", current, target if n == count - 1 else new())
            features.append(current)
        return features

    def _decoded(self, features: list[_Channels]) -> _Channels:
        current = features.pop()
        for stage in range(len(self.convolutions)):
            skip = features.pop()
            raised = self._block(f"decoder.up.{stage}.0", current, _Channels(skip.values, 0, skip.first))
            current = _Channels(skip.values, 0, skip.first + skip.count)
            for n in range(count := self.convolutions[-1 - stage]):
                plus = raised if self.residual and n == count - 1 else None
                target = _Channels.zeros(skip.shape, skip.count)
                current = self._block(f"decoder.blocks.{stage}.{n}.0", current, target, plus)
        return current

    def _block(self, name: str, source: _Channels, target: _Channels, plus: _Channels | None = None) -> _Channels:
        """A convolution, the norm of each channel, the activation, and what is added after it."""
        sums, squares = self._convolve(name, source, target, moments=True).sum(axis=0)
        mean = sums / np.prod(target.shape)
        scale = 1 / np.sqrt(np.maximum(squares / np.prod(target.shape) - mean**2, 0) + EPSILON)
        self._activate(target, self.slope, scale, -mean * scale, plus)
        return target

    def _convolve(
        self, name: str, source: _Channels, target: _Channels, *, moments: bool = False, frame: int = 1
    ) -> np.ndarray:
        """Write the output of a convolution; sums of channels and of their squares, ``(I, 2, C)``, if asked for."""
        layer = self.layers[name]
        planes = target.values.shape[0] - 2 * frame
        found = np.empty((planes if moments else 0, 2, layer.outputs))
        given = (source.values, source.first, layer.weights, layer.bias, target.values, target.first)
        if name.startswith(("decoder.up", "raised")):
            over_slabs(kernels.convolve_transposed, planes, *given, frame, found)
        else:
            over_slabs(kernels.convolve, planes, *given, found)
        return found

    def _activate(
        self,
        target: _Channels,
        slope: float,
        scale: np.ndarray | None = None,
        shift: np.ndarray | None = None,
        plus: _Channels | None = None,
    ) -> None:
        """Scale, shift and activate in place, then add."""
        scale = np.ones(target.count) if scale is None else scale
        shift = np.zeros(target.count) if shift is None else shift
        added, first = (np.empty((0, 0, 0, 0), np.float32), 0) if plus is None else (plus.values, plus.first)
        over_slabs(
            kernels.activate,
            target.shape[0],
            target.values,
            target.first,
            scale.astype(np.float32),
            shift.astype(np.float32),
            slope,
            added,
            first,
        )


class CompiledFeatures(CompiledSegmentation):
    """The network of ``features`` that the kernels run; its twin is ``FeatureNetwork``."""

    answers_voxels = False

    def __init__(
        self,
        inputs: int = 1,
        classes: int = 16,
        mult: int = 4,
        convolutions: Sequence[int] = (2, 2),
        activation: Activation = "leaky",
        residual: bool = False,
        stem: int = 2,
    ) -> None:
        super().__init__(inputs, classes, mult, convolutions, activation, residual, stem)

    def features(self, channels: np.ndarray) -> np.ndarray:
        """``(C, I, J, K)``, any size, to ``(I / stem, J / stem, K / stem, classes)``, rounded up, of length 1."""
        padding = [(0, missing) for missing in padding_after(channels.shape[1:], self.cell)]
        last = self._last(self._cells(channels, padding, mode="edge"))
        i, j, k = (slice(1, 1 + -(-n // self.stem)) for n in channels.shape[1:])
        found = last.values[i, j, k, : self.classes]
        length = np.sqrt(np.einsum("ijkc,ijkc->ijk", found, found))
        return found / np.maximum(length, 1e-12)[..., None]
