"""Networks of SLIC-Reg: features of a scan, and a head for supervoxels or for coordinates."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm, conv3d, cross_entropy, interpolate
from torch.utils.checkpoint import checkpoint

from anamorph.networks.blocks import Convolution

WIDTHS = (32, 48, 64, 96)
"""Channels at a half, a quarter, an eighth and a sixteenth of the resolution."""


class UNetSlic(nn.Module):
    """Features at half the resolution of the input, at about the cost of :class:`DeepLab`.

    Takes ``(B, C, I, J, K)``, gives ``(B, channels, I / 2, J / 2, K / 2)``, odd sizes rounded up. The number of
    parameters, 1.26 million, is near that of the DeepLab, so that the two differ in kind alone.

    Args:
        inputs: channels of a scan.
    """

    channels: ClassVar[int] = 152

    def __init__(self, inputs: int = 1) -> None:
        super().__init__()
        finest = WIDTHS[0]
        self.first = nn.Sequential(_convolution(inputs, finest, stride=2), _convolution(finest, finest))
        self.deeper = _Deeper(WIDTHS)
        self.last = _convolution(finest, self.channels - finest)

    @property
    def stages(self) -> tuple[nn.Module, nn.Module, nn.Module]:
        """What may be recomputed one by one on the way back."""
        return self.first, self.deeper, nn.Identity()

    def join(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """The early features with what the deeper levels make of them."""
        return torch.cat([fine, self.last(_up(coarse, fine))], dim=1)


class _Deeper(nn.Module):
    """All levels below the first: down, and up again with skips; gives its input's channels at half its size."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        here, below = widths[:2]
        self.down = nn.Sequential(_convolution(here, below, stride=2), _convolution(below, below))
        self.deeper = _Deeper(widths[1:]) if len(widths) > 2 else None
        self.up = _convolution(2 * below if self.deeper else below, here)

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(x)
        return self.up(x if self.deeper is None else torch.cat([x, _up(self.deeper(x), x)], dim=1))


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    convolution = Convolution(inputs, outputs, stride=stride, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm3d(outputs), nn.ReLU(inplace=True))


def _up(coarse: Tensor, like: Tensor) -> Tensor:
    return interpolate(coarse, size=like.shape[2:], mode="nearest")


FeatureNetwork = Literal["deeplab", "unet"]
HeadLayout = Literal["layers", "published"]
GROUP = 32
"""Channels of the head per layer."""


class _WithFeatures(nn.Module):
    """Features of a scan; ``checkpointing`` recomputes activations on the way back."""

    template: Tensor

    def __init__(self, features: FeatureNetwork, inputs: int) -> None:
        super().__init__()
        self.features = DeepLab(inputs) if features == "deeplab" else UNetSlic(inputs)
        self.checkpointing = False

    def _features(self, images: Tensor) -> Tensor:
        first, second, third = self.features.stages
        fine = self._run(first, images)
        return self.features.join(fine, self._run(third, self._run(second, fine)))

    def _run(self, part: Any, *values: Tensor) -> Tensor:
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(part, *values, use_reentrant=False)
        return part(*values)


