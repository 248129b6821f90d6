"""Structures that may overlap, such as organs and targets, one mask at a time or as a label map."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from anamorph.errors import UserError
from anamorph.geometry.grid import Grid
from anamorph.image.image import Labels, Mask, Structure

HIDDEN_PERCENT = 2.0
"""A structure of which other structures cover more in a label map is named."""


@dataclass(frozen=True, eq=False)
class StructureMasks:
    """Structures on one grid, each of which can be asked for.

    Args:
        name: what messages call their source.
        grid: where the voxels are.
        structures: what there is.
        share: ``(I, J, K)`` float32 of a structure: the share of each voxel that it covers.
        inside: ``(I, J, K)`` booleans of a structure: the voxels that belong to it.
        frame_uid: of the DICOM frame of reference; empty where it is not known.
        notes: what a user should know of the source.
    """

    name: str
    grid: Grid
    structures: tuple[Structure, ...]
    share: Callable[[Structure], np.ndarray]
    inside: Callable[[Structure], np.ndarray]
    frame_uid: str = ""
    notes: tuple[str, ...] = ()

    def chosen(self, names: Sequence[str]) -> StructureMasks:
        """The structures of these names, in whatever case they are written.

        Raises:
            UserError: there is none of that name.
        """
        found = []
        for name in names:
            meant = [one for one in self.structures if one.name.casefold() == name.strip().casefold()]
            if not meant:
                there = ", ".join(one.name for one in self.structures)
                raise UserError(f"{self.name}: no structure '{name}'; there is {there[:600]}")
            found += meant
        return replace(self, structures=tuple(found))

    def mask(self) -> Mask:
        """All structures together, with the covered share of each voxel as its weight.

        Raises:
            UserError: they hold no voxel.
        """
        whole = np.zeros(self.grid.shape, np.float32)
        for structure in self.structures:
            np.maximum(whole, self.share(structure), out=whole)
        if not whole.any():
            raise UserError(f"{self.name}: its structures hold no voxel of the scan; is it of this scan?")
        return Mask(whole, self.grid, self.name, self.frame_uid)

    def labels(self) -> Labels:
        """A label map of all structures; where they overlap, the smaller one is seen, and a note says so.

        Raises:
            UserError: they hold no voxel.
        """
        parts = [(structure, *_cropped(self.inside(structure))) for structure in self.structures]
        parts.sort(key=lambda part: -np.count_nonzero(part[2]))
        most = max((one.label for one in self.structures), default=0)
        out = np.zeros(self.grid.shape, np.uint8 if most < 256 else np.uint16 if most < 65536 else np.int32)
        for structure, box, inside in parts:
            out[box][inside] = structure.label
        if not out.any():
            raise UserError(f"{self.name}: its structures hold no voxel of the scan; is it of this scan?")
        notes = [*self.notes]
        for structure, box, inside in parts:
            whole = np.count_nonzero(inside)
            hidden = np.count_nonzero(out[box][inside] != structure.label)
            if 100 * hidden > HIDDEN_PERCENT * whole:
                notes.append(f"{100 * hidden / whole:.0f} % of '{structure.name}' lies under smaller structures")
        listed = ", ".join(f"{one.label} {one.name}" for one in self.structures)
        told = [f"{self.name}: {note}" for note in (f"its labels are {listed[:400]}", *notes)]
        return Labels(out, self.grid, self.name, self.frame_uid, self.structures, tuple(told))


def _cropped(inside: np.ndarray) -> tuple[tuple[slice, ...], np.ndarray]:
    """The smallest box of a mask, and a copy of what is in it."""
    box = []
    for axis in range(3):
        held = np.flatnonzero(inside.any(axis=tuple(a for a in range(3) if a != axis)))
        box.append(slice(int(held[0]), int(held[-1]) + 1) if len(held) else slice(0, 0))
    return tuple(box), inside[tuple(box)].copy()


def matched_by_name(moving: Labels, fixed: Labels) -> Labels:
    """Moving labels under the numbers that structures of the same names have in the fixed scan.

    Label maps that do not name their structures are compared by number, and come back as they are.
    """
    if not moving.structures or not fixed.structures:
        return moving
    numbers = {one.name.casefold(): one.label for one in fixed.structures}
    free = iter(range(max([*numbers.values(), *(one.label for one in moving.structures)]) + 1, 1 << 31))
    taken = {one.label: numbers.get(one.name.casefold()) or next(free) for one in moving.structures}
    values, places = np.unique(moving.data, return_inverse=True)
    new = np.array([taken.get(int(value), 0 if value == 0 else int(value)) for value in values])
    structures = tuple(replace(one, label=taken[one.label]) for one in moving.structures)
    data = new.astype(np.min_scalar_type(int(new.max())))[places].reshape(moving.data.shape)
    return Labels(data, moving.grid, moving.name, moving.frame_uid, structures, moving.notes)
