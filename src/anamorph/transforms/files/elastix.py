"""Parameter files of elastix and transformix (TransformParameters.0.txt): fixed to moving, LPS mm.

Written are an affine as it is, and a field as a B-spline of order 1, which is the field itself. Lines of
``(Key value value)`` need no library; itk-elastix, which would read them too, is 300 MB.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from anamorph.errors import UserError
from anamorph.geometry.frames import flip_affine_ras_lps, flip_ras_lps
from anamorph.geometry.grid import Grid
from anamorph.image.atomic import write_text
from anamorph.image.bounds import check_regular_file
from anamorph.reading import read_text
from anamorph.transforms.files import TransformFormat
from anamorph.transforms.files.itk_field import on_own_grid, orthogonal_cover
from anamorph.transforms.files.itk_linear import from_itk, to_itk
from anamorph.transforms.maps import Affine, Composite, Displacement, Transform

ITK_TYPES = {
    "AffineTransform": "AffineTransform_double_3_3",
    "EulerTransform": "Euler3DTransform_double_3_3",
    "SimilarityTransform": "Similarity3DTransform_double_3_3",
    "TranslationTransform": "TranslationTransform_double_3_3",
}
SPLINES = ("BSplineTransform", "RecursiveBSplineTransform")
MOST_VECTORS = 1_500_000
DEEPEST = 20
HEAD_BYTES = 256
REACH_VOX = -1.0
_INITIAL = ("InitialTransformParameterFileName", "InitialTransformParametersFileName")
_LINE = re.compile(r"^\s*\((\w+)\s+(.*?)\)\s*(?://.*)?$")

Parameters = dict[str, list[str]]


def write(transform: Transform, path: Path, fixed_grid: Grid, moving_grid: Grid | None = None) -> None:
    """Write one file.

    Raises:
        UserError: a field of more vectors than a text should hold.
    """
    one = Composite.of(transform)
    fixed = orthogonal_cover(fixed_grid)
    lines = [*_affine_lines(one), *_grid_lines(fixed)] if isinstance(one, Affine) else _spline_lines(one, fixed)
    common = [
        '(InitialTransformParameterFileName "NoInitialTransform")',
        '(HowToCombineTransforms "Compose")',
        "(FixedImageDimension 3)",
        "(MovingImageDimension 3)",
        '(FixedInternalImagePixelType "float")',
        '(MovingInternalImagePixelType "float")',
        '(UseDirectionCosines "true")',
        '(Resampler "DefaultResampler")',
        '(ResampleInterpolator "FinalBSplineInterpolator")',
        "(FinalBSplineInterpolationOrder 1)",
        '(ResultImageFormat "nii.gz")',
        '(ResultImagePixelType "float")',
    ]
    write_text(path, "\n".join([*lines, *common]) + "\n")


def read(path: Path, grid: Grid | None, moving_grid: Grid | None) -> Transform:
    """Read a file, and the initial transforms that it names, looked for beside it where they are not there.

    What holds a spline becomes a field at the voxels of the fixed scan; a spline of order 1 alone is one already.
    """
    import SimpleITK as sitk

    parameters, parts = _chain(path, 0)
    if len(parts) == 1 and parameters.get("BSplineTransformSplineOrder") == ["1"]:
        return _field(parameters)
    if all(isinstance(part, Affine) for part in parts):
        return Composite.of(*parts)
    theirs = [sitk.AffineTransform(*_itk_affine(part)) if isinstance(part, Affine) else part for part in parts]
    lps = flip_affine_ras_lps((grid := grid or _grid(parameters)).affine)
    field = sitk.TransformToDisplacementField(
        sitk.CompositeTransform(theirs[::-1]),  # the last one is applied first
        sitk.sitkVectorFloat64,
        list(grid.shape),
        lps[:3, 3].tolist(),
        grid.spacing_mm.tolist(),
        (lps[:3, :3] / grid.spacing_mm).ravel().tolist(),
    )
    vectors = flip_ras_lps(sitk.GetArrayViewFromImage(field)).transpose(3, 2, 1, 0)
    return Displacement.from_world(vectors, grid)


def _itk_affine(affine: Affine) -> tuple[list[float], list[float]]:
    """Matrix and translation, as SimpleITK takes them."""
    values = to_itk(affine)[0].tolist()
    return values[:9], values[9:]


def _chain(path: Path, depth: int) -> tuple[Parameters, list[Any]]:
    """The parameters of a file, and all transforms in their order: affines, and splines of SimpleITK."""
    parameters = _parameters(path)
    kind = parameters.get("Transform", ["none"])[0]
    if kind in ITK_TYPES:
        centre = _floats(parameters, "CenterOfRotationPoint") if kind != "TranslationTransform" else np.empty(0)
        zyx = [float(parameters.get("ComputeZYX", ["false"])[0] == "true")] if kind == "EulerTransform" else []
        own: Any = from_itk(ITK_TYPES[kind], _floats(parameters, "TransformParameters"), np.append(centre, zyx))
    elif kind in SPLINES:
        own = _spline(parameters)
    else:
        raise UserError(f"a {kind} of elastix; convert it: transformix -def all -tp {path.name} makes a field")
    initial = next((parameters[key][0] for key in _INITIAL if key in parameters), "NoInitialTransform")
    if initial == "NoInitialTransform":
        return parameters, [own]
    if parameters.get("HowToCombineTransforms", ["Compose"])[0] != "Compose":
        raise UserError("adds its displacements to those of the initial transform; only Compose is read")
    before = Path(initial) if Path(initial).is_file() else path.parent / Path(initial).name
    if not before.is_file():
        raise UserError(f"the initial transform {initial} is missing; copy it beside {path.name}")
    if depth == DEEPEST:
        raise UserError(f"more than {DEEPEST} initial transforms behind each other; does one name itself?")
    check_regular_file(before)
    return parameters, [*_chain(before, depth + 1)[1], own]


def _parameters(path: Path) -> Parameters:
    found: Parameters = {}
    for line in read_text(path).splitlines():
        if not line.strip() or line.strip().startswith("//"):
            continue
        matched = _LINE.match(line)
        if matched is None:
            raise UserError(f"the line '{line.strip()[:40]}' is no parameter of elastix")
        found[matched[1]] = [quoted or bare for quoted, bare in re.findall(r'"([^"]*)"|(\S+)', matched[2])]
    return found


def _floats(parameters: Parameters, key: str) -> np.ndarray:
    if key not in parameters:
        raise UserError(f"without {key}; is it complete?")
    return np.array(parameters[key], np.float64)


def _grid(parameters: Parameters, prefix: str = "") -> Grid:
    """The grid of the fixed scan, or of the control points; elastix writes a matrix column by column, in LPS."""
    size, spacing, origin = (_floats(parameters, f"{prefix}{name}") for name in ("Size", "Spacing", "Origin"))
    columns = _floats(parameters, f"{prefix}Direction") if f"{prefix}Direction" in parameters else np.eye(3).ravel()
    if any(len(values) != 3 for values in (size, spacing, origin)) or len(columns) != 9:
        raise UserError(f"{prefix}Size and {prefix}Direction are not those of three dimensions")
    affine = np.eye(4)
    affine[:3, :3] = columns.reshape(3, 3).T * spacing
    affine[:3, 3] = origin
    i, j, k = (int(n) for n in size)
    return Grid((i, j, k), flip_affine_ras_lps(affine))


def _vectors(parameters: Parameters, grid: Grid) -> np.ndarray:
    """``(3, K, J, I)``: the coefficients, LPS mm."""
    values = _floats(parameters, "TransformParameters")
    i, j, k = grid.shape
    if values.size != 3 * i * j * k:
        raise UserError(f"a spline of {i} x {j} x {k} control points with {values.size} numbers; is it complete?")
    return values.reshape(3, k, j, i)


def _field(parameters: Parameters) -> Displacement:
    """A spline of order 1 on its control points, between which it is trilinear."""
    points = _grid(parameters, "Grid")
    vectors = flip_ras_lps(np.moveaxis(_vectors(parameters, points), 0, -1))
    return Displacement.from_world(vectors.transpose(3, 2, 1, 0), points)


def _spline(parameters: Parameters) -> Any:
    import SimpleITK as sitk

    points = _grid(parameters, "Grid")
    lps = flip_affine_ras_lps(points.affine)
    direction = lps[:3, :3] / points.spacing_mm
    spline = sitk.BSplineTransform(3, int(parameters.get("BSplineTransformSplineOrder", ["3"])[0]))
    spline.SetFixedParameters([*points.shape, *lps[:3, 3], *points.spacing_mm, *direction.ravel()])
    spline.SetParameters(_vectors(parameters, points).ravel().tolist())
    return spline


def _affine_lines(affine: Affine) -> list[str]:
    values, centre = to_itk(affine)
    return [
        '(Transform "AffineTransform")',
        "(NumberOfParameters 12)",
        f"(TransformParameters {_text(values)})",
        f"(CenterOfRotationPoint {_text(centre)})",
    ]


def _spline_lines(transform: Transform, fixed: Grid) -> list[str]:
    # ITK moves nothing beyond the last control points but one, so there are some more.
    field = transform.displacement_on(on_own_grid(transform, fixed).grid.extended(fixed.corners_mm(), REACH_VOX))
    if np.prod(field.grid.shape) > MOST_VECTORS:
        raise UserError(
            f"a field of {np.prod(field.grid.shape) / 1e6:.1f} million vectors is too large for a text; choose itk-h5"
        )
    values = flip_ras_lps(field.vectors_mm().transpose(3, 2, 1, 0)).astype(np.float64)
    return [
        '(Transform "BSplineTransform")',
        f"(NumberOfParameters {values.size})",
        f"(TransformParameters {_text(np.moveaxis(values, -1, 0).ravel())})",
        *_grid_lines(field.grid, "Grid"),
        "(GridIndex 0 0 0)",
        "(BSplineTransformSplineOrder 1)",
        '(UseCyclicTransform "false")',
        *_grid_lines(fixed),
    ]


def _grid_lines(grid: Grid, prefix: str = "") -> list[str]:
    lps = flip_affine_ras_lps(grid.affine)
    return [
        f"({prefix}Size {' '.join(map(str, grid.shape))})",
        *([] if prefix else ["(Index 0 0 0)"]),
        f"({prefix}Spacing {_text(grid.spacing_mm)})",
        f"({prefix}Origin {_text(lps[:3, 3])})",
        f"({prefix}Direction {_text((lps[:3, :3] / grid.spacing_mm).T.ravel())})",
    ]


def _text(values: np.ndarray) -> str:
    return " ".join(f"{value:.12g}" for value in values.tolist())


def _shows(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(HEAD_BYTES).lstrip().startswith((b"(", b"//"))


ELASTIX = TransformFormat(
    "affine, or field as a spline of order 1, and initial transforms read: elastix, transformix",
    (".txt",),
    write=write,
    read=read,
    shows=_shows,
)
