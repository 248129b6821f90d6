"""Trained networks at work: on a pair, on a scan to segment, and on a scan in the space of a template."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from anamorph.errors import UserError
from anamorph.features.intensity import body_centre_mm
from anamorph.geometry.grid import Grid
from anamorph.image.background import background_value, looks_like_ct
from anamorph.image.image import Image, Labels
from anamorph.networks.model import Model, ModelCard, read_card
from anamorph.networks.segmentation import CompiledFeatures
from anamorph.networks.widths import padding_to_multiple
from anamorph.reading import understood
from anamorph.transforms.maps import Affine, Transform

if TYPE_CHECKING:
    from torch import Tensor


class RegistrationModel(Model):
    """A network that is called with the fixed and the moving scan and gives the fields of both directions."""

    @property
    def first_channels(self) -> int:
        """Channels at full resolution."""
        return 4 * int(self.architecture["mult"])

    def frame(self, fixed: Grid, moving: Grid) -> Grid:
        """Where the network sees a pair: around the middle of the fixed scan."""
        return self.own_frame(fixed, self.shape_for(fixed, moving))

    def own_frame(self, grid: Grid, shape: tuple[int, int, int]) -> Grid:
        """The frame of one scan as in training: around its own middle."""
        return self.preprocessing.frame(grid, shape)

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

        assert self.network is not None
        device = next(self.network.parameters()).device
        seen = (self.preprocessing.channels(fixed, frame), self.preprocessing.channels(moving, frame, start))
        one, other = (torch.from_numpy(np.ascontiguousarray(channels))[None].to(device) for channels in seen)
        return one, other

    def fields(self, fixed: Image, moving: Image, frame: Grid, start: Transform) -> tuple[np.ndarray, np.ndarray]:
        """Both directions, ``(3, I, J, K)`` voxels of the frame each; arguments and errors as of :meth:`inputs`."""
        import torch

        assert self.network is not None
        with torch.inference_mode():
            flows = self.network(*self.inputs(fixed, moving, frame, start))
        forward, backward = (flow.disp_vox[0].cpu().numpy() for flow in flows)
        flat = _single_voxel_axes(fixed.grid, frame)
        forward[flat], backward[flat] = 0, 0
        return forward, backward


def _single_voxel_axes(grid: Grid, frame: Grid) -> list[int]:
    """Axes of the frame along which the scan has one voxel: nothing moves there."""
    along = np.abs(frame.directions.T @ grid.directions)
    return [int(np.argmax(along[:, axis])) for axis, n in enumerate(grid.shape) if n == 1]


SEGMENT = "segment"
CHANNELS_HELD = 10
"""Volumes at full resolution that a pass holds, in widths of its first stage (measured: 318 bytes per voxel at 8).

