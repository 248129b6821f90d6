from __future__ import annotations

import hashlib
import json

import pytest
import torch
from typer.testing import CliRunner

from anamorph.cli.main import app
from anamorph.errors import UserError
from anamorph.networks.known import build_network
from anamorph.networks.model_folder import SHIPPED, ModelCard, find_model, load_model, save_model, shipped_models
from anamorph.networks.symmetric_network import SymmetricNetwork

ARCHITECTURE = {"inputs": 1, "mult": 1, "convolutions": [1, 1]}


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(0)
    network = SymmetricNetwork(**ARCHITECTURE)
    card = ModelCard(
        "small",
        "symmetric",
        summary="a small model",
        architecture=ARCHITECTURE,
        labels={1: "head"},
        metrics={"dice": 0.5},
        licence="CC0",
        training_data=[{"name": "phantoms", "scans": {"training": 3}, "sha256": "ab"}],
    )
    folder = tmp_path / "run" / "model"
    return folder, save_model(folder, network.state_dict(), card), network


def test_a_model_comes_back_as_it_was(model):
    folder, written, network = model
    card, state = load_model(folder)
    assert card == written
    assert card.sha256 == hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest()
    assert card.parameters == sum(p.numel() for p in network.parameters())
    assert state.keys() == network.state_dict().keys()
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
    assert {path.name for path in folder.iterdir()} == {"model.json", "weights.safetensors"}


def test_the_network_is_built_from_the_card(model):
    folder, _, network = model
    built = build_network(*load_model(folder))
    assert not built.training
    images = torch.rand(2, 1, 1, 16, 16, 16)
    torch.testing.assert_close(built(*images)[0].disp_vox, network.eval()(*images)[0].disp_vox)


def test_weights_that_do_not_fit_the_card(model):
    folder, card, _ = model
    _, state = load_model(folder)
    save_model(folder, {key: value[:1] for key, value in state.items()}, card)
    with pytest.raises(UserError, match="weights do not fit the network"):
        build_network(*load_model(folder))


def test_a_run_folder_stands_for_its_model(model):
    assert find_model(model[0].parent) == model[0]


def test_damaged_weights_are_refused(model):
    path = model[0] / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="is not the file its card describes"):
        load_model(model[0])
    path.unlink()
    with pytest.raises(UserError, match=r"has a card but no weights\.safetensors"):
        load_model(model[0])


def test_models_of_another_kind_or_format_are_refused(model):
    with pytest.raises(UserError, match="is a model of 'symmetric', not of 'segment'"):
        load_model(model[0], "segment")
    path = model[0] / "model.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"format": 99}))
    with pytest.raises(UserError, match="newer than this version"):
        load_model(model[0])
    path.write_text("{")
    with pytest.raises(UserError, match="is no model card"):
        load_model(model[0])


def test_a_name_that_is_no_model(tmp_path):
    with pytest.raises(UserError, match="there is no model 'nothing'"):
        load_model("nothing")


@pytest.mark.parametrize("name", shipped_models())
def test_models_that_come_along_are_sound(name):
    card, state = load_model(name)
    build_network(card, state)
    assert card.name == name
    assert card.licence != "not stated"
    assert card.attribution != "not stated"
    assert (SHIPPED / name / "weights.safetensors").stat().st_size < 20e6


def test_the_commands(model):
    runner = CliRunner()
    folder = model[0]
    listed = runner.invoke(app, ["models", "list", str(folder.parent.parent)])
    assert listed.exit_code == 0
    assert "a small model" in listed.output
    shown = runner.invoke(app, ["models", "show", str(folder)])
    assert shown.exit_code == 0
    for text in ("CC0", "0.5000", "head", "phantoms", model[1].sha256):
        assert text in shown.output
    assert "sound" in runner.invoke(app, ["models", "check", str(folder)]).output
    (folder / "weights.safetensors").write_bytes(b"no")
    checked = runner.invoke(app, ["models", "check", str(folder)])
    assert checked.exit_code == 2
    assert "is not the file its card describes" in checked.output
