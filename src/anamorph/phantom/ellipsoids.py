"""MR-like bodies made of ellipsoids: a heart in its chest, a head, and a hippocampus with what surrounds it.

They are drawn about 300 mm across, the size for which the random deformations are made, whatever they show;
``shrink`` says how many times smaller the scans are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from anamorph.image.points import Points

_TEXTURE = 0.03
_TEXTURE_MM = 14.0


@dataclass(frozen=True)
class Ellipsoid:
    """One tissue. Lengths in mm of the drawing, RAS.

    Args:
        name: of the tissue, and of its landmarks.
        centre: ``(x, y, z)``.
        radii: along x, y and z.
        value: brightness.
        label: value in the label map; None leaves what is there.
    """

    name: str
    centre: tuple[float, float, float]
    radii: tuple[float, float, float]
    value: float
    label: int | None = 0


@dataclass(frozen=True)
class EllipsoidBody:
    """Tissues in the order of painting, names of the labels, and how many times smaller the scans are."""

    tissues: tuple[Ellipsoid, ...]
    label_names: Mapping[int, str]
    shrink: float

    @property
    def landmarks(self) -> Points:
        """Centres of all tissues but the first, and their ends along x, y and z; mm of the drawing."""
        named = {}
        for tissue in self.tissues[1:]:
            named[f"{tissue.name} centre"] = np.array(tissue.centre)
            for axis, end in enumerate(("right", "front", "top")):
                named[f"{tissue.name} {end}"] = np.array(tissue.centre) + np.eye(3)[axis] * tissue.radii
        return Points(np.array(list(named.values())), tuple(named))

    def paint(self, sites_mm: np.ndarray, blur_mm: float) -> tuple[np.ndarray, np.ndarray]:
        """Brightness (float32) and labels (uint8) at places ``(N, 3)`` of the drawing.

        Args:
            sites_mm: places.
            blur_mm: width of the borders, about a voxel.
        """
        values = np.zeros(len(sites_mm), np.float32)
        labels = np.zeros(len(sites_mm), np.uint8)
        waves = np.sin(sites_mm / _TEXTURE_MM) + np.sin(sites_mm[:, [1, 2, 0]] / _TEXTURE_MM * 1.7 + 1)
        texture = 1 + _TEXTURE * waves.prod(axis=1).astype(np.float32)
        for tissue in self.tissues:
            radii = np.array(tissue.radii)
            distance_mm = (1 - np.linalg.norm((sites_mm - tissue.centre) / radii, axis=1)) * radii.min()
            share = np.clip(distance_mm / blur_mm + 0.5, 0, 1).astype(np.float32)
            values += share * (tissue.value * texture - values)
            if tissue.label is not None:
                labels[share > 0.5] = tissue.label
        return values, labels


HEART = EllipsoidBody(
    (
        Ellipsoid("chest", (0, 0, 0), (165, 150, 220), 420),
        Ellipsoid("right lung", (78, -20, 20), (66, 100, 150), 60),
        Ellipsoid("left lung", (-98, -30, 20), (46, 90, 150), 60),
        Ellipsoid("liver", (60, 20, -120), (90, 80, 60), 330),
        Ellipsoid("right ventricle", (38, 30, 0), (48, 42, 75), 820, 3),
        Ellipsoid("myocardium", (-22, 5, 0), (54, 50, 90), 280, 2),
        Ellipsoid("left ventricle", (-22, 5, 4), (36, 32, 74), 850, 1),
        Ellipsoid("spine", (10, -105, 0), (26, 24, 250), 230),
    ),
    {1: "left ventricle", 2: "myocardium", 3: "right ventricle"},
    shrink=2.0,
)
LEFT_VENTRICLE_MM = (-22.0, 5.0, 4.0)

BRAIN = EllipsoidBody(
    (
        Ellipsoid("scalp", (0, 0, 0), (118, 142, 125), 600),
        Ellipsoid("skull", (0, 0, 0), (110, 134, 117), 60),
        Ellipsoid("cortex", (0, 0, 4), (98, 122, 102), 420, 1),
        Ellipsoid("right white matter", (42, 4, 10), (40, 98, 72), 640, 2),
        Ellipsoid("left white matter", (-42, 4, 10), (40, 98, 72), 640, 2),
        Ellipsoid("right ventricle", (16, 8, 22), (9, 44, 16), 110, 3),
        Ellipsoid("left ventricle", (-16, 8, 22), (9, 44, 16), 110, 3),
        Ellipsoid("right thalamus", (17, -14, 0), (14, 22, 14), 480, 4),
        Ellipsoid("left thalamus", (-17, -14, 0), (14, 22, 14), 480, 4),
        Ellipsoid("brainstem", (0, -30, -62), (17, 17, 44), 600, 5),
        Ellipsoid("cerebellum", (0, -72, -62), (60, 38, 32), 500, 6),
    ),
    {1: "cortex", 2: "white matter", 3: "ventricles", 4: "thalamus", 5: "brainstem", 6: "cerebellum"},
    shrink=1.5,
)

HIPPOCAMPUS = EllipsoidBody(
    (
        Ellipsoid("white matter", (0, 0, 0), (260, 260, 260), 640),
        Ellipsoid("cortex", (-90, -10, -60), (50, 190, 80), 430),
        Ellipsoid("amygdala", (10, 105, 18), (46, 36, 40), 470),
        Ellipsoid("ventricle horn", (34, 6, 34), (16, 90, 20), 120),
        Ellipsoid("posterior hippocampus", (6, -52, 14), (30, 64, 26), 400, 2),
        Ellipsoid("anterior hippocampus", (0, 34, 0), (42, 46, 36), 400, 1),
        Ellipsoid("cistern", (104, -20, -20), (36, 120, 60), 90),
    ),
    {1: "anterior hippocampus", 2: "posterior hippocampus"},
    shrink=8.0,
)
