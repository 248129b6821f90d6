"""Who is trained on, who is validated on, who is tested on; and which pairs are measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from anamorph.data.dataset import Pair, Split
from anamorph.errors import UserError


def split_subjects(
    subjects: Iterable[str], validation: float, test: float, *, seed: int = 0, fewest: int = 1
) -> dict[str, Split]:
    """Draw the split of every subject; the same subjects and seed give the same split, in whatever order they come.

    Args:
        subjects: patients, all of whose scans go to one split.
        validation: a share below 1, or a number of subjects; 0 for none.
        test: likewise.
        seed: of the draw.
        fewest: subjects that a split needs to hold a pair: 2 if the scans of a pair are of two subjects, else 1.

    Raises:
        UserError: a share is negative, or there are too few subjects.
    """
    names = sorted(set(subjects))
    counts = [
        _count(share, len(names), fewest, option) for share, option in ((validation, "validation"), (test, "test"))
    ]
    if sum(counts) > len(names):
        raise UserError(
            f"{len(names)} patients are too few for {counts[0]} in validation and {counts[1]} in test; "
            f"pass --validation and --test, for example --validation {len(names)} --test 0"
        )
    shuffled = [names[n] for n in np.random.default_rng(seed).permutation(len(names))]
    held = dict.fromkeys(shuffled[: counts[1]], "test") | dict.fromkeys(shuffled[counts[1] : sum(counts)], "validation")
    return {name: held.get(name, "training") for name in names}  # type: ignore[misc]


def _count(share: float, subjects: int, fewest: int, option: str) -> int:
    if share < 0 or (share >= 1 and share != int(share)):
        raise UserError(f"--{option} {share:g} is neither a share below 1 nor a number of patients; try --{option} 0.2")
    if share == 0:
        return 0
    count = max(round(share * subjects), fewest) if share < 1 else int(share)
    if count < fewest:
        raise UserError(f"--{option} {count} makes no pair of two patients; choose 0, or {fewest} or more")
    return count


def thin_pairs(pairs: Sequence[Pair], limit: int, *, seed: int = 0) -> tuple[Pair, ...]:
    """At most ``limit`` pairs in which every subject takes part about equally often, in their original order.

    The subjects are put on a ring in random order; pairs of neighbours come first, then those two apart, and so on.
    """
    if len(pairs) <= limit:
        return tuple(pairs)
    names = sorted({case.subject for pair in pairs for case in (pair.fixed, pair.moving)})
    place = dict(zip(names, np.random.default_rng(seed).permutation(len(names)).tolist(), strict=True))

    def far(n: int) -> tuple[int, int]:
        steps = (place[pairs[n].moving.subject] - place[pairs[n].fixed.subject]) % len(names)
        backwards = steps > len(names) / 2
        start = place[(pairs[n].moving if backwards else pairs[n].fixed).subject]
        return min(steps, len(names) - steps), start

    return tuple(pairs[n] for n in sorted(sorted(range(len(pairs)), key=far)[:limit]))
