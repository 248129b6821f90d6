"""Networks of perfect knowledge, to see what the methods make of it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from anamorph.geometry import Grid
from anamorph.networks.model import ModelCard
from anamorph.networks.preprocessing import Preprocessing
from anamorph.networks.trained import TemplateModel, output_grid
from anamorph.phantom.pair import PhantomPair
from anamorph.supervoxels import Layers, warp_layers
from voronoi_layers import voronoi_layers


class LayerOracle:
    """Knows the layers of the scans it is asked for, one after the other."""

    def __init__(self, answers: list[np.ndarray], template: np.ndarray, classes: int) -> None:
        self.answers, self.classes, self.layers = list(answers), classes, len(template)
        self.template = torch.from_numpy(template)

    def scores_by_layer(self, image: torch.Tensor) -> Iterator[torch.Tensor]:
        labels = torch.from_numpy(self.answers.pop(0)[:, 1::2, 1::2, 1::2].astype(np.int64))
        for layer in labels:
            yield 12 * torch.nn.functional.one_hot(layer, self.classes).permute(3, 0, 1, 2).float()


class PlaceOracle:
    """Knows where the outputs of the scans belong."""

    def __init__(self, answers: list[np.ndarray], template: np.ndarray) -> None:
        self.answers, self.template = list(answers), torch.from_numpy(template)

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        positions = self.answers.pop(0)
        here = np.indices(positions.shape[1:], np.float32) * 2 + 1
        half = np.array(image.shape[2:], np.float32)[:, None, None, None] / 2
        return torch.from_numpy((positions - here) / half)[None]


def oracle_model(pair: PhantomPair, kind: str, spacing_mm: float = 8.0, layers: int = 8) -> TemplateModel:
    """A model whose template is the moving scan of a pair, for one registration of it."""
    shape = tuple(int(n) // 2 * 2 for n in pair.fixed.grid.shape)
    architecture = {"network": {"inputs": 1}, "divisor": 500.0, "centre": "middle", "ct": True}
    preprocessing = Preprocessing(spacing_mm, shape, "none")
    card = ModelCard("oracle", kind, architecture=architecture, preprocessing=preprocessing.as_json())
    model = TemplateModel(card, preprocessing, {"inputs": 1})
    fixed, moving = model.frame_in(pair.fixed), model.frame_in(pair.moving)
    made = Layers(voronoi_layers(model.frame, layers), moving)
    true = pair.true_fixed_to_moving
    if kind == "slicreg":
        answers = [warp_layers(made, true, fixed).labels, made.labels]
        return TemplateModel(card, preprocessing, model.architecture, LayerOracle(answers, made.labels, 128))
    places = [true.moving_positions(output_grid(fixed), moving), moving_places(moving)]
    return TemplateModel(card, preprocessing, model.architecture, PlaceOracle(places, made.labels))


def moving_places(frame: Grid) -> np.ndarray:
    return np.indices(output_grid(frame).shape, np.float32) * 2 + 1
