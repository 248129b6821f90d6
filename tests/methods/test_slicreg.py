from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from anamorph.errors import UserError
from anamorph.evaluation import inverse_consistency_mm
from anamorph.features import layer_codes
from anamorph.features.layer_codes import draw_codes
from anamorph.geometry import Grid
from anamorph.image import Image
from anamorph.methods import recipe, slicreg
from anamorph.methods.base import Pair, Run
from anamorph.methods.learned import carries_spline
from anamorph.methods.regression import Regression, RegressionConfig
from anamorph.methods.slicreg import PredictedLayers, Slicreg, SlicregConfig, _full_labels
from anamorph.methods.start.search import Start
from anamorph.networks.model import ModelCard, save_model
from anamorph.networks.preprocessing import Preprocessing
from anamorph.networks.supervoxel_network import CoordinateNetwork, SupervoxelNetwork
from anamorph.networks.trained import TemplateModel
from anamorph.optimise import keypoint_field
from anamorph.testing.conformance import MethodConformance
from anamorph.testing.pairs import SHAPE, apart_vox, error_mm, gentle_pair, smooth_pair
from anamorph.transforms import Affine
from kept_starts import KeptStarts
from template_oracle import oracle_model
from voronoi_layers import voronoi_layers

LAYERS, CLASSES = 4, 13
FRAME = Grid(SHAPE, np.diag([8.0, 8, 8, 1]))


def save_untrained(folder: Path, kind: str, inputs: int = 1, **changes: Any) -> str:
    """A network of random weights, with layers of random cells as its template."""
    torch.manual_seed(0)
    network: dict[str, Any] = {"features": "unet", "inputs": inputs, "template": list(SHAPE)}
    if kind == "slicreg":
        network |= {"layers": LAYERS, "classes": CLASSES}
        made: Any = SupervoxelNetwork(**network)
        made.template.copy_(torch.from_numpy(voronoi_layers(FRAME, LAYERS, CLASSES - 1)))
    else:
        made = CoordinateNetwork(**network)
        made.template.fill_(1)
        torch.nn.init.zeros_(made.head[-1].weight)
        torch.nn.init.zeros_(made.head[-1].bias)
    architecture = {"network": network, "divisor": 500.0, "centre": "middle", "ct": True, "template": "0001_0000"}
    preprocessing = Preprocessing(spacing_mm=8.0, shape=SHAPE, normalise="none")
    card = ModelCard(folder.name, kind, architecture=architecture | changes, preprocessing=preprocessing.as_json())
    save_model(folder, made.state_dict(), card)
    return str(folder)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {
        (kind, inputs): save_untrained(folder / f"{kind}-{inputs}", kind, inputs)
        for kind in ("slicreg", "regression")
        for inputs in (1, 2)
    }


class FramedConformance(KeptStarts, MethodConformance):
    """With an untrained network: what the start, the frames and the refinement do around it.

    A network of random weights finds nothing, so errors are those of the linear start and the refinement.
    """

    kind: ClassVar[str]
    learned = True
    two_dimensional = False
    settings: ClassVar[dict[str, Any]] = {"init": "affine", "refine_iterations": (5, 5)}
    quick: ClassVar[dict[str, Any]] = {"init": "world", "refine_iterations": (5, 5)}
    limits_mm: ClassVar[dict[str, float]] = dict.fromkeys(
        ("affine", "smooth", "flipped and finer", "permuted and oblique", "both sheared", "odd", "thick", "2D",
         "two channels", "padded", "given start"), 20.0,
    )  # fmt: skip

    def config(self, fixed, quick):
        model = self.models[self.kind, fixed.channels]
        return self.method.Config(**(self.quick if quick else self.settings) | {"model": model})

    def test_what_the_start_warns_of_is_told(self, monkeypatch):
        doubtful = Start(Affine.identity(), steps=["the first"], warnings=["two starts explain the scans equally well"])
        monkeypatch.setattr(recipe, "linear_start", lambda *_: doubtful)
        pair = gentle_pair()
        result = self.run(pair.fixed, pair.moving, quick=False)
        assert result.provenance["start"] == ["the first"]
        assert "two starts explain the scans equally well" in result.warnings


class TestSlicreg(FramedConformance):
    method = Slicreg
    kind = "slicreg"


class TestRegression(FramedConformance):
    method = Regression
    kind = "regression"


@pytest.fixture
def perfect(monkeypatch):
    """The methods with a network that knows the truth of the smooth phantom pair."""

    def register(method: type, scans: Any = None, refine: bool = False, **settings: Any) -> tuple[Any, float]:
        pair = smooth_pair()
        scans = scans or (pair.fixed, pair.moving)
        model = oracle_model(pair, method.name)
        monkeypatch.setattr(TemplateModel, "load", classmethod(lambda *arguments: model))
        result = method(method.Config(refine=refine, **settings))(Pair(*scans), Run("cpu"))
        return result, error_mm(result.fixed_to_moving, pair)

    return register


START_MM = 18.0
"""The error of the phantom pair before registration, at least."""


@pytest.mark.parametrize(
    ("settings", "limit_mm"),
    [
        ({}, 4.6),
        ({"points": "random"}, 4.4),
        ({"features": "one-hot"}, 4.7),
        ({"match": "template"}, 4.7),
        (slicreg.PUBLISHED, 4.5),
    ],
    ids=["default", "random", "one-hot", "template", "published"],
)
def test_perfect_supervoxels_give_the_map_and_its_inverse(perfect, settings, limit_mm):
    settings = {key: value for key, value in settings.items() if key != "refine"}
    pair = smooth_pair()
    result, error = perfect(Slicreg, **settings)
    assert error_mm(Affine.identity(), pair) > START_MM
    assert error < limit_mm
    apart = inverse_consistency_mm(result.fixed_to_moving, result.moving_to_fixed, pair.fixed.grid, pair.moving.grid)
    assert np.nanmean(apart) < 3.0
    assert not result.warnings
    assert min(trace[-1] / trace[0] for trace in result.trace.values()) < 0.5


