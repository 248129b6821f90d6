"""A synthetic treatment in DICOM: planning CT with contours and dose, a CT of one day, a cone-beam CT of another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from anamorph.geometry.grid import Grid
from anamorph.image.atomic import atomic_directory
from anamorph.image.dicom.source import DicomSource, new_series, read_source, sequence_item
from anamorph.image.dicom.write_dose import write_dose
from anamorph.image.dicom.write_scan import write_scan
from anamorph.image.dicom.write_structures import write_structure_set
from anamorph.image.image import Image, Labels, Structure
from anamorph.image.points import Points
from anamorph.image.write import write_points
from anamorph.phantom.anatomy import LABEL_NAMES
from anamorph.phantom.pair import PhantomPair, make_pair
from anamorph.transforms.maps import Transform

PLAN, CT_DAY, CONE_BEAM_DAY = "plan", "day-1", "day-2"
ORGANS = (6, 3, 9, 1)
"""Of the labels of the anatomy: what is drawn."""
TARGET = "liver"
GTV_MM, PTV_MM, GRAY = 16.0, 24.0, 50.0
SPACING_MM = (4.0, 4.0, 5.0)
FIELD_MM, CONE_MM = (376.0, 304.0, 300.0), (264.0, 264.0, 200.0)
"""Fields of view of the CTs and of the cone-beam CT."""
DEFORMATION_MM, SHIFT_MM, TURN_DEG = 14.0, 8.0, 2.0
_COLOURS = {"GTV": (255, 0, 0), "PTV": (255, 128, 0)}


def write_radiotherapy(
    folder: Path,
    seed: int = 0,
    overwrite: bool = False,
    spacing_mm: tuple[float, float, float] = SPACING_MM,
) -> None:
    """Write a treatment; the folder appears when it is complete.

    It holds ``plan`` (CT, structure set, dose), ``day-1`` (CT, with contours of its own) and ``day-2`` (a cone-beam CT
    of a smaller, round field of view whose values are no Hounsfield units), and landmarks of all three as tables.

    Args:
        folder: to write.
        seed: any whole number >= 0.
        overwrite: replace an earlier one.
        spacing_mm: of all scans.

    Raises:
        UserError: the folder exists, or the seed is out of range.
    """
    grid, cone = (_centred(field_mm, spacing_mm) for field_mm in (FIELD_MM, CONE_MM))

    def compared(fixed: Grid, alter: Callable[[Transform], Transform] | None = None) -> PhantomPair:
        return make_pair(
            seed=seed,
            fixed_grid=fixed,
            moving_grid=grid,
            deformation_mm=DEFORMATION_MM,
            translation_mm=SHIFT_MM,
            rotation_deg=TURN_DEG,
            scale=0.0,
            alter=alter,
        )

    first, second = compared(grid), compared(cone, lambda forward: forward.inverse())
    with atomic_directory(folder, overwrite, marker="plan_points.csv") as out:
        plan = first.moving
        shares = [*_shares(first.moving_labels)]
        source = write_ct(plan, out / PLAN, "planning CT", "55")
        write_contours(shares, out / PLAN, source)
        write_dose(_dose(first), out / PLAN / "dose.dcm", source, new_series(3, "planned dose"), "made by a phantom")
        day = write_ct(first.fixed, out / CT_DAY, "CT of a day", "66")
        write_contours(_moved(shares, plan, first.true_fixed_to_moving, first.fixed.grid), out / CT_DAY, day)
        write_ct(cone_beam(second.fixed, seed), out / CONE_BEAM_DAY, "cone-beam CT", "77")
        for name, points in _landmarks(first, second).items():
            write_points(points, out / f"{name}_points.csv")


def _centred(field_mm: tuple[float, float, float], spacing_mm: tuple[float, float, float]) -> Grid:
    i, j, k = (round(length / step) for length, step in zip(field_mm, spacing_mm, strict=True))
    affine = np.diag([-spacing_mm[0], -spacing_mm[1], spacing_mm[2], 1.0])
    affine[:3, 3] = -affine[:3, :3] @ ((np.array([i, j, k]) - 1) / 2)
    return Grid((i, j, k), affine)


def write_ct(image: Image, folder: Path, description: str, frame: str) -> DicomSource:
    """Write a CT of a patient who does not exist, and read its headers."""
    from pydicom.uid import generate_uid

    scanner = sequence_item(
        PatientName="Phantom^Anamorph",
        PatientID="phantom",
        PatientSex="O",
        Modality="CT",
        PatientPosition="HFS",
        StudyInstanceUID=generate_uid(entropy_srcs=["anamorph phantom"]),
        StudyDescription="synthetic treatment",
    )
    made = DicomSource(folder, (scanner,), image.grid, str(generate_uid(entropy_srcs=["frame", frame])))
    write_scan(image, folder, made, made, new_series(1, description))
    return read_source(str(folder))


def _shares(labels: Labels) -> Iterator[tuple[Structure, np.ndarray]]:
    """Organs, and two balls in the middle of one of them: what is treated, and its margin."""
    for rank, label in enumerate(ORGANS, 1):
        yield Structure(rank, LABEL_NAMES[label]), (labels.data[0] == label).astype(np.float32)
    depth = -np.linalg.norm(_places(labels.grid) - _middle(labels), axis=0)
    for rank, (name, radius) in enumerate((("GTV", GTV_MM), ("PTV", PTV_MM)), len(ORGANS) + 1):
        share = np.clip((depth + radius) / labels.grid.finest_mm + 0.5, 0, 1).astype(np.float32)
        yield Structure(rank, name, _COLOURS[name]), share


def _places(grid: Grid) -> np.ndarray:
    return np.moveaxis(grid.voxel_to_world(np.moveaxis(np.indices(grid.shape), 0, -1).reshape(-1, 3)), 1, 0).reshape(
        3, *grid.shape
    )


def _middle(labels: Labels) -> np.ndarray:
    """The middle of the organ that is treated, RAS mm."""
    label = next(number for number, name in LABEL_NAMES.items() if name == TARGET)
    centre: np.ndarray = labels.grid.voxel_to_world(np.argwhere(labels.data[0] == label)).mean(axis=0)
    return centre[:, None, None, None]


def write_contours(shares: Iterable[tuple[Structure, np.ndarray]], folder: Path, source: DicomSource) -> None:
    """Write structures, as shares of the voxels of a scan, into ``structures.dcm`` beside it."""
    series = new_series(2, "contours")
    write_structure_set(shares, folder / "structures.dcm", source, series, "PHANTOM", "made by a phantom")


def _moved(
    shares: list[tuple[Structure, np.ndarray]], plan: Image, fixed_to_moving: Transform, grid: Grid
) -> Iterator[tuple[Structure, np.ndarray]]:
    """Structures of the plan where they truly are on a day."""
    for structure, share in shares:
        yield structure, fixed_to_moving.warp_image(Image(share, plan.grid), grid, background=0).data[0]


def _dose(pair: PhantomPair) -> Image:
    """A dose that is even in the margin of the target and falls off around it, on a grid of its own."""
    scan = pair.moving.grid
    grid = scan.resampled(6.0)
    away = np.linalg.norm(_places(grid) - _middle(pair.moving_labels), axis=0)
    return Image((GRAY / (1 + np.exp((away - PTV_MM - 8.0) / 5.0))).astype(np.float32), grid, "dose")


def cone_beam(image: Image, seed: int) -> Image:
    """What a cone-beam scanner would make of a CT: other values, cupping, more noise, and nothing beyond a disc."""
    grid = image.grid
    columns, rows = ((np.arange(n) - (n - 1) / 2) * s for n, s in zip(grid.shape[:2], grid.spacing_mm[:2], strict=True))
    away = np.hypot(*np.meshgrid(columns, rows, indexing="ij"))[:, :, None]
    radius = min(-2 * columns[0], -2 * rows[0]) / 2
    noise = np.random.default_rng(seed).normal(0, 25, grid.shape)
    values = 0.8 * image.data[0] + 60 + 40 * (away / radius) ** 2 + noise
    return Image(np.where(away < radius, np.rint(values), -1024).astype(np.int16), grid, "cone beam")


def _landmarks(first: PhantomPair, second: PhantomPair) -> dict[str, Points]:
    """Landmarks that all three scans show, under the names of their folders."""
    known = [dict(zip(points.labels or (), points.positions_mm, strict=True)) for points in (
        first.moving_points, first.fixed_points, second.fixed_points)]  # fmt: skip
    radius = min(CONE_MM[:2]) / 2
    names = [
        name for name in known[0]
        if all(name in one for one in known) and float(np.hypot(*known[2][name][:2])) < radius - 10
    ]  # fmt: skip
    return {
        place.replace("-", ""): Points(np.array([one[name] for name in names]), tuple(names))
        for place, one in zip((PLAN, CT_DAY, CONE_BEAM_DAY), known, strict=True)
    }
