"""One day: the plan registered to its scan, structures and dose carried over, and the numbers of TG-132."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from anamorph.batch.registration import RegistrationSettings
from anamorph.batch.store import Kept
from anamorph.errors import UserError
from anamorph.evaluation.tg132 import criteria
from anamorph.geometry.grid import Grid
from anamorph.image.dicom import dicom_frames, split_choice
from anamorph.image.dicom.source import new_series
from anamorph.image.dicom.volumes import grid_of
from anamorph.image.dicom.write_dose import write_dose
from anamorph.image.dicom.write_structures import write_structure_set
from anamorph.image.image import Image
from anamorph.image.write import write_image
from anamorph.methods import find_method
from anamorph.registration.dicom_folder import FIXED_TO_MOVING, FOLDER, MOVING_TO_FIXED, STRUCTURES, DicomFolder
from anamorph.registration.folder import RESULT
from anamorph.registration.request import Request
from anamorph.registration.run import run_to_folder
from anamorph.transforms.affine import fit_linear
from anamorph.transforms.files.itk_field import orthogonal_cover
from anamorph.transforms.maps import Affine, Transform
from anamorph.types import Progress
from anamorph.workflows.propagation.dose import by_energy, density, interpolated
from anamorph.workflows.propagation.plan import Anatomy, Dose, field_of_view, read_day, read_plan
from anamorph.workflows.propagation.structures import Carrier, PropagatedStructure

if TYPE_CHECKING:
    from anamorph.registration.result import Result

ORIGIN = "propagation_origin"
NUMBERS = "propagation"
DOSE_ON_DAY = "dose.dcm"
DOSE_ON_PLAN = "dose_on_plan.nii.gz"
CONE_BEAM_WEIGHT = 0.5
"""Of intensities of a cone-beam scan; without any, a start in a small field of view has too little evidence."""
HIGH_DOSE = 0.5
"""Of the largest dose: the region in which a day is laid on the plan by a rigid map, as the couch would be."""
MOST_POINTS = 20_000
_DOSE_SERIES, _STRUCTURE_SERIES = 9006, 9002


@dataclass(frozen=True)
class PlanFiles:
    """What was named of the plan.

    Args:
        scan: folder of the planning CT.
        structures: file of the structures; None where they are beside the CT.
        dose: file of the dose; None to leave doses out.
        points: landmarks of the planning CT.
        conserve_energy: carry doses by the energy that tissue received, rather than by interpolation.
    """

    scan: str
    structures: str | None = None
    dose: str | None = None
    points: Path | None = None
    conserve_energy: bool = False

    def read(self, *, anew: bool = False) -> Anatomy:
        """Scan, structures and dose; read once in a process, unless anew."""
        if anew:
            _read_plan.cache_clear()
        return _read_plan(self.scan, self.structures, self.dose)


@lru_cache(maxsize=1)
def _read_plan(scan: str, structures: str | None, dose: str | None) -> Anatomy:
    return read_plan(scan, structures, dose)


@dataclass(frozen=True)
class DayJob:
    """Propagate the plan to one day, into the folder of a registration.

    Args:
        name: of the day, which is also that of its folder.
        day: folder of its scan.
        plan: files of the plan.
        wanted: how to register.
        folder: of all days.
        origin: all that the result depends on.
        points: landmarks of the day, the same as those of the plan.
    """

    name: str
    day: str
    plan: PlanFiles
    wanted: RegistrationSettings
    folder: Path
    origin: Mapping[str, Any] = field(default_factory=dict)
    points: Path | None = None

    @property
    def result(self) -> Path:
        """The folder of the day."""
        return self.folder / self.name

    def find(self) -> dict[str, Any] | None:
        """The ``result.json`` of the same files and settings."""
        return self._kept().find()

    def peak_bytes(self) -> int:
        """Predicted memory."""
        return self.wanted.peak_bytes(_grid(self.day), _grid(self.plan.scan))

    def do(self, progress: Progress | None = None) -> dict[str, Any]:
        """Register, and write the folder with everything that was carried over."""
        plan, day = self.plan.read(), read_day(self.day, self.plan.dose is not None)
        view = field_of_view(day.scan)
        drawn = day.structures is not None and _same_names(plan, day)
        request = Request(
            fixed=self.day,
            moving=self.plan.scan,
            fixed_labels=str(day.source.path) if drawn else None,
            moving_labels=self.plan.structures or str(plan.source.path),
            fixed_points=self.points,
            moving_points=None if self.points is None else self.plan.points,
            fixed_mask=view,
            method=self.wanted.method,
            preset=self.wanted.preset,
            settings=settings_of(self.wanted, cone_beam=view is not None),
            device=self.wanted.device,
            seed=self.wanted.seed,
        )

        def extras(folder: Path, result: Result) -> dict[str, Any]:
            told = Delivery(plan, day, result, folder, self.plan.conserve_energy).write()
            files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
            return {NUMBERS: told, ORIGIN: Kept(folder / RESULT, folder, self.origin).stamp(files)}

        run_to_folder(request, self.result, overwrite=True, progress=progress, extras=extras)
        found = self._kept().find()
        assert found is not None
        return found

    def _kept(self) -> Kept:
        return Kept(self.result / RESULT, self.result, self.origin, under=ORIGIN)


def settings_of(wanted: RegistrationSettings, *, cone_beam: bool) -> list[str]:
    """The settings of two scans of one patient, before those of the user.

    Intensities of a cone-beam scan are no Hounsfield units, so that they count little beside structure; where they do
    not compare at all, the method leaves them out by itself.
    """
    method = find_method(wanted.method)
    values = dict(method.same_patient)
    if cone_beam and hasattr(method.Config, "intensity_weight"):
        values["intensity_weight"] = CONE_BEAM_WEIGHT
    return [*(f"{key}={value}" for key, value in values.items()), *wanted.settings]


def _grid(place: str) -> Grid:
    return grid_of(dicom_frames(*split_choice(place)))


def _same_names(plan: Anatomy, day: Anatomy) -> bool:
    """Whether any structure is drawn on both scans."""
    names = [{one.name.casefold() for one in where.structures.structures} for where in (plan, day) if where.structures]
    return len(names) == 2 and bool(names[0] & names[1])


@dataclass(frozen=True, eq=False)
class Delivery:
    """Writes what a registration of a day carries over, and measures it.

    Args:
        plan: scan, structures and dose of the plan.
        day: scan of the day, perhaps with structures and dose of its own.
        result: plan registered to the day.
        folder: of the result.
        conserve_energy: carry doses by the energy that tissue received.
    """

    plan: Anatomy
    day: Anatomy
    result: Result
    folder: Path
    conserve_energy: bool

    def write(self) -> dict[str, Any]:
        """Write DICOM objects and the dose on the plan, and return all numbers as plain values."""
        writer = DicomFolder(self.day.source, self.plan.source)
        written = writer.write_scan_and_maps(self.folder, self.result)
        structures: list[PropagatedStructure] = []
        assert self.plan.structures is not None
        carrier = Carrier(
            self.plan.structures,
            self.plan.scan.grid,
            self.day.scan.grid,
            self.result.fixed_to_moving,
            self.result.moving_to_fixed,
            self.result.inputs.pair.fixed_mask,
            self.day.structures,
        )
        series = new_series(_STRUCTURE_SERIES, f"structures of {self.plan.scan.name}, propagated by anamorph")
        write_structure_set(
            carrier.carried(structures.append),
            self.folder / FOLDER / STRUCTURES,
            self.day.source,
            series,
            "PROPAGATED",
            series.description,
        )
        written.append(f"{FOLDER}/{STRUCTURES}")
        agreements = tuple(one.agreement for one in structures if one.agreement is not None)
        told: dict[str, Any] = {
            "tg132": {one.name: one.as_dict() for one in criteria(self.result.pair, agreements)},
            "structures": [one.as_dict() for one in structures],
            "cone_beam": self.result.inputs.pair.fixed_mask is not None,
            "remarks": [*self.day.remarks],
        }
        if self.plan.dose is not None:
            told["dose"] = self._dose(self.plan.dose)
            written.append(f"{FOLDER}/{DOSE_ON_DAY}")
        return told | {"dicom": written}

    def _dose(self, planned: Dose) -> dict[str, Any]:
        """The planned dose on the day as DICOM, and the dose of the day on the grid of the planned one."""
        there, back = self.result.fixed_to_moving, self.result.moving_to_fixed
        masses = density(self.plan.scan)
        grid = orthogonal_cover(self.day.scan.grid).resampled(planned.image.grid.spacing_mm)
        if self.conserve_energy:
            on_day = by_energy(planned.image, masses, grid, back, there)
        else:
            on_day = interpolated(planned.image, grid, there)
        how = "energy and mass" if self.conserve_energy else "interpolation"
        write_dose(
            on_day,
            self.folder / FOLDER / DOSE_ON_DAY,
            self.day.source,
            new_series(_DOSE_SERIES, f"{planned.image.name} carried to {self.day.scan.name} by {how}"),
            f"planned dose on the day, by anamorph ({how})",
            planned.file,
            [_instance(self.folder / FOLDER / FIXED_TO_MOVING)],
        )
        delivered, own = self._delivered(planned), self.day.dose is not None
        if self.conserve_energy:
            on_plan = by_energy(delivered, masses, planned.image.grid, there, back, there)
        else:
            on_plan = interpolated(delivered, planned.image.grid, back)
        write_image(on_plan, self.folder / DOSE_ON_PLAN)
        return {
            "computed_on_the_day": own,
            "carried_by": how,
            "registration": _instance(self.folder / FOLDER / MOVING_TO_FIXED),
        }

    def _delivered(self, planned: Dose) -> Image:
        """The dose of the day: as it was computed, else that of the plan, laid on the day as the couch would be.

        The couch is moved by the rigid map that brings the region of high dose onto the day.
        """
        if self.day.dose is not None:
            return self.day.dose.image
        return _moved(planned.image, couch_shift(planned.image, self.result.moving_to_fixed))


def couch_shift(planned: Image, plan_to_day: Transform) -> Affine:
    """The rigid map from plan to day that fits the region of high dose best."""
    values = planned.data[0]
    places = np.argwhere(values > HIGH_DOSE * values.max())
    if len(places) < 4:
        raise UserError(f"{planned.name}: no region of high dose; is it the dose of this plan?")
    points = planned.grid.voxel_to_world(places[:: -(-len(places) // MOST_POINTS)])
    return Affine(fit_linear(points, plan_to_day.map_world(points), "rigid"))


def _moved(image: Image, motion: Affine) -> Image:
    """The same voxels elsewhere."""
    return Image(image.data, Grid(image.grid.shape, motion.matrix @ image.grid.affine), image.name)


def _instance(path: Path) -> tuple[str, str]:
    """SOP class and instance UID of a file."""
    from pydicom import dcmread

    found = dcmread(path, stop_before_pixels=True, specific_tags=["SOPClassUID", "SOPInstanceUID"])
    return str(found.SOPClassUID), str(found.SOPInstanceUID)
