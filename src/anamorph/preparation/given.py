"""Transforms that somebody has made already: which file belongs to which scan."""

from __future__ import annotations

import re
from pathlib import Path

from anamorph.data import Case
from anamorph.errors import UserError

SUFFIXES = ("_displacements.dat", ".h5", ".hdf5", ".nii.gz", ".nii", ".npz", ".nrrd", ".mha", ".tfm", ".txt", ".mat")
_IMAGE = re.compile(r"\.(nii\.gz|nii|mha|mhd|nrrd|mgz|mgh)$", re.IGNORECASE)


def given_transform(folder: Path, case: Case) -> Path:
    """The file of a folder that maps a scan to the template.

    It is named after the key of the scan, its subject or its file: ``0001_0000_displacements.dat`` of deeds (with the
    ``_matrix.txt`` beside it), ``0001.h5``, ``Abdomen_0001_0000.nii.gz`` or any other transform that can be read.

    Raises:
        UserError: there is none, or there are several.
    """
    stems = {case.key, case.subject, _IMAGE.sub("", case.image.name)}
    found = [
        path for path in sorted(folder.iterdir()) if path.name in {stem + end for stem in stems for end in SUFFIXES}
    ]
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(
            f"{folder} holds {found[0].name} and {found[1].name} for the scan {case.key}; leave one of them"
        )
    raise UserError(
        f"{folder} holds no transform of the scan {case.key} to the template; name it {case.key}_displacements.dat "
        f"(deeds) or {case.key}.h5, or leave --transforms away to have it registered"
    )
