"""A trained registration network, with what must be done to scans before it sees them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from anamorph.errors import UserError
from anamorph.geometry import Grid
from anamorph.geometry.lengths import length_text
from anamorph.image import Image
from anamorph.image.background import looks_like_ct
from anamorph.networks.known import architecture_of, build_network
from anamorph.networks.model_folder import ModelCard, find_model, load_model, read_card
from anamorph.networks.preprocessing import Preprocessing
from anamorph.transforms import Affine, Transform

if TYPE_CHECKING:
    from torch import Tensor, nn

KIND = "symmetric"
MUCH_LARGER = 1.5
"""A scan this many times longer than those of the training is none of their kind."""
Shape = tuple[int, int, int]


@dataclass(frozen=True)
class RegistrationModel:
    """A model folder that is loaded, or only described: then it has no network."""

    card: ModelCard
    preprocessing: Preprocessing
    network: nn.Module | None = None

    @classmethod
    def describe(cls, name_or_path: str, kind: str = KIND) -> RegistrationModel:
        """Read the card alone.

        Raises:
            UserError: there is no such model, or it is of another kind.
        """
        if not name_or_path:
            raise UserError(f"'{kind}' needs a model; train one with `anamorph train {kind}`, then --set model=RUN")
        card = read_card(find_model(name_or_path))
        if card.kind != kind:
            raise UserError(f"{name_or_path} is a model of '{card.kind}', not of '{kind}'; choose another")
        card = dataclasses.replace(card, architecture=architecture_of(card))
        return cls(card, Preprocessing.from_json(card.preprocessing))

    @classmethod
    def load(cls, name_or_path: str, device: str, kind: str = KIND) -> RegistrationModel:
        """Read the card and the weights.

        Raises:
            UserError: there is no such model, it is damaged, or the weights are not those of the architecture.
        """
        described = cls.describe(name_or_path, kind)
        card, state = load_model(name_or_path, kind)
        network = build_network(card, state)
        return cls(described.card, described.preprocessing, network.to(device))

    @property
    def first_channels(self) -> int:
        """Channels at full resolution."""
        return 4 * int(self.card.architecture["mult"])

    def shape_for(self, fixed: Grid, moving: Grid) -> Shape:
        """Voxels that cover both scans: those of the training, and more where a scan is larger and not cropped."""
        if self.preprocessing.crop_in_use and self.preprocessing.shape is not None:
            return self.preprocessing.shape
        free = dataclasses.replace(self.preprocessing, shape=None)
        shapes = [free.covering_shape(fixed), free.covering_shape(moving), self.preprocessing.shape or (1, 1, 1)]
        return tuple(int(n) for n in np.max(shapes, axis=0))  # type: ignore[return-value]

    def frame(self, fixed: Grid, moving: Grid) -> Grid:
        """Where the network sees a pair: around the middle of the fixed scan."""
        return self.own_frame(fixed, self.shape_for(fixed, moving))

    def own_frame(self, grid: Grid, shape: Shape) -> Grid:
        """The frame of one scan as in training: around its own middle."""
        return self.preprocessing.frame(grid, shape)

    def check_channels(self, image: Image) -> None:
        """See that a scan has the channels of the training.

        Raises:
            UserError: it has not.
        """
        expected = 1 if self.preprocessing.normalise == "windows" else int(self.card.architecture["inputs"])
        if image.channels != expected:
            raise UserError(
                f"{image.name} has {image.channels} channels, and the model {self.card.name} was trained on "
                f"{expected}; choose another model"
            )

    def concerns(self, *images: Image) -> list[str]:
        """Why the model may not be meant for these scans."""
        found = []
        for image in images:
            if self.preprocessing.normalise == "windows" and not looks_like_ct(image):
                found.append(f"{image.name} does not look like CT, which {self.card.name} was trained on")
            spacing, shape = self.preprocessing.spacing_mm, self.preprocessing.shape
            if spacing is None or shape is None or self.preprocessing.crop_in_use:
                continue
            longest_mm = float((np.array(image.grid.shape) * image.grid.spacing_mm).max())
            trained_mm = float((np.array(shape) * spacing).max())
            if longest_mm > MUCH_LARGER * trained_mm:
                found.append(
                    f"{image.name} is {length_text(longest_mm, 0)} long, but {self.card.name} was trained on scans of "
                    f"up to {length_text(trained_mm, 0)}; is it the model for this part of the body?"
                )
        return found

    def inputs(self, fixed: Image, moving: Image, frame: Grid, start: Transform) -> tuple[Tensor, Tensor]:
        """What the network sees of a pair: ``(1, C, I, J, K)`` each, on its device.

        Args:
            fixed: the fixed scan.
            moving: the moving scan.
            frame: where the network sees them.
            start: from fixed to moving points.

        Raises:
            UserError: a scan has no contrast.
        """
        import torch

        here = self.preprocessing.channels(fixed, frame)
        if isinstance(start, Affine):
            there = self.preprocessing.channels(moving, Grid(frame.shape, start.matrix @ frame.affine))
        else:
            there = self.preprocessing.channels(start.warp_image(moving, frame), frame)
        assert self.network is not None
        device = next(self.network.parameters()).device
        one, other = (torch.from_numpy(np.ascontiguousarray(channels))[None].to(device) for channels in (here, there))
        return one, other

    def fields(self, fixed: Image, moving: Image, frame: Grid, start: Transform) -> tuple[np.ndarray, np.ndarray]:
        """Both directions, ``(3, I, J, K)`` voxels of the frame each; arguments and errors as of :meth:`inputs`."""
        import torch

        assert self.network is not None
        with torch.inference_mode():
            flows = self.network(*self.inputs(fixed, moving, frame, start))
        fields = [flow.disp_vox[0].cpu().numpy() for flow in flows]
        flat = _single_voxel_axes(fixed.grid, frame)
        for field in fields:
            field[flat] = 0
        return fields[0], fields[1]


def _single_voxel_axes(grid: Grid, frame: Grid) -> list[int]:
    """Axes of the frame along which the scan has one voxel: nothing moves there."""
    found: list[Any] = []
    for axis, n in enumerate(grid.shape):
        if n == 1:
            along = np.abs(frame.directions.T @ grid.directions[:, axis])
            found.append(int(np.argmax(along)))
    return found
