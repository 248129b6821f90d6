"""Scans read from a cache, cut and varied at random, the same way for whatever belongs together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from anamorph.training.augmentation import Augmentation

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from anamorph.training.cache import Cohort


def draw_crop(shape: Sequence[int], crop: Sequence[int], generator: Generator) -> tuple[slice, slice, slice]:
    """Where a random crop lies; all of the scan if ``crop`` is empty."""
    if not crop:
        return slice(None), slice(None), slice(None)
    starts = [int(torch.randint(n - c + 1, (1,), generator=generator)) for n, c in zip(shape, crop, strict=True)]
    i, j, k = (slice(start, start + c) for start, c in zip(starts, crop, strict=True))
    return i, j, k


def read_varied(
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
        crop: of all scans of an item at the same place; empty for none.
        apart: draw the map of space for each scan of an item by itself.
        device: where to.
        generators: one per item.

    Returns:
        for each of the rows of an item, images ``(B, C, I, J, K)`` and label maps ``(B, I, J, K)``.
    """
    read = []
    for (cohort, rows), generator in zip(items, generators, strict=True):
        images, labels = cohorts[cohort].load(rows)
        i, j, k = draw_crop(images.shape[2:], crop, generator)
        images, labels = images[:, :, i, j, k].to(device), labels[:, i, j, k].to(device)
        maps = [augmentation.draw(generator)] * len(rows)
        if apart:
            maps[1:] = [augmentation.draw(generator) for _ in rows[1:]]
        if any(not torch.equal(one, _STAY) for one in maps):
            images, moved = augmentation.move(maps, images, labels)
            labels = labels if moved is None else moved
        read.append((augmentation.recolour(images, [generator] * len(rows)), labels))
    count = len(items[0][1])
    return [
        (torch.stack([images[n] for images, _ in read]), torch.stack([labels[n] for _, labels in read]))
        for n in range(count)
    ]


_STAY = torch.eye(3, 4, dtype=torch.float64)
