"""What is odd about the header of a NIfTI file or of DICOM slices."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from anamorph.image.convert import spatial_shape


def header_notes(path: str | os.PathLike[str]) -> list[str]:
    """Sentences about a header that a user should know of; empty for a sound header and for other formats.

    Raises:
        OSError, nibabel errors: the header cannot be read; call it on files that ``read_image`` took.
    """
    from anamorph.image.dicom import dicom_notes, is_dicom, split_choice

    place, choice = split_choice(str(path))
    if place.is_dir() or is_dicom(place):
        return dicom_notes(place, choice)
    if not Path(path).name.lower().endswith((".nii", ".nii.gz", ".hdr", ".img")):
        return []
    import nibabel

    image: Any = nibabel.load(path)
    header = image.header
    if not hasattr(header, "get_qform"):
        return ["an Analyze header says nothing about left and right: check the orientation"]
    notes = []
    qform, q_code = header.get_qform(coded=True)
    sform, s_code = header.get_sform(coded=True)
    if qform is None and sform is None:
        notes.append("neither sform nor qform is set: position and orientation are guesses")
    elif qform is not None and sform is not None:
        i, j, k, _ = spatial_shape(image.shape, Path(path).name)
        corners = np.array([[a, b, c, 1] for a in (0, i - 1) for b in (0, j - 1) for c in (0, k - 1)], float)
        apart = float(np.linalg.norm(corners @ (qform - sform).T, axis=1).max())
        if apart > 0.1:
            notes.append(
                f"sform (code {s_code}) and qform (code {q_code}) differ by up to {apart:.1f} mm: the sform is used"
            )
    unit = header.get_xyzt_units()[0]
    if unit in ("micron", "meter"):
        notes.append(f"voxel sizes are given in {unit}s: converted to mm")
    slope, inter = image.dataobj.slope, image.dataobj.inter
    if (slope, inter) != (1.0, 0.0):
        notes.append(f"stored values are scaled by {slope:g} and shifted by {inter:g}: read as float32")
    return notes
