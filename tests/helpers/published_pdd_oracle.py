"""PDD-Net as its paper and programs have it, in normalised coordinates and pooling layers, to compare ours with."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def even_grid(counts: tuple[int, int, int], scale: float, corners: bool) -> Tensor:
    """``(prod, 3)`` in x, y, z order."""
    return F.affine_grid(scale * torch.eye(3, 4)[None], [1, 1, *counts], align_corners=corners).reshape(-1, 3)


class PublishedFeatures(nn.Module):
    """Named as in the published files; ``places`` and ``read`` are the two conventions."""

    def __init__(self, channels: int, places_corners: bool, read_corners: bool) -> None:
        super().__init__()
        self.places_corners, self.read_corners = places_corners, read_corners
        self.offsets = nn.Parameter(0.1 * torch.randn(2, 2 * channels, 3))
        self.layer0 = nn.Conv3d(1, 4, 5, 2, 2, bias=False)
        self.batch0 = nn.BatchNorm3d(4)
        self.layer1 = nn.Conv3d(8 * channels, 4 * channels, 1, bias=False)
        self.batch1 = nn.BatchNorm3d(4 * channels)
        self.layer2 = nn.Conv3d(4 * channels, 4 * channels, 3, padding=1, bias=False)
        self.batch2 = nn.BatchNorm3d(4 * channels)
        self.layer3 = nn.Conv3d(4 * channels, channels, 1)

    def forward(self, image: Tensor) -> Tensor:
        coarse = self.batch0(self.layer0(F.avg_pool3d(image, 3, 2, 1))).relu()
        i, j, k = (n // 3 for n in image.shape[2:])
        places = even_grid((i, j, k), 1.0, self.places_corners)
        sides = []
        for offsets in self.offsets:
            each = [
                F.grid_sample(coarse, (places + one).reshape(1, i, j, k, 3), align_corners=self.read_corners)
                for one in offsets
            ]
            sides.append(torch.stack(each, 2).reshape(1, -1, i, j, k))
        hidden = self.batch1(self.layer1(sides[0] - sides[1])).relu()
        return self.layer3(self.batch2(self.layer2(hidden)).relu())


def published_field(
    here: Tensor, there: Tensor, alphas: Tensor, control: int, width: int, reach: float, corners: bool, read: bool
) -> Tensor:
    """``(control^3, 3)`` normalised displacements in x, y, z order."""
    places, labels = even_grid((control,) * 3, 1.0, corners), even_grid((width,) * 3, reach, corners)
    centre = F.grid_sample(here, places[None, :, None, None], align_corners=read)[0, :, :, 0]
    moved = (places[:, None] + labels)[None, :, :, None]
    other = F.grid_sample(there, moved, padding_mode="border", align_corners=read)[0, :, :, :, 0]
    costs = alphas[1] + alphas[0] * (centre - other).square().sum(0)

    def smoothed(values: Tensor) -> Tensor:
        windows = F.pad(values.reshape(1, -1, width, width, width), (3,) * 6, mode="replicate")
        windows = F.avg_pool3d(F.avg_pool3d(-F.max_pool3d(-windows, 3, 1), 3, 1), 3, 1)
        volumes = windows.reshape(-1, width**3).T.reshape(1, -1, control, control, control)
        volumes = F.avg_pool3d(F.avg_pool3d(F.pad(volumes, (2,) * 6, mode="replicate"), 3, 1), 3, 1)
        return volumes.reshape(width**3, -1).T

    again = smoothed(alphas[4] + alphas[2] * costs + alphas[3] * smoothed(costs))
    return (-alphas[5] * again).softmax(1) @ labels
