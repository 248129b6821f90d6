"""DICOM: a folder of slices, or an enhanced file of many frames, becomes one volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from anamorph.errors import UserError
from anamorph.image.dicom.folder import BESIDE, choose_series, dicom_files, grouped, matching
from anamorph.image.dicom.frames import Frame, colour, frame_uid, frames_of, numbers, text
from anamorph.image.dicom.headers import (
    COLOUR,
    DICOMDIR,
    SEPARATOR,
    Header,
    is_dicom,
    object_of,
    read_header,
    unknown_object,
)
from anamorph.image.dicom.pixels import check_complete, read_values, scaled_alike
from anamorph.image.dicom.volumes import Choice, choose_volume, grid_of, split_choice, tilt_degrees
from anamorph.image.image import Image
from anamorph.image.quiet import quiet_itk, quiet_libraries

__all__ = ["SEPARATOR", "Choice", "dicom_frames", "dicom_notes", "is_dicom", "read_dicom", "split_choice"]

_TILTED_DEGREES = 0.1


@dataclass(frozen=True)
class _Found:
    """The frames of one volume, and what lies beside them."""

    frames: list[Frame]
    strays: list[Frame]
    others: list[tuple[str, Path]]


def read_dicom(path: Path, choice: Choice | None = None, name: str | None = None) -> Image:
    """Read one volume of a DICOM folder or file; a tilted gantry gives a sheared grid.

    Values are scaled by each slice's own slope and intercept. Their type is the smallest that holds them all where
    slope, intercept, signedness and bits are the same in all slices, and float32 where they differ.

    Args:
        path: a folder that holds the files of one or several series, or a file.
        choice: series and volume; needed where there are several.
        name: of the image; that of the path by default.

    Raises:
        UserError: no images, several series or volumes and none chosen, an unknown one, or slices that are missing, at
            one place, without a position, incomplete or not readable.
    """
    with quiet_libraries(), quiet_itk():
        frames = _find(path, choice or Choice()).frames
        values = np.ascontiguousarray(read_values(frames)).transpose(2, 1, 0)
        return Image(values, grid_of(frames), name or path.name, frame_uid(frames[0]))


def dicom_frames(path: Path, choice: Choice | None = None) -> list[Frame]:
    """The frames of one volume in the order of its slices, without their values.

    Raises:
        UserError: as :func:`read_dicom` does.
    """
    with quiet_libraries():
        return _find(path, choice or Choice()).frames


def dicom_notes(path: Path, choice: Choice | None = None) -> list[str]:
    """Sentences about a DICOM source that a user should know of: what was left out, assumed, or scaled slice by slice.

    Raises:
        UserError: as :func:`read_dicom` does.
    """
    with quiet_libraries():
        found = _find(path, choice or Choice())
    first, notes = found.frames[0], []
    for what, which in (
        ("slices of another direction, size or kind (localisers?)", [f.storage.path for f in found.strays]),
        *((what, [path for said, path in found.others if said == what]) for what in dict(found.others)),
    ):
        if which:
            names = sorted({path.name for path in which})
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            notes.append(f"left out {what}: {', '.join(names[:3])}{more}")
    if not scaled_alike(found.frames):
        notes.append("slope, intercept, signedness or bits differ between slices: each is scaled by its own, as float")
    if first.spacing_mm is None:
        notes.append("PixelSpacing (0028,0030) is missing: 1 mm is assumed")
    if first.position is None or first.orientation is None:
        notes.append("position or orientation (0020,0032; 0020,0037) is missing: they are guesses")
    if (tilt := tilt_degrees(found.frames)) > _TILTED_DEGREES:
        notes.append(
            f"slices are shifted against each other by {tilt:.1f} degrees (a tilted gantry): the grid is sheared"
        )
    if padding := numbers(first.storage.header.dataset, "PixelPaddingValue"):
        notes.append(f"stored values of {padding[0]:g} are padding (0028,0120): kept as they are")
    return notes


def dicom_visit(path: Path) -> tuple[str, str]:
    """The patient and the date that the first file of a source names; empty where it does not.

    Raises:
        UserError: there is no file that can be read.
    """
    with quiet_libraries():
        dataset = read_header(dicom_files(path)[0]).dataset
    return text(dataset, "PatientID"), text(dataset, "StudyDate")


def _find(path: Path, choice: Choice) -> _Found:
    """The volume that a path and a choice name."""
    headers = [read_header(file) for file in dicom_files(path)]
    images: list[Header] = []
    others: list[tuple[str, str, Header]] = []
    for header in headers:
        said = _no_scan(header)
        if said is None:
            images.append(header)
        elif text(header.dataset, "SOPClassUID") != DICOMDIR or len(headers) == 1:
            others.append((*said, header))
    series = grouped(images)
    meant = others
    if choice.series is not None:
        meant = [one for one in others if matching(grouped([one[2]]), choice.series)]
    if not series or (meant and choice.series is not None and not matching(series, choice.series)):
        raise UserError(_nothing(path, choice, meant))
    chosen = choose_series(series, choice.series, path)
    frames = [frame for header in chosen.headers for frame in frames_of(header)]
    for frame in frames:
        check_complete(frame.storage)
    _refuse_copies(chosen.headers)
    volume, strays = choose_volume(frames, str(path), choice)
    _refuse_frames_apart(volume, path)
    beside = [(what, header.path) for what, _, header in others]
    doses = [header for one in series if one is not chosen and one.modality in BESIDE for header in one.headers]
    beside += [(f"an image of another kind ({text(one.dataset, 'Modality')})", one.path) for one in doses]
    return _Found(volume, strays, beside)


def _refuse_frames_apart(frames: Sequence[Frame], path: Path) -> None:
    """See that slices say one frame of reference, if any."""
    uids = sorted({frame_uid(frame) for frame in frames} - {""})
    if len(uids) > 1:
        raise UserError(
            f"{path}: slices of one series in {len(uids)} frames of reference ({', '.join(uids[:3])}), whose positions "
            "do not compare; leave those of one acquisition"
        )


def _no_scan(header: Header) -> tuple[str, str] | None:
    """What an object is and what to do with it, if it is no scan."""
    sop_class = text(header.dataset, "SOPClassUID") or text(header.dataset.file_meta, "MediaStorageSOPClassUID")
    said = object_of(sop_class)
    if said is not None:
        segments = header.dataset.get("SegmentSequence") or []
        named = [text(one, "SegmentLabel") or text(one, "SegmentNumber") for one in segments[:6]]
        return (f"{said[0]} of {len(segments)} segments: {', '.join(named)}" if named else said[0]), said[1]
    if not text(header.dataset, "Rows") and header.offset is None:
        return unknown_object(header.path, sop_class)
    return (COLOUR, "export grey values") if colour(header) else None


def _nothing(path: Path, choice: Choice, others: Sequence[tuple[str, str, Header]]) -> str:
    """What to say when there is no scan."""
    if not others:
        wanted = f"series {choice.series}" if choice.series else "scan"
        return f"{path}: no {wanted} here; name the folder that holds its slices"
    if not path.is_dir():
        return f"{path}: {others[0][0]}, not a scan; {others[0][1]}"
    named = {what: header.path.name for what, _, header in reversed(others)}  # the first file of each kind
    listed = ", ".join(f"{what} ({file})" for what, file in reversed(named.items()))
    return f"{path}: no scan in this {'series' if choice.series else 'folder'} but {listed}; {others[0][1]}"


def _refuse_copies(headers: Sequence[Header]) -> None:
    seen: dict[str, Path] = {}
    for header in headers:
        uid = text(header.dataset, "SOPInstanceUID")
        if uid and uid in seen:
            raise UserError(f"{header.path}: the same image as {seen[uid].name} (SOP instance UID); remove the copies")
        seen[uid] = header.path
