"""A trained network: the folder it travels in, the card that says what it is, and loading both.

The folder holds ``weights.safetensors`` and ``model.json``, the card. What one kind of networks needs besides stands in
``trained``.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from anamorph import __version__
from anamorph.errors import UserError
from anamorph.geometry.grid import Grid
from anamorph.geometry.lengths import length_text
from anamorph.image.atomic import atomic_path, write_text
from anamorph.image.background import looks_like_ct
from anamorph.image.image import Image
from anamorph.networks.architecture import architecture_of, build_compiled, build_network
from anamorph.networks.eight_bits import from_eight_bits
from anamorph.networks.model_folders import CARD, WEIGHTS, find_model
from anamorph.networks.preprocessing import Preprocessing
from anamorph.networks.segmentation import CompiledSegmentation
from anamorph.reading import DAMAGE, read_json, reason_of, understood

if TYPE_CHECKING:
    from torch import Tensor, nn

FORMAT = 1
MOST_TENSORS = 10_000
LARGEST_WEIGHTS_BYTES = 8 << 30
_KINDS = {"str": str, "int": int, "dict": dict, "list": list}
_WORDS = {str: "text", int: "whole number", dict: "table", list: "list"}
_REMEDY = "copy the whole model folder again"
NOT_FOR = "diagnosis and treatment; scans unlike those it was trained on"
MUCH_LARGER = 1.5
"""A scan this many times longer than those of the training is none of their kind."""


@dataclass(frozen=True)
class ModelCard:
    """What a user must know of a model, and what a program needs to use it.

    Args:
        name: name of the model.
        kind: the training that made it, such as ``symmetric``; a method takes only models of its kind.
        summary: one sentence.
        architecture: what the network is built from.
        preprocessing: what it expects of a scan (:class:`~anamorph.networks.preprocessing.Preprocessing`).
        labels: names of the labels that the model knows, by value.
        volumes_ml: smallest and largest volume that each label has in the scans of the training.
        training_data: data sets, each with its name, number of scans and hash.
        metrics: numbers of the best validation.
        measured_on: the scans that gave these numbers.
        licence: licence of the weights.
        attribution: whom users of the weights must name.
        not_for: what it must not be used for.
        provenance: how the training can be repeated.
        sha256: hash of the file of weights.
        parameters: number of weights.
        anamorph: version that wrote the card.
    """

    name: str
    kind: str
    summary: str = ""
    architecture: dict[str, Any] = field(default_factory=dict)
    preprocessing: dict[str, Any] = field(default_factory=dict)
    labels: dict[int, str] = field(default_factory=dict)
    volumes_ml: dict[int, list[float]] = field(default_factory=dict)
    training_data: list[dict[str, Any]] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    measured_on: str = "not stated"
    licence: str = "not stated"
    attribution: str = "not stated"
    not_for: str = NOT_FOR
    provenance: dict[str, Any] = field(default_factory=dict)
    sha256: str = ""
    parameters: int = 0
    anamorph: str = __version__

    @property
    def usual_sureness(self) -> dict[int, float]:
        """How sure a segmentation network was of each label in the best validation; of older models nothing."""
        return self._of_labels("sure")

    @property
    def low_sureness(self) -> dict[int, float]:
        """What nine of ten scans reached of :attr:`usual_sureness` in that validation; of older models nothing."""
        return self._of_labels("sure_low")

    def _of_labels(self, name: str) -> dict[int, float]:
        return {label: self.metrics[key] for label in self.labels if (key := f"{name}_{label}") in self.metrics}

    def as_json(self) -> dict[str, Any]:
        """The content of ``model.json``."""
        return {"format": FORMAT} | dataclasses.asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> ModelCard:
        """The card of the content of ``model.json``; keys of later versions are passed over.

        Raises:
            ValueError: it is no card, or of a later format.
        """
        if content["format"] > FORMAT:
            raise ValueError(f"its format {content['format']} is newer than this version of anamorph reads")
        kinds = {one.name: _KINDS[str(one.type).partition("[")[0]] for one in dataclasses.fields(cls)}
        given = {key: value for key, value in content.items() if key in kinds}
        for key, value in given.items():
            if not isinstance(value, kinds[key]) or isinstance(value, bool):
                raise ValueError(f"{key} is {str(value)[:40]!r}, no {_WORDS[kinds[key]]}")
        sets = given.get("training_data", [])
        if not all(isinstance(one, dict) and isinstance(one.get("scans", {}), dict) for one in sets):
            raise ValueError("training_data is no list of data sets with their scans")
        if not given["name"] or not given["kind"]:
            raise ValueError("name or kind is empty")
        given["labels"] = {int(value): str(name) for value, name in given.get("labels", {}).items()}
        volumes = {int(value): [float(low), float(high)] for value, (low, high) in given.get("volumes_ml", {}).items()}
        given["volumes_ml"] = volumes
        return cls(**given)


def save_model(
    folder: Path,
    state: Mapping[str, Tensor],
    card: ModelCard,
    kept_as: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]] | None = None,
) -> ModelCard:
    """Write a model, weights first, so that a folder with a card is complete.

    Args:
        folder: made if need be; an earlier model in it is replaced.
        state: the ``state_dict`` of the network.
        card: hash, size and version are filled in.
        kept_as: makes of the weights what the file holds, as :func:`~anamorph.networks.eight_bits.in_eight_bits`.

    Returns:
        the card as written.
    """
    from safetensors import numpy as arrays
    from safetensors import torch as tensors

    whole = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    if kept_as is None:
        content = tensors.save(whole)
    else:
        content = arrays.save(kept_as({key: value.numpy() for key, value in whole.items()}))
    complete = dataclasses.replace(
        card,
        sha256=hashlib.sha256(content).hexdigest(),
        parameters=sum(value.numel() for value in state.values()),
        anamorph=__version__,
    )
    with atomic_path(folder / WEIGHTS) as temporary:
        temporary.write_bytes(content)
    write_text(folder / CARD, json.dumps(complete.as_json(), indent=2, ensure_ascii=False) + "\n")
    return complete


def read_card(folder: Path) -> ModelCard:
    """The card of a model folder.

    Raises:
        UserError: it cannot be read.
    """
    path = folder / CARD
    with understood(path, "is no model card", _REMEDY):
        _check_place(path)
        card = ModelCard.from_json(read_json(path))
        try:
            Preprocessing.from_json(card.preprocessing)
        except UserError as error:
            raise ValueError(str(error)) from error
        return card


def _check_place(path: Path) -> None:
    """See that a file of a model is one, and lies in its folder.

    Raises:
        ValueError: it is a pipe or a device, or a link that leads elsewhere.
    """
    if path.exists() and not path.is_file():
        raise ValueError("is no file")
    if path.is_symlink() and not path.resolve().is_relative_to(path.parent.resolve()):
        raise ValueError("is a link out of the folder")


def load_weights(name_or_path: str | Path, kind: str | None = None) -> tuple[ModelCard, dict[str, Tensor]]:
    """The card and the weights of a model as tensors; arguments and errors as of :func:`read_weights`."""
    card, state = read_weights(name_or_path, kind)
    return card, as_tensors(state)


def as_tensors(state: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """Copies of weights for PyTorch."""
    import torch

    return {key: torch.tensor(value) for key, value in state.items()}


def read_weights(name_or_path: str | Path, kind: str | None = None) -> tuple[ModelCard, dict[str, np.ndarray]]:
    """The card and the weights of a model, which must be those that the card describes.

    Args:
        name_or_path: a folder, or a name that :func:`~anamorph.networks.model_folders.find_model` knows.
        kind: the training that the model must come from; None takes any.

    Raises:
        UserError: no such model, weights that are missing, damaged or not those of the card, or another kind.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    folder = find_model(name_or_path)
    card = _card_of_kind(folder, kind, str(name_or_path))
    path = folder / WEIGHTS
    if not path.exists():
        raise UserError(f"{folder}: has a card but no {WEIGHTS}; {_REMEDY}")
    with understood(path, "cannot be read", _REMEDY):
        _check_place(path)
        if path.stat().st_size > LARGEST_WEIGHTS_BYTES:
            raise ValueError("too large for weights")
        content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != card.sha256:
        raise UserError(f"{path}: is not the file its card describes; {_REMEDY}")
    try:
        state = from_eight_bits(load(content))
    except (SafetensorError, *DAMAGE) as error:
        raise UserError(f"{path}: cannot be read ({reason_of(error)}); {_REMEDY}") from error
    if len(state) > MOST_TENSORS or card.parameters != sum(value.size for value in state.values()):
        raise UserError(f"{path}: holds other weights than the {card.parameters:,} of its card; {_REMEDY}")
    return card, state


