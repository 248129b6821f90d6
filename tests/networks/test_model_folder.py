from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import dataclass
from importlib.metadata import EntryPoint

import pytest
import torch
from typer.testing import CliRunner

from anamorph import registry
from anamorph.cli.main import app
from anamorph.errors import UserError
from anamorph.networks.architecture import build_network
from anamorph.networks.model import Model, ModelCard, load_weights, save_model
from anamorph.networks.model_folders import find_model
from anamorph.networks.preprocessing import Preprocessing
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
    card, state = load_weights(folder)
    assert card == written
    assert card.sha256 == hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest()
    assert card.parameters == sum(p.numel() for p in network.parameters())
    assert state.keys() == network.state_dict().keys()
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
    assert {path.name for path in folder.iterdir()} == {"model.json", "weights.safetensors"}


def test_the_network_is_built_from_the_card(model):
    folder, _, network = model
    built = build_network(*load_weights(folder))
    assert not built.training
    images = torch.rand(2, 1, 1, 16, 16, 16)
    torch.testing.assert_close(built(*images)[0].disp_vox, network.eval()(*images)[0].disp_vox)


def test_weights_that_do_not_fit_the_card(model):
    folder, card, _ = model
    _, state = load_weights(folder)
    save_model(folder, {key: value[:1] for key, value in state.items()}, card)
    with pytest.raises(UserError, match="weights do not fit the network"):
        build_network(*load_weights(folder))


def test_a_run_folder_stands_for_its_model(model):
    assert find_model(model[0].parent) == model[0]


def test_damaged_weights_are_refused(model):
    path = model[0] / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="is not the file its card describes"):
        load_weights(model[0])
    path.unlink()
    with pytest.raises(UserError, match=r"has a card but no weights\.safetensors"):
        load_weights(model[0])


def test_models_of_another_kind_or_format_are_refused(model):
    with pytest.raises(UserError, match="is a model of 'symmetric', not of 'segment'"):
        load_weights(model[0], "segment")
    path = model[0] / "model.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"format": 99}))
    with pytest.raises(UserError, match="newer than this version"):
        load_weights(model[0])
    path.write_text("{")
    with pytest.raises(UserError, match="is no model card"):
        load_weights(model[0])


def test_a_name_that_is_no_model(tmp_path):
    with pytest.raises(UserError, match="there is no model 'nothing'"):
        load_weights("nothing")


def test_the_commands(model):
    runner = CliRunner()
    folder = model[0]
    listed = runner.invoke(app, ["models", "list", str(folder.parent.parent)])
    assert listed.exit_code == 0
    assert "a small model" in listed.output
    shown = runner.invoke(app, ["models", "show", str(folder)])
    assert shown.exit_code == 0
    for text in ("CC0", "0.5000", "head", "phantoms", model[1].sha256):
        assert text in "".join(shown.output.split()), "wherever lines are broken"
    assert "sound" in runner.invoke(app, ["models", "check", str(folder)]).output
    (folder / "weights.safetensors").write_bytes(b"no")
    checked = runner.invoke(app, ["models", "check", str(folder)])
    assert checked.exit_code == 2
    assert "is not the file its card describes" in checked.output


