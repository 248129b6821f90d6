"""Random changes of a batch of scans, the same way for whatever belongs together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from anamorph.errors import UserError
from anamorph.geometry.sampling import identity_positions_torch, sample_labels_torch, sample_torch

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from anamorph.training.cache import Cohort

BEND_NODES = (3, 8)
"""Fewest and most places along an axis at which a bend is drawn; it is linear between them."""


@dataclass(frozen=True)
class Augmentation:
    """What may happen to a scan.

    Args:
        flip_axes: axes along which a scan may be reversed (chance 1/2 each); only where the mirrored anatomy is
            one that occurs and labels have no sides.
        quarter_turns: turn a cube 0 to 3 times by 90 degrees in a random plane.
        probability: of the affine map, and of each change of the intensities.
        rotation_deg: largest rotation about a random axis.
        zoom: smallest and largest factor of size, one for all axes.
        shift: largest translation along each axis, as a share of the extent.
        shear: largest off-diagonal entry.
        gamma: largest deviation of the logarithm of the exponent applied to intensities in [0, 1].
        contrast: largest relative change of the contrast about the mean.
        brightness: largest offset.
        noise: largest standard deviation of added noise.
        cut: largest share of the extent that is emptied at one end of an axis, in every other scan.
        bend_vox: largest standard deviation of a smooth random displacement, in voxels of the finest axis.
    """

    flip_axes: tuple[int, ...] = ()
    quarter_turns: bool = False
    probability: float = 0.9
    rotation_deg: float = 0.0
    zoom: tuple[float, float] = (1.0, 1.0)
    shift: float = 0.0
    shear: float = 0.0
    gamma: float = 0.0
    contrast: float = 0.0
    brightness: float = 0.0
    noise: float = 0.0
    cut: float = 0.0
    bend_vox: float = 0.0

    def check(self, shape: tuple[int, int, int]) -> None:
        """See that it can be applied to scans of a shape.

        Raises:
            UserError: quarter turns of what is no cube, or an axis that does not exist.
        """
        if self.quarter_turns and len(set(shape)) > 1:
            raise UserError(f"quarter turns need cubes, not {' x '.join(map(str, shape))} voxels; switch them off")
        if not set(self.flip_axes) <= {0, 1, 2}:
            raise UserError(f"the axes of flips are 0, 1 and 2, not {self.flip_axes}")

    def draw(self, generator: Generator, spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Tensor:
        """A map of space as a ``(3, 4)`` float64 matrix: centred result voxels to centred source voxels.

        The last column is a share of the extent along each axis. Rotations and zooms are those of the body, so they
        take the proportions of the voxels into account.

        Args:
            generator: a CPU generator; a fixed number of values is drawn, whatever is switched on.
            spacing: of the voxels along i, j, k, in any unit.
        """
        chances = torch.rand(20, generator=generator, dtype=torch.float64)
        exact = torch.eye(3, dtype=torch.float64)
        for axis in self.flip_axes:
            if chances[axis] < 0.5:
                exact[axis] *= -1
        if self.quarter_turns:
            exact = exact @ _quarter_turn(int(chances[3] * 3), int(chances[4] * 4))
        matrix, offset = exact, torch.zeros(3, dtype=torch.float64)
        if chances[5] < self.probability:
            centred = 2 * chances[6:] - 1
            low, high = (math.log(z) for z in self.zoom)
            size = math.exp(low + (high - low) * float(chances[6]))
            pole = _direction(chances[7:9])
            turned = _rotation(pole, math.radians(self.rotation_deg) * float(centred[3])) / size
            skew = torch.eye(3, dtype=torch.float64)
            skew[[0, 0, 1, 1, 2, 2], [1, 2, 0, 2, 0, 1]] += self.shear * centred[4:10]
            scale = torch.diag(torch.tensor(spacing, dtype=torch.float64))
            matrix = torch.linalg.inv(scale) @ turned @ skew @ scale @ exact
            offset = self.shift * centred[10:13]
        return torch.cat([matrix, offset[:, None]], dim=1)

    def bend(
        self, shape: Sequence[int], spacing: Sequence[float], generator: Generator, device: torch.device
    ) -> Tensor | None:
        """A smooth random displacement ``(3, *shape)`` in voxels along each axis; None where nothing ever bends.

        Args:
            shape: of the result.
            spacing: of its voxels along i, j, k, in any unit.
            generator: a CPU generator; nothing is drawn where nothing ever bends.
            device: of the displacement.
        """
        if not self.bend_vox:
            return None
        deviation = self.bend_vox * float(torch.rand(1, generator=generator))
        found = smooth_random(3, shape, BEND_NODES, deviation, generator, device)
        finest = min(spacing) / torch.tensor(list(spacing), dtype=found.dtype, device=device)
        return found * finest[:, None, None, None]

    def move(
        self, transforms: list[Tensor], images: Tensor, labels: Tensor | None, bends: Sequence[Tensor | None] = ()
    ) -> tuple[Tensor, Tensor | None]:
        """Read images and label maps through one map each; 0 outside.

        Args:
            transforms: one of :meth:`draw` per item.
            images: ``(B, C, I, J, K)``.
            labels: ``(B, I, J, K)``; read as one-hot, linearly, the largest wins.
            bends: one of :meth:`bend` per item, added to its map; empty for none.
        """
        bends = bends or [None] * len(transforms)
        positions = [_positions(*one) for one in zip(transforms, bends, images[:, 0], strict=True)]
        moved = [sample_torch(image, where, fill=0.0) for image, where in zip(images, positions, strict=True)]
        if labels is None:
            return torch.stack(moved), None
        maps = [sample_labels_torch(one, where) for one, where in zip(labels, positions, strict=True)]
        return torch.stack(moved), torch.stack(maps)

    def recolour(self, images: Tensor, generators: list[Generator]) -> Tensor:
        """Change the intensities of ``(B, C, I, J, K)`` in [0, 1]; what is exactly 0, the outside, stays 0."""
        changed = []
        for image, generator in zip(images, generators, strict=True):
            chances = torch.rand(8, generator=generator, dtype=torch.float64).tolist()
            seed = int(torch.randint(2**62, (1,), generator=generator))
            inside, values = image > 0, image.clamp(0, 1)
            amounts = [
                limit * (2 * size - 1) if chance < self.probability else 0.0
                for limit, chance, size in zip(
                    (self.gamma, self.contrast, self.brightness), chances[:3], chances[3:6], strict=True
                )
            ]
            if amounts[0]:
                values = values ** math.exp(amounts[0])
            if amounts[1] or amounts[2]:
                mean = values.sum() / inside.sum().clamp(min=1)
                values = (values - mean) * (1 + amounts[1]) + mean + amounts[2]
            if self.noise and chances[6] < self.probability:
                own = torch.Generator(image.device).manual_seed(seed)
                noise = torch.randn(image.shape, generator=own, device=image.device, dtype=image.dtype)
                values = values + self.noise * chances[7] * noise
            changed.append(values.clamp(0, 1) * inside)
        return torch.stack(changed)

    def cut_off(self, images: Tensor, labels: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Empty one end of every other scan and of its labels, as where a field of view ends.

        Args:
            images: ``(B, C, I, J, K)``.
            labels: ``(B, I, J, K)``.
            generator: a CPU generator; nothing is drawn where nothing is ever cut.
        """
        if not self.cut:
            return images, labels
        kept = torch.ones_like(labels, dtype=torch.bool)
        for one in kept:
            chance, axis, end, share = torch.rand(4, generator=generator, dtype=torch.float64).tolist()
            if chance < 0.5:
                axis = int(3 * axis)
                count = round(self.cut * share * one.shape[axis])
                one.narrow(axis, 0 if end < 0.5 else one.shape[axis] - count, count).fill_(False)
        return images * kept[:, None], labels * kept


