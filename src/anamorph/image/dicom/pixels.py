"""The values of DICOM frames: stored numbers, unpacked, scaled slice by slice."""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from anamorph.errors import UserError
from anamorph.image.bounds import check_values
from anamorph.image.dicom.frames import Frame, Storage
from anamorph.image.dicom.headers import WITHOUT_PIXELS, contents, reason

_EXACT_IN_FLOAT32 = 24  # bits
_COPIES = 4  # of a compressed frame, while it is unpacked
_START_OF_FRAME = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF, 0xF7}


def read_values(frames: Sequence[Frame]) -> np.ndarray:
    """The values (slices, rows, columns) of frames of one size, in their order.

    The type is that of :func:`value_type`; each slice is scaled by its own slope and intercept.

    Raises:
        UserError: a file ends early, swells as only a trap does, or is compressed in a way that is not read.
    """
    dtype = value_type(frames)
    by_file: dict[Path, list[tuple[int, Frame]]] = {}
    for place, frame in enumerate(frames):
        by_file.setdefault(frame.storage.path, []).append((place, frame))
    _check_compressed([members[0][1].storage for members in by_file.values()], dtype.itemsize)
    out = np.empty((len(frames), frames[0].storage.rows, frames[0].storage.columns), dtype)
    for members in by_file.values():
        wanted = {frame.index: (place, frame) for place, frame in members}
        for index, values in _stored(members[0][1].storage, sorted(wanted)):
            place, frame = wanted.pop(index)
            out[place] = _scaled(values, frame, dtype)
        if wanted:
            raise UserError(
                f"{members[0][1].storage.path}: the voxels of {len(wanted)} frames are missing; copy it again"
            )
    return out


def scaled_alike(frames: Sequence[Frame]) -> bool:
    """Whether slope, intercept, signedness and bits are the same in all slices."""
    return len({(f.slope, f.intercept, f.table is None, *_type_of(f.storage)) for f in frames}) == 1


def value_type(frames: Sequence[Frame]) -> np.dtype[Any]:
    """The type of the values of frames.

    Where scaling and storage are the same in all slices, it is what ITK takes: the stored type, for a whole slope and
    intercept the smallest integer type that holds what the stored bits can give, and else float64. Where they differ
    it is float32 (float64 for more than 24 bits).
    """
    first, storage = frames[0], frames[0].storage
    if not scaled_alike(frames) or first.table is not None:
        exact = max(f.storage.bits for f in frames) <= _EXACT_IN_FLOAT32
        return np.dtype(np.float32 if exact or storage.header.floating else np.float64)
    slope, intercept = first.slope, first.intercept
    if (slope, intercept) == (1.0, 0.0):
        return _stored_type(storage)
    if storage.header.floating or slope != int(slope) or intercept != int(intercept):
        return np.dtype(np.float64)
    low, high = (
        (-(1 << storage.bits - 1), (1 << storage.bits - 1) - 1) if storage.signed else (0, (1 << storage.bits) - 1)
    )
    ends = sorted(slope * end + intercept for end in (low, high))
    for fitting in (np.uint8, np.uint16, np.uint32) if ends[0] >= 0 else (np.int8, np.int16, np.int32):
        if np.iinfo(fitting).min <= ends[0] and ends[1] <= np.iinfo(fitting).max:
            return np.dtype(fitting)
    return np.dtype(np.float64)


def _type_of(storage: Storage) -> tuple[Any, ...]:
    return storage.signed, storage.bits, storage.allocated, storage.inverted, storage.header.floating


def _stored_type(storage: Storage) -> np.dtype[Any]:
    kind = "f" if storage.header.floating else "i" if storage.signed else "u"
    return np.dtype(f"{kind}{storage.allocated // 8}")


def _scaled(values: np.ndarray, frame: Frame, dtype: np.dtype[Any]) -> np.ndarray:
    if frame.table is not None:
        from pydicom import Dataset, FileMetaDataset
        from pydicom.pixels.processing import apply_modality_lut
        from pydicom.uid import UID

        holder = Dataset()
        holder.file_meta = FileMetaDataset()
        holder.file_meta.TransferSyntaxUID = UID(frame.storage.header.syntax)
        holder.ModalityLUTSequence = [frame.table]
        return np.asarray(apply_modality_lut(values, holder))
    if (frame.slope, frame.intercept) == (1.0, 0.0):
        return values
    if dtype.kind == "f":
        return values * np.float64(frame.slope) + frame.intercept
    wide = np.int32 if dtype.itemsize < 4 else np.int64
    return values.astype(wide) * int(frame.slope) + int(frame.intercept)


def check_complete(storage: Storage) -> None:
    """See that a file holds the voxels that its header announces, before any memory is asked for.

    Raises:
        UserError: it does not. What compressed voxels hold shows when they are unpacked.
    """
    header, told = storage.header, storage.frame_bytes * storage.frames
    if header.offset is None:
        raise UserError(f"{storage.path}: an image {WITHOUT_PIXELS}; copy or export it again")
    if header.length is not None and header.length < told:
        raise UserError(
            f"{storage.path}: its {header.length} bytes of voxels do not hold the {told} that its header announces; "
            "copy or export it again"
        )


