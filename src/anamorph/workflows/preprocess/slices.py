"""A two-dimensional data set: one slice of each scan, without the motion through the plane.

As the abdominal slices of the tutorial on discrete registration (MICCAI 2019) were made: each scan is registered to a
reference, and shows the surface that the map leads to one plane of the reference. How patients differ within the plane
is kept.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from anamorph.batch.registration import RegistrationSettings, register_scans
from anamorph.batch.store import Contents, origin_of
from anamorph.data.dataset import POINT_KINDS, Case, Dataset, Pair
from anamorph.errors import UserError
from anamorph.geometry.grid import Grid
from anamorph.image.atomic import check_replaceable
from anamorph.image.image import Image, Labels
from anamorph.image.read import read_grid, read_image, read_labels
from anamorph.image.write import write_image
from anamorph.methods.base import Outcome
from anamorph.transforms.maps import Displacement
from anamorph.types import Progress
from anamorph.workflows.preprocess.made import CaseJob, Preprocessed, make_dataset, work_folder
from anamorph.workflows.preprocess.record import Target, check_targets, moved, record_path, targets

Plane = Literal["sagittal", "coronal", "axial"]
STEPS, CLOSE_MM, SHARE = 40, 0.05, 0.8
"""Of the search for the surface: at most, how near to the plane it ends, and how much of the distance a step goes."""


@dataclass(frozen=True)
class SliceSettings:
    """Which slice, and how scans are brought to it.

    Args:
        reference: the key of a scan, such as ``0001_0000``.
        plane: ``axial``, ``coronal`` or ``sagittal``; the nearest of the voxel planes of the reference.
        at_mm: place of the plane along its normal, RAS mm of the reference.
        label: in place of ``at_mm``, the plane that holds most of this label in the reference; without both, the one
            in which the most labels are.
        spacing_mm: of the pixels; those of the reference by default.
        method: brings the reference to each scan.

    Raises:
        UserError: values that cannot be used.
    """

    reference: str
    plane: Plane = "axial"
    at_mm: float | None = None
    label: int | None = None
    spacing_mm: float | None = None
    method: str = "deeds"

    def __post_init__(self) -> None:
        if self.plane not in get_args(Plane):
            raise UserError(f"--plane must be one of {', '.join(get_args(Plane))}, not '{self.plane}'")
        if self.spacing_mm is not None and not 0 < self.spacing_mm < math.inf:
            raise UserError(f"--spacing must be a positive number of mm, not {self.spacing_mm}")
        if self.at_mm is not None and self.label is not None:
            raise UserError("--at and --label both choose the plane; drop one of them")
        self.registration.described()

    @property
    def registration(self) -> RegistrationSettings:
        """The registration of the reference to a scan."""
        return RegistrationSettings(self.method)


def slice_grid(scan: Image, labels: Labels | None, settings: SliceSettings) -> Grid:
    """The pixels of the plane of the reference; the third axis is its normal.

    Raises:
        UserError: the reference has no such label, or ends before the plane.
    """
    normal = get_args(Plane).index(settings.plane)
    axis = int(np.argmax(np.abs(scan.grid.affine[normal, :3]) / scan.grid.spacing_mm))
    first, second = (a for a in range(3) if a != axis)
    place = _place(scan.grid, labels, settings, normal, axis)
    affine = np.eye(4)
    affine[:3, :3] = scan.grid.affine[:3, [first, second, axis]]
    affine[:3, 3] = scan.grid.voxel_to_world(np.eye(3)[axis] * place)
    grid = Grid((scan.grid.shape[first], scan.grid.shape[second], 1), affine)
    return grid if settings.spacing_mm is None else grid.resampled(settings.spacing_mm)


def _place(grid: Grid, labels: Labels | None, settings: SliceSettings, normal: int, axis: int) -> int:
    """The index of the plane in the reference."""
    count = grid.shape[axis]
    if settings.at_mm is not None:
        middle = (np.array(grid.shape) - 1) / 2
        middle[axis] = 0
        first_mm, step_mm = grid.voxel_to_world(middle)[normal], grid.affine[normal, axis]
        place = round(float((settings.at_mm - first_mm) / step_mm))
        if not 0 <= place < count:
            low, high = sorted((first_mm, first_mm + (count - 1) * step_mm))
            raise UserError(f"--at {settings.at_mm:g} is outside the reference, which has {low:.0f} to {high:.0f} mm")
        return place
    if labels is None:
        raise UserError("the reference has no labels to choose a plane by; give --at MM")
    over = tuple(a for a in range(3) if a != axis)
    if settings.label is not None:
        area = (labels.data[0] == settings.label).sum(axis=over)
        if not area.any():
            raise UserError(
                f"the reference has no label {settings.label}; it has {', '.join(map(str, labels.present()))}"
            )
        return int(np.argmax(area))
    areas = np.array([(labels.data[0] == label).sum(axis=over) for label in labels.present()])
    shown = (areas > 0).sum(axis=0)
    # Of the planes with the most labels the one in which the smallest has the largest share of its largest area.
    least = np.where(areas > 0, areas / areas.max(axis=1, keepdims=True), 1.0).min(axis=0)
    return int(np.argmax(shown + least))


def normal_of(plane: Grid) -> np.ndarray:
    """The unit vector at right angles to the pixels of a plane."""
    normal = np.cross(plane.affine[:3, 0], plane.affine[:3, 1])
    return normal / np.linalg.norm(normal)


def surface_of(outcome: Outcome, plane: Grid) -> Displacement:
    """The surface of a scan that corresponds to a plane of the reference, seen along the normal of the plane.

    Args:
        outcome: of the registration of the reference (fixed) to the scan (moving).
        plane: pixels in the reference, the third axis along its normal.

    Returns:
        A field on the pixels that leads to the scan: along the normal to the surface, and within the plane by one
        translation, the median of what the map does there.
    """
    normal = normal_of(plane)
    pixels = plane.voxel_to_world(np.argwhere(np.ones(plane.shape, bool)))
    apart = outcome.fixed_to_moving.map_world(pixels) - pixels
    within = apart - np.outer(apart @ normal, normal)
    places = pixels + np.median(within, axis=0) + np.median(apart @ normal) * normal
    height = pixels[0] @ normal
    for _ in range(STEPS):
        rest = height - outcome.moving_to_fixed.map_world(places) @ normal
        places += SHARE * np.outer(rest, normal)
        if np.abs(rest).max() < CLOSE_MM:
            break
    return Displacement.from_world((places - pixels).T.reshape(3, *plane.shape), plane)


@dataclass(frozen=True)
class SliceJob(CaseJob):
    """The slice of one scan."""

    reference: Case
    plane: Grid
    settings: SliceSettings

    @property
    def files(self) -> list[Path]:
        return [*(target.path for target in sliced(self.case, self.root)), record_path(self.case)]

    def do(self, progress: Progress | None = None) -> dict[str, Any]:
        """Register the scan and write its slice, the record last.

        Raises:
            UserError: a file cannot be read, or the scans cannot be a pair.
            RegistrationFailure: the registration failed.
        """
        image = read_image(self.case.image)
        field, warnings = Displacement(np.zeros((3, *self.plane.shape), np.float32), self.plane), []
        if self.reference.image != self.case.image:
            fixed = _reference(self.reference.image)
            outcome = register_scans(self.settings.registration, fixed, image, progress=progress)
            field, warnings = surface_of(outcome, self.plane), outcome.warnings
        for target in sliced(self.case, self.root):
            path = self.folder / target.path
            if target.kind == "image":
                write_image(field.warp_image(image, self.plane), path)
            else:
                write_image(field.warp_labels(read_labels(target.source), self.plane), path)
        content = {
            "scan": self.case.key,
            "source": str(self.case.image),
            "reference": self.reference.key,
            "preprocessed": {"shape": list(self.plane.shape), "affine": self.plane.affine.tolist()},
            "through_plane_mm": [round(float(end), 2) for end in self._through_plane_mm(field)],
            "warnings": [str(warning) for warning in warnings],
        }
        return self.keep(content)

    def _through_plane_mm(self, field: Displacement) -> np.ndarray:
        """From how deep to how high the surface lies, along the normal, from its median."""
        along = np.tensordot(normal_of(self.plane), field.vectors_mm(), 1)
        return np.array([along.min(), along.max()]) - np.median(along)

    def peak_bytes(self) -> int:
        """Predicted memory of the registration, from the headers."""
        return self.settings.registration.peak_bytes(read_grid(self.reference.image), read_grid(self.case.image))


def sliced(case: Case, root: Path) -> list[Target]:
    """The files of a scan that have a slice: the scan, its labels and its mask; points are in no plane."""
    return [target for target in targets(case, root) if target.kind in ("image", "label", "mask")]


@lru_cache(maxsize=1)
def _reference(path: Path) -> Image:
    return read_image(path)


def make_slices(
    dataset: Dataset,
    settings: SliceSettings,
    out: Path,
    *,
    workers: int | str = 1,
    overwrite: bool = False,
    leave_out_failed: bool = False,
    progress: Progress | None = None,
    on_failure: Callable[[str, str], None] | None = None,
) -> Preprocessed:
    """Make a data set of one slice of every scan of another one.

    Args:
        dataset: the manifest of scans in three dimensions.
        settings: which slice.
        out: folder of the new data set; finished slices are kept in ``<out>.partial`` until it is complete.
        workers: processes, or where else the work is done, see :func:`~anamorph.batch.run.run_jobs`.
        overwrite: replace an earlier data set once the new one is complete.
        leave_out_failed: make the data set without scans that fail and without their pairs.
        progress: called with the stage and the fraction done.
        on_failure: called with the key of each scan that fails, and the reason.

    Raises:
        UserError: there is no such plane, or ``out`` may not be written.
        RegistrationFailure: scans failed; the others are kept.
    """
    check_replaceable(out, overwrite, f"{dataset.name}_dataset.json", dataset.files())
    check_targets(dataset)
    reference = dataset.scan(settings.reference, "--reference")
    scan = _reference(reference.image)
    if scan.grid.is_2d:
        raise UserError(f"{reference.key} is a slice already; slices are made of scans in three dimensions")
    plane = slice_grid(scan, None if reference.label is None else read_labels(reference.label), settings)
    work, contents = work_folder(out), Contents()
    contents.look(target.source for case in dataset.cases for target in sliced(case, dataset.root))
    home = contents.of({"image": reference.image, "label": reference.label})
    jobs = []
    for case in dataset.cases:
        files = {target.path.as_posix(): contents[target.source] for target in sliced(case, dataset.root)}
        origin = origin_of(
            settings=dataclasses.asdict(settings),
            run=settings.registration.described(),
            plane=[list(plane.shape), plane.affine.tolist()],
            reference=home,
            files=files,
        )
        jobs.append(SliceJob(case, dataset.root, work, origin, reference, plane, settings))

    def new(kept: tuple[Case, ...], records: Mapping[str, dict[str, Any]]) -> Dataset:
        cases = {case.image: _flat(moved(case, dataset.root, work)) for case in kept}
        pairs = {
            split: tuple(
                Pair(cases[pair.fixed.image], cases[pair.moving.image])
                for pair in listed
                if {pair.fixed.image, pair.moving.image} <= cases.keys()
            )
            for split, listed in dataset.listed_pairs.items()
        }
        shapes = {str(int(case.modality)): list(plane.shape) for case in kept}
        extra = dict(dataset.extra) | {"tensorImageShape": shapes, "slices": dataclasses.asdict(settings)}
        return replace(dataset, root=work, cases=tuple(cases.values()), listed_pairs=pairs, extra=extra, missing=())

    return make_dataset(
        dataset,
        jobs,
        out,
        new,
        workers=workers,
        inputs=dataset.files(),
        overwrite=overwrite,
        leave_out_failed=leave_out_failed,
        progress=progress,
        on_failure=on_failure,
    )


def _flat(case: Case) -> Case:
    """The scan without its points."""
    extra = {name: value for name, value in case.extra.items() if not name.startswith(POINT_KINDS)}
    return replace(case, keypoints=None, landmarks=None, extra=extra)
