"""The parameters of ITK's linear transforms, shared by its HDF5, text and MATLAB files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from anamorph.errors import UserError
from anamorph.geometry.frames import flip_map_ras_lps
from anamorph.transforms.affine import Affine
from anamorph.transforms.base import Transform
from anamorph.transforms.composite import Composite

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


def to_itk(transform: Transform) -> tuple[np.ndarray, np.ndarray]:
    """``(12,)`` parameters (matrix by rows, translation; LPS mm) and ``(3,)`` fixed parameters (centre: the origin).

    Raises:
        UserError: the transform deforms.
    """
    one = Composite.of(transform)
    if not isinstance(one, Affine):
        raise UserError("this format holds an affine only, and the transform deforms; choose itk or itk-h5")
    matrix = flip_map_ras_lps(one.matrix)
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