def _check_compressed(storages: Sequence[Storage], itemsize: int) -> None:
    """See that compressed voxels can be what their headers announce, before any memory is asked for."""
    squeezed = [storage for storage in storages if storage.header.length is None]
    voxels = sum(storage.frames * storage.rows * storage.columns for storage in squeezed)
    copies = max((_COPIES * storage.frame_bytes for storage in squeezed), default=0)
    packed = sum(storage.path.stat().st_size for storage in squeezed)
    check_values(storages[0].path, voxels * itemsize + copies, packed)


def _stored(storage: Storage, wanted: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
    """The stored values of some frames of a file, in ascending order."""
    header = storage.header
    with contents(storage.path) as buffer:
        if header.length is not None:
            raw = _stored_type(storage).newbyteorder("<" if header.little else ">")
            for index in wanted:
                buffer.seek((header.offset or 0) + index * storage.frame_bytes)
                values = np.frombuffer(buffer.read(storage.frame_bytes), raw).reshape(storage.rows, storage.columns)
                yield index, _upright(_cleaned(values.astype(raw.newbyteorder("=")), storage), storage)
            return
        from pydicom.encaps import generate_frames

        buffer.seek(header.offset or 0)
        with tempfile.TemporaryDirectory() as folder:
            for index, stream in enumerate(generate_frames(buffer, number_of_frames=storage.frames)):
                if index in wanted:
                    yield index, _upright(_unpacked(stream, storage, Path(folder)), storage)


def _cleaned(values: np.ndarray, storage: Storage) -> np.ndarray:
    """Values without what other bits hold (overlays, for example), with their sign."""
    if storage.bits == storage.allocated or values.dtype.kind == "f":
        return values
    up, down = storage.allocated - 1 - storage.high_bit, storage.allocated - storage.bits
    return (values << up) >> down  # a signed type carries its sign along


def _upright(values: np.ndarray, storage: Storage) -> np.ndarray:
    """Values of MONOCHROME1, in which high ones are dark, turned over as ITK does."""
    if not storage.inverted or values.dtype.kind == "f":
        return values
    return ~values if storage.signed else ((1 << storage.bits) - 1) - values


def _unpacked(stream: bytes, storage: Storage, folder: Path) -> np.ndarray:
    """Stored values of a compressed frame: SimpleITK reads it from a file of its own, which has no scaling.

    Raises:
        UserError: it is damaged, or compressed in a way that SimpleITK does not read.
    """
    import SimpleITK as sitk
    from pydicom import Dataset, FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.uid import UID, RLELossless, SecondaryCaptureImageStorage, generate_uid

    told = _told_by_stream(stream)  # codecs of C trust it, and GDCM dies of 232 bits
    if told is not None and not (told[:3] == (storage.rows, storage.columns, 1) and 0 < told[3] <= storage.allocated):
        raise UserError(
            f"{storage.path}: its compressed voxels are {told[:2]} of {told[3]} bits and its header says "
            f"{storage.rows, storage.columns} of {storage.allocated}; export it again"
        )
    one = Dataset()
    one.file_meta = FileMetaDataset()
    one.file_meta.TransferSyntaxUID = UID(storage.header.syntax)
    one.SOPClassUID, one.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    one.Rows, one.Columns, one.SamplesPerPixel = storage.rows, storage.columns, 1
    one.PhotometricInterpretation, one.PixelRepresentation = "MONOCHROME2", int(storage.signed)
    one.BitsAllocated, one.BitsStored, one.HighBit = storage.allocated, storage.bits, storage.high_bit
    one.PixelData = encapsulate([stream])
    path = folder / "frame.dcm"
    one.save_as(path, enforce_file_format=True)
    try:
        values = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    except Exception as error:
        if storage.header.syntax == RLELossless:  # GDCM refuses some small sound frames
            return np.asarray(one.pixel_array)
        name = UID(storage.header.syntax).name
        raise UserError(
            f"{storage.path}: its voxels ({name}) cannot be unpacked ({reason(error)}); is it complete? dcmdjpeg or "
            "gdcmconv --raw store them without compression"
        ) from error
    return values.reshape(storage.rows, storage.columns).astype(_stored_type(storage), copy=False)


def _told_by_stream(stream: bytes) -> tuple[int, int, int, int] | None:
    """Rows, columns, components and bits that a JPEG, JPEG-LS or JPEG 2000 stream announces; None if it does not."""
    if stream[:4] == b"\xff\x4f\xff\x51" and len(stream) >= 43:
        width, height, left, top = struct.unpack(">4L", stream[8:24])
        return height - top, width - left, struct.unpack(">H", stream[40:42])[0], (stream[42] & 0x7F) + 1
    place = 2
    while stream[:2] == b"\xff\xd8" and place + 10 <= len(stream) and stream[place] == 0xFF:
        if stream[place + 1] in _START_OF_FRAME:
            bits, rows, columns, components = struct.unpack(">BHHB", stream[place + 4 : place + 10])
            return rows, columns, components, bits
        place += 1 if stream[place + 1] == 0xFF else 2 + struct.unpack(">H", stream[place + 2 : place + 4])[0]
    return None
