"""Kinds of synthetic studies, and their MR-like bodies: a heart in its chest, a head, a hippocampus.

Bodies are made of ellipsoids. They are drawn about 300 mm across, the size for which the random deformations are made,
whatever they show; ``shrink`` says how many times smaller the scans are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from anamorph.geometry.grid import Grid
from anamorph.image.points import Points
from anamorph.phantom.anatomy import LABEL_NAMES
from anamorph.transforms.maps import Affine, Displacement, Transform

_TEXTURE = 0.03
_TEXTURE_MM = 14.0
_BEAT_LATTICE_MM = 12.0


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


@dataclass(frozen=True)
class StudyKind:
    """What the scans of a study show, and how they are taken.

    Args:
        name: of the kind, for the command line.
        task: name of the data set, as Learn2Reg calls such data.
        summary: one line.
        modality: ``CT`` or ``MR``.
        shape: of every scan.
        spacing_mm: of every scan.
        centre_mm: middle of the field of view in the anatomy.
        body: ellipsoids to paint; None is the abdomen of :func:`anamorph.phantom.make_pair`.
        deformation_mm: largest length of the deformation of a patient, in the anatomy.
        shift_mm: limit of the shift of a patient, in the anatomy.
        phases: names of the scans of a patient; one name: patients are registered with each other.
        phase: the map from the second phase to the first, by its size.
        patients: how many a data set has by default.
    """

    name: str
    task: str
    summary: str
    modality: str
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    centre_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    body: EllipsoidBody | None = None
    deformation_mm: float = 15.0
    shift_mm: float = 15.0
    phases: tuple[str, ...] = ("",)
    phase: Callable[[float], Transform] | None = None
    patients: int = 5

    @property
    def label_names(self) -> dict[int, str]:
        """Names of the label values."""
        return dict(LABEL_NAMES if self.body is None else self.body.label_names)


def breath(size: float) -> Transform:
    """Breathing out: the base of the lungs comes up by a share ``size`` of its distance to their apex."""
    matrix = np.diag([1.0, 1 + 0.2 * size, 1 + size, 1.0])
    matrix[2, 3] = -size * 300.0  # the apex, mm above the first lumbar vertebra
    return Affine(matrix)


def beat(size: float) -> Transform:
    """Contraction of the left ventricle: points near its wall come from a share ``size`` further out."""
    half = np.array([180.0, 180.0, 240.0])
    affine = np.diag([_BEAT_LATTICE_MM] * 3 + [1.0])
    affine[:3, 3] = -half
    i, j, k = (int(n) for n in 2 * half / _BEAT_LATTICE_MM + 1)
    lattice = Grid((i, j, k), affine)
    away = lattice.voxel_to_world(np.moveaxis(np.indices(lattice.shape), 0, -1)) - np.array(LEFT_VENTRICLE_MM)
    near = np.exp(-((away / (65.0, 65.0, 130.0)) ** 2).sum(axis=-1, keepdims=True))
    vectors = size * near * away * (1.0, 1.0, 0.4)
    return Displacement.from_world(np.moveaxis(vectors, -1, 0), lattice)


KINDS = {
    kind.name: kind
    for kind in (
        StudyKind(
            "abdomen",
            "AbdomenCTCT",
            "abdominal CT of different patients, 12 organs",
            "CT",
            (36, 30, 32),
            (10.5, 10.5, 10.5),
        ),
        StudyKind(
            "lung",
            "LungCT",
            "chest CT, breathed in and out; every second patient breathes weakly",
            "CT",
            (36, 30, 32),
            (10.5, 10.5, 10.5),
            centre_mm=(0.0, 0.0, 130.0),
            phases=("insp", "exp"),
            phase=breath,
        ),
        StudyKind(
            "heart",
            "CardiacMR",
            "short-axis MR of hearts, end of diastole and of systole; every second patient contracts weakly",
            "MR",
            (40, 36, 10),
            (3.6, 3.6, 9.0),
            body=HEART,
            deformation_mm=8.0,
            phases=("ED", "ES"),
            phase=beat,
            patients=8,
        ),
        StudyKind(
            "brain",
            "BrainMR",
            "T1-like MR of the heads of different people, 6 structures",
            "MR",
            (36, 42, 38),
            (5.0, 5.0, 5.0),
            body=BRAIN,
        ),
        StudyKind(
            "hippocampus",
            "HippocampusMR",
            "MR crops around the hippocampus of different people, its two parts",
            "MR",
            (32, 40, 32),
            (1.0, 1.0, 1.0),
            body=HIPPOCAMPUS,
            deformation_mm=20.0,
        ),
    )
}
