"""The archive of a submission: written from the stored fields, and read back as an evaluator would."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from anamorph.data import Pair
from anamorph.errors import RegistrationFailure
from anamorph.geometry import Grid
from anamorph.image.nibabel_files import opened
from anamorph.image.read import read_grid
from anamorph.transforms import Transform
from anamorph.transforms.files import read_transform
from anamorph.transforms.files.learn2reg import from_voxels
from anamorph.types import Progress
from anamorph.workflows.submission.formats import ArchiveFormat

Grids = Mapping[Path, Grid]


@dataclass(frozen=True)
class StorageError:
    """Distance in mm between the field as computed and as read back, over all voxels of the fixed scan."""

    pair: Pair
    mean_mm: float
    p95_mm: float
    max_mm: float


def field_path(folder: Path, pair: Pair) -> Path:
    """Where the field of a pair is kept."""
    return folder / f"{pair.disp_names['long']}.nii.gz"


def write_archive(path: Path, pairs: tuple[Pair, ...], fields: Path, wanted: ArchiveFormat) -> None:
    """Write the fields of all pairs; they are compressed one by one, not once more by the archive."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for pair in pairs:
            source = field_path(fields, pair)
            content = source.read_bytes() if wanted.container == "nii.gz" else _npz(wanted.encode(_read_voxels(source)))
            for member in wanted.members(pair):
                archive.writestr(member, content)


def read_back(
    path: Path,
    pairs: tuple[Pair, ...],
    fields: Path,
    wanted: ArchiveFormat,
    grids: Grids,
    progress: Progress | None = None,
) -> list[StorageError]:
    """See that an archive holds what the year asks for, and measure what storing the fields cost.

    Args:
        path: the archive.
        pairs: whose fields must be in it, and nothing else.
        fields: folder of the fields as they were computed.
        wanted: the format.
        grids: of all scans, by path.
        progress: called with the stage and the fraction done.

    Raises:
        RegistrationFailure: the archive is not what was asked for.
    """
    errors = []
    with zipfile.ZipFile(path) as archive, TemporaryDirectory() as folder:
        expected = [member for pair in pairs for member in wanted.members(pair)]
        if sorted(archive.namelist()) != sorted(expected):
            raise RegistrationFailure("the archive does not hold one field per pair under the names of the format")
        for number, pair in enumerate(pairs):
            if progress is not None:
                progress("reading the archive back", number / len(pairs))
            for member in wanted.members(pair):
                unpacked = Path(folder, Path(member).name)
                unpacked.write_bytes(archive.read(member))  # checks the sum of its bytes
                error = _compare(unpacked, field_path(fields, pair), pair, wanted, grids)
                unpacked.unlink()
            errors.append(error)
    return errors


def zero_field(pair: Pair, grids: Grids) -> tuple[Transform, Grid, Grid]:
    """The field that moves nothing, which the challenge asks for where there is no other, with both grids.

    Raises:
        UserError: a scan cannot be read.
    """
    fixed, moving = _grids_of(pair, grids)
    return from_voxels(np.zeros((3, *fixed.shape), np.float32), fixed, moving), fixed, moving


def _grids_of(pair: Pair, grids: Grids) -> tuple[Grid, Grid]:
    """Of both scans; what could not be read before is tried once more, and tells why it cannot."""
    fixed, moving = (grids.get(case.image) or read_grid(case.image) for case in (pair.fixed, pair.moving))
    return fixed, moving


def _compare(unpacked: Path, computed: Path, pair: Pair, wanted: ArchiveFormat, grids: Grids) -> StorageError:
    fixed, moving = _grids_of(pair, grids)
    _check_array(unpacked, wanted, fixed)
    read = read_transform(unpacked, grid=fixed, moving_grid=moving).displacement_on(fixed)
    kept = read_transform(computed, grid=fixed, moving_grid=moving).displacement_on(fixed)
    distance = np.linalg.norm(read.vectors_mm() - kept.vectors_mm(), axis=0)
    return StorageError(
        pair, float(distance.mean(dtype=np.float64)), float(np.percentile(distance, 95)), float(distance.max())
    )


def _check_array(unpacked: Path, wanted: ArchiveFormat, fixed: Grid) -> None:
    if wanted.container == "nii.gz":
        with opened(unpacked) as image:
            shape, dtype = image.shape, image.get_data_dtype()
    else:
        with np.load(unpacked, allow_pickle=False) as content:
            array = next(iter(content.values()))
        shape, dtype = array.shape, array.dtype
    if (shape, dtype) != (wanted.stored_shape(fixed.shape), wanted.dtype):
        raise RegistrationFailure(
            f"{unpacked.name} holds {dtype} {shape}, not {wanted.dtype} {wanted.stored_shape(fixed.shape)}"
        )


def _read_voxels(path: Path) -> np.ndarray:
    with opened(path) as image:
        return np.ascontiguousarray(np.moveaxis(np.asarray(image.dataobj, np.float32), -1, 0))


def _npz(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, array)
    return stream.getvalue()
