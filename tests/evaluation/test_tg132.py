"""The table of TG-132: each number beside its tolerance, and nothing where nothing was measured."""

from __future__ import annotations

import numpy as np
import pytest

from anamorph.evaluation.measure import RegisteredPair
from anamorph.evaluation.tg132 import StructureAgreement, criteria
from anamorph.geometry.grid import Grid
from anamorph.image.points import Points
from anamorph.transforms.maps import Affine, Displacement

GRID = Grid((12, 12, 8), spacing_mm=(2.0, 2.0, 3.0))


def found(pair: RegisteredPair, *agreements: StructureAgreement) -> dict[str, object]:
    return {one.name: one for one in criteria(pair, agreements)}


def test_every_number_has_its_tolerance() -> None:
    shift = Affine.translation([1.0, 0, 0])
    places = GRID.voxel_to_world(np.array([[3.0, 4, 5], [6, 6, 2]]))
    moved = places + np.array([[1.0, 0, 2.0], [1.0, 0, 6.0]])
    pair = RegisteredPair(GRID, GRID, shift, shift.inverse(), points={"landmarks": (Points(places), Points(moved))})
    told = found(pair, StructureAgreement("A", 0.9, 1.0), StructureAgreement("B", 0.7, 3.5))
    error = told["Target registration error"]
    assert (error.value, error.detail["largest"], error.word) == (4.0, 6.0, "outside tolerance")
    assert error.tolerance == "largest voxel side, 3 mm"
    assert (told["Dice similarity coefficient"].value, told["Dice similarity coefficient"].within) == (0.7, False)
    assert (told["Mean distance to agreement"].value, told["Mean distance to agreement"].within) == (3.5, False)
    assert told["Inverse consistency"].value == pytest.approx(0, abs=1e-4)
    assert told["Inverse consistency"].within
    assert told["Jacobian determinant, smallest"].value == pytest.approx(1, abs=1e-4)


def test_what_was_not_measured_is_named() -> None:
    told = found(RegisteredPair(GRID, GRID, Affine.identity()))
    unknown = {name for name, one in told.items() if one.word == "not measured"}
    assert unknown == {*told} - {"Jacobian determinant, smallest"}
    assert "--points" in told["Target registration error"].as_dict()["missing"]
    assert told["Dice similarity coefficient"].as_dict()["result"] == "not measured"


def test_a_fold_is_outside_tolerance() -> None:
    field = np.zeros((3, *GRID.shape), np.float32)
    field[0, 4], field[0, 6] = 3.0, -3.0
    folded = Displacement(field, GRID)
    one = found(RegisteredPair(GRID, GRID, folded))["Jacobian determinant, smallest"]
    assert one.value < 0
    assert not one.within
    assert one.detail["negative_percent"] == pytest.approx(100 / 12, rel=0.02)
