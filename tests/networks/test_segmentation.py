"""The segmentation network on a processor, against the network of PyTorch."""

from __future__ import annotations

import inspect
import subprocess
import sys

import numpy as np
import pytest
import torch

from anamorph.errors import UserError
from anamorph.geometry import Grid
from anamorph.image import Image
from anamorph.networks import architecture
from anamorph.networks.feature_network import FeatureNetwork
from anamorph.networks.model import ModelCard, save_model
from anamorph.networks.preprocessing import Preprocessing
from anamorph.networks.segmentation import CompiledFeatures, CompiledSegmentation
from anamorph.networks.symmetric_network import SegmentationNetwork
from anamorph.networks.trained import SegmentationModel
from anamorph.runtime.compiled import kernels
from anamorph.runtime.threads import limited_kernels

needs_kernels = pytest.mark.skipif(kernels is None, reason="the kernels were not built")
SHAPE = (21, 18, 27)


def both(**arguments) -> tuple[SegmentationNetwork, CompiledSegmentation]:
    """One network of random weights, as large as those of trained ones, in both forms."""
    torch.manual_seed(0)
    network, compiled = SegmentationNetwork(**arguments).eval(), CompiledSegmentation(**arguments)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.5 / max(parameter[0].numel(), 1) ** 0.5 if parameter.ndim > 1 else 0.1)
    compiled.load_state_dict({key: value.numpy() for key, value in network.state_dict().items()})
    return network, compiled


def scan(channels: int, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(1).normal(0.5, 1, (channels, *shape)).astype(np.float32)


@needs_kernels
@pytest.mark.parametrize(
    ("arguments", "shape"),
    [
        ({"mult": 1, "classes": 2, "convolutions": (1, 2)}, SHAPE),
        ({"mult": 2, "classes": 5, "convolutions": (2, 1), "activation": "relu"}, (17, 12, 30)),
        ({"mult": 3, "classes": 17, "convolutions": (1, 1), "residual": True}, (16, 16, 16)),
        ({"mult": 4, "classes": 8, "convolutions": (2, 2), "stem": 2, "inputs": 2}, (24, 17, 33)),
        ({"mult": 1, "classes": 3, "convolutions": (1,), "stem": 3, "residual": True, "inputs": 3}, SHAPE),
        ({"mult": 2, "classes": 40, "convolutions": (), "stem": 2, "activation": "relu"}, (8, 9, 10)),
        ({"mult": 1, "classes": 3, "convolutions": (1, 1, 1, 1)}, (5, 40, 3)),
        ({"mult": 1, "classes": 3, "convolutions": (1, 1)}, (30, 27, 1)),
        ({"mult": 1, "classes": 3, "convolutions": (1, 1), "stem": 2}, (1, 27, 30)),
    ],
)
def test_scores_are_those_of_the_network_of_pytorch(arguments, shape):
    network, compiled = both(**arguments)
    channels = scan(arguments.get("inputs", 1), shape)
    with torch.inference_mode():
        expected = network(torch.from_numpy(channels)[None])[0]
    assert expected.std() > 0.05
    np.testing.assert_allclose(compiled.scores(channels), expected, atol=1e-4, rtol=1e-4)
    np.testing.assert_allclose(compiled.probabilities(channels), expected.softmax(0), atol=1e-4)


@needs_kernels
def test_probabilities_have_the_same_bits_on_any_number_of_threads(monkeypatch):
    monkeypatch.setenv("ANAMORPH_NUM_THREADS", "3")
    _, compiled = both(mult=1, classes=3, convolutions=(1, 1), stem=2)
    channels = scan(1, (40, 24, 24))
    found = []
    for threads in (1, 3):
        with limited_kernels(threads):
            found.append(compiled.probabilities(channels))
    assert np.array_equal(*found)
    np.testing.assert_allclose(found[0].sum(axis=0), 1, atol=1e-6)


@needs_kernels
def test_certain_scores_and_scans_of_one_value_give_finite_probabilities():
    network, compiled = both(mult=1, classes=3, convolutions=(1,))
    state = {key: value.numpy() for key, value in network.state_dict().items()}
    compiled.load_state_dict(state | {"decoder.last.bias": np.float32([1000, 0, -1000])})
    found = compiled.probabilities(np.zeros((1, 8, 8, 8), np.float32))
    np.testing.assert_allclose(found[:, 0, 0, 0], [1, 0, 0], atol=1e-30)


@needs_kernels
@pytest.mark.parametrize(
    ("arguments", "shape"),
    [
        ({"mult": 1, "classes": 5}, SHAPE),
        ({"mult": 2, "classes": 16, "convolutions": (1, 1), "residual": True}, (16, 24, 33)),
        ({"mult": 1, "classes": 3, "stem": 1, "activation": "relu"}, (12, 13, 8)),
        ({"mult": 1, "classes": 3, "stem": 3, "inputs": 2}, (30, 27, 1)),
    ],
)
def test_features_are_those_of_the_network_of_pytorch(arguments, shape):
    torch.manual_seed(0)
    network, compiled = FeatureNetwork(**arguments).eval(), CompiledFeatures(**arguments)
    compiled.load_state_dict({key: value.numpy() for key, value in network.state_dict().items()})
    channels = scan(arguments.get("inputs", 1), shape)
    with torch.inference_mode():
        expected = network(torch.from_numpy(channels)[None])[0].movedim(0, -1)
    stem = arguments.get("stem", 2)
    assert expected.shape[:3] == tuple(-(-n // stem) for n in shape)
    assert expected.std() > 0.05
    np.testing.assert_allclose(expected.norm(dim=-1), 1, atol=1e-5)
    np.testing.assert_allclose(compiled.features(channels), expected, atol=2e-4)


@pytest.mark.parametrize(
    "kinds",
    [(SegmentationNetwork, CompiledSegmentation), (FeatureNetwork, CompiledFeatures)],
    ids=["segment", "features"],
)
def test_both_networks_take_the_same_arguments(kinds):
    one, other = (inspect.signature(kind).parameters for kind in kinds)
    assert {key: value.default for key, value in one.items()} == {key: value.default for key, value in other.items()}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"decoder.last.bias": None}, r"decoder\.last\.bias is missing"),
        ({"decoder.last.bias": np.zeros(2, np.float32)}, r"decoder\.last has the shape"),
        ({"decoder.more": np.zeros(2, np.float32)}, r"decoder\.more is missing, or is none of them"),
        ({"decoder.last.bias": np.zeros(3, np.complex64)}, "no numbers"),
    ],
)
def test_other_weights_are_refused(changed, message):
    network, compiled = both(mult=1, classes=3, convolutions=(1,))
    state = {key: value.numpy() for key, value in network.state_dict().items()} | changed
    with pytest.raises(ValueError, match=message):
        compiled.load_state_dict({key: value for key, value in state.items() if value is not None})


