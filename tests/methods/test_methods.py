"""How a method is named, given and asked: names, classes and instances, and the settings that everybody asks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

import anamorph
from anamorph.errors import UserError
from anamorph.methods import METHODS, find_method
from anamorph.methods.affine import Affine
from anamorph.methods.base import Config, Method, Pair, Run, setting
from anamorph.methods.start.settings import StartConfig
from anamorph.phantom import make_pair
from anamorph.transforms import Affine as AffineMap
from geometries import GRIDS, textured_image


@dataclass(frozen=True)
class ShiftConfig(Config):
    shift_mm: float = setting(2.0, "along the first axis of the world", "mm")


class Shift(Method):
    name = "shift"
    summary = "moves everything by one vector"
    Config = ShiftConfig

    def __call__(self, pair, run):
        run.provenance["seed seen"] = run.seed
        there = AffineMap.translation([self.config.shift_mm, 0, 0])
        return run.outcome(there, there.inverse())

    def peak_memory_bytes(self, fixed, moving):
        return 0


@pytest.fixture
def scans():
    grid = GRIDS["oblique"]
    return textured_image(grid), textured_image(grid, seed=4)


def shift_of(result):
    return result.fixed_to_moving.map_world(np.zeros((1, 3)))[0, 0]


def test_a_class_and_an_instance_register_as_a_name_does(scans, monkeypatch):
    assert shift_of(anamorph.register(*scans, method=Shift, seed=5)) == 2
    assert shift_of(anamorph.register(*scans, method=Shift, settings={"shift_mm": 3})) == 3
    result = anamorph.register(*scans, method=Shift(ShiftConfig(shift_mm=4.0)), seed=5)
    assert shift_of(result) == 4
    assert result.provenance["method"] == "shift"
    assert result.provenance["settings"] == {"shift_mm": 4.0}
    assert result.provenance["seed seen"] == 5
    monkeypatch.setitem(METHODS.own, "shift", f"{__name__}:Shift")
    assert shift_of(anamorph.register(*scans, method="shift")) == 2


def test_an_instance_brings_its_settings(scans):
    for more in ({"settings": {"shift_mm": 1}}, {"preset": "small-mr"}, {"init": "world"}):
        with pytest.raises(UserError, match="this method has its settings already"):
            anamorph.register(*scans, method=Shift(), **more)


def test_what_is_no_method_is_refused(scans):
    class Plain:
        pass

    class NoConfig(Shift):
        Config = dict  # type: ignore[assignment]

    for wrong in (Plain, Plain(), 7):
        with pytest.raises(UserError, match=r"no subclass of anamorph\.methods\.base\.Method"):
            anamorph.register(*scans, method=wrong)
    with pytest.raises(UserError, match=r"NoConfig\.Config must inherit"):
        anamorph.register(*scans, method=NoConfig)
    with pytest.raises(UserError, match="did you mean 'convex'"):
        find_method("convx")


def test_settings_are_asked_by_what_they_declare():
    gigabyte = 2**30
    convex, linear = find_method("convex").Config, find_method("linear").Config
    assert convex().within_memory(gigabyte).max_memory_mb == 1024
    assert convex().within_memory(-5).max_memory_mb == 1
    assert linear().within_memory(gigabyte) == linear()
    assert [linear(init=init).trusts_headers for init in ("world", "auto")] == [True, False]
    assert not Config().trusts_headers
    symmetric = find_method("symmetric").Config
    assert symmetric(model="some", guide="other").models() == ("some", "other")
    assert symmetric(model="some", guide="none").models() == ("some",)
    assert convex(guide="other").models() == ("other",)
    assert convex().models() == Config().models() == ()


def test_a_pair_exchanged_is_registered_the_other_way():
    fixed, moving = (textured_image(GRIDS[name]) for name in ("oblique", "flipped"))
    pair = Pair(fixed, moving, start=AffineMap.translation([1.0, 2.0, 3.0]))
    other = pair.exchanged()
    assert (other.fixed, other.moving) == (moving, fixed)
    np.testing.assert_allclose(other.start.matrix[:3, 3], [-1, -2, -3])
    assert other.exchanged().fixed is fixed


def test_a_run_collects_what_happens():
    told = []
    run = Run("cpu", 3, lambda stage, fraction: told.append((stage, fraction)))
    with run.stage("first", 0.25):
        run.within("first", 0.25, 0.75)(0.5)
    with run.timed("second"):
        run.warnings.append("odd")
    assert told == [("first", 0.25), ("first", 0.5)]
    assert set(run.seconds) == {"first", "second"}
    assert run.device == "cpu"
    outcome = run.outcome(AffineMap.identity(), AffineMap.identity())
    assert outcome.warnings == ["odd"]
    assert outcome.timings.keys() == run.seconds.keys()
    with pytest.raises(UserError, match="there is no device 'tpu'"):
        Run("tpu")


def test_affine_is_the_start_alone():
    pair = make_pair((30, 26, 28), seed=1, deformation_mm=0.0)
    found = Affine(StartConfig())(Pair(pair.fixed, pair.moving), Run("cpu"))
    assert isinstance(found.fixed_to_moving, AffineMap)
    places = pair.fixed.grid.corners_mm() / 2
    away = found.fixed_to_moving.map_world(places) - pair.true_fixed_to_moving.map_world(places)
    assert np.linalg.norm(away, axis=1).mean() < 2
    assert all("init" not in values for values in Affine.presets.values())
