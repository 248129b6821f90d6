"""ITK's linear transforms: their parameters, text files (.tfm, .txt) and the MATLAB level 4 files of ANTs (.mat)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from anamorph.errors import UserError
from anamorph.geometry.frames import flip_map_ras_lps
from anamorph.geometry.grid import Grid
from anamorph.image.atomic import atomic_path, write_text
from anamorph.transforms.files import TransformFormat
from anamorph.transforms.maps import Affine, Composite, Transform

AFFINE_TYPE = "AffineTransform_double_3_3"
_MATRIX_TYPES = ("AffineTransform", "MatrixOffsetTransformBase")
_OTHER_TYPES = (
    "Euler3DTransform",
    "VersorTransform",
    "VersorRigid3DTransform",
    "Similarity3DTransform",
    "ScaleTransform",
    "ScaleVersor3DTransform",
    "ScaleSkewVersor3DTransform",
    "ComposeScaleSkewVersor3DTransform",
)


LARGEST_FILE_BYTES = 1 << 24


def check_size(path: Path) -> None:
    """See that a file is not much larger than linear transforms are, before it is read.

    Raises:
        UserError: it is.
    """
    size = path.stat().st_size
    if size > LARGEST_FILE_BYTES:
        raise UserError(f"{size / 1e6:.0f} MB are no linear transform; is this the right file?")


def affine_alone(transform: Transform) -> Affine:
    """The transform as an affine.

    Raises:
        UserError: it deforms.
    """
    one = Composite.of(transform)
    if not isinstance(one, Affine):
        raise UserError("this format holds an affine only, and the transform deforms; choose itk or itk-h5")
    return one


def to_itk(transform: Transform) -> tuple[np.ndarray, np.ndarray]:
    """``(12,)`` parameters (matrix by rows, translation; LPS mm) and ``(3,)`` fixed parameters (centre: the origin).

    Raises:
        UserError: the transform deforms.
    """
    matrix = flip_map_ras_lps(affine_alone(transform).matrix)
    return np.concatenate([matrix[:3, :3].ravel(), matrix[:3, 3]]), np.zeros(3)


def from_itk(type_name: str, parameters: np.ndarray, fixed_parameters: np.ndarray) -> Affine:
    """A linear transform of any of ITK's 3D types.

    Args:
        type_name: such as ``AffineTransform_double_3_3``.
        parameters: as in the file.
        fixed_parameters: the centre c, folded in: ``y = M (x - c) + c + t``.

    Raises:
        UserError: the type is not a linear 3D transform.
    """
    kind, _, dimensions = type_name.partition("_")
    if not dimensions.endswith("3_3") or kind not in (
        *_MATRIX_TYPES,
        *_OTHER_TYPES,
        "TranslationTransform",
        "IdentityTransform",
    ):
        raise UserError(f"holds a {type_name}, which is not supported; export an affine or a dense displacement field")
    if not (np.isfinite(parameters).all() and np.isfinite(fixed_parameters).all()):
        raise UserError(f"holds a {type_name} with numbers that are not finite; export it again")
    matrix = np.eye(4)
    if kind in _MATRIX_TYPES:
        centre = np.zeros(3) if len(fixed_parameters) == 0 else fixed_parameters[:3]
        matrix[:3, :3] = np.reshape(parameters[:9], (3, 3))
        matrix[:3, 3] = parameters[9:12] + centre - matrix[:3, :3] @ centre
    elif kind == "TranslationTransform":
        matrix[:3, 3] = parameters[:3]
    elif kind in _OTHER_TYPES:
        import SimpleITK as sitk

        itk = getattr(sitk, kind)()
        itk.SetFixedParameters(np.asarray(fixed_parameters, float).tolist())
        itk.SetParameters(np.asarray(parameters, float).tolist())
        origin = np.array(itk.TransformPoint((0.0, 0.0, 0.0)))
        matrix[:3, :3] = np.array([itk.TransformPoint(axis) for axis in np.eye(3).tolist()]).T - origin[:, None]
        matrix[:3, 3] = origin
    return Affine(flip_map_ras_lps(matrix))


_FIRST_LINE = "#Insight Transform File V1.0"


def write_tfm(transform: Transform, path: Path, fixed_grid: Grid, moving_grid: Grid | None = None) -> None:
    """Write an affine."""
    parameters, centre = to_itk(transform)
    numbers, fixed = (" ".join(repr(float(v)) for v in values) for values in (parameters, centre))
    text = f"{_FIRST_LINE}\n#Transform 0\nTransform: {AFFINE_TYPE}\nParameters: {numbers}\nFixedParameters: {fixed}\n"
    write_text(path, text)


def read_tfm(path: Path, grid: Grid | None, moving_grid: Grid | None) -> Transform:
    """Read an affine, or a composite of affines (the last one listed is applied first)."""
    check_size(path)
    text = path.read_text(encoding="utf-8", errors="replace")
    if not text.startswith("#Insight Transform File"):
        raise UserError(
            f"no ITK transform: the first line must be '{_FIRST_LINE}'; a matrix alone does not say its program, so "
            "name it (--from niftyreg-affine, --from fsl)"
        )
    blocks: list[dict[str, str]] = []
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if not colon or line.startswith("#"):
            continue
        if key == "Transform":
            blocks.append({})
        if not blocks:
            raise UserError(f"the line '{line[:40]}' belongs to no transform; export it again")
        blocks[-1][key] = value.strip()
    composite = bool(blocks) and blocks[0]["Transform"].startswith("CompositeTransform")
    parts = blocks[1:] if composite else blocks
    if not parts or (len(parts) > 1 and not composite):
        raise UserError(f"holds {len(parts)} separate transforms; save them as one composite")
    affines = [
        from_itk(part["Transform"], _numbers(part["Parameters"]), _numbers(part.get("FixedParameters", "")))
        for part in parts
    ]
    return Composite.of(*reversed(affines))


def _numbers(text: str) -> np.ndarray:
    return np.array(text.split(), np.float64)


def write_mat(transform: Transform, path: Path, fixed_grid: Grid, moving_grid: Grid | None = None) -> None:
    """Write an affine."""
    from scipy.io import savemat

    parameters, centre = to_itk(transform)
    with atomic_path(path) as temporary:
        savemat(temporary, {AFFINE_TYPE: parameters[:, None], "fixed": centre[:, None]}, format="4", appendmat=False)


def read_mat(path: Path, grid: Grid | None, moving_grid: Grid | None) -> Affine:
    """Read an affine."""
    from scipy.io import loadmat
    from scipy.io.matlab import matfile_version

    check_size(path)
    try:
        if matfile_version(path, appendmat=False)[0] != 0:  # later levels may be packed, and swell
            raise ValueError("not of level 4")
        content = loadmat(path, appendmat=False)
    except Exception as error:  # scipy raises ValueError, NotImplementedError or its own
        raise UserError("no ITK transform of MATLAB level 4, and no matrix of FSL") from error
    names = [name for name in content if name != "fixed" and not name.startswith("__")]
    if len(names) != 1 or "fixed" not in content:
        raise UserError(f"no ITK transform: expected one matrix and 'fixed', found {', '.join(sorted(content))}")
    return from_itk(names[0], content[names[0]].ravel(), content["fixed"].ravel())


ITK_TFM = TransformFormat(
    "affine as text: ITK, 3D Slicer", (".tfm", ".txt"), write=write_tfm, read=read_tfm, dense=False
)
ITK_MAT = TransformFormat("affine as MATLAB file: ANTs", (".mat",), write=write_mat, read=read_mat, dense=False)
