"""Scans as layers: files of medical images, and two synthetic abdomens to try."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from napari_anamorph.frames import image_layer, to_napari

LayerData = tuple[Any, dict[str, Any], str]


def find_reader(path: str | Sequence[str]) -> Callable[[Any], list[LayerData]]:
    """The function that reads one or several files of scans, each as a layer at its place in the world."""

    def read(paths: str | Sequence[str]) -> list[LayerData]:
        from anamorph import read_image

        given = [paths] if isinstance(paths, str) else paths
        layers: list[LayerData] = []
        for one in given:
            data, options = image_layer(read_image(one))
            layers.append((data, options | {"name": Path(one).name.split(".")[0]}, "image"))
        return layers

    return read


def demo_pair() -> list[LayerData]:
    """Two synthetic abdomens that differ by a known deformation, with their landmarks."""
    from anamorph import make_pair

    pair = make_pair((96, 78, 84), seed=3)
    layers: list[LayerData] = []
    for role, image, points in (
        ("fixed", pair.fixed, pair.fixed_points),
        ("moving", pair.moving, pair.moving_points),
    ):
        data, options = image_layer(image)
        layers.append((data, options | {"name": role, "contrast_limits": (-160, 240)}, "image"))
        named = {"features": {"name": list(points.labels)}, "name": f"{role} landmarks", "visible": False, "size": 6}
        layers.append((to_napari(points.positions_mm), named, "points"))
    return layers
