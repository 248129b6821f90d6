"""Small synthetic studies: several patients of one kind of scan, whose anatomies correspond exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np

from anamorph.data.dataset import Case, Dataset, Pair
from anamorph.data.manifest import write_dataset
from anamorph.errors import UserError
from anamorph.geometry.grid import Grid
from anamorph.image.atomic import atomic_directory, atomic_path, write_text
from anamorph.image.image import Image, Labels, Mask
from anamorph.image.points import Points
from anamorph.image.write import write_image, write_points
from anamorph.phantom.anatomy import random_abdomen
from anamorph.phantom.pair import inverse_points, random_affine, random_diffeomorphism, render_scan
from anamorph.phantom.shapes import build_scene
from anamorph.phantom.studies import StudyKind
from anamorph.transforms.maps import Affine, Composite, Transform

BODY_HU = -500
_NOISE_HU, _NOISE_MR = 12.0, 14.0

Painter = Callable[[Transform, Grid, np.random.Generator, str], tuple[Image, Labels, Mask]]
"""Draws the scan that lies where a transform sends its points in the anatomy."""


@dataclass(frozen=True)
class SyntheticScan:
    """One scan of a study with everything that is known about it; points of all scans correspond by name."""

    patient: int
    phase: int
    ill: bool
    image: Image
    labels: Labels
    mask: Mask
    points: Points


def make_study(kind: StudyKind, patients: int, seed: int = 0) -> Iterator[SyntheticScan]:
    """Make the scans of a study, one after the other: patient by patient, phase by phase.

    All patients are smooth, invertible deformations of one anatomy, and the second phase is one of the first. The same
    arguments give the same bits, and the first patients are the same whatever their number.

    Args:
        kind: one of ``KINDS``.
        patients: how many.
        seed: any whole number >= 0.

    Raises:
        UserError: the number of patients or the seed is out of range.
    """
    if patients < 1 or seed < 0:
        raise UserError(f"a study has at least one patient and a seed >= 0, not {patients} and {seed}")
    anatomy_seed, *seeds = np.random.SeedSequence(seed).spawn(1 + patients)
    grid = _grid(kind)
    paint, landmarks = _painter(kind, grid, np.random.default_rng(anatomy_seed))
    for number, own_seed in enumerate(seeds):
        rng = np.random.default_rng(own_seed)
        person = Composite.of(
            random_affine(rng, kind.shift_mm, 5.0, 0.06, False), random_diffeomorphism(rng, kind.deformation_mm, False)
        )
        ill = number % 2 == 1
        size = rng.uniform(0.05, 0.12) if ill else rng.uniform(0.2, 0.3)
        shrink = 1.0 if kind.body is None else kind.body.shrink
        scale = Affine(np.diag([shrink, shrink, shrink, 1.0]))
        for phase in range(len(kind.phases)):
            moved = (kind.phase(size),) if phase and kind.phase is not None else ()
            to_anatomy = Composite.of(scale, *moved, person)
            name = f"{kind.task} {number + 1:04d} {kind.phases[phase]}".strip()
            image, labels, mask = paint(to_anatomy, grid, rng, name)
            sites = inverse_points(to_anatomy, landmarks.positions_mm)
            yield SyntheticScan(number + 1, phase, ill, image, labels, mask, Points(sites, landmarks.labels))


def _grid(kind: StudyKind) -> Grid:
    """Axes LPS, as CT and MR come."""
    spacing = kind.spacing_mm
    affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
    affine[:3, 3] = np.array(kind.centre_mm) - affine[:3, :3] @ ((np.array(kind.shape) - 1) / 2)
    return Grid(kind.shape, affine)


def _painter(kind: StudyKind, grid: Grid, rng: np.random.Generator) -> tuple[Painter, Points]:
    """How scans of a kind are drawn, and the landmarks of their anatomy."""
    body = kind.body
    if body is None:
        anatomy = random_abdomen(rng)
        scene = build_scene(anatomy.organs, rng, float(np.cbrt(np.prod(grid.spacing_mm))))

        def paint_ct(
            to_anatomy: Transform, grid: Grid, rng: np.random.Generator, name: str
        ) -> tuple[Image, Labels, Mask]:
            image, labels = render_scan(anatomy, scene, to_anatomy, grid, _NOISE_HU, rng, name)
            return image, labels, Mask((image.data[0] > BODY_HU).astype(np.uint8), grid, f"{name} mask")

        return paint_ct, anatomy.landmarks

    def paint_mr(to_anatomy: Transform, grid: Grid, rng: np.random.Generator, name: str) -> tuple[Image, Labels, Mask]:
        positions = np.moveaxis(to_anatomy.positions_on(grid), 0, -1).reshape(-1, 3)
        blur_mm = body.shrink * float(np.cbrt(np.prod(grid.spacing_mm)))
        values, labels = body.paint(grid.voxel_to_world(positions), blur_mm)
        inside = values > values.max() / 20
        noise = rng.standard_normal((2, len(values)), np.float32) * np.float32(_NOISE_MR)
        magnitude = np.rint(np.hypot(values + noise[0], noise[1])).astype(np.int16)  # never negative, as MR
        return (
            Image(magnitude.reshape(grid.shape), grid, name),
            Labels(labels.reshape(grid.shape), grid, f"{name} labels"),
            Mask(inside.reshape(grid.shape).astype(np.uint8), grid, f"{name} mask"),
        )

    return paint_mr, body.landmarks


LEAST_PATIENTS = 4
ABOUT = {"licence": "CC0", "reference": "synthetic scans of `anamorph demo`"}


def write_study(kind: StudyKind, folder: Path, patients: int, seed: int = 0, overwrite: bool = False) -> Dataset:
    """Write a study; the folder appears when it is complete.

    It holds ``fixed`` and ``moving`` with their ``_labels``, ``_mask`` (``.nii.gz``) and ``_points.csv``, which are the
    first two scans; a folder with the data set, named after the task; and, where a patient has two phases,
    ``labels.csv`` with the group of each patient. The last third of the patients, two at least, is for validation.

    Args:
        kind: one of :data:`anamorph.phantom.studies.KINDS`.
        folder: to write.
        patients: how many; four at least.
        seed: any whole number >= 0.
        overwrite: replace an earlier study.

    Raises:
        UserError: the folder exists, or a number is out of range.
    """
    if patients < LEAST_PATIENTS:
        raise UserError(f"a data set wants at least {LEAST_PATIENTS} patients, two of them for validation")
    with atomic_directory(folder, overwrite, marker=_manifest(kind)) as temporary:
        scans = _with_common_points([*make_study(kind, patients, seed)])
        for role, scan in zip(("fixed", "moving"), scans, strict=False):
            write_image(scan.image, temporary / f"{role}.nii.gz")
            write_image(scan.labels, temporary / f"{role}_labels.nii.gz")
            write_image(scan.mask, temporary / f"{role}_mask.nii.gz")
            write_points(scan.points, temporary / f"{role}_points.csv")
        if len(kind.phases) > 1:
            groups = {scan.patient: "ill" if scan.ill else "healthy" for scan in scans}
            rows = "".join(f"{patient:04d},{group}\n" for patient, group in groups.items())
            write_text(temporary / "labels.csv", f"subject,label\n{rows}")
        path = temporary / _manifest(kind)
        dataset = _dataset(kind, scans, path, patients - max(patients // 3, 2))
        write_dataset(dataset, path)
    return dataset


def _manifest(kind: StudyKind) -> str:
    return f"{kind.task}/{kind.task}_dataset.json"


def _with_common_points(scans: Sequence[SyntheticScan]) -> list[SyntheticScan]:
    """The scans, with the landmarks alone that all of them show."""
    seen = np.all([scan.image.grid.contains(scan.points.positions_mm) for scan in scans], axis=0)
    names = tuple(str(name) for name in np.array(scans[0].points.labels)[seen])
    return [replace(scan, points=Points(scan.points.positions_mm[seen], names)) for scan in scans]


def _dataset(kind: StudyKind, scans: Sequence[SyntheticScan], path: Path, training: int) -> Dataset:
    """Write the scans of a data set; it lists patients above ``training`` for validation."""
    cases = []
    for scan in scans:
        stem = f"{kind.task}_{scan.patient:04d}_{scan.phase:04d}"
        files = {name: path.parent / f"{name}sTr" / f"{stem}.nii.gz" for name in ("image", "label", "mask")}
        for content, file in zip((scan.image, scan.labels, scan.mask), files.values(), strict=True):
            write_image(content, file)
        landmarks = path.parent / "landmarksTr" / f"{stem}.csv"
        with atomic_path(landmarks) as temporary:
            np.savetxt(temporary, scan.points.to_voxel(scan.image.grid), "%.4f", ",")
        cases.append(
            Case(
                f"{scan.patient:04d}",
                f"{scan.phase:04d}",
                files["image"],
                files["label"],
                files["mask"],
                landmarks=landmarks,
                split="training" if scan.patient <= training else "validation",
            )
        )
    paired = len(kind.phases) > 1
    pairs = {
        name: tuple(
            Pair(fixed, moving)
            for fixed, moving in combinations([case for case in cases if case.split == split], 2)
            if not paired or fixed.subject == moving.subject
        )
        for name, split in (("training", "training"), ("val", "validation"))
    }
    return Dataset(
        path,
        path.parent,
        kind.task,
        {f"{n:04d}": f"{kind.modality} {phase}".strip() for n, phase in enumerate(kind.phases)},
        kind.label_names,
        tuple(cases),
        listed_pairs=pairs,
        pairings="paired" if paired else "unpaired",
        direction=("0000", "0001" if paired else "0000"),
        extra={**ABOUT, "tensorImageShape": {str(n): list(kind.shape) for n in range(len(kind.phases))}},
    )