class SupervoxelNetwork(_WithFeatures):
    """Which supervoxel of every layer a voxel belongs to (Heinrich and Hansen 2021).

    The layers of the template travel with the weights, so that a model can be used through its template.

    Args:
        layers: of supervoxels.
        classes: supervoxels of a layer and the background.
        features: the network before the head.
        inputs: channels of a scan.
        layout: ``"layers"`` gives each layer a group of the head of its own; ``"published"`` reads the channels as the
            published program does, classes first, so that each group predicts some classes of all layers.
        template: shape of the template's layers; None leaves them out.
    """

    def __init__(
        self,
        layers: int = 16,
        classes: int = 128,
        features: FeatureNetwork = "deeplab",
        inputs: int = 1,
        layout: HeadLayout = "layers",
        template: tuple[int, int, int] | None = None,
    ) -> None:
        super().__init__(features, inputs)
        self.layers, self.classes, self.layout = layers, classes, layout
        wide = GROUP * layers
        self.head = nn.Sequential(
            *(nn.Conv3d(self.features.channels, wide, 1, bias=False), nn.BatchNorm3d(wide), nn.ReLU()),
            *(Convolution(wide, wide, groups=layers, bias=False), nn.BatchNorm3d(wide), nn.ReLU()),
            nn.Conv3d(wide, classes * layers, 1, groups=layers),
        )
        if template is not None:
            self.register_buffer("template", torch.zeros((layers, *template), dtype=torch.uint8))

    def forward(self, images: Tensor, targets: Tensor | None = None) -> Tensor:
        """Class scores, or how wrong they are.

        Args:
            images: ``(B, C, I, J, K)``.
            targets: ``(B, L, I / 2, J / 2, K / 2)`` labels: the scores of one scan at a time are compared with them and
                forgotten, which bounds the memory.

        Returns:
            Scores ``(B, L, S, I / 2, J / 2, K / 2)``; with targets the cross-entropy ``(B, L)``.
        """
        features = self._features(images)
        if targets is None:
            return self.scores(features)
        pairs = zip(features.split(1), targets.split(1), strict=True)
        return torch.cat([self._run(self._losses, one, target) for one, target in pairs])

    def scores_by_layer(self, images: Tensor) -> Iterator[Tensor]:
        """The scores ``(S, I / 2, J / 2, K / 2)`` of one scan ``(1, C, I, J, K)``, one layer after the other.

        All of them at once take 1 GB at the published size.
        """
        hidden = self.head[:-1](self._features(images))
        last: Any = self.head[-1]
        rows = torch.arange(self.layers * self.classes, device=images.device)
        rows = rows.reshape(self.layers, -1) if self.layout == "layers" else rows.reshape(-1, self.layers).T
        per_group = self.classes  # output channels of a group, which need not be those of a layer
        for of_layer in rows:
            parts = []
            for group in (of_layer // per_group).unique().tolist():
                chosen = of_layer[of_layer // per_group == group]
                inputs = hidden[:, GROUP * group : GROUP * (group + 1)]
                parts.append(conv3d(inputs, last.weight[chosen], last.bias[chosen])[0])
            yield torch.cat(parts)

    def scores(self, features: Tensor) -> Tensor:
        """``(B, L, S, i, j, k)`` of features ``(B, C, i, j, k)``."""
        out = self.head(features)
        if self.layout == "layers":
            return out.unflatten(1, (self.layers, self.classes))
        return out.unflatten(1, (self.classes, self.layers)).transpose(1, 2)

    def _losses(self, features: Tensor, target: Tensor) -> Tensor:
        scores = self.scores(features)[0]
        each = cross_entropy(scores.float(), target[0].long(), reduction="none")
        return each.flatten(1).mean(dim=1)[None]


class CoordinateNetwork(_WithFeatures):
    """Where in the template each voxel of a scan belongs: the baseline of SLIC-Reg.

    Args:
        features: the network before the head.
        inputs: channels of a scan.
        template: shape of one of the template's layers, which tells its foreground; None leaves it out.
    """

    def __init__(
        self,
        features: FeatureNetwork = "deeplab",
        inputs: int = 1,
        template: tuple[int, int, int] | None = None,
    ) -> None:
        super().__init__(features, inputs)
        wide = 16 * GROUP
        self.head = nn.Sequential(
            *(nn.Conv3d(self.features.channels, wide, 1, bias=False), nn.BatchNorm3d(wide), nn.ReLU()),
            *(Convolution(wide, wide, groups=16, bias=False), nn.BatchNorm3d(wide), nn.ReLU()),
            nn.Conv3d(wide, 3, 1),
        )
        if template is not None:
            self.register_buffer("template", torch.zeros((1, *template), dtype=torch.uint8))

    def forward(self, images: Tensor) -> Tensor:
        """``(B, 3, I / 2, J / 2, K / 2)``: displacement to the template; 1 is half the extent of the frame."""
        return self._run(self.head, self._features(images))


def load_published(network: SupervoxelNetwork, content: dict[str, dict[str, Tensor]]) -> None:
    """Take over the weights of the published program, ``{"backbone", "aspp", "head"}``, in their order.

    Args:
        network: 16 layers of 128 classes, DeepLab, layout ``"published"``.
        content: of the file, as ``torch.load(path, weights_only=True)`` gives it.

    Raises:
        UserError: the file does not hold the weights of this network.
    """
    from anamorph.errors import UserError

    features = network.features
    parts = {"backbone": getattr(features, "backbone", None), "aspp": getattr(features, "aspp", None)}
    for name, part in (parts | {"head": network.head}).items():
        given = list(content.get(name, {}).values())
        own = {} if part is None else part.state_dict()
        if part is None or [tuple(v.shape) for v in given] != [tuple(v.shape) for v in own.values()]:
            raise UserError(
                f"the weights of '{name}' are not those of the published DeepLab of 16 layers of 128 classes"
            )
        part.load_state_dict(dict(zip(own, given, strict=True)))


MIDDLE = (64, 128, 192, 192, 256, 256, 256, 384)
OUTPUTS = (24, 24, 32, 48, 48, 48, 64, 64)
STRIDED = 3
"""The block whose depthwise convolution halves the resolution; the first block halves it too."""
SKIPPED = 2
"""After so many blocks the features also take the short way to the head."""
RATES = (2, 4, 8, 16)
POOLED = 128


class DeepLab(nn.Module):
    """Features at half the resolution of the input (Heinrich and Hansen 2021).

    Takes ``(B, C, I, J, K)``, gives ``(B, channels, I / 2, J / 2, K / 2)``, odd sizes rounded up; an output voxel lies
    between the first two input voxels it stands for.

    Args:
        inputs: channels of a scan.
    """

    channels: ClassVar[int] = POOLED + OUTPUTS[SKIPPED - 1]

    def __init__(self, inputs: int = 1) -> None:
        super().__init__()
        blocks = [
            InvertedResidual(before, middle, after, dense=number == 0, stride=2 if number == STRIDED else 1)
            for number, ((before, after), middle) in enumerate(zip(pairwise((inputs, *OUTPUTS)), MIDDLE, strict=True))
        ]
        self.backbone = nn.Sequential(*blocks)
        self.aspp = AtrousPooling(OUTPUTS[-1], POOLED, RATES)
        for part in self.backbone.modules():
            if isinstance(part, nn.Conv3d):
                nn.init.kaiming_normal_(part.weight, mode="fan_out")

    @property
    def stages(self) -> tuple[nn.Module, nn.Module, nn.Module]:
        """What may be recomputed one by one on the way back."""
        return self.backbone[:SKIPPED], self.backbone[SKIPPED:], self.aspp

    def join(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """The features of the atrous pooling brought to the resolution of the early ones, and both together."""
        return torch.cat([fine, interpolate(coarse, size=fine.shape[2:], mode="nearest")], dim=1)


class InvertedResidual(nn.Module):
    """A wide depthwise convolution between two narrow ends; added to its input where both have one shape.

    Args:
        inputs: channels before.
        middle: channels within.
        outputs: channels after.
        dense: widen with a 3 x 3 x 3 convolution of stride 2 in place of a 1 x 1 x 1 one.
        stride: of the depthwise convolution.
    """

    def __init__(self, inputs: int, middle: int, outputs: int, *, dense: bool, stride: int) -> None:
        super().__init__()
        widen = Convolution(inputs, middle, stride=2, bias=False) if dense else nn.Conv3d(inputs, middle, 1, bias=False)
        depthwise = Convolution(middle, middle, stride=stride, groups=middle, bias=False)
        self.layers = nn.Sequential(
            *(widen, nn.BatchNorm3d(middle), nn.ReLU6(inplace=True)),
            *(depthwise, nn.BatchNorm3d(middle), nn.ReLU6(inplace=True)),
            *(nn.Conv3d(middle, outputs, 1, bias=False), nn.BatchNorm3d(outputs)),
        )
        self.residual = inputs == outputs and stride == 1 and not dense

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.residual else self.layers(x)


class AtrousPooling(nn.Module):
    """The same features seen with several spreads and as their mean over the scan, put together."""

    def __init__(self, inputs: int, outputs: int, rates: tuple[int, ...]) -> None:
        super().__init__()
        spread = [Convolution(inputs, outputs, rate, bias=False) for rate in rates]
        views = [nn.Conv3d(inputs, outputs, 1, bias=False), *spread]
        mean = nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Conv3d(inputs, outputs, 1, bias=False))
        self.views = nn.ModuleList(nn.Sequential(view, nn.BatchNorm3d(outputs), nn.ReLU()) for view in views)
        self.views.append(nn.Sequential(mean, _NormOfFew(outputs), nn.ReLU()))
        self.project = nn.Sequential(
            nn.Conv3d(len(self.views) * outputs, outputs, 1, bias=False),
            nn.BatchNorm3d(outputs),
            nn.ReLU(),
            nn.Dropout(0.5),
        )

    def forward(self, x: Tensor) -> Tensor:
        seen = [view(x).expand(-1, -1, *x.shape[2:]) for view in self.views]
        return self.project(torch.cat(seen, dim=1))


class _NormOfFew(nn.BatchNorm3d):
    """Batch normalisation that takes the running statistics where a batch has one value per channel."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training and x.numel() == x.shape[1]:
            return batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        return super().forward(x)
