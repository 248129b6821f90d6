"""The networks that a model card may name, by the training that made them."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from anamorph.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from anamorph.networks.model_folder import ModelCard

NETWORKS = {
    "symmetric": "anamorph.networks.symmetric_network:SymmetricNetwork",
    "pdd": "anamorph.networks.pdd_network:PddNetwork",
    "pwc": "anamorph.networks.pwc_network:PwcNetwork",
    "lindef": "anamorph.networks.lindef_network:LindefNetwork",
    "segment": "anamorph.networks.segmentation_network:SegmentationNetwork",
}


def build_network(card: ModelCard, state: Mapping[str, Tensor]) -> nn.Module:
    """The network that a card describes with its weights, in evaluation mode.

    Raises:
        UserError: this version knows no such network, or the weights do not fit it.
    """
    if card.kind not in NETWORKS:
        raise UserError(f"this version of anamorph has no network '{card.kind}'; it has: {', '.join(NETWORKS)}")
    module, _, attribute = NETWORKS[card.kind].partition(":")
    network: Any = getattr(import_module(module), attribute)
    try:
        built: nn.Module = network(**card.architecture)
        built.load_state_dict(dict(state))
    except (RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(
            f"{card.name}: the weights do not fit the network that the card describes ({reason})"
        ) from error
    return built.eval()
