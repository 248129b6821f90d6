"""Building the network that a model card describes, within bounds.

A card comes from anywhere: what it describes may have no more parameters than the file of weights beside it.
"""

from __future__ import annotations

import inspect
import math
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from anamorph.errors import UserError
from anamorph.networks import NETWORKS
from anamorph.networks.segmentation import CompiledFeatures, CompiledSegmentation
from anamorph.reading import DAMAGE, reason_of
from anamorph.runtime.compiled import kernels

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from anamorph.networks.model import ModelCard

LARGEST_NUMBER = 1 << 16
LONGEST_LIST = 64
COMPILED = {"segment": CompiledSegmentation, "features": CompiledFeatures}
"""Networks that kernels run, by the kind of a card; their arguments are those of the network of PyTorch."""


def architecture_of(card: ModelCard) -> dict[str, Any]:
    """All arguments that the network of a card is built with, the card's and the defaults of the others.

    Cards that say more than what the network is built from keep that under the key ``network``.

    Raises:
        UserError: there is no such network, or the card names other arguments or values of another kind.
    """
    given = card.architecture.get("network", card.architecture)
    known = inspect.signature(COMPILED.get(card.kind) or NETWORKS.find(card.kind)).parameters
    needed = {key for key, argument in known.items() if argument.default is argument.empty}
    if not isinstance(given, dict) or not needed <= set(given) <= set(known):
        raise UserError(f"{card.name}: the card describes no network of kind '{card.kind}'; it has: {', '.join(known)}")
    for key, value in given.items():
        if not _fits(value, known[key].default):
            raise UserError(f"{card.name}: {key} is {str(value)[:40]} in the card, no value that a network can have")
    return {key: given.get(key, argument.default) for key, argument in known.items()}


def build_network(card: ModelCard, state: Mapping[str, Tensor]) -> nn.Module:
    """The network that a card describes with its weights, in evaluation mode.

    Raises:
        UserError: there is no such network, or the weights do not fit it.
    """
    arguments = architecture_of(card)
    with _fitting(card):
        with _no_larger_than(state):
            built: nn.Module = NETWORKS.find(card.kind)(**arguments)
        built.load_state_dict(dict(state))
    return built.eval()


def build_compiled(card: ModelCard, state: Mapping[str, np.ndarray]) -> CompiledSegmentation | None:
    """The network that a card describes for the kernels; None where there are none, or none that know it.

    Raises:
        UserError: the weights do not fit it.
    """
    if kernels is None or card.kind not in COMPILED:
        return None
    arguments = architecture_of(card)
    with _fitting(card):
        built = COMPILED[card.kind](**arguments)
        built.load_state_dict(state)
    return built


@contextmanager
def _fitting(card: ModelCard) -> Iterator[None]:
    """Say in one line that weights are not those of the network of a card.

    Raises:
        UserError: the block stumbles.
    """
    try:
        yield
    except (RuntimeError, *DAMAGE) as error:
        raise UserError(
            f"{card.name}: the weights do not fit the network that the card describes ({reason_of(error)}); copy the "
            "whole model folder again, or train it with this version"
        ) from error


def _fits(value: Any, default: Any) -> bool:
    """Whether a value is of the kind of the default of an argument, and of a size that networks have."""
    if default is inspect.Parameter.empty:
        return any(_fits(value, one) for one in (1, 1.0, "", False, ()))
    if default is None or isinstance(default, tuple):
        listed = isinstance(value, list | tuple) and len(value) <= LONGEST_LIST and all(_fits(one, 1) for one in value)
        return listed or (value is None and default is None)
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    if isinstance(default, float):
        return isinstance(value, int | float) and math.isfinite(value)
    return isinstance(value, type(default)) and (isinstance(value, str) or 0 <= value <= LARGEST_NUMBER)


@contextmanager
def _no_larger_than(state: Mapping[str, Tensor]) -> Iterator[None]:
    """Stop building a network as soon as it has more parameters than there are weights.

    Raises:
        ValueError: it does.
    """
    from torch.nn.modules.module import register_module_parameter_registration_hook

    own, left = threading.get_ident(), [len(state), sum(value.numel() for value in state.values())]

    def count(module: nn.Module, name: str, value: Tensor | None) -> None:
        if value is None or threading.get_ident() != own:
            return
        left[0] -= 1
        left[1] -= value.numel()
        if min(left) < 0:
            raise ValueError("it has more parameters than the weights")

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()
