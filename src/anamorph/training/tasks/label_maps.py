"""Scans made of label maps: how they are made, and what the numbers of the maps mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from anamorph.errors import UserError
from anamorph.methods.base import setting
from anamorph.training.augmentation import Anatomy, Synthesis
from anamorph.training.tasks.scans import EncoderTraining

if TYPE_CHECKING:
    from anamorph.training.cache import Cohort

SIDES = ("left ", "right ")
LEARNED, OUTSIDE = "learned", "outside"
"""Keys of a manifest: the numbers that each learned label brings together, and those that a skull strip takes away."""
VALIDATION_DRAWS = 3
"""Scans, or pairs of them, made of every map that is held for validation."""


@dataclass(frozen=True)
class MadeScans(EncoderTraining):
    """How scans are made of label maps."""

    bend_vox: float = setting(2.5, "largest deviation of a smooth random displacement", "voxels")
    bias: float = setting(0.4, "largest deviation of the logarithm of a random bias field")
    thickness_vox: float = setting(4.5, "largest thickness of random slices along one axis", "voxels")
    strip: float = setting(0.2, "share of the scans that show the brain alone")
    ct: float = setting(0.1, "share of the scans that look like CT")

    def synthesis(self) -> Synthesis:
        """How scans are made."""
        return Synthesis(self.augmentation(), self.bend_vox, self.bias, self.thickness_vox, self.strip, self.ct)


def one_map(cohort: Cohort, row: int, device: torch.device) -> tuple[torch.Tensor, list[float]]:
    """The label map ``(I, J, K)`` of a row on a device, and the spacing of its voxels."""
    return torch.from_numpy(cohort.label_maps[row].copy()).to(device), cohort.frames[row].spacing_mm.tolist()


def anatomy_in(cohort: Cohort) -> Anatomy:
    """What the numbers of a cohort mean."""
    return anatomy_of(cohort.names, learned_labels(cohort), cohort.dataset.extra.get(OUTSIDE, ()))


def learned_labels(cohort: Cohort) -> dict[str, list[int]]:
    """The numbers in the training that each learned label brings together; every label by itself if none is given."""
    given: Any = cohort.dataset.extra.get(LEARNED)
    if given is None:
        return {name: [value] for value, name in cohort.names.items()}
    try:
        return {str(name): [cohort.numbers[int(value)] for value in values] for name, values in given.items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{cohort.dataset.path.name}: '{LEARNED}' must list numbers of its labels for each name, such as "
            f'{{"white matter": [2, 41]}}; {error} is none'
        ) from error


def anatomy_of(names: Mapping[int, str], learned: Mapping[str, Sequence[int]], outside: Sequence[str]) -> Anatomy:
    """What numbers mean, read from names: sides begin with ``left`` or ``right``, bones end with ``bone``.

    Args:
        names: of the numbers in the maps.
        learned: the numbers that each learned label, counted from 1, brings together.
        outside: learned labels that a skull strip takes away.
    """
    size, numbers = max(names) + 1, {name: n for n, name in enumerate(learned, 1)}
    tables = torch.zeros((3, size), dtype=torch.int64)
    brain, bone = torch.zeros((2, size), dtype=torch.bool)
    for number, (name, values) in enumerate(learned.items(), 1):
        for value in values:
            tables[0, value], tables[1, value] = number, numbers.get(_other_side(name), number)
            brain[value] = name not in outside
    kinds = {name: n for n, name in enumerate(dict.fromkeys(map(_without_side, names.values())), 1)}
    for value, name in names.items():
        tables[2, value], bone[value] = kinds[_without_side(name)], name.endswith("bone")
    return Anatomy(tables[0], tables[1], tables[2], brain, bone)


def _without_side(name: str) -> str:
    return name.removeprefix(SIDES[0]).removeprefix(SIDES[1])


def _other_side(name: str) -> str:
    for here, there in (SIDES, SIDES[::-1]):
        if name.startswith(here):
            return there + name.removeprefix(here)
    return name
