"""PWC-Net's idea in three dimensions: a pyramid of features, warps, and small cost volumes, from coarse to fine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from anamorph.discrete.correlation import correlate_locally
from anamorph.discrete.labels import label_window, soft_argmin
from anamorph.networks.blocks import Checkpointing, Convolution, Encoder, Staged, cut, pad, warp
from anamorph.networks.widths import channels_of, padding_to_multiple

DILATIONS = (1, 2)
"""Of the convolutions of a step; the published network looks around by a network of its own, at the end."""
FIRST_TEMPERATURE = 0.1
LARGEST_RADIUS = 8


class PwcFlow(NamedTuple):
    """One direction.

    Attributes:
        disp_vox: ``(B, 3, I, J, K)`` from the voxels of the one image to those of the other.
        coarse_disp_vox: the same as left by the coarser steps, coarsest first; none unless asked for.
    """

    disp_vox: Tensor
    coarse_disp_vox: tuple[Tensor, ...] = ()


class PwcNetwork(Checkpointing):
    """Coarse to fine: warp the moving features, compare them with the fixed ones nearby, correct the field (Sun 2018).

    Both directions share the features and the weights, so that exchanging the images exchanges the directions. Every
    step ends in a convolution that starts at zero: an untrained network gives the identity exactly.

    Args:
        inputs: channels of an image.
        mult: width of the features: 4, 8, 16, ... times this.
        convolutions: 3 x 3 x 3 convolutions of the features per halving of the resolution.
        finest: halvings of the resolution at which the last step is taken; from there the field is read linearly.
        radius: of the cost volume of a step, voxels of its resolution; up to :data:`LARGEST_RADIUS`.
        width: channels of the convolutions of a step.

    Raises:
        ValueError: a larger radius.
    """

    def __init__(
        self,
        inputs: int = 1,
        mult: int = 2,
        convolutions: Sequence[int] = (1, 1, 1),
        finest: int = 1,
        radius: int = 2,
        width: int = 32,
    ) -> None:
        super().__init__()
        self.encoder = Encoder(inputs, mult, convolutions, "leaky")
        channels = channels_of(mult, len(convolutions))
        self.steps = nn.ModuleList(Step(each, radius, width) for each in reversed(channels[finest:]))
        self.cell = 2 ** len(convolutions)

    def forward(self, fixed: Tensor, moving: Tensor, both: bool = True, coarse: bool = False) -> list[PwcFlow]:
        """Predict.

        Args:
            fixed: ``(B, C, I, J, K)``, any size; padded inside.
            moving: an image of the same shape.
            both: also predict from the moving to the fixed image.
            coarse: also give the fields of the coarser steps.

        Returns:
            the flow from fixed to moving voxels, and the one from moving to fixed.
        """
        padding = padding_to_multiple(fixed.shape[-3:], self.cell)
        # One call for both images: the same work for a processor in fewer, larger steps.
        pyramid = self.encoder(torch.cat([pad(fixed, padding), pad(moving, padding)]))
        count = len(fixed)
        fields: list[Tensor] = []
        for step, level in zip(self.steps, reversed(pyramid), strict=False):
            # Costs and places in single precision, whatever that of the convolutions.
            features = level.float()
            here, there = (features, features.roll(count, 0)) if both else features.split(count)
            field = magnified(fields[-1], 2) if fields else torch.zeros_like(here[:, :3])
            fields.append(step(here, there, field))
        wanted = fields if coarse else fields[-1:]
        full = [cut(magnified(field, pyramid[0].shape[2] // field.shape[2]), padding) for field in wanted]
        directions = zip(*(field.split(count) for field in full), strict=True)
        return [PwcFlow(finest, tuple(coarser)) for *coarser, finest in directions]


class Step(Staged):
    """One resolution: the field is corrected by what the costs around it say.

    Args:
        channels: of the features.
        radius: of the cost volume, voxels.
        width: channels of the convolutions.
    """

    def __init__(self, channels: int, radius: int, width: int) -> None:
        super().__init__()
        if not 0 <= radius <= LARGEST_RADIUS:
            raise ValueError(f"the radius of a step is 0 to {LARGEST_RADIUS}, not {radius}")
        self.radius = radius
        labels = label_window([2 * radius + 1] * 3, [radius] * 3)
        self.register_buffer("labels", labels, persistent=False)
        self.log_temperature = nn.Parameter(torch.tensor(FIRST_TEMPERATURE).log())
        # No norm: a shift that is the same everywhere must not be taken for nothing.
        parts: list[nn.Module] = [nn.Conv3d(len(labels) + channels + 6, width, 1), nn.LeakyReLU(0.1)]
        for dilation in DILATIONS:
            parts += [Convolution(width, width, dilation), nn.LeakyReLU(0.1)]
        self.correct = nn.Sequential(*parts)
        self.last = Convolution(width, 3)
        nn.init.zeros_(self.last.weight)
        if self.last.bias is not None:
            nn.init.zeros_(self.last.bias)

    def forward(self, here: Tensor, there: Tensor, field: Tensor) -> Tensor:
        """The corrected field, ``(B, 3, i, j, k)`` voxels of this resolution; features are ``(B, C, i, j, k)``."""
        return field + self.run(self._correction, here, there, field)

    def _correction(self, here: Tensor, there: Tensor, field: Tensor) -> Tensor:
        costs = correlate_locally(here, warp(there, field), self.radius)
        labels: Tensor = self.labels  # type: ignore[assignment]
        found = soft_argmin(costs.movedim(1, -1), labels, self.log_temperature.exp()).movedim(-1, 1)
        return self.last(self.correct(torch.cat([costs, here, field, found], dim=1))).float()


def magnified(field: Tensor, times: int) -> Tensor:
    """A field ``(B, 3, i, j, k)`` of a coarse grid on one with so many times its voxels, in units of those.

    The coarse voxels are cells of fine ones, and both grids end where the outermost cells do.
    """
    if times == 1:
        return field
    return interpolate(field, scale_factor=times, mode="trilinear", align_corners=False) * times
