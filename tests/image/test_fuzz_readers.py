"""Damaged files of every kind give a value or one line, and leave nothing behind; benchmarks/ does this at length."""

from __future__ import annotations

import random
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anamorph.errors import AnamorphError
from reader_seeds import READERS, Seed, damaged, seed_of

EXAMPLES = 6
SLOW = ("cohort records", "cohort marker", "cohort failures", "model card, segmentation", "points .nii.gz")
"""Left to the benchmark: another reader of the suite takes the same way."""


def read(name: str, seed: Seed) -> object:
    """What a reader gives; the message if it refuses."""
    with TemporaryDirectory() as place:
        path = seed.put(Path(place))
        before = sorted(Path(place).rglob("*"))
        found: object
        try:
            found = READERS[name].read(path)
        except AnamorphError as error:
            found = str(error)
        assert not isinstance(found, str) or len(found.splitlines()) == 1
        assert sorted(Path(place).rglob("*")) == before
        return found


@pytest.mark.parametrize("name", READERS)
def test_sound_files_are_read(name: str) -> None:
    assert not isinstance(read(name, seed_of(name)), str)


@pytest.mark.parametrize("name", [name for name in READERS if name not in SLOW])
def test_damaged_files_give_one_line(name: str) -> None:
    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(number=st.integers(0, 2**20))
    def check(number: int) -> None:
        read(name, damaged(name, random.Random(number)))

    check()
