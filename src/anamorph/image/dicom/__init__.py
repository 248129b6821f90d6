"""DICOM: a folder of slices, or an enhanced file of many frames, becomes one volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from anamorph.errors import UserError
from anamorph.image.dicom.frames import Frame, colour, frames_of, numbers, text
from anamorph.image.dicom.headers import COLOUR, DICOMDIR, Header, is_dicom, object_of, read_header, unknown_object
from anamorph.image.dicom.pixels import check_complete, read_values, scaled_alike
from anamorph.image.dicom.volumes import SEPARATOR, Choice, choose_volume, grid_of, split_choice, tilt_degrees
from anamorph.image.image import Image
from anamorph.image.quiet import quiet_itk, quiet_libraries

__all__ = ["SEPARATOR", "Choice", "dicom_notes", "is_dicom", "read_dicom", "split_choice"]

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
        grid = grid_of(frames)
        return Image(np.ascontiguousarray(read_values(frames)).transpose(2, 1, 0), grid, name or path.name)


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
        dataset = read_header(_files(path)[0]).dataset
    return text(dataset, "PatientID"), text(dataset, "StudyDate")


def _find(path: Path, choice: Choice) -> _Found:
    """The volume that a path and a choice name."""
    headers = [read_header(file) for file in _files(path)]
    images: dict[str, list[Header]] = {}
    others: list[tuple[str, str, Header]] = []
    for header in headers:
        said = _no_scan(header)
        if said is None:
            images.setdefault(_series(header), []).append(header)
        elif text(header.dataset, "SOPClassUID") != DICOMDIR or len(headers) == 1:
            others.append((*said, header))
    if not images or (choice.series not in images and choice.series in {_series(one[2]) for one in others}):
        raise UserError(_nothing(path, choice, [one for one in others if choice.series in (None, _series(one[2]))]))
    series = choice.series or (next(iter(images)) if len(images) == 1 else None)
    if series is None:
        ordered = sorted(images)
        listed = "; ".join(_described(one, images[one]) for one in ordered)
        raise UserError(f"{path}: {len(images)} DICOM series: {listed}; choose one as '{path}{SEPARATOR}{ordered[0]}'")
    if series not in images:
        raise UserError(f"{path}: no DICOM series {series}; there is {', '.join(sorted(images))}")
    frames = [frame for header in images[series] for frame in frames_of(header)]
    for frame in frames:
        check_complete(frame.storage)
    _refuse_copies(images[series])
    chosen, strays = choose_volume(frames, str(path), choice)
    beside = [(what, header.path) for what, _, header in others]
    return _Found(chosen, strays, beside)


def _files(path: Path) -> list[Path]:
    """The DICOM files of a folder, or the file.

    Every entry must be a file of this folder before any is opened: a copied folder may hold links to anything.

    Raises:
        UserError: a link leads out of the folder, or an entry is a pipe or device, which would be waited for.
    """
    if not path.is_dir():
        return [path]
    root = path.resolve()
    entries = sorted(path.iterdir())
    for entry in entries:
        if entry.is_symlink() and not entry.resolve().is_relative_to(root):
            raise UserError(f"{entry}: a link out of the folder is not followed; copy the slices into one folder")
        if entry.exists() and not entry.is_file() and not entry.is_dir():
            raise UserError(f"{entry}: neither file nor folder; leave only the slices in the folder")
    found = [entry for entry in entries if is_dicom(entry)]
    if not found:
        raise UserError(f"{path}: no DICOM files in this folder; name the folder that holds the slices, or a file")
    return found


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


def _series(header: Header) -> str:
    return text(header.dataset, "SeriesInstanceUID") or "none"


def _described(series: str, headers: Sequence[Header]) -> str:
    description = text(headers[0].dataset, "SeriesDescription")
    return f"{series} ({description or 'no description'}, {len(headers)} files)"


def _refuse_copies(headers: Sequence[Header]) -> None:
    seen: dict[str, Path] = {}
    for header in headers:
        uid = text(header.dataset, "SOPInstanceUID")
        if uid and uid in seen:
            raise UserError(f"{header.path}: the same image as {seen[uid].name} (SOP instance UID); remove the copies")
        seen[uid] = header.path