def _positions(transform: Tensor, bend: Tensor | None, like: Tensor) -> Tensor:
    """Source voxels ``(3, I, J, K)`` of every result voxel."""
    extent = torch.tensor(like.shape, dtype=torch.float64)
    centre = (extent - 1) / 2
    matrix = transform[:, :3]
    start = centre - matrix @ centre + transform[:, 3] * extent
    matrix, start = matrix.to(like), start.to(like)
    positions = torch.einsum("ab,bijk->aijk", matrix, identity_positions_torch(like)) + start[:, None, None, None]
    return positions if bend is None else positions + bend


def _quarter_turn(plane: int, times: int) -> Tensor:
    a, b = ((0, 1), (0, 2), (1, 2))[plane]
    turn = torch.eye(3, dtype=torch.float64)
    turn[[a, b, a, b], [a, b, b, a]] = torch.tensor([0.0, 0.0, -1.0, 1.0], dtype=torch.float64)
    return torch.linalg.matrix_power(turn, times)


def _direction(chances: Tensor) -> Tensor:
    """A point of the sphere, evenly spread, from two values in [0, 1)."""
    z, angle = 2 * float(chances[0]) - 1, 2 * math.pi * float(chances[1])
    flat = math.sqrt(1 - z * z)
    return torch.tensor([flat * math.cos(angle), flat * math.sin(angle), z], dtype=torch.float64)


