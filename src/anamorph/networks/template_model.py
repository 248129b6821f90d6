"""A trained network that tells of every voxel of a scan where in the template it belongs."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from anamorph.errors import UserError
from anamorph.features.body import body_centre_mm
from anamorph.geometry import Grid
from anamorph.image import Image
from anamorph.image.background import looks_like_ct
from anamorph.networks.known import architecture_of, build_network
from anamorph.networks.model_folder import ModelCard, find_model, load_model, read_card
from anamorph.networks.preprocessing import Preprocessing
from anamorph.reading import understood
from anamorph.transforms import Affine, Transform

if TYPE_CHECKING:
    from anamorph.networks.supervoxel_network import CoordinateNetwork, SupervoxelNetwork

Kind = Literal["slicreg", "regression"]
Centre = Literal["middle", "body"]
"""What lies in the middle of the frame: the middle of the field of view, or the centre of mass of the body."""


@dataclass(frozen=True, eq=False)
class TemplateModel:
    """A model folder that is loaded, or only described: then it has no network.

    All scans are read in frames of one shape and spacing, the axes near right, anterior and superior, so that voxels of
    two frames with the same index are about at the same place of the body.
    """

    card: ModelCard
    preprocessing: Preprocessing
    network: SupervoxelNetwork | CoordinateNetwork | None = None

    @classmethod
    def describe(cls, name_or_path: str, kind: Kind) -> TemplateModel:
        """Read the card alone.

        Raises:
            UserError: there is no such model, or it is of another kind.
        """
        if not name_or_path:
            raise UserError(
                f"'{kind}' needs a model; train one with `anamorph train {kind}` and name it: --set model=RUN"
            )
        card = read_card(find_model(name_or_path))
        if card.kind != kind:
            raise UserError(f"{name_or_path} is a model of '{card.kind}', not of '{kind}'; choose another")
        own: dict[str, Any] = {"network": architecture_of(card)}
        with understood(find_model(name_or_path), "the card describes no model of this kind", "copy it again"):
            own |= {"ct": bool(card.architecture["ct"]), "divisor": float(card.architecture["divisor"])}
            if card.architecture["centre"] not in get_args(Centre):
                raise ValueError(f"centre is {card.architecture['centre']}")
            if not 0 < own["divisor"] < float("inf"):
                raise ValueError(f"divisor is {own['divisor']}")
        card = dataclasses.replace(card, architecture=card.architecture | own)
        return cls(card, Preprocessing.from_json(card.preprocessing))

    @classmethod
    def load(cls, name_or_path: str, kind: Kind, device: str) -> TemplateModel:
        """Read the card and the weights.

        Raises:
            UserError: there is no such model, it is damaged, or the weights are not those of the architecture.
        """
        described = cls.describe(name_or_path, kind)
        card, state = load_model(name_or_path, kind)
        network: Any = build_network(card, state)
        return cls(described.card, described.preprocessing, network.to(device))

    @property
    def frame(self) -> Grid:
        """The grid of the network's input in mm of its own, shared by all scans; the template lies in it too."""
        spacing = np.broadcast_to(self.preprocessing.spacing_mm or 1.0, 3)
        return Grid(self.shape, np.diag([*spacing, 1.0]))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of the network's input."""
        i, j, k = (int(n) for n in self.preprocessing.shape or (1, 1, 1))
        return i, j, k

    @property
    def divisor(self) -> float:
        """By which values are divided after the preprocessing: 500 for HU."""
        return float(self.card.architecture["divisor"])

    def check(self, *images: Image) -> None:
        """See that scans can be given to the network.

        Raises:
            UserError: the number of channels or dimensions is another.
        """
        expected = int(self.card.architecture["network"]["inputs"])
        for image in images:
            windows = len(self.preprocessing.windows) or image.channels
            if windows != expected or (self.preprocessing.windows and image.channels != 1):
                raise UserError(
                    f"{image.name} has {image.channels} channels, and the model {self.card.name} was trained on "
                    f"{1 if self.preprocessing.windows else expected}; choose another model"
                )
            if image.grid.is_2d:
                raise UserError(f"{image.name} has a single slice; {self.card.name} registers volumes: take convex")

    def concerns(self, *images: Image) -> list[str]:
        """Why the model may not be meant for these scans."""
        ct = self.card.architecture["ct"]
        return [
            f"{image.name} {'does not look' if ct else 'looks'} like CT, {'' if ct else 'un'}like what "
            f"{self.card.name} was trained on"
            for image in images
            if looks_like_ct(image) != ct
        ]

    def frame_in(self, image: Image) -> Grid:
        """The frame placed in the world of a scan."""
        grid = self.preprocessing.frame(image.grid)
        if self.card.architecture["centre"] == "middle":
            return grid
        affine = grid.affine.copy()
        affine[:3, 3] += body_centre_mm(_coarse(image), looks_like_ct(image)) - grid.centre_mm
        return Grid(grid.shape, affine)

    def channels(self, image: Image, frame: Grid, transform: Transform | None = None) -> np.ndarray:
        """What the network sees: ``(C, I, J, K)``, the scan read in a frame through a transform.

        Raises:
            UserError: the scan has no contrast.
        """
        if transform is not None and not isinstance(transform, Affine):
            image = transform.warp_image(image, frame)
        elif transform is not None:
            frame = Grid(frame.shape, transform.matrix @ frame.affine)
        values: np.ndarray = self.preprocessing.channels(image, frame) / np.float32(self.divisor)
        return values


def output_grid(frame: Grid) -> Grid:
    """Where the outputs of the networks lie in the frame of their input: on every second voxel, from the second one.

    As published: the labels that they learn are read there.
    """
    affine = frame.affine.copy()
    affine[:3, 3] = frame.voxel_to_world(np.ones(3))
    affine[:3, :3] *= 2
    i, j, k = (n // 2 for n in frame.shape)
    return Grid((i, j, k), affine)


def _coarse(image: Image) -> Image:
    """The scan at about 2 mm, at which the centre of the body is found as in the preprocessing."""
    grid = image.grid.resampled(np.maximum(image.grid.spacing_mm, 2.0))
    return image if grid == image.grid else Affine.identity().warp_image(image, grid)