def test_perfect_coordinates_give_the_map_and_its_inverse(perfect):
    pair = smooth_pair()
    result, error = perfect(Regression)
    assert error < 4.5
    apart = inverse_consistency_mm(result.fixed_to_moving, result.moving_to_fixed, pair.fixed.grid, pair.moving.grid)
    assert np.nanmean(apart) < 3.0


@pytest.mark.parametrize("features", ["soft", "one-hot"])
def test_supervoxels_that_are_right_lead_where_the_images_say_nothing(perfect, features):
    pair, rng = smooth_pair(), np.random.default_rng(0)
    noise = [one.with_data(rng.normal(0, 200, one.data.shape).astype(np.float32)) for one in (pair.fixed, pair.moving)]
    settings = {"refine": True, "features": features}
    without, with_them = (perfect(Slicreg, noise, supervoxel_weight=weight, **settings)[1] for weight in (0.0, 16.0))
    assert without > 9
    assert with_them < 4.2


def test_tensors_take_the_same_way_as_arrays(perfect, monkeypatch):
    """The twins of the kernels, as on a GPU."""
    settings = {"point_iterations": 10, "points": "random", "point_count": 200}
    arrays, _ = perfect(Slicreg, **settings)
    monkeypatch.setattr(keypoint_field, "data_term", keypoint_field.data_term_torch)
    monkeypatch.setattr(layer_codes, "_shares", layer_codes.shares_torch)
    monkeypatch.setattr(layer_codes, "_blurred_on_cpu", layer_codes.blurred_torch)
    tensors, _ = perfect(Slicreg, **settings)
    grid = smooth_pair().fixed.grid
    assert apart_vox(arrays.fixed_to_moving, tensors.fixed_to_moving, grid) < 0.15
    assert apart_vox(arrays.fixed_to_moving, Affine.identity(), grid) > 1


def test_labels_at_full_resolution_lie_where_they_are_learned():
    labels = voronoi_layers(FRAME, 1, 12)[0]
    scores = 10 * torch.nn.functional.one_hot(torch.from_numpy(labels[1::2, 1::2, 1::2]).long(), 40)
    full = _full_labels(scores.permute(3, 0, 1, 2).float(), FRAME).numpy()
    np.testing.assert_array_equal(full[1::2, 1::2, 1::2], labels[1::2, 1::2, 1::2])
    assert (full == labels).mean() > 0.9


def test_points_keep_to_the_mask():
    layers = PredictedLayers.given(
        voronoi_layers(FRAME, 2, 12), FRAME, draw_codes(2, 13, np.random.default_rng(0)), "cpu"
    )
    mask = np.zeros(SHAPE, bool)
    mask[:24] = True
    for kind in ("centres", "random"):
        inside, everywhere = (layers.points(kind, 200, m, FRAME, 0) for m in (mask, None))
        assert 0 < len(inside) < len(everywhere)
        assert FRAME.world_to_voxel(inside)[:, 0].max() < 24


def test_models_that_do_not_fit_are_refused(models):
    pair = smooth_pair()
    with pytest.raises(UserError, match="anamorph train slicreg"):
        Slicreg()(Pair(pair.fixed, pair.moving), Run())
    with pytest.raises(UserError, match="is a model of 'regression'"):
        Slicreg(SlicregConfig(model=models["regression", 1]))(Pair(pair.fixed, pair.moving), Run())
    with pytest.raises(UserError, match="trained on 2"):
        Regression(RegressionConfig(model=models["regression", 2]))(Pair(pair.fixed, pair.moving), Run())


def test_scans_of_another_kind_are_warned_of(models):
    pair = smooth_pair()
    model = TemplateModel.describe(models["slicreg", 1], "slicreg")
    mr = pair.fixed.with_data(pair.fixed.data.astype(np.float32) + 1024)
    assert model.warnings_for(pair.fixed) == []
    assert "does not look like CT" in model.warnings_for(mr)[0]


def test_a_frame_around_the_body_follows_it(tmp_path):
    model = TemplateModel.describe(save_untrained(tmp_path / "model", "slicreg", centre="body"), "slicreg")
    scan = smooth_pair().fixed
    cropped = Image(scan.data[:, :, :, 8:], Grid((*SHAPE[:2], SHAPE[2] - 8), _shifted(scan.grid, 8)))
    frames = [model.frame_in(one) for one in (scan, cropped)]
    assert np.abs(frames[0].centre_mm - frames[1].centre_mm)[:2].max() < 4
    assert np.abs(frames[0].centre_mm - frames[1].centre_mm)[2] < 8 * 8 / 2


def _shifted(grid: Grid, voxels_k: int) -> np.ndarray:
    affine = grid.affine.copy()
    affine[:3, 3] = grid.voxel_to_world(np.array([0, 0, voxels_k]))
    return affine


@pytest.mark.parametrize(
    "wrong", [{"neighbours": 0}, {"alpha": -1.0}, {"point_rate": 0.0}, {"point_count": 3}, {"supervoxel_weight": -1.0}]
)
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match="must"):
        SlicregConfig(**wrong)


def test_every_preset_makes_a_config():
    for method in (Slicreg, Regression):
        for values in method.presets.values():
            method.Config(**values)


def test_points_of_one_plane_carry_no_spline():
    points = np.random.default_rng(0).uniform(-50, 50, (18, 3))
    assert carries_spline(points)
    assert not carries_spline(points[:7])
    assert not carries_spline(np.where([True, True, False], points, 4.0))
