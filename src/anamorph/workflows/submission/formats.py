"""What the evaluator of each year expects to find in an archive.

Sources: the submission pages of the challenge and ``evaluation.py`` of its repository, by year.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, get_args

import numpy as np

from anamorph.data.dataset import Dataset, Pair
from anamorph.errors import RegistrationFailure, UserError
from anamorph.geometry.grid import Grid
from anamorph.image.atomic import escaped
from anamorph.image.nibabel_files import opened
from anamorph.image.read import read_grid
from anamorph.transforms.files import read_transform
from anamorph.transforms.files.learn2reg import from_voxels, halved
from anamorph.transforms.maps import Transform
from anamorph.types import Progress

Container = Literal["nii.gz", "npz"]
Names = Literal["short", "by-pair", "long", "both"]

YEARS = (2020, 2021, 2022, 2023, 2024, 2025)
HALF_RESOLUTION_YEARS = (2020, 2021)
NPZ_SINCE = 2023
TASKS: dict[int, tuple[tuple[str, int], ...]] = {
    2020: (("curious", 1), ("lung", 2), ("abdomen", 3), ("hippocampus", 4)),
    2021: (("abdomen", 1), ("lung", 2), ("oasis", 3)),
}
"""Words in the names of the data sets, and the numbers of their tasks."""
FULL_RESOLUTION_TASKS = ((2020, 4),)


@dataclass(frozen=True)
class ArchiveFormat:
    """The files of a submission.

    Args:
        year: of the challenge.
        folder: in the archive; empty for its top level.
        container: of each field. ``nii.gz`` and, from 2023, ``npz`` hold (X, Y, Z, 3) in float32; the ``npz`` of 2020
            and 2021 holds (3, X, Y, Z) in float16.
        half: half as many samples along each axis, their values still in voxels of the full resolution.
        names: ``long`` with the modalities, ``short`` without, ``both``, or ``by-pair``: short where the evaluators of
            2022 to 2024 look for short names (one modality, or 0000 to 0001), long for other pairs.
    """

    year: int
    folder: str
    container: Container
    half: bool
    names: Names

    @property
    def components_first(self) -> bool:
        """Whether the array is (3, X, Y, Z)."""
        return self.year in HALF_RESOLUTION_YEARS

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the stored values."""
        return np.dtype(np.float16 if self.components_first else np.float32)

    def members(self, pair: Pair) -> tuple[str, ...]:
        """The names of a pair's files in the archive."""
        kinds: tuple[str, ...] = ("long", "short") if self.names == "both" else (self.names,)
        if self.names == "by-pair":
            modalities = pair.fixed.modality, pair.moving.modality
            short = modalities[0] == modalities[1] or modalities == ("0000", "0001")
            kinds = ("short",) if short else ("long",)
        prefix = f"{self.folder}/" if self.folder else ""
        return tuple(f"{prefix}{pair.disp_names[kind]}.{self.container}" for kind in kinds)

    def stored_shape(self, shape: tuple[int, int, int]) -> tuple[int, ...]:
        """The shape of the stored array for images of a shape.

        Raises:
            UserError: half the resolution of an odd number of voxels.
        """
        if self.half and any(n % 2 for n in shape):
            raise UserError(
                f"Learn2Reg {self.year} wants half resolution, but an image has {' x '.join(map(str, shape))} voxels; "
                "make the sizes even with `anamorph preprocess --shape`"
            )
        size = tuple(n // 2 for n in shape) if self.half else shape
        return (3, *size) if self.components_first else (*size, 3)

    def encode(self, disp_vox: np.ndarray) -> np.ndarray:
        """The array to store for a ``(3, I, J, K)`` float32 field in voxels."""
        if not self.components_first:
            return np.ascontiguousarray(np.moveaxis(disp_vox, 0, -1), self.dtype)
        self.stored_shape(disp_vox.shape[1:])
        return (halved(disp_vox) if self.half else disp_vox).astype(self.dtype)

    def describe(self) -> str:
        """One line for people."""
        layout = "(3, X, Y, Z)" if self.components_first else "(X, Y, Z, 3)"
        resolution = "half" if self.half else "full"
        names = {"by-pair": "short where its evaluator looks for them, else long"}.get(self.names, self.names)
        place = f"in {self.folder}/" if self.folder else "at the top level"
        return f".{self.container} {place}, {layout}, {self.dtype.name}, {resolution} resolution, names: {names}"


def archive_format(
    year: int,
    dataset: Dataset,
    *,
    task: int | None = None,
    folder: str | None = None,
    container: str | None = None,
    names: str | None = None,
) -> ArchiveFormat:
    """The format of a year, with what the user wants otherwise.

    Args:
        year: of the challenge.
        dataset: its name tells the task of 2020 and 2021.
        task: number of the task, where the name does not tell.
        folder: in the archive: ``task_NN`` in 2020 and 2021, else none.
        container: ``nii.gz`` or, from 2023, ``npz``.
        names: one of :data:`Names`; by default what the evaluator of the year looks for.

    Raises:
        UserError: a year, task, container or kind of names that there is not.
    """
    if year not in YEARS:
        raise UserError(f"there is no format of {year}; choose --year {', '.join(map(str, YEARS))}")
    if names is not None and names not in get_args(Names):
        raise UserError(f"--names must be one of {', '.join(get_args(Names))}, not '{names}'")
    half_year = year in HALF_RESOLUTION_YEARS
    allowed = ("npz",) if half_year else ("nii.gz", "npz")[: 1 + (year >= NPZ_SINCE)]
    if container is not None and container not in allowed:
        raise UserError(f"the evaluator of {year} reads {' and '.join(allowed)}, not '{container}'; drop --file-type")
    if task is not None and not half_year:
        raise UserError(f"the tasks of {year} have no numbers; drop --task")
    number = _task_number(year, dataset.name, task) if half_year else 0
    usual: Names = "short" if half_year else "by-pair" if year < 2025 else "long"
    return ArchiveFormat(
        year=year,
        folder=_clean_folder(folder) if folder is not None else f"task_{number:02d}" if half_year else "",
        container=container or allowed[0],  # type: ignore[arg-type]
        half=half_year and (year, number) not in FULL_RESOLUTION_TASKS,
        names=names or usual,  # type: ignore[arg-type]
    )


def check_members(pairs: tuple[Pair, ...], wanted: ArchiveFormat) -> None:
    """See that no two pairs would be stored under one name, and that each name can be stored.

    Raises:
        UserError: they would, or it cannot.
    """
    owners: dict[str, Pair] = {}
    for pair in pairs:
        for name in wanted.members(pair):
            if name in owners:
                raise UserError(f"{owners[name].key} and {pair.key} would both be stored as {name}; pass --names long")
            if escaped(name) != name:
                raise UserError(f"{escaped(name)}: the name is not UTF-8, which an archive needs; rename the scans")
            owners[name] = pair


def _task_number(year: int, name: str, given: int | None) -> int:
    numbers = [number for _, number in TASKS[year]]
    if given is not None:
        if given not in numbers:
            raise UserError(f"the tasks of {year} are {', '.join(map(str, numbers))}; there is no --task {given}")
        return given
    found = [number for word, number in TASKS[year] if word in name.lower()]
    if len(found) != 1:
        words = ", ".join(f"{number} {word}" for word, number in TASKS[year])
        raise UserError(f"the name '{name}' does not tell which task of {year} this is; pass --task ({words})")
    return found[0]


def _clean_folder(folder: str) -> str:
    parts = [part for part in folder.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise UserError(f"--folder {folder} leads out of the archive; name a folder in it")
    return "/".join(parts)


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


def stored(source: Path, wanted: ArchiveFormat) -> bytes:
    """The content of the file of a field, which was kept in full resolution."""
    return source.read_bytes() if wanted.container == "nii.gz" else _npz(wanted.encode(_read_voxels(source)))


def write_archive(path: Path, pairs: tuple[Pair, ...], fields: Path, wanted: ArchiveFormat) -> None:
    """Write the fields of all pairs; they are compressed one by one, not once more by the archive."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for pair in pairs:
            content = stored(field_path(fields, pair), wanted)
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
