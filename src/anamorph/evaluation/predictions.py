"""Predicted fields of a cohort: found by the names that Learn2Reg has used, read in all its formats and in ours."""

from __future__ import annotations

import errno
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from anamorph.data.dataset import Pair
from anamorph.errors import UserError
from anamorph.geometry.grid import Grid
from anamorph.geometry.sampling import identity_positions
from anamorph.image.bounds import check_archive
from anamorph.reading import reason_of
from anamorph.transforms.files import read_transform
from anamorph.transforms.files.learn2reg import from_voxels
from anamorph.transforms.maps import Affine, Displacement, Transform

SUFFIXES = (".npz", ".nii.gz", ".nii", ".h5", ".hdf5", ".nrrd", ".mha", ".tfm", ".txt", ".mat")
IN_RESULT_FOLDER = ("fixed_to_moving.nii.gz", "fixed_to_moving.h5")
"""What `anamorph register` calls the transform in its output folder."""
OTHER_DIRECTION = {name: name.replace("fixed_to_moving", "moving_to_fixed") for name in IN_RESULT_FOLDER}


class Predictions:
    """The fields below a folder.

    A field is named ``disp_FFFF_ffff_MMMM_mmmm`` or, without modalities, ``disp_FFFF_MMMM``; it is a file of one of
    :data:`SUFFIXES` or an output folder of ``anamorph register``. The short name counts first where the evaluator
    prefers it (modality 0000 to 0001), and not at all where it would fit two pairs.

    Args:
        folder: is searched with everything below, as archives hold one folder per task.
        pairs: all pairs that are to be found.
    """

    def __init__(self, folder: Path, pairs: Sequence[Pair]) -> None:
        self.folder = folder
        self._short_names = Counter(pair.disp_names["short"] for pair in pairs)
        self._places: dict[str, list[Path]] = {}
        for path in sorted(folder.rglob("disp_*"), key=lambda path: (len(path.parts), path)):
            self._places.setdefault(path.name, []).append(path)

    def find(self, pair: Pair) -> Path:
        """The file that holds the transform of a pair.

        Raises:
            UserError: there is none, or there are two of one name.
        """
        long, short = pair.disp_names["long"], pair.disp_names["short"]
        stems = [long] if self._short_names[short] > 1 else [long, short]
        if (pair.fixed.modality, pair.moving.modality) == ("0000", "0001"):
            stems.reverse()
        for stem in stems:
            for name in (*(f"{stem}{suffix}" for suffix in SUFFIXES), stem):
                found = self._transform_at(name)
                if found is not None:
                    return found
        raise UserError(f"no field {' or '.join(stems)} ({', '.join(SUFFIXES[:2])}, ..); was the pair registered?")

    def _transform_at(self, name: str) -> Path | None:
        places = self._places.get(name, [])
        same_depth = [place for place in places if len(place.parts) == len(places[0].parts)]
        if len(same_depth) > 1:
            raise UserError(
                f"two fields {name}, in {same_depth[0].parent} and {same_depth[1].parent}; name the folder of one set"
            )
        for place in places[:1]:
            candidates = [place] if place.is_file() else [place / inner for inner in IN_RESULT_FOLDER]
            return next((path for path in candidates if path.is_file()), None)
        return None


@contextmanager
def opened(source: Path) -> Iterator[Path]:
    """The folder with the predictions; a ``.zip`` archive is unpacked for the time being.

    Raises:
        UserError: neither a folder nor a readable archive.
    """
    if source.is_dir():
        yield source
    elif zipfile.is_zipfile(source):
        with tempfile.TemporaryDirectory() as folder:
            try:
                with zipfile.ZipFile(source) as archive:
                    check_archive(archive, source)
                    archive.extractall(folder)  # drops "..", roots and links
            except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError, ValueError) as error:
                # RuntimeError: encrypted, or packed in another way. A full disk is no damage.
                if isinstance(error, OSError) and error.errno != errno.EINVAL:
                    raise
                raise UserError(f"{source}: damaged archive ({reason_of(error)}); pack it again") from error
            yield Path(folder)
    else:
        raise UserError(f"{source}: no folder and no .zip archive; name what holds the predicted fields")


@dataclass(frozen=True, eq=False)
class Prediction:
    """A predicted transform in both forms.

    Args:
        disp_vox: ``(3, I, J, K)`` float32: moving voxel minus fixed voxel at every fixed voxel.
        fixed_to_moving: the same map of the world.
        moving_to_fixed: the other direction, where there is one.
    """

    disp_vox: np.ndarray
    fixed_to_moving: Transform
    moving_to_fixed: Transform | None = None


def read_prediction(path: Path, fixed_grid: Grid, moving_grid: Grid) -> Prediction:
    """Read a predicted transform, and the other direction beside it in an output folder of ``anamorph register``.

    Learn2Reg's files hold displacements in voxels and are taken as they are, whatever their headers say; all other
    transforms map the world.

    Raises:
        UserError: missing or damaged, of another shape, or with values that are not finite.
    """
    if _counts_voxels(path):
        field = read_transform(path, grid=fixed_grid)
        assert isinstance(field, Displacement)
        return Prediction(field.disp_vox, from_voxels(field.disp_vox, fixed_grid, moving_grid))
    forward = read_transform(path, grid=fixed_grid, moving_grid=moving_grid)
    beside = path.with_name(OTHER_DIRECTION[path.name]) if path.name in OTHER_DIRECTION else None
    backward = read_transform(beside, grid=moving_grid) if beside is not None and beside.is_file() else None
    return Prediction(in_voxels(forward, fixed_grid, moving_grid), forward, backward)


def identity_field(fixed_grid: Grid, moving_grid: Grid) -> np.ndarray:
    """What "not registered" means to Learn2Reg: zero for scans of one shape, else the identity of the world."""
    if fixed_grid.shape == moving_grid.shape:
        return np.zeros((3, *fixed_grid.shape), np.float32)
    return in_voxels(Affine.identity(), fixed_grid, moving_grid)


def in_voxels(transform: Transform, fixed_grid: Grid, moving_grid: Grid) -> np.ndarray:
    """A map of the world as ``(3, I, J, K)``: moving voxel minus fixed voxel."""
    return transform.moving_positions(fixed_grid, moving_grid) - identity_positions(fixed_grid.shape)


def _counts_voxels(path: Path) -> bool:
    """Whether a file is a field of Learn2Reg."""
    import nibabel

    if path.name.lower().endswith(".npz"):
        return True
    if not path.name.lower().endswith((".nii.gz", ".nii")):
        return False
    try:
        return len(nibabel.load(path).shape) == 4  # type: ignore[attr-defined]
    except Exception:  # a damaged file, of which the reader knows how to speak
        return False
