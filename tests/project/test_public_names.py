"""The flat surface of the package: one list, loaded lazily, the same for people and for type checkers."""

from __future__ import annotations

import subprocess
import sys

import pytest

import anamorph


@pytest.mark.parametrize("name", anamorph.__all__)
def test_every_listed_name_is_there(name):
    assert getattr(anamorph, name) is not None
    assert name in dir(anamorph)


def test_what_is_not_listed_is_not_there():
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = anamorph.nothing  # type: ignore[attr-defined]
    assert "register" in anamorph.__all__
    assert len(anamorph.__all__) == len(set(anamorph.__all__))


def test_importing_the_package_imports_none_of_the_heavy_libraries():
    code = "import sys, anamorph; print([m for m in sys.modules if m.split('.')[0] in " + (
        "('torch', 'scipy', 'SimpleITK', 'matplotlib', 'nibabel', 'numpy')])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
