"""No operation of a network, a loss or a twin mixes devices: found without a GPU, by tensors that have no values.

PyTorch's fake tensors know shape, type and device. What reads a value, as ``float(loss)`` does, gets 1. A PyTorch that
was built for processors alone has no fake GPU either.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from anamorph.discrete.cost_volume import CostVolume
from anamorph.discrete.coupled_convex import coupled_convex
from anamorph.discrete.hamming_cost import hamming_costs
from anamorph.discrete.tree_inference import infer_labels, spanning_tree
from anamorph.features.layer_codes import code_labels, code_scores, draw_codes
from anamorph.features.mind_ssc import mind_ssc_torch
from anamorph.features.quantised_mind_ssc import quantised_mind_ssc
from anamorph.geometry import Grid
from anamorph.geometry.sampling import sample_labels_torch
from anamorph.optimise.keypoint_field import KeypointGraph, KeypointSettings, fit_keypoints
from anamorph.optimise.probability_fit import fit_to_probabilities
from anamorph.optimise.velocity import VelocitySettings, optimise_velocity
from anamorph.training import TASKS
from anamorph.training.augmentation import Augmentation
from anamorph.training.cache import Cohort
from anamorph.transforms.fields import inverse_consistent, upsample, warp_descriptor
from blobs import blob_cohort
from learning import generators
from template_cohort import SPACING_MM, write_template_cohort

pytestmark = pytest.mark.skipif(not torch.backends.cuda.is_built(), reason="needs a PyTorch that is built with CUDA")
SHAPE = (8, 9, 7)
NARROW: dict[str, dict[str, Any]] = {
    "symmetric": {"mult": 1, "convolutions": (1, 1), "lcc": 1.0, "mi": 1.0, "mind": 1.0, "diffusion": 1.0},
    "segment": {"mult": 1, "convolutions": (1, 1)},
    "pdd": {"channels": 4, "feature_spacing": 2, "pooled": False, "control": (7, 8, 6), "width": 5},
    "lindef": {"width": 2, "pooling": "moments", "diffusion": 1.0},
    "pwc": {"mult": 1, "width": 4, "radius": 1, "deep_supervision": True},
    "slicreg": {"network": "unet", "spacing_mm": SPACING_MM},
    "regression": {"spacing_mm": SPACING_MM},
}


@pytest.fixture
def gpu(monkeypatch):
    """Within it a GPU is there whose tensors have no values."""
    with FakeTensorMode(allow_non_fake_inputs=True) as mode, monkeypatch.context() as patched:
        patched.setattr(torch.Tensor, "__float__", lambda tensor: 1.0)
        patched.setattr(FakeTensor, "tolist", lambda tensor: np.ones(tensor.shape).tolist())
        patched.setattr(torch.Tensor, "backward", lambda loss: None)
        # Slopes need a GPU; how many values differ is not known without values.
        patched.setattr(torch.autograd, "grad", lambda loss, variable: (torch.zeros_like(variable),))
        patched.setattr(torch, "unique", lambda values: values.flatten()[:2])
        patched.setattr(torch.Tensor, "numpy", lambda tensor: np.ones(tensor.shape, _type_of(tensor)))
        yield mode


def cuda(value: Any) -> torch.Tensor:
    """A tensor of the shape and type of an array or tensor on that GPU."""
    dtype = value.dtype if isinstance(value, torch.Tensor) else getattr(torch, str(value.dtype))
    return torch.empty(value.shape, dtype=dtype, device="cuda")


def brought(network: torch.nn.Module) -> torch.nn.Module:
    """The network with all it holds on that GPU."""
    for part in network.modules():
        for held in (part._parameters, part._buffers):
            for name, value in held.items():
                if value is not None:
                    held[name] = cuda(value).requires_grad_(value.requires_grad)
    return network


def _type_of(tensor: torch.Tensor) -> np.dtype:
    return np.dtype(str(tensor.dtype).removeprefix("torch."))


def test_two_devices_are_told_apart(gpu):
    with pytest.raises((RuntimeError, TypeError), match="two"):
        cuda(np.zeros(3)) + torch.empty(3)


@pytest.fixture(scope="module")
def batches(tmp_path_factory):
    """A narrow network of every task, and what it is trained on."""
    folder = tmp_path_factory.mktemp("cohorts")
    prepared = write_template_cohort(folder / "data", training=2, validation=1)
    template = {name: TASKS.find(name) for name in ("slicreg", "regression")}
    preprocessing = template["slicreg"].preprocessing(template["slicreg"].Config(spacing_mm=SPACING_MM))
    pairs = blob_cohort(folder / "blobs", training=3, validation=2)
    cohorts = dict.fromkeys(TASKS, pairs)
    cohorts |= dict.fromkeys(template, Cohort.of(prepared, preprocessing, folder / "cache"))
    found = {}
    for name in TASKS:
        kind = TASKS.find(name)
        task = kind(kind.Config(**NARROW[name]), [cohorts[name]])
        items = task.training_items(0, torch.Generator().manual_seed(0))[:2]
        found[name] = task, task.network(), task.batch(items, torch.device("cpu"), generators(2))
    return found


@pytest.mark.parametrize("name", [*TASKS])
def test_losses(batches, gpu, name):
    task, network, batch = batches[name]
    network = brought(network)
    if hasattr(network, "checkpointing"):
        network.checkpointing = True
    batch = {key: cuda(value) for key, value in batch.items()}
    losses = task.loss(network, batch)
    assert all(loss.device.type == "cuda" for loss in losses.values())


def test_search_and_refinement(gpu):
    rng = np.random.default_rng(0)
    fixed, moving = (cuda(rng.random((*SHAPE, 16), np.float32)) for _ in range(2))
    weight = cuda(np.ones(SHAPE, np.float32))
    field = coupled_convex(CostVolume(fixed, weight, moving, (2, 2, 2), (1, 1, 1), (1, 2, 1), 2**30))
    field, _ = inverse_consistent(*(upsample(field, (2, 2, 2), SHAPE),) * 2)
    assert warp_descriptor(moving, field).device.type == "cuda"
    start = cuda(np.zeros((3, 4, 5, 4), np.float32))
    settings = VelocitySettings(2, 0.5, 0.2, 1)
    arguments = fixed, weight, moving, weight, [start], (2, 2, 2), np.ones(3), (1, 1, 1), settings
    (velocity,), _ = optimise_velocity(*arguments, lambda fraction: None)
    assert velocity.device.type == "cuda"


def test_tree(gpu):
    image = np.random.default_rng(0).random(SHAPE, np.float32)
    tree = spanning_tree(image[None], (2, 2, 2), (4, 5, 4))
    codes = quantised_mind_ssc(cuda(image), (1, 1, 1))[None]
    costs = hamming_costs(codes, cuda(image), codes, (4, 5, 4), (2, 2, 2), (1, 1, 1), (1, 1, 1), (1, 1, 1))
    labels = infer_labels(costs, tree, (3, 3, 3), (1.0, 1.0, 1.0), cuda(np.zeros((3, 80), np.float32)))
    assert labels.device.type == "cuda"


def test_features_points_and_augmentation(gpu):
    rng, grid = np.random.default_rng(0), Grid(SHAPE, np.eye(4))
    assert mind_ssc_torch(cuda(rng.random(SHAPE, np.float32)), (1,) * 3, (2,) * 3, (2,) * 3).device.type == "cuda"
    codes = draw_codes(2, 20, rng)
    layers = code_labels(cuda(np.zeros((2, *SHAPE), np.uint8)), grid, codes)
    scores = code_scores([cuda(rng.random((20, *SHAPE), np.float32))] * 2, grid, codes)
    points = rng.random((30, 3)) * 6
    graph = KeypointGraph.of_neighbours(points, 4)
    for coded in (layers, scores):
        fit_keypoints(coded.at(points), coded.values, points, graph, KeypointSettings(iterations=2))
    volumes, field = cuda(rng.random((3, 4, 5, 3, 3, 3), np.float32)), cuda(np.zeros((3, 3, 4, 5), np.float32))
    assert fit_to_probabilities(volumes, field, cuda(np.ones(3, np.float32)), 2)[0].device.type == "cuda"
    images = cuda(rng.random((2, 1, *SHAPE), np.float32))
    moved, _ = Augmentation().move([torch.eye(3, 4, dtype=torch.float64)] * 2, images, None)
    assert moved.device.type == "cuda"


def test_labels_read_between_voxels(gpu):
    labels, places = cuda(np.zeros(SHAPE, np.uint8)), cuda(np.zeros((3, *SHAPE), np.float32))
    assert sample_labels_torch(labels, places).device.type == "cuda"