def changed(folder, **values):
    content = json.loads((folder / "model.json").read_text())
    for key, value in values.items():
        *parts, last = key.split("__")
        holder = content
        for part in parts:
            holder = holder[part]
        holder[last] = value
    (folder / "model.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"architecture__convolutions": [200_000, 200_000]}, "convolutions is [200000, 200000] in the card"),
        ({"architecture__convolutions": [60_000] * 60}, "has more parameters than the weights"),
        ({"architecture__mult": 4096}, "has more parameters than the weights"),
        ({"architecture__mult": "many"}, "mult is many in the card"),
        ({"architecture__mult": True}, "mult is True in the card"),
        ({"architecture__inputs": 10**400}, "inputs is 1000"),
        ({"architecture__more": 1}, "describes no network of kind 'symmetric'; it has: inputs, mult"),
        ({"architecture": []}, "architecture is '[]', no table"),
        ({"preprocessing__spacing_mm": -2.0}, "spacing_mm must be above 0"),
        ({"preprocessing__spacing_mm": float("nan")}, "spacing_mm must be above 0"),
        ({"preprocessing__spacing_mm": "two"}, "is no model card"),
        ({"preprocessing__shape": [16, 16]}, "must be counts of voxels"),
        ({"preprocessing__shape": [2**40] * 3}, "must be counts of voxels"),
        ({"preprocessing__normalise": "magic"}, "normalise is magic; choose one of percentile"),
        ({"preprocessing__windows": [[400, -100]], "preprocessing__normalise": "windows"}, "pairs of HU, low and high"),
        ({"preprocessing__more": 1}, "unexpected keyword argument 'more'"),
        ({"parameters": "12"}, "parameters is '12', no whole number"),
        ({"parameters": 1}, "holds other weights than the 1 of its card"),
        ({"labels": {"liver": 1}}, "is no model card"),
        ({"format": "text"}, "is no model card"),
        ({"training_data": [1]}, "no list of data sets"),
    ],
)
def test_cards_that_describe_no_model_give_one_line_at_once(model, values, message):
    folder, _, _ = model
    content = json.loads((folder / "model.json").read_text())
    content["preprocessing"] = Preprocessing().as_json()
    (folder / "model.json").write_text(json.dumps(content))
    changed(folder, **values)
    start = time.process_time()
    done = CliRunner().invoke(app, ["models", "check", str(folder)])
    assert time.process_time() - start < 5
    assert done.exit_code == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, '{"format": 1}', "\udcff", "null"])
def test_files_that_are_no_card_give_one_line(model, text):
    folder, _, _ = model
    (folder / "model.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    for command in ("check", "show"):
        done = CliRunner().invoke(app, ["models", command, str(folder)])
        assert done.exit_code == 2
        assert "model.json: is no model card" in done.stderr
        assert done.stderr.count("\n") == 1


@dataclass(eq=False)
class TwoBlocks(torch.nn.Module):
    """A network of another package, one of whose arguments has no default."""

    width: int
    depth: int = 1

    def __post_init__(self):
        torch.nn.Module.__init__(self)
        self.layers = torch.nn.ModuleList([torch.nn.Linear(self.width, self.width) for _ in range(self.depth)])


def test_a_network_of_another_package_is_built_and_checked_as_ours(monkeypatch, tmp_path):
    point = EntryPoint("blocks", "test_model_folder:TwoBlocks", "anamorph.networks")
    monkeypatch.setattr(registry, "entry_points", lambda group: [point] if group == point.group else [])
    state = TwoBlocks(3, 2).state_dict()
    save_model(tmp_path, state, ModelCard("two", "blocks", architecture={"width": 3, "depth": 2}))
    model = Model.load(tmp_path, "blocks")
    assert torch.equal(model.network.layers[1].weight, state["layers.1.weight"])
    assert "sound (blocks" in CliRunner().invoke(app, ["models", "check", str(tmp_path)]).output
    for architecture, message in (
        ({"depth": 2}, "describes no network of kind 'blocks'"),
        ({"width": {}}, "width is {} in the card"),
        ({"width": 3, "depth": 60_000}, "more parameters than the weights"),
    ):
        changed(tmp_path, architecture=architecture)
        with pytest.raises(UserError, match=message):
            Model.load(tmp_path)
    changed(tmp_path, kind="block")
    with pytest.raises(UserError, match=r"no network 'block' \(did you mean 'blocks'"):
        Model.describe(tmp_path)


@pytest.mark.posix
def test_models_hold_no_links_out_and_no_pipes(model, tmp_path):
    folder, _, _ = model
    for name in ("model.json", "weights.safetensors"):
        (folder / name).rename(tmp_path / name)
        (folder / name).symlink_to(tmp_path / name)
        with pytest.raises(UserError, match="is a link out of the folder"):
            load_weights(folder)
        (folder / name).unlink()
        (tmp_path / name).rename(folder / name)
    (folder / "weights.safetensors").unlink()
    os.mkfifo(folder / "weights.safetensors")
    with pytest.raises(UserError, match="is no file"):
        load_weights(folder)