The compiled network holds fewer."""


class SegmentationModel(Model):
    """A network that is called with one scan and gives scores of the background and its labels."""

    @property
    def labels(self) -> list[int]:
        """What it can tell apart, in the order of its channels after the background."""
        return sorted(self.card.labels)

    def predict(self, image: Image, known: Labels | None = None, annotated: Collection[int] = ()) -> Labels:
        """The most probable label of every voxel; what is known goes before what is predicted.

        Args:
            image: a scan.
            known: its own label map, on its grid.
            annotated: labels that ``known`` holds completely: they are never predicted, as wherever they are not known
                to be they are not.

        Raises:
            UserError: other channels than in the training, no contrast, or labels on another grid.
        """
        if known is not None and known.grid.shape != image.grid.shape:
            raise UserError(f"{known.name} is not on the grid of {image.name}; resample it first")
        probabilities = self.probabilities(image)
        for channel, label in enumerate(self.labels, start=1):
            if label in annotated:
                probabilities[channel] = 0
        values = np.array([0, *self.labels], np.uint8)[probabilities.argmax(axis=0)]
        if known is not None:
            truth = np.where(np.isin(known.data[0], [*annotated]), known.data[0], 0)
            values = np.where(truth > 0, truth, values).astype(np.uint8)
        return Labels(values, image.grid, image.name)

    def stripped(self, image: Image, labels: Labels, outside: Collection[str] = ()) -> Image:
        """The scan with the value of its background wherever no label is.

        Args:
            image: a scan.
            labels: what :meth:`predict` gives for it; the largest connected part counts.
            outside: names of labels that count as none, such as ``head``.

        Raises:
            UserError: the model has no such label, or nothing is left.
        """
        from scipy import ndimage

        names = {name: label for label, name in self.card.labels.items()}
        strange = sorted(set(outside) - set(names))
        if strange:
            raise UserError(f"{self.card.name} has no label '{strange[0]}'; it has: {', '.join(names)}")
        inside = (labels.data[0] != 0) & ~np.isin(labels.data[0], [names[name] for name in outside])
        parts, count = ndimage.label(inside)
        if count == 0:
            raise UserError(f"{image.name}: {self.card.name} finds none of its labels; is it a scan of that kind?")
        largest = 1 + int(np.argmax(np.bincount(parts.ravel())[1:]))
        nothing = np.asarray(background_value(image), image.data.dtype)
        return image.with_data(np.where(parts == largest, image.data, nothing))

    def probabilities(self, image: Image) -> np.ndarray:
        """``(1 + labels, I, J, K)`` on the grid of the scan; all 0 where the network saw nothing.

        Raises:
            UserError: other channels than in the training, or no contrast.
        """
        return Affine.identity().warp_image(self.seen(image), image.grid, background=0).data

    @property
    def can_turn(self) -> bool:
        """Whether the network can see a scan from any side: its voxels are cubes of a known size."""
        return isinstance(self.preprocessing.spacing_mm, int | float)

    def seen(self, image: Image, frame: Grid | None = None) -> Image:
        """The probabilities ``(1 + labels, I, J, K)`` on the frame in which the network sees a scan.

        Args:
            image: a scan.
            frame: where the network is to see it; by default that of :meth:`frame`.

        Raises:
            UserError: other channels than in the training, or no contrast.
        """
        self.check(image)
        frame = self.frame(image.grid) if frame is None else frame
        channels = self.preprocessing.channels(image, frame)
        run = self._probabilities_torch if self.compiled is None else self.compiled.probabilities
        return Image(run(channels), frame)

    def _probabilities_torch(self, channels: np.ndarray) -> np.ndarray:
        import torch

        assert self.network is not None
        device = next(self.network.parameters()).device
        with torch.inference_mode():
            found = self.network(torch.from_numpy(channels)[None].to(device)).softmax(1)[0]
        probabilities: np.ndarray = found.cpu().numpy()
        return probabilities

    def frame(self, grid: Grid) -> Grid:
        """Where the network sees a scan: as in training, and larger where the scan is."""
        return self.preprocessing.frame(grid, self.shape_for(grid))

    def peak_memory_bytes(self, grid: Grid) -> int:
        """Peak memory of segmenting a scan on a grid."""
        shape, stem = self.shape_for(grid), int(self.architecture["stem"])
        padding = padding_to_multiple(shape, stem * 2 ** len(self.architecture["convolutions"]))
        padded = np.array(shape) + np.sum(padding, axis=1)
        seen, framed = int(np.prod(padded)), int(np.prod(padded // stem + 2))
        width = 4 * int(self.architecture["mult"])
        scores = (len(self.labels) + 1) * (seen + max(seen, int(np.prod(grid.shape))))
        return 4 * (framed * CHANNELS_HELD * width + scores)


FEATURES = "features"


class FeatureModel(Model):
    """A network that is called with one channel and gives a vector of length 1 for every cell."""

    @property
    def stem(self) -> int:
        """Voxels along each axis of a cell."""
        return int(self.architecture["stem"])

    @property
    def classes(self) -> int:
        """Channels of a feature."""
        return int(self.architecture["classes"])

    def features(self, channel: np.ndarray) -> np.ndarray:
        """``(I, J, K)`` in [0, 1] to ``(I / stem, J / stem, K / stem, C)``, rounded up."""
        if self.compiled is not None:
            assert isinstance(self.compiled, CompiledFeatures)
            return self.compiled.features(channel[None])
        import torch

        assert self.network is not None
        device = next(self.network.parameters()).device
        with torch.inference_mode():
            found = self.network(torch.from_numpy(np.ascontiguousarray(channel))[None, None].to(device))[0]
        features: np.ndarray = found.movedim(0, -1).cpu().numpy()
        return features

    def peak_memory_bytes(self, cells: Grid) -> int:
        """Peak memory of the features of one channel on a grid of cells."""
        count = int(np.prod(np.array(cells.shape) + 2 * 2 ** len(self.architecture["convolutions"])))
        width = 4 * int(self.architecture["mult"])
        return 4 * count * (self.stem**3 + CHANNELS_HELD * width + self.classes)


Kind = Literal["slicreg", "regression"]
Centre = Literal["middle", "body"]
"""What lies in the middle of the frame: the middle of the field of view, or the centre of mass of the body."""


class TemplateModel(Model):
    """A network that is called with one scan in a frame of its own.

    All scans are read in frames of one shape and spacing, the axes near right, anterior and superior, so that voxels of
    two frames with the same index are about at the same place of the body.
    """

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
        """See that scans have the channels of the training and several slices.

        Raises:
            UserError: one has not.
        """
        super().check(*images)
        for image in images:
            if image.grid.is_2d:
                raise UserError(f"{image.name} has a single slice; {self.card.name} registers volumes: take convex")

    def warnings_for(self, *images: Image) -> list[str]:
        """Scans of another modality than those of the training; their size is free."""
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
        values: np.ndarray = self.preprocessing.channels(image, frame, transform) / np.float32(self.divisor)
        return values

    def _check_card(self) -> None:
        super()._check_card()
        with understood(Path(self.card.name), "the card describes no model of this kind", "copy it again"):
            if self.card.architecture["centre"] not in get_args(Centre):
                raise ValueError(f"centre is {self.card.architecture['centre']}")
            bool(self.card.architecture["ct"])
            if not 0 < self.divisor < float("inf"):
                raise ValueError(f"divisor is {self.divisor}")


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


def check_model(folder: Path) -> ModelCard:
    """The card of a model whose weights are those of the card and fit the network that it describes.

    Raises:
        UserError: they are not, or do not.
    """
    one = TemplateModel if read_card(folder).kind in get_args(Kind) else Model
    return one.load(folder).card
