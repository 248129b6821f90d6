"""Scans, label maps, masks and landmarks from files or from the images of other packages."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from anamorph.errors import UserError
from anamorph.geometry.grid import Grid
from anamorph.image.image import Image, Labels, Mask
from anamorph.image.point_files import read_points
from anamorph.image.series import ImageSeries
from anamorph.image.types import ImageLike, SeriesLike

__all__ = ["read_grid", "read_image", "read_labels", "read_mask", "read_points", "read_series"]

if TYPE_CHECKING:
    from anamorph.image.dicom.volumes import Choice
    from anamorph.image.structures import StructureMasks

Read = TypeVar("Read")
_NO_SUCH_FILE = "no such file; check the path"


def read_image(source: ImageLike, name: str | None = None) -> Image:
    """Read a scan.

    Args:
        source: a file (NIfTI, MGH, NRRD, MetaImage, or what else SimpleITK reads), a DICOM folder or file
            (``FOLDER::SERIES_UID::echo=2`` chooses a series and a volume), an :class:`Image`, or an image of nibabel,
            SimpleITK, ITK, ANTs or TorchIO.
        name: what messages call it; the file name by default.

    Returns:
        Values with the file's dtype (float32 where the header scales them), one channel per vector component.

    Raises:
        UserError: missing, unreadable, 4D, colour, empty, constant, or values that are not finite.
    """
    image = _read(source, name)
    _refuse_layers(source, image)
    return _sound(image)


def read_series(source: SeriesLike, *, frame_s: float | None = None, name: str | None = None) -> ImageSeries:
    """Read a series of scans of one grid, such as the phases of a heart beat.

    Args:
        source: a 4D file (NIfTI, or what SimpleITK reads), a 4D image of nibabel, an :class:`ImageSeries`, or the
            frames one by one, in the order of time: files, DICOM folders or images.
        frame_s: seconds between frames; by default what the header of the 4D image says.
        name: what messages call it; the file name by default.

    Raises:
        UserError: unreadable, fewer than two frames, frames on different grids, or a frame that is no scan.
    """
    if isinstance(source, ImageSeries):
        return ImageSeries(source.frames, source.frame_s if frame_s is None else frame_s, name or source.name)
    if not isinstance(source, (str, os.PathLike)) and isinstance(source, Sequence):
        frames = [read_image(frame) for frame in source]
        return ImageSeries(tuple(frames), frame_s, name or (frames[0].name if frames else "series"))
    found, told_s, label = _frames(source, name)
    return ImageSeries(tuple(_sound(frame) for frame in found), told_s if frame_s is None else frame_s, label)


def _frames(source: Any, name: str | None) -> tuple[list[Image], float | None, str]:
    """The frames of one source, the seconds between them where they are known, and what the source is called."""
    from anamorph.image import convert, itk_files, nibabel_files, types

    if isinstance(source, types.NibabelImage):
        label = name or Path(source.get_filename() or "series").name
        frames = _guarded(lambda: convert.frames_of_nibabel(source, label), label)
        return frames, convert.nibabel_frame_s(source), label
    path = Path(source) if isinstance(source, (str, os.PathLike)) else None
    if path is None or not path.is_file():
        image = _read(source, name)
        return [image], None, image.name
    label = name or path.name

    def read() -> tuple[list[Image], float | None]:
        if path.name.lower().endswith(nibabel_files.SUFFIXES):
            with nibabel_files.opened(path) as image:
                frames = convert.frames_of_nibabel(image, label)
                nibabel_files.check_rest(image)
                return frames, convert.nibabel_frame_s(image)
        return itk_files.read_itk_frames(path, label), None

    return *_guarded(read, str(path)), label


def _sound(image: Image) -> Image:
    """A scan, once every value is finite and they differ.

    Raises:
        UserError: it has values that are not, or one value only.
    """
    data = image.data
    if data.dtype.kind == "f":
        bad = data.size - np.count_nonzero(np.isfinite(data))
        if bad:
            raise UserError(
                f"{image.name}: {bad} of {data.size} voxels are NaN or infinite; replace them (for example by the "
                "background value) and mask them out"
            )
    if data.min() == data.max():
        raise UserError(f"{image.name}: every voxel has the value {data.flat[0]}; is this the right file?")
    return image


def read_map(path: str | os.PathLike[str]) -> Image:
    """A map of numbers, which may be unknown at some voxels (NaN), or the same at all.

    Raises:
        UserError: missing or unreadable.
    """
    return _read(path, None)


def read_labels(source: ImageLike, name: str | None = None, *, scan: Image | None = None) -> Labels:
    """Read a label map; sources as for :func:`read_image`, and RT structure sets and segmentations of DICOM.

    Args:
        source: a file, folder or image; ``FILE::roi=Liver,Spleen`` chooses structures by name.
        name: what messages call it; the file name by default.
        scan: that the labels belong to: contours are filled on its grid, and its frame of reference must be theirs.

    Raises:
        UserError: unreadable, several channels, values that are not whole numbers, or no label at all.
    """
    drawn = _structures(source, scan)
    if drawn is not None:
        return drawn.labels()
    image = _merged(source, _read(source, name))
    labels = image if isinstance(image, Labels) else Labels(image.data, image.grid, image.name)
    if not labels.data.any():
        raise UserError(f"{labels.name}: the label map holds background only; is this the right file?")
    return labels


def read_mask(source: ImageLike, name: str | None = None, *, scan: Image | None = None) -> Mask:
    """Read a mask; arguments as of :func:`read_labels`. A mask of 0 and one other value counts as 0 and 1.

    Raises:
        UserError: unreadable, several channels, empty, or weights outside [0, 1].
    """
    drawn = _structures(source, scan)
    if drawn is not None:
        return drawn.mask()
    image = _read(source, name)
    _refuse_layers(source, image)
    if image.channels != 1:
        raise UserError(f"{image.name}: a mask has one channel, this has {image.channels}")
    data, highest = image.data, image.data.max()
    if data.dtype.kind == "f" and not all(np.isfinite(part).all() for part in data[0]):
        raise UserError(f"{image.name}: mask weights must lie in [0, 1], but some are NaN or infinite; write them anew")
    if not highest > 0:
        raise UserError(f"{image.name}: the mask is empty; no voxel would take part")
    if highest > 1 and all(((part == 0) | (part == highest)).all() for part in data[0]):
        data = (data == highest).astype(np.uint8)
    if not (data.min() >= 0 and data.max() <= 1):
        raise UserError(f"{image.name}: mask weights must lie in [0, 1], not {data.min()} to {data.max()}")
    return Mask(data, image.grid, image.name)


def needs_scan(source: ImageLike | None) -> bool:
    """Whether labels or a mask are contours or a segmentation of DICOM, which lie on the grid of a scan."""
    return source is not None and _drawn_at(source) is not None


def _drawn_at(source: ImageLike) -> tuple[Path, Choice] | None:
    from anamorph.image.dicom.headers import is_dicom
    from anamorph.image.dicom.volumes import split_choice

    if not isinstance(source, (str, os.PathLike)):
        return None
    path, choice = split_choice(str(source))
    if not (path.is_dir() or (path.is_file() and is_dicom(path))):
        return None
    from anamorph.image.dicom.label_objects import holds_structures

    return (path, choice) if holds_structures(path, choice) else None


def _structures(source: ImageLike, scan: Image | None) -> StructureMasks | None:
    """The structures of a source; None if it is something else."""
    found = _drawn_at(source)
    if found is None:
        return None
    from anamorph.image.dicom.label_objects import read_structures

    return _guarded(lambda: read_structures(*found, scan), str(found[0]))


def read_grid(path: str | os.PathLike[str]) -> Grid:
    """The grid of a scan; of NIfTI and MGH files the header alone is read.

    Raises:
        UserError: missing or unreadable.
    """
    from anamorph.image import nibabel_files
    from anamorph.image.convert import nibabel_grid

    path = Path(path)
    if not path.is_file() or not path.name.lower().endswith(nibabel_files.SUFFIXES):
        return _read(str(path), None).grid

    def read() -> Grid:
        with nibabel_files.opened(path) as image:
            return nibabel_grid(image, path.name)

    return _guarded(read, str(path))


def _read(source: ImageLike, name: str | None) -> Image:
    if isinstance(source, Image):
        return source
    if isinstance(source, (str, os.PathLike)):
        return _read_path(str(source), name)
    return _guarded(lambda: _of_other_package(source, name), name or "image")


def _of_other_package(source: object, name: str | None) -> Image:
    from anamorph.image import convert, types

    label = name or "image"
    match source:
        case types.NibabelImage():
            file_name = source.get_filename()
            return convert.from_nibabel(source, name or (Path(file_name).name if file_name else label))
        case types.SimpleItkImage():
            return convert.from_simpleitk(source, label)  # type: ignore[arg-type]  # seen by what it can do
        case types.ItkImage():
            return convert.from_itk(source, label)
        case types.AntsImage():
            return convert.from_ants(source, label)
        case types.TensorImage() if not isinstance(source, np.ndarray):
            path = getattr(source, "path", None)
            return convert.from_torchio(source, name or (Path(path).name if path else label))
    if isinstance(source, (np.ndarray, types.Tensor)):
        raise UserError(
            f"cannot take an image from a {type(source).__name__}, which has no place in the world; give "
            "anamorph.Image.from_array(array, spacing_mm=...), or affine=..."
        )
    raise UserError(
        f"cannot take an image from a {type(source).__name__}; give a path, an anamorph.Image (array with a Grid), or "
        "an image of nibabel, SimpleITK, ITK, ANTs or TorchIO"
    )


def _read_path(source: str, name: str | None) -> Image:
    from anamorph.image.bounds import check_regular_file
    from anamorph.image.dicom import read_dicom
    from anamorph.image.dicom.headers import is_dicom
    from anamorph.image.dicom.volumes import split_choice

    path, choice = split_choice(source)
    if not path.exists():
        raise UserError(f"{path}: {_NO_SUCH_FILE}")
    label = name or path.name
    if path.is_dir():
        return _guarded(lambda: read_dicom(path, choice, name), str(path))
    check_regular_file(path)
    if is_dicom(path):
        return _guarded(lambda: read_dicom(path, choice, name), str(path))
    if choice:
        raise UserError(f"{source}: '{choice}' chooses from DICOM, which {path.name} is not; name the file alone")
    return _guarded(lambda: _read_file(path, label), str(path))


def _read_file(path: Path, name: str) -> Image:
    from anamorph.image import itk_files, nibabel_files, pictures
    from anamorph.image.convert import from_nibabel

    lower = path.name.lower()
    if lower.endswith(nibabel_files.SUFFIXES):
        with nibabel_files.opened(path) as image:
            read = from_nibabel(image, name)
            nibabel_files.check_rest(image)
            return read
    if lower.endswith(pictures.TIFF_SUFFIXES):
        return pictures.read_tiff(path, name)
    if lower.endswith(pictures.SUFFIXES):
        return pictures.read_picture(path, name)
    return itk_files.read_itk(path, name)


def _merged(source: ImageLike, image: Image) -> Image:
    """The layers of a segmentation as one label map; other images as they are."""
    from anamorph.image.segments import is_layered, merged_layers, read_segments

    if image.channels > 1 and isinstance(source, (str, os.PathLike)) and is_layered(Path(source), image):
        return merged_layers(image, read_segments(Path(source)))
    return image


def _refuse_layers(source: ImageLike, image: Image) -> None:
    from anamorph.image.segments import is_layered

    if image.channels > 1 and isinstance(source, (str, os.PathLike)) and is_layered(Path(source), image):
        raise UserError(
            f"{image.name}: a segmentation of {image.channels} layers, neither scan nor mask; give it as labels "
            "(--fixed-labels, --moving-labels), or export one segment in 3D Slicer"
        )


def _guarded(read: Callable[[], Read], name: str) -> Read:
    """Run a reader; whatever it stumbles over becomes one line."""
    from anamorph.image.quiet import quiet_libraries

    try:
        with quiet_libraries():
            return read()
    except (UserError, MemoryError):
        raise
    except Exception as error:  # the readers raise anything from zlib.error to RuntimeError on a damaged file
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = lines[-1].rstrip(".")[:200] if lines else type(error).__name__
        raise UserError(
            f"{name}: cannot be read as an image ({reason}); is it complete and of a known format?"
        ) from error
