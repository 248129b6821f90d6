"""Learned features beside descriptors: where they lie, what they lead to, and that they are named and foreseen."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from anamorph.errors import UserError
from anamorph.features.intensity import CT_CEILING_HU
from anamorph.geometry import Grid
from anamorph.image import Image
from anamorph.image.background import CT_AIR_HU
from anamorph.methods import METHODS
from anamorph.methods.learned_features import LearnedFeatures, feature_bytes, named_model, shown
from anamorph.methods.working_frame import Scan
from anamorph.networks.feature_network import FeatureNetwork
from anamorph.networks.model import ModelCard, save_model
from anamorph.networks.preprocessing import Preprocessing
from anamorph.networks.trained import FeatureModel
from anamorph.registration.run import register
from anamorph.settings import make_config
from anamorph.transforms import Affine

GRID = Grid((24, 26, 22), np.diag([1.5, 1.0, 2.0, 1.0]))


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    """A network of random weights."""
    folder = tmp_path_factory.mktemp("models") / "tiny-features"
    torch.manual_seed(0)
    architecture = {"inputs": 1, "classes": 16, "mult": 1, "convolutions": [1]}
    card = ModelCard(
        folder.name, "features", architecture=architecture, preprocessing=Preprocessing(spacing_mm=1.0).as_json()
    )
    save_model(folder, FeatureNetwork(**architecture).state_dict(), card)
    return str(folder)


def means_of_cells() -> LearnedFeatures:
    """A network whose feature is the mean of the voxels of a cell."""

    def features(channel: np.ndarray) -> np.ndarray:
        i, j, k = channel.shape
        return channel.reshape(i // 2, 2, j // 2, 2, k // 2, 2).mean(axis=(1, 3, 5))[..., None]

    return LearnedFeatures(SimpleNamespace(stem=2, classes=1, features=features))  # type: ignore[arg-type]


def ramp(grid: Grid) -> Scan:
    """A scan whose value is linear in RAS mm."""
    places = grid.voxel_to_world(np.stack(np.indices(grid.shape), axis=-1).reshape(-1, 3)).reshape(*grid.shape, 3)
    values = (places @ np.array([0.3, -0.2, 0.5]) / 100 + 0.4).astype(np.float32)
    return Scan(values[None], np.ones(grid.shape, np.float32), grid)


@pytest.mark.parametrize("spacing_mm", [3.0, 4.2])
def test_features_lie_on_the_voxels_of_the_descriptors(spacing_mm):
    base = GRID.resampled(spacing_mm)
    start = Affine.translation(np.array([1.0, -2.0, 1.5]))
    # Two voxels of the border are left out, beyond which the scan holds nothing.
    inner = (slice(2, -2), slice(2, -2), slice(2, -2))
    for moved in (None, start):
        found = means_of_cells().lanes(ramp(GRID), base, moved)
        assert found.shape == (*base.shape, 1)
        wanted = ramp(base if moved is None else Grid(base.shape, start.matrix @ base.affine)).channels[0]
        np.testing.assert_allclose(found[inner][..., 0], wanted[inner], atol=1e-4)


def test_channels_come_one_after_the_other():
    one = ramp(GRID)
    two = Scan(np.concatenate([one.channels, 1 - one.channels]), one.weight, GRID)
    found = means_of_cells().lanes(two, GRID.resampled(3.0))
    np.testing.assert_allclose(found.sum(axis=-1), 1, atol=1e-5)


def test_ct_is_shown_with_most_of_its_range_for_soft_tissue():
    hounsfield = np.array([CT_AIR_HU, -160, 40, 240, CT_CEILING_HU], np.float32)
    np.testing.assert_allclose(shown(hounsfield, True), [0, 0.2, 0.5, 0.8, 1], atol=1e-6)
    np.testing.assert_allclose(shown(np.float32([-0.1, 0.3, 1.2]), False), [0, 0.3, 1], atol=1e-6)


def scans() -> tuple[Image, Image]:
    random = np.random.default_rng(0)
    smooth = [np.cumsum(np.cumsum(random.normal(size=GRID.shape), 0), 1) for _ in range(2)]
    return tuple(Image(one.astype(np.float32), GRID, name) for one, name in zip(smooth, "ab", strict=True))  # type: ignore[return-value]


@pytest.mark.parametrize("method", ["convex", "deeds"])
def test_features_are_compared_named_and_weighed(model, method):
    fields = {}
    for weight in (None, 0.0, 20.0):
        settings = {"init": "world", "keep_doubtful": True} | (
            {} if weight is None else {"feature_model": model, "feature_weight": weight}
        )
        result = register(*scans(), method=method, settings=settings, device="cpu")
        fields[weight] = result.fixed_to_moving.displacement_on(GRID).disp_vox
        named = result.provenance.get("features")
        assert named == (None if weight is None else FeatureModel.describe(model).identity)
    np.testing.assert_allclose(fields[0.0], fields[None], atol=1e-4)
    assert np.abs(fields[20.0] - fields[None]).mean() > 0.05


def test_features_of_a_copy_are_those_of_the_scan(model):
    scan = Scan.prepare(scans()[0], None)
    features = LearnedFeatures.of(model, "cpu")
    assert features is not None
    base = GRID.resampled(3.0)
    here, there = features.lanes(scan, base), features.lanes(scan, base, Affine.identity())
    np.testing.assert_allclose(here, there, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(here, axis=-1), 1, atol=1e-5)


def test_a_model_may_be_missing_where_none_comes_after_it(model, tmp_path):
    assert named_model("none") is None
    assert named_model(f"{tmp_path}/nowhere,none") is None
    assert named_model(f"{model},none") == model
    assert LearnedFeatures.of("none", "cpu") is None
    with pytest.raises(UserError, match="nowhere"):
        LearnedFeatures.of(f"{tmp_path}/nowhere", "cpu")


@pytest.mark.parametrize("method", ["convex", "deeds"])
def test_their_memory_is_foreseen(model, method):
    kind = METHODS.find(method)
    grid = Grid((160, 128, 112), np.diag([2.0, 2.0, 2.0, 1.0]))
    given: tuple[dict[str, str], ...] = ({}, {"feature_model": model})
    alone, beside = (kind(make_config(kind, "default", one)).peak_memory_bytes(grid, grid) for one in given)
    base = make_config(kind, "default").pyramid(grid).base
    assert beside - alone >= 0.9 * feature_bytes(model, base) > 0
