"""The items of an epoch in batches, and the generator of every item."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from anamorph.errors import UserError

if TYPE_CHECKING:
    from anamorph.training.task import Item


def full_batches(items: Sequence[Item], size: int) -> list[list[Item]]:
    """All items in batches of one size; the last is filled up from the beginning.

    Raises:
        UserError: there are none.
    """
    if not items:
        raise UserError("there is nothing to train on: the lists of the data sets make no item; check their splits")
    count = -(-len(items) // size)
    filled = [items[n % len(items)] for n in range(count * size)]
    return [filled[n * size : (n + 1) * size] for n in range(count)]


def generator_at(seed: int, *place: int) -> torch.Generator:
    """A CPU generator that depends on the seed and on the place in the training (epoch, batch, item) alone."""
    digest = hashlib.blake2b("/".join(map(str, (seed, *place))).encode(), digest_size=4).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little"))
