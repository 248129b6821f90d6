"""Transform files of this and other tools: one module per format.

Every file is taken to map fixed points to moving points, as in ITK, ANTs and Learn2Reg. ITK files are in LPS.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from anamorph.errors import UserError
from anamorph.geometry import Grid
from anamorph.image.bounds import check_regular_file
from anamorph.image.quiet import quiet_libraries
from anamorph.transforms.base import Transform

__all__ = ["KINDS", "Kind", "read_transform", "write_transform", "written_files"]


@dataclass(frozen=True)
class Kind:
    """A format to write: the module with its ``write`` function, its suffixes (the usual one first), and words."""

    module: str
    suffixes: tuple[str, ...]
    summary: str


KINDS: dict[str, Kind] = {
    "itk": Kind("itk_field", (".nii.gz", ".nii"), "dense field, NIfTI vectors in LPS mm: ITK, ANTs, 3D Slicer"),
    "itk-h5": Kind("itk_h5", (".h5", ".hdf5"), "composite of affine and dense field in one file: ITK, ANTs, 3D Slicer"),
    "itk-tfm": Kind("itk_text", (".tfm", ".txt"), "affine as text: ITK, 3D Slicer"),
    "itk-mat": Kind("itk_mat", (".mat",), "affine as MATLAB file: ANTs"),
    "learn2reg": Kind("learn2reg", (".nii.gz", ".nii"), "dense field in voxels, (X, Y, Z, 3): Learn2Reg since 2022"),
    "learn2reg-npz": Kind("learn2reg_npz", (".npz",), "dense field in voxels, (X, Y, Z, 3): Learn2Reg since 2023"),
    "learn2reg-2020-npz": Kind("learn2reg_2020", (".npz",), "half resolution, (3, X, Y, Z): Learn2Reg 2020 and 2021"),
    "deeds": Kind("deeds", ("_displacements.dat",), "field in voxels, and `<stem>_matrix.txt` beside it: deedsBCV"),
}


def write_transform(
    transform: Transform,
    path: str | os.PathLike[str],
    kind: str,
    fixed_grid: Grid,
    moving_grid: Grid | None = None,
) -> None:
    """Write a transform for another tool.

    Args:
        transform: maps fixed points to moving points.
        path: must end as the kind asks; replaced only once the new file is complete.
        kind: one of ``KINDS``. ``itk-h5`` keeps affine and field apart; the other dense kinds make one field.
        fixed_grid: where a dense field is sampled. ITK files hold no shear: the field is then written on the nearest
            orthogonal grid that covers this one.
        moving_grid: of the moving image, for deeds and the Learn2Reg kinds, which count in its voxels; the fixed one
            by default.

    Raises:
        UserError: unknown kind or suffix, a deforming transform where only an affine fits, an unwritable folder.
    """
    if kind not in KINDS:
        raise UserError(f"unknown transform format '{kind}'; choose one of: {', '.join(KINDS)}")
    suffixes = KINDS[kind].suffixes
    if kind == "itk-tfm" and Path(path).name.lower().endswith(".mat"):
        kind, suffixes = "itk-mat", KINDS["itk-mat"].suffixes
    if not Path(path).name.lower().endswith(suffixes):
        raise UserError(f"{Path(path).name}: a transform of kind {kind} must end in {' or '.join(suffixes)}")
    writer = import_module(f"{__name__}.{KINDS[kind].module}")
    writer.write(transform, Path(path), fixed_grid, moving_grid)


def written_files(path: Path, kind: str) -> tuple[Path, ...]:
    """What :func:`write_transform` makes or replaces: the file named, and for deeds the matrix beside it."""
    if kind != "deeds":
        return (path,)
    from anamorph.transforms.files.deeds import matrix_path

    return path, matrix_path(path)


def read_transform(
    path: str | os.PathLike[str], *, grid: Grid | None = None, moving_grid: Grid | None = None
) -> Transform:
    """Read a transform that maps fixed points to moving points; the format is told by suffix and contents.

    Args:
        path: ITK field (.nii.gz, .nrrd, .mha), composite (.h5) or affine (.tfm, .txt, .mat); Learn2Reg (.nii.gz, .npz);
            deeds (_displacements.dat with the _matrix.txt of the same stem, if there is one; _matrix.txt alone).
        grid: of the fixed image; needed for .npz and deeds, and preferred to the header of Learn2Reg's .nii.gz, which
            need not be true.
        moving_grid: of the moving image, for Learn2Reg and deeds files; the fixed one by default.

    Raises:
        UserError: missing, damaged or unknown file, or a format that needs ``grid``.
    """
    path = Path(path)
    check_regular_file(path)
    name = path.name.lower()
    for suffixes, module in _READERS.items():
        if name.endswith(suffixes):
            reader: Callable[[Path, Grid | None, Grid | None], Transform] = import_module(f"{__name__}.{module}").read
            try:
                with quiet_libraries():
                    return reader(path, grid, moving_grid)
            except UserError as error:
                told = str(error)
                raise UserError(told if told.startswith(str(path)) else f"{path}: {told}") from error
            except MemoryError:
                raise
            except Exception as error:  # damaged files make the libraries raise anything
                reason = (str(error).strip().splitlines() or [type(error).__name__])[-1][:200]
                raise UserError(f"{path}: cannot be read as a transform ({reason}); is it complete?") from error
    known = ", ".join(suffix for suffixes in _READERS for suffix in suffixes)
    raise UserError(f"{path}: unknown transform format; known suffixes are {known}")


_READERS: dict[tuple[str, ...], str] = {
    (".nii.gz", ".nii"): "nifti",
    (".nrrd", ".mha", ".mhd"): "itk_field",
    (".h5", ".hdf5"): "itk_h5",
    ("_displacements.dat", "_matrix.txt"): "deeds",  # before .txt
    (".tfm", ".txt"): "itk_text",
    (".mat",): "itk_mat",
    (".npz",): "learn2reg_npz",
}
