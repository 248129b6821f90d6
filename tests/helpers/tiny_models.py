"""Small registration models, saved as folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from anamorph.networks.model import ModelCard, save_model
from anamorph.networks.preprocessing import Preprocessing
from anamorph.networks.symmetric_network import SymmetricNetwork


def save_tiny(folder: Path, *, bend: float = 0.0, seed: int = 0, inputs: int = 1, **preprocessing: Any) -> str:
    """An untrained model, which is the identity, or one whose last convolution is random with a deviation ``bend``."""
    torch.manual_seed(seed)
    architecture = {"inputs": inputs, "mult": 1, "convolutions": [1, 1, 1], "activation": "leaky"}
    network = SymmetricNetwork(**architecture)
    if bend:
        torch.nn.init.normal_(network.decoder.last.weight, std=bend)
    card = ModelCard(
        folder.name, "symmetric", architecture=architecture, preprocessing=Preprocessing(**preprocessing).as_json()
    )
    save_model(folder, network.state_dict(), card)
    return str(folder)
