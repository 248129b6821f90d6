"""Weights in 8 bits stand for what they were within half a step, and models with them work as before."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from anamorph.cli.main import app
from anamorph.errors import UserError
from anamorph.geometry.grid import Grid
from anamorph.image.image import Image
from anamorph.networks.eight_bits import from_eight_bits, in_eight_bits
from anamorph.networks.model import ModelCard, load_weights, save_model
from anamorph.networks.preprocessing import Preprocessing
from anamorph.networks.symmetric_network import SegmentationNetwork
from anamorph.networks.trained import SegmentationModel

ARCHITECTURE = {"inputs": 1, "classes": 3, "mult": 2, "convolutions": [1, 1]}


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(0)
    folder = tmp_path / "model"
    card = ModelCard(
        "two-parts",
        "segment",
        architecture=ARCHITECTURE,
        preprocessing=Preprocessing(1.0, (16, 16, 16)).as_json(),
        labels={1: "front", 2: "back"},
        metrics={"dice": 0.9},
        measured_on="three scans",
    )
    for one in (folder, folder / "guide"):
        save_model(one, SegmentationNetwork(**ARCHITECTURE).state_dict(), card)
    (folder / "LICENSE").write_text("free")
    return folder


def shrunk(model, *more):
    return CliRunner().invoke(app, ["models", "shrink", str(model), "-o", str(model.parent / "small"), *more])


def test_every_weight_comes_back_within_half_a_step():
    state = {
        "a.weight": np.random.default_rng(0).normal(0, [[1], [100], [0]], (3, 50)).astype(np.float32),
        "a.bias": np.array([0.1, 0.2, 0.3], np.float32),
        "seen": np.array([[7, 1000]]),
    }
    kept = in_eight_bits(state)
    assert kept["a.weight"].dtype == np.int8
    np.testing.assert_allclose(np.abs(kept["a.weight"]).max(axis=1), [127, 127, 0])
    back = from_eight_bits(kept)
    assert back.keys() == state.keys()
    error = np.abs(back["a.weight"] - state["a.weight"]).max(axis=1)
    assert (error <= np.abs(state["a.weight"]).max(axis=1) / 254 * 1.0001).all()
    assert error[0] > 0
    for name in ("a.bias", "seen"):
        np.testing.assert_array_equal(back[name], state[name])


@pytest.mark.parametrize(
    "kept",
    [
        {"a": np.ones((2, 3), np.float32), "a.scale": np.ones((2, 1), np.float32)},
        {"a": np.ones((2, 3), np.int8), "a.scale": np.ones((1, 1), np.float32)},
        {"a": np.ones((2, 3), np.int8), "a.scale": np.ones((2, 3, 9), np.float32)},
    ],
)
def test_steps_of_something_else_are_refused(kept):
    with pytest.raises(ValueError, match=r"a\.scale holds no steps of a"):
        from_eight_bits(kept)


def test_a_model_shrinks_to_a_quarter_with_its_guide_and_sees_the_same(model):
    done = shrunk(model)
    small = model.parent / "small"
    assert done.exit_code == 0, done.output
    assert {str(path.relative_to(small)) for path in small.rglob("*") if path.is_file()} == {
        str(path.relative_to(model)) for path in model.rglob("*") if path.is_file()
    }
    before, after = (sum(path.stat().st_size for path in one.rglob("*.safetensors")) for one in (model, small))
    assert after < 0.45 * before  # names and biases weigh more in a small network
    for part in (".", "guide"):
        card, state = load_weights(small / part)
        assert card.parameters == load_weights(model / part)[0].parameters
        assert card.measured_on == "three scans; with weights of 32 bits"
        assert card.provenance["eight_bits_of"] == load_weights(model / part)[0].sha256
        assert all(value.dtype == torch.float32 for value in state.values())
    scan = Image(np.random.default_rng(0).random((1, 16, 16, 16), np.float32), Grid((16, 16, 16), np.eye(4)))
    seen, exact = (SegmentationModel.load(one, "segment").seen(scan).data for one in (small, model))
    difference = np.abs(seen - exact).max()
    assert 0 < difference < 0.02


def test_what_cannot_shrink_is_one_line_and_leaves_nothing(model):
    assert shrunk(model).exit_code == 0
    assert "already exists" in shrunk(model).stderr
    again = CliRunner().invoke(app, ["models", "shrink", str(model.parent / "small"), "-o", str(model.parent / "less")])
    assert (again.exit_code, again.stderr.count("\n")) == (2, 1)
    assert "in 8 bits already" in again.stderr
    card, state = load_weights(model)
    state["decoder.last.weight"][0, 0, 0, 0, 0] = torch.nan
    save_model(model, state, card)
    broken = CliRunner().invoke(app, ["models", "shrink", str(model), "-o", str(model.parent / "less")])
    assert (broken.exit_code, broken.stderr.count("\n")) == (2, 1)
    assert "decoder.last.weight holds numbers that are not finite" in broken.stderr
    assert not (model.parent / "less").exists()


def test_a_card_with_fewer_parameters_than_its_steps_tell_is_refused(model):
    shrunk(model)
    path = model.parent / "small" / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"parameters": 1}))
    with pytest.raises(UserError, match="holds other weights than the 1 of its card"):
        load_weights(path.parent)
