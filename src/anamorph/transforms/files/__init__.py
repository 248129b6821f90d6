"""Transform files of this and other tools: one module per family of formats, and a table that other packages add to.

Every file is taken to map fixed points to moving points, as in ITK, ANTs and Learn2Reg. ITK files are in LPS.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from anamorph.errors import UserError
from anamorph.geometry.grid import Grid
from anamorph.image.bounds import check_regular_file
from anamorph.image.quiet import quiet_libraries
from anamorph.registry import Registry
from anamorph.transforms.maps import Transform

__all__ = ["FORMATS", "OtherFormat", "TransformFormat", "read_transform", "write_transform", "written_files"]


class OtherFormat(UserError):
    """A file has a suffix of the format but is of another one: the next format with that suffix is tried."""


def _itself(path: Path) -> tuple[Path, ...]:
    return (path,)


@dataclass(frozen=True)
class TransformFormat:
    """A format of transform files.

    Args:
        summary: what a file holds and which programs read it, in a line.
        suffixes: of the files that are written, the usual one first.
        write: takes the transform, the path, the fixed grid and the moving grid or None; None for formats that are read
            only.
        read: takes the path, the fixed grid or None and the moving grid or None, and returns a transform that maps
            fixed points to moving points; None for formats that are written only. May raise :class:`OtherFormat`.
        also_read: suffixes of files that are read but not written.
        dense: whether what is written depends on the grid of the fixed scan, so that this must be known.
        files: what writing to a path makes or replaces.
        shows: whether a file says of itself that it is of this format, for suffixes that several programs use; such
            formats are looked at first. None where the suffix says it, or the reader finds out.
        needs_moving: whether a file counts in the voxels of the moving scan, so that its grid must be known.
        names_scans: whether a file refers to its scans: writing takes the sources of the fixed and of the moving one
            too, as ``scans``.
    """

    summary: str
    suffixes: tuple[str, ...]
    write: Callable[..., None] | None = None
    read: Callable[[Path, Grid | None, Grid | None], Transform] | None = None
    also_read: tuple[str, ...] = ()
    dense: bool = True
    files: Callable[[Path], tuple[Path, ...]] = _itself
    shows: Callable[[Path], bool] | None = None
    needs_moving: bool = False
    names_scans: bool = False


FORMATS: Registry = Registry(
    "anamorph.transform_formats",
    "transform format",
    {
        "itk": "anamorph.transforms.files.itk_field:ITK",
        "itk-h5": "anamorph.transforms.files.itk_h5:ITK_H5",
        "itk-tfm": "anamorph.transforms.files.itk_linear:ITK_TFM",
        "itk-mat": "anamorph.transforms.files.itk_linear:ITK_MAT",
        "learn2reg": "anamorph.transforms.files.learn2reg:LEARN2REG",
        "learn2reg-npz": "anamorph.transforms.files.learn2reg:LEARN2REG_NPZ",
        "learn2reg-2020-npz": "anamorph.transforms.files.learn2reg:LEARN2REG_2020_NPZ",
        "deeds": "anamorph.transforms.files.deeds:DEEDS",
        "fsl": "anamorph.transforms.files.flirt:FLIRT",
        "fsl-warp": "anamorph.transforms.files.fnirt:FSL_WARP",
        "fsl-warp-absolute": "anamorph.transforms.files.fnirt:FSL_WARP_ABSOLUTE",
        "freesurfer": "anamorph.transforms.files.freesurfer:LTA",
        "freesurfer-m3z": "anamorph.transforms.files.m3z:M3Z",
        "afni": "anamorph.transforms.files.afni:AFNI",
        "afni-warp": "anamorph.transforms.files.afni:AFNI_WARP",
        "niftyreg": "anamorph.transforms.files.niftyreg:NIFTYREG",
        "niftyreg-affine": "anamorph.transforms.files.niftyreg:NIFTYREG_AFFINE",
        "x5": "anamorph.transforms.files.x5:X5",
        "elastix": "anamorph.transforms.files.elastix:ELASTIX",
        "dicom": "anamorph.transforms.files.dicom:DICOM",
    },
)


def write_transform(
    transform: Transform,
    path: str | os.PathLike[str],
    kind: str,
    fixed_grid: Grid,
    moving_grid: Grid | None = None,
    *,
    scans: tuple[object, object] = (None, None),
) -> None:
    """Write a transform for another tool.

    Args:
        transform: maps fixed points to moving points.
        path: must end as the kind asks; replaced only once the new file is complete.
        kind: one of ``FORMATS``. ``itk-h5`` keeps affine and field apart; the other dense kinds make one field.
        fixed_grid: where a dense field is sampled. ITK files hold no shear: the field is then written on the nearest
            orthogonal grid that covers this one.
        moving_grid: of the moving image, for deeds and the Learn2Reg kinds, which count in its voxels; the fixed one
            by default.
        scans: files or folders of the fixed and of the moving scan, for kinds that refer to them, such as ``dicom``.

    Raises:
        UserError: unknown kind or suffix, a deforming transform where only an affine fits, an unwritable folder.
    """
    path = Path(path)
    if kind == "itk-tfm" and path.name.lower().endswith(".mat"):
        kind = "itk-mat"
    form: TransformFormat = FORMATS.find(kind)
    if form.write is None:
        raise UserError(f"transforms of kind {kind} are read only; choose another format, such as itk")
    if not path.name.lower().endswith(form.suffixes):
        raise UserError(f"{path.name}: a transform of kind {kind} must end in {' or '.join(form.suffixes)}")
    form.write(transform, path, fixed_grid, moving_grid, **({"scans": scans} if form.names_scans else {}))


def written_files(path: Path, kind: str) -> tuple[Path, ...]:
    """What :func:`write_transform` makes or replaces: the file named, and what belongs to it."""
    form: TransformFormat = FORMATS.find(kind)
    return form.files(path)


def read_transform(
    path: str | os.PathLike[str],
    *,
    grid: Grid | None = None,
    moving_grid: Grid | None = None,
    kind: str | None = None,
) -> Transform:
    """Read a transform that maps fixed points to moving points; suffix and contents say the format.

    Args:
        path: ITK field (.nii.gz, .nrrd, .mha), composite (.h5) or affine (.tfm, .txt, .mat); Learn2Reg (.nii.gz, .npz);
            deeds (_displacements.dat with the _matrix.txt of the same stem, if there is one; _matrix.txt alone); files
            of FSL, FreeSurfer, AFNI, NiftyReg, elastix and X5; or a format that another package adds.
        grid: of the fixed image; needed for .npz, deeds, FSL and splines, and preferred to the header of Learn2Reg's
            .nii.gz, which need not be true.
        moving_grid: of the moving image, for FSL, and for Learn2Reg and deeds files, where it is the fixed one by
            default.
        kind: one of ``FORMATS``, where suffix and contents do not say it.

    Raises:
        UserError: missing, damaged or unknown file, or a format that needs ``grid``.
    """
    path = Path(path)
    check_regular_file(path)
    known: list[str] = []
    declined: OtherFormat | None = None
    for form in _in_order_of_suffixes(path, known) if kind is None else [_readable(kind)]:
        assert form.read is not None
        try:
            with quiet_libraries():
                return form.read(path, grid, moving_grid)
        except OtherFormat as error:
            declined = error
        except UserError as error:
            message = str(error)
            raise UserError(message if message.startswith(str(path)) else f"{path}: {message}") from error
        except MemoryError:
            raise
        except Exception as error:  # damaged files make the libraries raise anything
            reason = (str(error).strip().splitlines() or [type(error).__name__])[-1][:200]
            raise UserError(f"{path}: cannot be read as a transform ({reason}); is it complete?") from error
    if declined is not None:
        raise UserError(f"{path}: {declined}") from declined
    raise UserError(f"{path}: unknown transform format; known suffixes are {', '.join(known)}")


def needs_moving(path: Path, kind: str | None = None) -> bool:
    """Whether the transform in a file counts in voxels of the moving scan."""
    form = _readable(kind) if kind else next(_in_order_of_suffixes(path, []), None)
    return form is not None and form.needs_moving


def _readable(kind: str) -> TransformFormat:
    form: TransformFormat = FORMATS.find(kind)
    if form.read is None:
        raise UserError(f"transforms of kind {kind} are only written; convert the file with the program that made it")
    return form


def _shows(shows: Callable[[Path], bool], path: Path) -> bool:
    try:
        return shows(path)
    except MemoryError:
        raise
    except Exception:  # a damaged file shows nothing; a reader says what is wrong with it
        return False


def _in_order_of_suffixes(path: Path, known: list[str]) -> Iterator[TransformFormat]:
    """The formats that a file may have: first those of this package, those that it shows, and the longest suffix.

    Args:
        path: the file.
        known: all suffixes that were looked at are added.
    """
    name = path.name.lower()
    others = [kind for kind in FORMATS if kind not in FORMATS.own]
    for kinds in (FORMATS.own, others):
        fitting: list[tuple[bool, int, TransformFormat]] = []
        for kind in kinds:
            form: TransformFormat = FORMATS.find(kind)
            suffixes = (*form.suffixes, *form.also_read) if form.read is not None else ()
            known += [suffix for suffix in suffixes if suffix not in known]
            longest = max((len(suffix) for suffix in suffixes if name.endswith(suffix)), default=0)
            if longest and (form.shows is None or _shows(form.shows, path)):
                fitting.append((form.shows is None, -longest, form))
        for _, _, form in sorted(fitting, key=lambda one: one[:2]):
            yield form
