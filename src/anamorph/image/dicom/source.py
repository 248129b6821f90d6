"""A scan as DICOM objects that are derived from it refer to it: patient, study, frame of reference and slices."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from anamorph.errors import UserError
from anamorph.geometry.grid import Grid
from anamorph.image.atomic import atomic_path
from anamorph.image.dicom import dicom_frames, split_choice
from anamorph.image.dicom.frames import frame_uid, text
from anamorph.image.dicom.headers import is_dicom, read_whole
from anamorph.image.dicom.volumes import grid_of
from anamorph.image.quiet import quiet_libraries

MAKER = "anamorph"
# Patient and study of the scan, as it says them; those that every object must have come first, empty if need be.
REQUIRED = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime"),
    *("ReferringPhysicianName", "StudyID", "AccessionNumber"),
)
_MAY = (
    *("SpecificCharacterSet", "IssuerOfPatientID", "PatientIdentityRemoved", "DeidentificationMethod"),
    *("DeidentificationMethodCodeSequence", "PatientAge", "PatientSize", "PatientWeight", "StudyDescription"),
)


@dataclass(frozen=True, eq=False)
class DicomSource:
    """The headers of a scan.

    Args:
        path: that the user named.
        slices: data sets without voxels, one per file, in the order of the slices of the grid.
        grid: of the scan.
        frame_uid: of its frame of reference.
        frames: where each slice of the grid is: which data set, and which frame of its file, from 0.
    """

    path: Path
    slices: tuple[Any, ...]
    grid: Grid
    frame_uid: str
    frames: tuple[tuple[int, int], ...] = ()

    @property
    def first(self) -> Any:
        """The data set of the first slice."""
        return self.slices[0]

    @property
    def series_uid(self) -> str:
        """UID of the series."""
        return str(self.first.SeriesInstanceUID)

    @property
    def study_uid(self) -> str:
        """UID of the study."""
        return str(self.first.StudyInstanceUID)

    @property
    def modality(self) -> str:
        """Such as CT or MR."""
        return text(self.first, "Modality")

    @property
    def has_a_file_per_slice(self) -> bool:
        """Whether every slice of the grid is a file of one frame, as scanners write most series."""
        return len(self.slices) == self.grid.shape[2]

    def reference_to(self, k: int) -> Any:
        """A reference to a slice of the grid: to its file, and to the frame in a file of several."""
        number, frame = self.frames[k]
        one = self.slices[number]
        found = reference(str(one.SOPClassUID), str(one.SOPInstanceUID))
        if not self.has_a_file_per_slice:
            found.ReferencedFrameNumber = frame + 1
        return found

    def instances(self) -> Iterator[tuple[str, str]]:
        """SOP class and instance UID of every file."""
        for one in self.slices:
            yield str(one.SOPClassUID), str(one.SOPInstanceUID)


def read_source(source: object, what: str = "scan") -> DicomSource:
    """The headers of a scan of DICOM.

    Args:
        source: a folder or file, with a choice of series and volume if need be.
        what: what messages call the scan.

    Raises:
        UserError: the scan is no DICOM, or lacks what others need to refer to it.
    """
    path, choice = split_choice(str(source)) if isinstance(source, (str, os.PathLike)) else (None, None)
    if path is None or not (path.is_dir() or is_dicom(path)):
        raise UserError(
            f"the {what} is no DICOM, so that DICOM objects cannot refer to it; give its DICOM folder, or write none"
        )
    frames = dicom_frames(path, choice)
    with quiet_libraries():
        files = list(dict.fromkeys(frame.storage.path for frame in frames))
        slices = tuple(_header(file) for file in files)
    for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        if not all(text(one, keyword) for one in slices):
            raise UserError(f"{path}: slices without {keyword}, by which DICOM objects refer to them; export it again")
    frame = frame_uid(frames[0])
    if not frame:
        raise UserError(
            f"{path}: no frame of reference (0020,0052), in which registrations are meant; export the scan again with "
            "its geometry"
        )
    places = tuple((files.index(one.storage.path), one.index) for one in frames)
    return DicomSource(path, slices, grid_of(frames), frame, places)


def _header(file: Path) -> Any:
    dataset = read_whole(file, stop_before_pixels=True)
    dataset.remove_private_tags()
    return dataset


@dataclass(frozen=True)
class NewSeries:
    """One series that is written.

    Args:
        number: in its study.
        description: what readers show.
        uid: its own.
        made: when, the same for all its files.
    """

    number: int
    description: str
    uid: str
    made: datetime


def new_series(number: int, description: str) -> NewSeries:
    """A series with a UID of its own."""
    from pydicom.uid import generate_uid

    return NewSeries(number, description, str(generate_uid()), datetime.now().astimezone())


def new_object(source: DicomSource, sop_class: str, modality: str, series: NewSeries, *, implicit: bool = False) -> Any:
    """A data set of the patient, study and frame of reference of a scan, made by this program.

    Nothing about the patient is made up: what the scan does not say stays empty.

    Args:
        source: the scan.
        sop_class: UID.
        modality: of the new object.
        series: that it belongs to.
        implicit: write it without types of values, as long texts need.
    """
    from pydicom import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid

    from anamorph import __version__

    made = series.made
    new = Dataset()
    for keyword in REQUIRED:
        setattr(new, keyword, source.first.get(keyword))
    for keyword in _MAY:
        if keyword in source.first:
            setattr(new, keyword, source.first.get(keyword))
    new.StudyInstanceUID, new.FrameOfReferenceUID = source.study_uid, source.frame_uid
    new.PositionReferenceIndicator = source.first.get("PositionReferenceIndicator")
    new.SOPClassUID, new.SOPInstanceUID, new.Modality = sop_class, generate_uid(), modality
    new.SeriesInstanceUID, new.SeriesNumber = series.uid, series.number
    new.Laterality = None
    new.SeriesDescription, new.InstanceNumber = series.description[:64], 1
    new.Manufacturer = new.ManufacturerModelName = MAKER
    new.SoftwareVersions, new.DeviceSerialNumber = __version__, "0"
    new.InstanceCreationDate = new.SeriesDate = new.ContentDate = made.strftime("%Y%m%d")
    new.InstanceCreationTime = new.SeriesTime = new.ContentTime = made.strftime("%H%M%S")
    new.TimezoneOffsetFromUTC = made.strftime("%z")
    new.file_meta = FileMetaDataset()
    new.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    return new


def reference(sop_class: str, instance: str, **more: Any) -> Any:
    """A reference to an object, as a data set."""
    return sequence_item(ReferencedSOPClassUID=sop_class, ReferencedSOPInstanceUID=instance, **more)


def sequence_item(**elements: Any) -> Any:
    """A data set of these elements."""
    from pydicom import Dataset

    item = Dataset()
    for keyword, value in elements.items():
        setattr(item, keyword, value)
    return item


def code(value: str, scheme: str, meaning: str) -> Any:
    """A coded concept, as a data set."""
    return sequence_item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)


def refer_to(new: Any, sources: Sequence[DicomSource]) -> None:
    """Name all instances of scans that an object refers to, by study and series."""
    own: list[Any] = []
    others: dict[str, list[Any]] = {}
    for source in {one.series_uid: one for one in sources}.values():
        instances = [reference(*one) for one in source.instances()]
        series = sequence_item(SeriesInstanceUID=source.series_uid, ReferencedInstanceSequence=instances)
        if source.study_uid == new.StudyInstanceUID:
            own.append(series)
        else:
            others.setdefault(source.study_uid, []).append(series)
    if own:
        new.ReferencedSeriesSequence = own
    if others:
        new.StudiesContainingOtherReferencedInstancesSequence = [
            sequence_item(StudyInstanceUID=study, ReferencedSeriesSequence=series) for study, series in others.items()
        ]


def save(new: Any, path: Path) -> Path:
    """Write a data set as a file."""
    with quiet_libraries(), atomic_path(path) as temporary:
        new.save_as(temporary, enforce_file_format=True)
    return path
