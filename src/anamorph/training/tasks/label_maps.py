"""Scans made of label maps, in any contrast (SynthSeg, Billot et al. 2023), and what the numbers of the maps mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from anamorph.errors import UserError
from anamorph.methods.base import setting
from anamorph.networks.preprocessing import PERCENTILES
from anamorph.training.augmentation import Augmentation, smooth_random
from anamorph.training.tasks.scans import EncoderTraining

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from anamorph.training.cache import Cohort

SIDES = ("left ", "right ")
LEARNED, OUTSIDE = "learned", "outside"
"""Keys of a manifest: the numbers that each learned label brings together, and those that a skull strip takes away."""
VALIDATION_DRAWS = 3
"""Scans, or pairs of them, made of every map that is held for validation."""
CT_MEANS = (0.46, 0.54)
"""Of everything that is neither air nor bone, where bone is 1: whole HU ranges leave soft tissues alike."""
BIAS_NODES = (2, 5)
"""Fewest and most places along an axis at which the logarithm of a bias field is drawn."""
QUANTILE_STRIDE = 2
"""Percentiles are those of every so many voxels along an axis."""


@dataclass(frozen=True, eq=False)
class Anatomy:
    """What the numbers of label maps mean for a synthesis.

    Args:
        learned: number that is learned, by number in the maps; 0 for what counts as background.
        mirrored: the same where left and right are exchanged.
        tissue: number of the contrast, shared by both sides; 0 is the background.
        brain: true for what a skull strip leaves.
        bone: true for what is bright in CT.
    """

    learned: Tensor
    mirrored: Tensor
    tissue: Tensor
    brain: Tensor
    bone: Tensor


@dataclass(frozen=True)
class Synthesis:
    """What scans are like.

    Args:
        augmentation: of the place and the shape, and of the intensities in the end.
        bias: largest deviation of the logarithm of the bias field.
        thickness_vox: largest thickness of slices along one axis.
        strip: share of the scans that show the brain alone.
        ct: share of the scans that look like CT.
    """

    augmentation: Augmentation
    bias: float = 0.0
    thickness_vox: float = 1.0
    strip: float = 0.0
    ct: float = 0.0

    def draw(
        self, labels: Tensor, anatomy: Anatomy, shape: tuple[int, int, int], spacing: Sequence[float], random: Generator
    ) -> tuple[Tensor, Tensor]:
        """A scan ``(1, *shape)`` in [0, 1] and its learned labels ``shape``; arguments as of :meth:`draw_contrasts`."""
        (image,), learned = self.draw_contrasts(1, labels, anatomy, shape, spacing, random)
        (image,), (learned,) = self.augmentation.cut_off(image[None], learned[None], random)
        return image, learned

    def draw_contrasts(
        self,
        count: int,
        labels: Tensor,
        anatomy: Anatomy,
        shape: tuple[int, int, int],
        spacing: Sequence[float],
        random: Generator,
    ) -> tuple[list[Tensor], Tensor]:
        """Scans ``(1, *shape)`` in [0, 1] of one body in different contrasts, and its learned labels ``shape``.

        Args:
            count: of the scans.
            labels: ``(I, J, K)`` map, on any device.
            anatomy: what its numbers mean.
            shape: of the scans, which show some part of the map.
            spacing: of the voxels.
            random: a CPU generator.
        """
        place = self.augmentation.draw(random, tuple(spacing))  # type: ignore[arg-type]
        labels = labels.long()
        inside = anatomy.brain.to(labels.device)[labels]
        middle = (inside if inside.any() else ~inside).nonzero().double().mean(0).cpu()
        bend = self.augmentation.bend(shape, spacing, random, labels.device)
        moved = self._moved(labels, middle, shape, place, bend)
        mirrored = bool(torch.linalg.det(place[:, :3]) < 0)
        stripped = _number(random, 0, 1) < self.strip
        if stripped:
            moved = moved * anatomy.brain.to(moved.device)[moved]
        images = [self._shown(moved, anatomy, stripped, random) for _ in range(count)]
        table = anatomy.mirrored if mirrored else anatomy.learned
        return images, table.to(moved.device)[moved].to(torch.uint8)

    def _shown(self, labels: Tensor, anatomy: Anatomy, stripped: bool, random: Generator) -> Tensor:
        """A scan of a map in a contrast of its own."""
        image, shape = self._contrast(labels, anatomy, stripped, random), labels.shape
        if self.bias:
            deviation = _number(random, 0, self.bias)
            image = image * torch.exp(smooth_random(1, shape, BIAS_NODES, deviation, random, image.device)[0])
        for axis, matrix in enumerate(self._slices(shape, random)):
            image = torch.movedim(torch.movedim(image, axis, -1) @ matrix.T.to(image), -1, axis)
        return self.augmentation.recolour(scaled(image)[None, None], [random])[0]

    def _moved(
        self, labels: Tensor, middle: Tensor, shape: tuple[int, int, int], place: Tensor, bend: Tensor | None
    ) -> Tensor:
        """The map read about some place through an affine map and a displacement; 0 outside."""
        extent = torch.tensor(shape, dtype=torch.float64)
        start = middle + place[:, 3] * extent - place[:, :3] @ ((extent - 1) / 2)
        inside = torch.ones(shape, dtype=torch.bool, device=labels.device)
        index = torch.zeros(shape, dtype=torch.int64, device=labels.device)
        steps = [torch.arange(n, device=labels.device).reshape([-1 if a == b else 1 for b in range(3)])
                 for a, n in enumerate(shape)]  # fmt: skip
        for axis, size in enumerate(labels.shape):
            rows = [step * float(place[axis, a]) for a, step in enumerate(steps)]
            voxel = rows[0] + rows[1] + rows[2] + float(start[axis])
            voxel = (voxel if bend is None else voxel + bend[axis]).round().long()
            inside &= (voxel >= 0) & (voxel < size)
            index = index * size + voxel.clamp(0, size - 1)
        return labels.flatten()[index] * inside

    def _contrast(self, labels: Tensor, anatomy: Anatomy, stripped: bool, random: Generator) -> Tensor:
        """Every tissue with a mean and a deviation of its own; what is stripped away is 0."""
        count = int(anatomy.tissue.max()) + 1
        means = torch.rand(count, generator=random)
        deviations = 0.01 + 0.11 * torch.rand(count, generator=random)
        chance = torch.rand(3, generator=random).tolist()
        if chance[0] < 0.7:  # most scans show black air, with noise or without
            means[0], deviations[0] = 0.05 * chance[1], 0.05 * chance[1]
        means, deviations = means[anatomy.tissue], deviations[anatomy.tissue]
        if chance[2] < self.ct:
            low, high = CT_MEANS
            means = torch.where(anatomy.bone, 0.8 + 0.2 * means, low + (high - low) * means)
            means[0], deviations = 0.0, deviations / 4
        if stripped:
            means[0] = deviations[0] = 0.0
        seed = int(torch.randint(2**62, (1,), generator=random))
        own = torch.Generator(labels.device).manual_seed(seed)
        noise = torch.randn(labels.shape, generator=own, device=labels.device)
        return (means.to(noise)[labels] + deviations.to(noise)[labels] * noise).clamp_min(0)

    def _slices(self, shape: Sequence[int], random: Generator) -> list[Tensor]:
        """Along each axis a matrix that blurs, and along one reads thick slices and goes back to voxels."""
        sigmas = 0.7 * torch.rand(3, generator=random)
        chance = torch.rand(4, generator=random).tolist()
        matrices = [_reading(n, 1.0, 0.0, max(float(sigma), 0.01)) for n, sigma in zip(shape, sigmas, strict=True)]
        if self.thickness_vox > 1 and chance[0] < 0.7:
            axis, thickness = int(chance[1] * 3), 1 + (self.thickness_vox - 1) * chance[2]
            reading = _reading(shape[axis], thickness, chance[3] * thickness, 0.4 * thickness)
            matrices[axis] = _between(shape[axis], thickness, chance[3] * thickness, len(reading)) @ reading
        return matrices


@dataclass(frozen=True)
class MadeScans(EncoderTraining):
    """How scans are made of label maps."""

    bend_vox: float = setting(2.5, "largest deviation of a smooth random displacement", "voxels of the finest axis")
    bias: float = setting(0.4, "largest deviation of the logarithm of a random bias field")
    thickness_vox: float = setting(4.5, "largest thickness of random slices along one axis", "voxels")
    strip: float = setting(0.2, "share of the scans that show the brain alone")
    ct: float = setting(0.1, "share of the scans that look like CT")

    def synthesis(self) -> Synthesis:
        """How scans are made."""
        return Synthesis(self.augmentation(), self.bias, self.thickness_vox, self.strip, self.ct)


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


def scaled(image: Tensor) -> Tensor:
    """The percentiles of the voxels above the lowest one become 0 and 1, as scans are read; all others are clipped."""
    some = image[::QUANTILE_STRIDE, ::QUANTILE_STRIDE, ::QUANTILE_STRIDE].flatten()
    inside = some[some > some.min()]
    if inside.numel() == 0:
        return torch.zeros_like(image)
    low, high = torch.quantile(inside, inside.new_tensor(PERCENTILES) / 100)
    return ((image - low) / (high - low).clamp_min(1e-6)).clamp(0, 1)


def _reading(count: int, spacing: float, first: float, sigma: float) -> Tensor:
    """``(slices, count)``: Gaussian means of voxels about every slice."""
    slices = torch.arange(first, max(count - 0.5, first + 0.5), spacing)
    weights = torch.exp(-0.5 * ((slices[:, None] - torch.arange(count)) / sigma) ** 2)
    return weights / weights.sum(1, keepdim=True).clamp_min(1e-12)


def _between(count: int, spacing: float, first: float, slices: int) -> Tensor:
    """``(count, slices)``: voxels from slices, linear between them."""
    places = ((torch.arange(count) - first) / spacing).clamp(0, slices - 1)
    return (1 - (places[:, None] - torch.arange(slices)).abs()).clamp_min(0)


def _number(random: Generator, low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand(1, generator=random))