def test_networks_without_channels_are_refused():
    for wrong in ({"mult": 0}, {"stem": 0}, {"classes": 0}, {"convolutions": (1, 0)}):
        with pytest.raises(ValueError, match="is 0"):
            CompiledSegmentation(**wrong)


@pytest.fixture
def folder(tmp_path):
    """A small network and a scan beside it."""
    arguments = {"mult": 1, "classes": 3, "convolutions": [1, 1], "stem": 2}
    card = ModelCard(
        "small", "segment", architecture=arguments, preprocessing=Preprocessing().as_json(), labels={1: "a", 2: "b"}
    )
    save_model(tmp_path, both(**arguments)[0].state_dict(), card)
    np.save(tmp_path / "scan.npy", scan(1)[0])
    return tmp_path


@needs_kernels
def test_a_scan_is_segmented_without_pytorch(folder):
    code = """
import sys, numpy as np
from anamorph.geometry import Grid
from anamorph.image import Image
from anamorph.networks.trained import SegmentationModel
values = np.load(sys.argv[1] + "/scan.npy")
image = Image(values, Grid(values.shape, np.eye(4)), "scan")
model = SegmentationModel.load(sys.argv[1], "segment", "cpu")
np.save(sys.argv[1] + "/found.npy", model.probabilities(image))
assert model.peak_memory_bytes(image.grid) > 0
assert "torch" not in sys.modules, "torch"
"""
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert np.load(folder / "found.npy").shape == (3, *SHAPE)


@needs_kernels
def test_the_network_of_pytorch_stands_in_where_there_are_no_kernels(folder, monkeypatch):
    image = Image(np.load(folder / "scan.npy"), Grid(SHAPE, np.eye(4)), "scan")
    found = SegmentationModel.load(folder).probabilities(image)
    monkeypatch.setattr(architecture, "kernels", None)
    twin = SegmentationModel.load(folder)
    assert twin.compiled is None
    np.testing.assert_allclose(found, twin.probabilities(image), atol=1e-4)


@needs_kernels
def test_weights_of_another_network_are_refused(folder):
    card = ModelCard("small", "segment", architecture={"mult": 2}, preprocessing=Preprocessing().as_json())
    save_model(folder, both(mult=1)[0].state_dict(), card)
    with pytest.raises(UserError, match="weights do not fit the network that the card describes"):
        SegmentationModel.load(folder)
