"""Which kernels are loaded, that all variants agree, and what happens where there are none."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from anamorph.runtime import compiled
from anamorph.runtime.compiled import kernels, variant

CODE = """
import json, sys
import numpy as np
from anamorph.geometry.sampling import advance_affine, advance_displacement, sample, sample_labels
from anamorph.runtime.compiled import variant
rng = np.random.default_rng(0)
volume = rng.standard_normal((2, 5, 6, 7)).astype(np.float32)
positions = rng.uniform(-2, 8, (3, 500)).astype(np.float32)
labels = rng.integers(0, 3, (5, 6, 7)).astype(np.int16)
turned = np.eye(4) + rng.normal(0, 0.1, (4, 4))
moved, pushed = positions.copy(), positions.copy()
advance_affine(moved, turned)
advance_displacement(pushed, rng.standard_normal((3, 5, 6, 7)).astype(np.float32), turned, np.eye(3))
results = [sample(volume, positions), sample(volume, positions, "nearest", -1), moved, pushed]
print(json.dumps([variant(), *(one.tolist() for one in results), sample_labels(labels, positions, 1).tolist()]))
"""


def with_kernels(which: str) -> list:
    environment = {**os.environ, "ANAMORPH_KERNELS": which}
    done = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_tests_run_on_compiled_kernels() -> None:
    assert kernels is not None
    assert variant() in ("plain", "avx2", "avx512")


@pytest.mark.parametrize("which", ["plain", "twins"])
def test_every_variant_gives_the_same_to_rounding(which: str) -> None:
    best, other = with_kernels(variant()), with_kernels(which)
    assert (best[0], other[0]) == (variant(), which)
    for one, two in zip(best[1:-1], other[1:-1], strict=True):
        np.testing.assert_allclose(one, two, atol=1e-5)
    assert best[-1] == other[-1]


def test_kernels_built_from_other_sources_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANAMORPH_KERNELS", raising=False)
    monkeypatch.setattr(compiled, "INTERFACE", kernels.interface + 1)
    with pytest.raises(ImportError, match="make kernels"):
        compiled._load()


def test_arrays_that_a_kernel_was_not_written_for_are_refused() -> None:
    positions = np.zeros((3, 4), np.float32)
    with pytest.raises(TypeError, match="incompatible"):
        kernels.advance_affine(0, 4, positions, np.eye(4))
    with pytest.raises(TypeError, match="incompatible"):
        kernels.advance_affine(0, 4, positions[:, ::2], np.eye(4, dtype=np.float32))
