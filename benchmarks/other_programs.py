"""Transforms of real pairs, carried by other programs.

    python -m benchmarks.other_programs LIST.csv --data DATA_ROOT

The first pairs of a list are registered, their results written in the format of each program, and the program asked
where it takes voxels of the fixed scan: reg_transform (NiftyReg), transformix (itk-elastix), fslpy, nitransforms,
SimpleITK. Printed is how far from anamorph, in mm, over voxels that are drawn with a fixed seed. A program that is
missing has no row. `ANAMORPH_NIFTYREG` names the folder of NiftyReg's programs.
"""

from __future__ import annotations

import argparse
import csv
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nibabel
import numpy as np

import anamorph
from anamorph.geometry import Grid
from anamorph.geometry.frames import flip_affine_ras_lps, flip_ras_lps
from anamorph.image.write import write_image
from anamorph.transforms.files import write_transform

VOXELS = 2000


def main() -> None:
    """Measure the pairs of a list."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--first", type=int, default=1, help="so many pairs")
    options = parser.parse_args()
    print("| pair | program | file | mean, mm | maximum, mm |\n|---|---|---|---|---|")
    with options.pairs.open(newline="") as file:
        rows = list(csv.DictReader(file))[: options.first]
    for row in rows:
        measure(row["pair_id"], options.data / row["fixed"], options.data / row["moving"])


def measure(name: str, fixed: Path, moving: Path) -> None:
    """Register a pair and print a row for each program."""
    found = anamorph.register(fixed, moving)
    grids = found.fixed.grid, found.moving.grid
    voxels = np.random.default_rng(0).integers(0, grids[0].shape, (VOXELS, 3))
    places = grids[0].voxel_to_world(voxels)
    ours = found.fixed_to_moving.map_world(places)
    with TemporaryDirectory() as folder:
        write_image(found.fixed, Path(folder, "fixed.nii.gz"))
        for (program, kind, suffix), ask in PROGRAMS.items():
            path = Path(folder, f"{kind}{suffix}")
            try:
                write_transform(found.fixed_to_moving, path, kind, *grids)
                theirs = ask(path, grids, voxels, places)
            except (ImportError, FileNotFoundError):
                continue
            except anamorph.UserError as error:
                print(f"| {name} | {program} | `{kind}` | refused: {error} | |", flush=True)
                continue
            apart = np.linalg.norm(theirs - ours, axis=1)
            print(f"| {name} | {program} | `{kind}` | {apart.mean():.5f} | {apart.max():.5f} |", flush=True)


def ask_niftyreg(path: Path, grids: tuple[Grid, Grid], voxels: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Places by ``reg_transform -def``."""
    program = shutil.which("reg_transform", path=os.environ.get("ANAMORPH_NIFTYREG", os.environ.get("PATH")))
    if program is None:
        raise FileNotFoundError("reg_transform")
    out = path.with_name("places.nii.gz")
    command = [program, "-ref", str(path.with_name("fixed.nii.gz")), "-def", str(path), str(out)]
    subprocess.run(command, check=True, capture_output=True)
    return np.asarray(nibabel.load(out).dataobj)[:, :, :, 0][tuple(voxels.T)]


def ask_transformix(path: Path, grids: tuple[Grid, Grid], voxels: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Places by transformix."""
    import itk

    points = flip_ras_lps(places)
    listed = path.with_name("points.txt")
    listed.write_text(f"point\n{len(points)}\n" + "\n".join(" ".join(map(repr, row)) for row in points.tolist()))
    parameters = itk.ParameterObject.New()
    parameters.AddParameterFile(str(path))
    lps = flip_affine_ras_lps(grids[0].affine)
    scan = itk.image_from_array(np.zeros(grids[0].shape[::-1], np.float32))
    scan.SetOrigin(lps[:3, 3].tolist())
    scan.SetSpacing(grids[0].spacing_mm.tolist())
    scan.SetDirection(itk.matrix_from_array(np.ascontiguousarray(lps[:3, :3] / grids[0].spacing_mm)))
    itk.transformix_filter(scan, parameters, fixed_point_set_file_name=str(listed), output_directory=str(path.parent))
    lines = path.with_name("outputpoints.txt").read_text().splitlines()
    found = np.array([line.split("OutputPoint = [")[1].split("]")[0].split() for line in lines], float)
    return flip_ras_lps(found)


def ask_fslpy(path: Path, grids: tuple[Grid, Grid], voxels: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Places by the library of FSL."""
    from fsl.data.image import Image
    from fsl.transform.fnirt import readFnirt

    def scan(grid: Grid) -> Any:
        return Image(nibabel.Nifti1Image(np.zeros(grid.shape, np.uint8), grid.affine))

    return readFnirt(str(path), scan(grids[1]), scan(grids[0])).transform(places, "world", "world")


def ask_nitransforms(form: str) -> Callable[..., np.ndarray]:
    """Places by nitransforms."""

    def ask(path: Path, grids: tuple[Grid, Grid], voxels: np.ndarray, places: np.ndarray) -> np.ndarray:
        from nitransforms.nonlinear import DenseFieldTransform

        return DenseFieldTransform.from_filename(path, fmt=form).map(places)

    return ask


def ask_simpleitk(path: Path, grids: tuple[Grid, Grid], voxels: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Places by SimpleITK."""
    import SimpleITK as sitk

    transform = sitk.ReadTransform(str(path))
    return flip_ras_lps(np.array([transform.TransformPoint(row) for row in flip_ras_lps(places).tolist()]))


PROGRAMS: dict[tuple[str, str, str], Callable[..., np.ndarray]] = {
    ("reg_transform of NiftyReg", "niftyreg", ".nii.gz"): ask_niftyreg,
    ("transformix of itk-elastix", "elastix", ".txt"): ask_transformix,
    ("fslpy", "fsl-warp", ".nii.gz"): ask_fslpy,
    ("nitransforms", "x5", ".x5"): ask_nitransforms("X5"),
    ("nitransforms", "afni-warp", ".nii.gz"): ask_nitransforms("AFNI"),
    ("SimpleITK", "itk-h5", ".h5"): ask_simpleitk,
}

if __name__ == "__main__":
    main()
