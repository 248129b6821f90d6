"""Segmentations of 3D Slicer with several layers, as one label map."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from anamorph.errors import UserError
from anamorph.image.image import Image
from anamorph.image.text_header import NRRD_SUFFIXES, read_text_header


@dataclass(frozen=True)
class Segment:
    """One structure: its name, the layer it is in, and its value there."""

    name: str
    layer: int
    value: int


def read_segments(path: Path) -> list[Segment]:
    """The segments that a ``.seg.nrrd`` lists; none for other files.

    Raises:
        UserError: a segment has no whole numbers for its layer and value.
    """
    if not path.is_file() or not path.name.lower().endswith(NRRD_SUFFIXES):
        return []
    header = read_text_header(path)
    pairs = header.pairs if header is not None else {}
    numbers = sorted(int(found[1]) for key in pairs if (found := re.fullmatch(r"Segment(\d{1,6})_LabelValue", key)))
    segments = []
    for n in numbers:
        layer, value = (pairs.get(f"Segment{n}_{key}", "0").strip() for key in ("Layer", "LabelValue"))
        if not re.fullmatch(r"\d{1,9}", layer) or not re.fullmatch(r"-?\d{1,18}", value):
            raise UserError(f"{path}: segment {n} has the layer {layer[:20]!r} and value {value[:20]!r}; save it again")
        segments.append(Segment(pairs.get(f"Segment{n}_Name", f"Segment{n}").strip(), int(layer), int(value)))
    return segments


def is_layered(path: Path, image: Image) -> bool:
    """True for a segmentation of several layers."""
    return image.channels > 1 and bool(read_segments(path))


def merged_layers(image: Image, segments: list[Segment]) -> Image:
    """One label map of all layers: each segment keeps its value, if no other has it, else gets its place in the list.

    Args:
        image: one channel per layer.
        segments: what is in the layers.

    Raises:
        UserError: segments overlap, or the list does not fit the layers.
    """
    if any(segment.layer >= image.channels for segment in segments):
        raise UserError(f"{image.name}: a segmentation that lists more layers than its {image.channels}; save it again")
    numbers = numbers_of(segments)
    out = np.zeros(image.grid.shape, np.int32 if max(numbers, default=0) < 1 << 31 else np.int64)
    for segment, number in zip(segments, numbers, strict=True):
        inside = image.data[segment.layer] == segment.value
        taken = out[inside]
        if taken.any():
            other = segments[numbers.index(int(taken[taken != 0][0]))]
            raise UserError(
                f"{image.name}: the segments {other.name!r} and {segment.name!r} overlap, and a label map holds one "
                "per voxel; export them in 3D Slicer as separate label maps, or mask one by the other"
            )
        out[inside] = number
    return Image(out, image.grid, image.name)


def numbers_of(segments: list[Segment]) -> list[int]:
    """The label of each segment: its own value, or 1, 2, 3 for all where two share one or one is 0."""
    values = [segment.value for segment in segments]
    return values if len(set(values)) == len(values) and 0 not in values else list(range(1, len(segments) + 1))


def segment_notes(path: Path) -> list[str]:
    """Which label stands for which segment, where layers were merged."""
    segments = read_segments(path)
    if len({segment.layer for segment in segments}) < 2:
        return []
    named = ", ".join(f"{n} {segment.name}" for n, segment in zip(numbers_of(segments), segments, strict=True))
    return [f"{len({segment.layer for segment in segments})} layers of segments are merged: {named[:300]}"]