def _rotation(axis: Tensor, angle: float) -> Tensor:
    """Rodrigues' formula."""
    x, y, z = axis.tolist()
    cross = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64)
    return torch.eye(3, dtype=torch.float64) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross


def smooth_random(
    count: int, shape: Sequence[int], nodes: tuple[int, int], deviation: float, random: Generator, device: torch.device
) -> Tensor:
    """``(count, *shape)`` about 0: values at a few nodes along each axis, linear between."""
    sizes = [int(n) for n in torch.randint(nodes[0], nodes[1] + 1, (3,), generator=random)]
    coarse = deviation * torch.randn((1, count, *sizes), generator=random)
    return F.interpolate(coarse.to(device), list(shape), mode="trilinear", align_corners=True)[0]


def draw_crop(shape: Sequence[int], crop: Sequence[int], generator: Generator) -> tuple[slice, slice, slice]:
    """Where a random crop lies; all of the scan if ``crop`` is empty."""
    if not crop:
        return slice(None), slice(None), slice(None)
    starts = [int(torch.randint(n - c + 1, (1,), generator=generator)) for n, c in zip(shape, crop, strict=True)]
    i, j, k = (slice(start, start + c) for start, c in zip(starts, crop, strict=True))
    return i, j, k


def augmented_batch(
    cohorts: Sequence[Cohort],
    items: Sequence[tuple[int, Sequence[int]]],
    augmentation: Augmentation,
    crop: Sequence[int],
    apart: bool,
    device: torch.device,
    generators: Sequence[Generator],
) -> list[tuple[Tensor, Tensor]]:
    """The scans of each item.

    Args:
        cohorts: where the scans are.
        items: the cohort and the rows of each: one scan, or the two of a pair.
        augmentation: drawn once per item, so that a pair moves as one; intensities change per scan.
        crop: voxels that are cut out of all scans of an item at one random place; empty for all.
        apart: draw the map of space for each scan of an item by itself.
        device: of the tensors that come back.
        generators: one per item.

    Returns:
        for each of the rows of an item, images ``(B, C, I, J, K)`` and label maps ``(B, I, J, K)``.
    """
    read = []
    for (cohort, rows), generator in zip(items, generators, strict=True):
        images, labels = cohorts[cohort].load(rows)
        i, j, k = draw_crop(images.shape[2:], crop, generator)
        images, labels = images[:, :, i, j, k].to(device), labels[:, i, j, k].to(device)
        spacing = tuple(cohorts[cohort].frames[rows[0]].spacing_mm)
        drawn = [_drawn(augmentation, images.shape[2:], spacing, generator, device)] * len(rows)
        if apart:
            drawn[1:] = [_drawn(augmentation, images.shape[2:], spacing, generator, device) for _ in rows[1:]]
        if any(bend is not None or not torch.equal(one, _STAY) for one, bend in drawn):
            maps, bends = map(list, zip(*drawn, strict=True))
            images, moved = augmentation.move(maps, images, labels, bends)
            labels = labels if moved is None else moved
        read.append(augmentation.cut_off(augmentation.recolour(images, [generator] * len(rows)), labels, generator))
    count = len(items[0][1])
    return [
        (torch.stack([images[n] for images, _ in read]), torch.stack([labels[n] for _, labels in read]))
        for n in range(count)
    ]


def _drawn(
    augmentation: Augmentation,
    shape: Sequence[int],
    spacing: tuple[float, float, float],
    generator: Generator,
    device: torch.device,
) -> tuple[Tensor, Tensor | None]:
    return augmentation.draw(generator, spacing), augmentation.bend(shape, spacing, generator, device)


_STAY = torch.eye(3, 4, dtype=torch.float64)