def _card_of_kind(folder: Path, kind: str | None, name: str) -> ModelCard:
    card = read_card(folder)
    if kind is not None and card.kind != kind:
        raise UserError(f"{name} is a model of '{card.kind}', not of '{kind}'; `anamorph models list` shows all")
    return card


@dataclass(frozen=True, eq=False)
class Model:
    """A model folder that is loaded, or only described: then it has no network.

    Args:
        card: as in the folder.
        preprocessing: how scans are read for the network.
        architecture: all arguments of the network, also those that the card leaves at their defaults.
        network: in evaluation mode on its device; none where there is a compiled one.
        compiled: the network for the kernels, on a processor, if they know it.
    """

    card: ModelCard
    preprocessing: Preprocessing
    architecture: dict[str, Any]
    network: nn.Module | None = None
    compiled: CompiledSegmentation | None = None

    @classmethod
    def describe(cls, name_or_path: str | Path, kind: str | None = None) -> Self:
        """Read the card alone.

        Args:
            name_or_path: a folder, or a name that :func:`~anamorph.networks.model_folders.find_model` knows.
            kind: the training that the model must come from; None takes any.

        Raises:
            UserError: there is no such model, it is of another kind, or its card describes no network.
        """
        if not str(name_or_path):
            raise UserError(f"'{kind}' needs a model; train one with `anamorph train {kind}`, then --set model=RUN")
        card = _card_of_kind(find_model(name_or_path), kind, str(name_or_path))
        described = cls(card, Preprocessing.from_json(card.preprocessing), architecture_of(card))
        described._check_card()
        return described

    @classmethod
    def load(cls, name_or_path: str | Path, kind: str | None = None, device: str = "cpu") -> Self:
        """Read the card and the weights.

        Args:
            name_or_path: a folder, or a name that :func:`~anamorph.networks.model_folders.find_model` knows.
            kind: the training that the model must come from; None takes any.
            device: ``cpu`` or ``cuda``, where the network is put.

        Raises:
            UserError: as :meth:`describe`; or the weights are damaged, or not those of the network.
        """
        described = cls.describe(name_or_path, kind)
        card, state = read_weights(name_or_path, kind)
        compiled = build_compiled(card, state) if device == "cpu" else None
        network = build_network(card, as_tensors(state)).to(device) if compiled is None else None
        return dataclasses.replace(described, network=network, compiled=compiled)

    @property
    def identity(self) -> dict[str, str]:
        """Name and hash, which a result keeps."""
        return {"name": self.card.name, "sha256": self.card.sha256}

    def check(self, *images: Image) -> None:
        """See that scans have the channels of the training.

        Raises:
            UserError: one has not.
        """
        expected = 1 if self.preprocessing.windows else self.architecture.get("inputs")
        for image in images:
            if expected is not None and image.channels != expected:
                raise UserError(
                    f"{image.name} has {image.channels} channels, and the model {self.card.name} was trained on "
                    f"{expected}; choose another model"
                )

    def warnings_for(self, *images: Image) -> list[str]:
        """Why the model may not be meant for scans."""
        found = []
        for image in images:
            if self.preprocessing.windows and not looks_like_ct(image):
                found.append(f"{image.name} does not look like CT, which {self.card.name} was trained on")
            spacing, shape = self.preprocessing.spacing_mm, self.preprocessing.shape
            if spacing is None or shape is None or self.preprocessing.crop_in_use:
                continue
            longest_mm, trained_mm = image.grid.longest_mm, float((np.array(shape) * spacing).max())
            if longest_mm > MUCH_LARGER * trained_mm:
                found.append(
                    f"{image.name} is {length_text(longest_mm, 0)} long, but {self.card.name} was trained on scans of "
                    f"up to {length_text(trained_mm, 0)}; is it the model for this part of the body?"
                )
        return found

    def is_sized_for(self, grid: Grid) -> bool:
        """Whether a scan is about as long as those of the training, or says nothing about it."""
        spacing, shape = self.preprocessing.spacing_mm, self.preprocessing.shape
        if spacing is None or shape is None:
            return True
        ratio = grid.longest_mm / float((np.array(shape) * spacing).max())
        return bool(1 / MUCH_LARGER < ratio < MUCH_LARGER)

    def shape_for(self, *grids: Grid) -> tuple[int, int, int]:
        """Voxels that cover scans: those of the training, and more where a scan is larger and not cropped."""
        if self.preprocessing.crop_in_use and self.preprocessing.shape is not None:
            return self.preprocessing.shape
        free = dataclasses.replace(self.preprocessing, shape=None)
        shapes = [*(free.covering_shape(grid) for grid in grids), self.preprocessing.shape or (1, 1, 1)]
        i, j, k = (int(n) for n in np.max(shapes, axis=0))
        return i, j, k

    def _check_card(self) -> None:
        """See that what the card says fits together.

        Raises:
            UserError: it does not.
        """
        windows, inputs = len(self.preprocessing.windows), self.architecture.get("inputs")
        if windows and inputs not in (None, windows):
            raise UserError(f"{self.card.name}: the card has {windows} windows for {inputs} channels; {_REMEDY}")
