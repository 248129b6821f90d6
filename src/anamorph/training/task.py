"""What a training is about; the loop knows nothing of networks, losses or scans."""

from __future__ import annotations

import dataclasses
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch

from anamorph.errors import UserError
from anamorph.networks.preprocessing import Preprocessing

if TYPE_CHECKING:
    from torch import Tensor, nn

    from anamorph.training.cache import Cohort


Item = Any
"""What one element of a batch is made of: plain values such as ``(cohort, fixed, moving)``."""
Batch = dict[str, Any]
"""Tensors by name; every tensor has one row per item."""


class Task(ABC):
    """One kind of training: a frozen config, its network, its batches, its loss and its measured validation.

    Subclasses set ``name``, ``summary``, ``Config`` (a frozen dataclass whose fields are made with
    :func:`~anamorph.methods.base.setting`), ``presets`` (values of ``Config`` and of
    :class:`~anamorph.training.settings.LoopSettings` by name) and ``score`` (the validation number that tells the best
    checkpoint, and whether the highest or the lowest is best).
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    Config: ClassVar[type]
    presets: ClassVar[dict[str, dict[str, Any]]]
    score: ClassVar[tuple[str, Literal["max", "min"]]]

    def __init__(self, config: Any, cohorts: Sequence[Cohort]) -> None:
        self.config = config
        self.cohorts = tuple(cohorts)
        self.on_validated: Callable[[float], None] = lambda share: None

    @property
    def needs_labels(self) -> bool:
        """Whether every training scan must have a label map; False where a loss does without."""
        return True

    def check(self) -> None:
        """See before the first step that the cohorts can be trained on together.

        Raises:
            UserError: a label map is missing, nothing is held for validation, or the cohorts differ in their number of
                channels or in what a label is called.
        """
        from anamorph.data.labels import LabelTable, shared_numbers
        from anamorph.errors import UserError

        names = ", ".join(cohort.dataset.path.name for cohort in self.cohorts)
        if len({cohort.channels for cohort in self.cohorts}) > 1:
            each = ", ".join(f"{cohort.dataset.path.name} {cohort.channels}" for cohort in self.cohorts)
            raise UserError(f"the cohorts differ in their number of channels ({each}); a network takes one number")
        _, maps = shared_numbers([LabelTable(cohort.dataset.path.name, cohort.names) for cohort in self.cohorts])
        if any(own != joint for numbers in maps for own, joint in numbers.items()):
            raise UserError(f"{names}: number the same labels differently; make the cohorts with their shared_numbers")
        if not any(cohort.of_split("validation") for cohort in self.cohorts):
            raise UserError(f"{names}: no scans for validation; list some under registration_val or validation")
        for cohort in self.cohorts:
            cohort.require_labels(("training", "validation") if self.needs_labels else ("validation",))

    @classmethod
    def preprocessing(cls, config: Any) -> Preprocessing:
        """How scans are read, which the config knows by default.

        The cohorts are cached with it, and the model card keeps it.
        """
        found: Preprocessing = config.preprocessing()
        return found

    @abstractmethod
    def network(self) -> nn.Module:
        """The network, its weights drawn from PyTorch's global generator, which the loop has seeded.

        One call of the network is one forward pass (several processes share a batch by wrapping the call). A network
        with a boolean attribute ``checkpointing`` recomputes activations on the way back when it is set.
        """

    @abstractmethod
    def optimiser(self, network: nn.Module) -> torch.optim.Optimizer:
        """The optimiser with the learning rate that the schedule starts from."""

    @abstractmethod
    def training_items(self, epoch: int, generator: torch.Generator) -> Sequence[Item]:
        """What an epoch visits, in order.

        Everything random comes from the generator, which is the same whenever the epoch is begun again.
        """

    @abstractmethod
    def batch(self, items: Sequence[Item], device: torch.device, generators: Sequence[torch.Generator]) -> Batch:
        """Read the items from the caches, bring them to the device and augment them there.

        Args:
            items: of this pass and process.
            device: where the network is.
            generators: one per item, on the CPU. Whatever is drawn for an item comes from its own, so that a batch is
                the same however it is split over passes and processes.
        """

    @abstractmethod
    def loss(self, network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """The scalar ``"loss"``, a mean over the items of the batch, and its parts for the log."""

    @abstractmethod
    def validate(self, network: nn.Module, device: torch.device) -> Mapping[str, float]:
        """Numbers measured on the validation scans as an evaluation would: ``dice``, ``folding_percent``, ...

        The network is in evaluation mode and no gradient is kept. After every scan or pair ``self.on_validated`` is
        called with the share that is done: the loop shows it, and may raise there to stop in time.
        """

    def load_pretrained(self, network: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
        """Start from the weights of another model; the names of the parameters that keep their fresh values.

        A parameter is taken over when its name and shape agree. Tasks whose heads differ on purpose override nothing:
        the user reads what is left out.

        Raises:
            UserError: no parameter fits.
        """
        from anamorph.errors import UserError

        own = network.state_dict()
        fitting = {key: value for key, value in state.items() if key in own and own[key].shape == value.shape}
        if not fitting:
            raise UserError(
                "no weight of --pretrained fits this network; is it a model of the same kind, with the same width?"
            )
        network.load_state_dict(fitting, strict=False)
        return sorted(set(own) - set(fitting))

    @abstractmethod
    def export(self, network: nn.Module) -> dict[str, Any]:
        """What the model card says of this network: ``kind``, ``summary``, ``architecture``, ``labels``, ..."""

    def settings(self) -> dict[str, Any]:
        """The config as plain values."""
        return dataclasses.asdict(self.config)


def full_batches(items: Sequence[Item], size: int) -> list[list[Item]]:
    """All items in batches of one size; the last is filled up from the beginning.

    Raises:
        UserError: there are none.
    """
    if not items:
        raise UserError("there is nothing to train on: the lists of the data sets make no item; check their splits")
    count = -(-len(items) // size)
    filled = [items[n % len(items)] for n in range(count * size)]
    return [filled[n * size : (n + 1) * size] for n in range(count)]


def generator_at(seed: int, *place: int) -> torch.Generator:
    """A CPU generator that depends on the seed and on the place in the training (epoch, batch, item) alone."""
    digest = hashlib.blake2b("/".join(map(str, (seed, *place))).encode(), digest_size=4).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little"))
