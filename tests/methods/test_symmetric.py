from __future__ import annotations

import json

import numpy as np
import pytest

from anamorph.errors import UserError
from anamorph.evaluation import inverse_consistency_mm
from anamorph.geometry import Grid
from anamorph.image import Image
from anamorph.methods.base import Pair, Run
from anamorph.methods.symmetric import Symmetric, SymmetricConfig
from anamorph.networks.trained import RegistrationModel
from anamorph.registration.run import register
from anamorph.testing.pairs import apart_vox, gentle_pair
from anamorph.transforms import Affine
from one_pass_conformance import OnePassConformance
from tiny_models import save_tiny


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {inputs: save_tiny(folder / f"tiny-{inputs}", inputs=inputs) for inputs in (1, 2)}


@pytest.fixture(scope="module")
def bent(tmp_path_factory):
    """A network that moves things, at random."""
    return save_tiny(tmp_path_factory.mktemp("models") / "bent", bend=0.15)


class TestSymmetric(OnePassConformance):
    method = Symmetric


def of_network(model, fixed, moving, **settings):
    return Symmetric(SymmetricConfig(model=model, refine=False, **settings))(Pair(fixed, moving), Run("cpu"))


def test_both_directions_come_from_one_pass(bent):
    pair = gentle_pair()
    forward, swapped = of_network(bent, pair.fixed, pair.moving), of_network(bent, pair.moving, pair.fixed)
    grid = pair.fixed.grid
    assert apart_vox(forward.fixed_to_moving, Affine.identity(), grid) > 0.3, "the network does something"
    assert apart_vox(forward.fixed_to_moving, swapped.moving_to_fixed, grid) < 1e-3
    assert apart_vox(forward.moving_to_fixed, swapped.fixed_to_moving, grid) < 1e-3


def test_refinement_makes_the_directions_inverse(bent):
    pair = gentle_pair()
    network = of_network(bent, pair.fixed, pair.moving, init="world")
    refined = Symmetric(SymmetricConfig(model=bent, init="world"))(Pair(pair.fixed, pair.moving), Run("cpu"))
    grids = pair.fixed.grid, pair.moving.grid
    apart = [
        np.nanmean(inverse_consistency_mm(one.fixed_to_moving, one.moving_to_fixed, *grids))
        for one in (network, refined)
    ]
    assert apart[1] < 0.5 < apart[0]
    assert refined.fixed_to_moving.jacobian_determinant(grids[0]).min() > 0


def test_the_order_and_direction_of_the_axes_of_a_file_change_nothing(bent):
    pair = gentle_pair()
    turned = []
    for image in (pair.fixed, pair.moving):
        flip = np.eye(4)
        flip[:3, :3] = np.array([[0, 0, 1], [-1, 0, 0], [0, 1, 0]])
        shape = np.array(image.grid.shape)
        data = image.data[0].transpose(1, 2, 0)[:, :, ::-1]
        affine = image.grid.affine @ np.array(
            [[0, 0, -1, shape[0] - 1], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]], np.float64
        )
        turned.append(Image(np.ascontiguousarray(data), Grid(data.shape, affine)))
    plain, other = of_network(bent, pair.fixed, pair.moving), of_network(bent, *turned)
    assert apart_vox(plain.fixed_to_moving, other.fixed_to_moving, pair.fixed.grid) < 1e-2
    assert apart_vox(plain.moving_to_fixed, other.moving_to_fixed, pair.fixed.grid) < 1e-2


def test_scans_without_a_common_world_start_from_their_middles(models):
    pair = gentle_pair()
    far = pair.moving.grid.affine.copy()
    far[:3, 3] += (500, -300, 200)
    moving = Image(pair.moving.data[:, 3:, :, :-2], Grid((45, 40, 42), far))
    start = of_network(models[1], pair.fixed, moving)
    reached = start.fixed_to_moving.map_world(pair.fixed.grid.centre_mm[None])[0]
    assert np.abs(reached - moving.grid.centre_mm).max() <= 0.5 * moving.grid.spacing_mm.max() + 1e-6
    there_and_back = start.moving_to_fixed.map_world(reached[None])[0]
    np.testing.assert_allclose(there_and_back, pair.fixed.grid.centre_mm, atol=1e-3)


def test_a_frame_covers_both_scans_and_the_shape_of_the_training(tmp_path):
    model = RegistrationModel.describe(save_tiny(tmp_path / "model", shape=(48, 64, 48), spacing_mm=2.0))
    small, large = Grid((20, 20, 20), np.eye(4)), Grid((30, 200, 30), np.eye(4))
    assert model.shape_for(small, small) == (48, 64, 48)
    assert model.shape_for(small, large) == (48, 112, 48)
    frame = model.frame(large, small)
    np.testing.assert_allclose(frame.spacing_mm, 2)
    np.testing.assert_allclose(frame.centre_mm, large.centre_mm, atol=1)


def test_a_model_for_something_else_is_told(tmp_path):
    pair = gentle_pair()
    windows = ((-160.0, 240.0),)
    model = save_tiny(tmp_path / "model", normalise="windows", windows=windows, shape=(16, 16, 16), spacing_mm=4.0)
    scaled = [image.with_data(image.data.astype(np.float32) + 2000) for image in (pair.fixed, pair.moving)]
    warnings = of_network(model, *scaled).warnings
    assert sum("does not look like CT" in text for text in warnings) == 2
    assert sum("part of the body" in text for text in warnings) == 2


def test_models_that_cannot_be_used_are_refused(tmp_path, models):
    pair = gentle_pair()
    with pytest.raises(UserError, match="no model 'nowhere'"):
        of_network("nowhere", pair.fixed, pair.moving)
    with pytest.raises(UserError, match="1 channels"):
        of_network(models[2], pair.fixed, pair.moving)
    other = save_tiny(tmp_path / "other")
    card = tmp_path / "other" / "model.json"
    content = json.loads(card.read_text())
    card.write_text(json.dumps(content | {"kind": "segment"}))
    with pytest.raises(UserError, match="segment"):
        of_network(other, pair.fixed, pair.moving)
    content["architecture"]["mult"] = 2
    card.write_text(json.dumps(content))
    with pytest.raises(UserError, match="do not fit"):
        of_network(other, pair.fixed, pair.moving)


def test_the_result_names_the_model_that_made_it(models):
    pair = gentle_pair()
    settings = {"model": models[1], "refine": False}
    result = register(pair.fixed, pair.moving, method="symmetric", preset="default", settings=settings)
    card = RegistrationModel.describe(models[1]).card
    assert result.provenance["model"] == {"name": "tiny-1", "sha256": card.sha256}
    assert result.provenance["method"] == "symmetric"
    assert result.provenance["start"][0] == "the frames of the network laid upon each other, as in training"
    assert result.provenance["start_map"]["turn_deg"] == pytest.approx(0, abs=1e-3)
    assert set(result.timings) == {"load", "initialise", "network", "finish"}


def test_every_preset_is_a_config():
    for values in Symmetric.presets.values():
        assert SymmetricConfig(**values).init == "frame" or "init" in values
    assert Symmetric.presets["head-neck-ct"]["init"] == "frame"
