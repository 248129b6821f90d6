from __future__ import annotations

import torch
from torch import Tensor


def local_cross_correlation(
    fixed: Tensor, warped: Tensor, window: int = 9, epsilon: float = 1e-5, mask: Tensor | None = None
) -> Tensor:
    """Minus the mean squared correlation over cubic windows: -1 is perfect.

    ``-mean(cross^2 / (var var' + epsilon))`` with sums over ``window^3`` voxels and zeros outside (Avants et al. 2008;
    the published training of ``symmetric`` on the hippocampus).

    Args:
        fixed: ``(B, C, I, J, K)``.
        warped: the same shape.
        window: side of the cube in voxels, odd.
        epsilon: keeps flat windows at 0.
        mask: ``(B, 1, I, J, K)``; intensities are multiplied by it.
    """
    if mask is not None:
        fixed, warped = fixed * mask, warped * mask
    batch, channels, *shape = fixed.shape
    count = float(window**3)
    # Differences of sums of squares: float32 whatever the precision of the network.
    with torch.autocast(fixed.device.type, enabled=False):
        fixed, warped = fixed.float(), warped.float()
        moments = torch.stack([fixed, warped, fixed * fixed, warped * warped, fixed * warped], dim=1)
        sums = box_sums(moments.reshape(batch, 5 * channels, *shape), window)
        a, b, aa, bb, ab = sums.reshape(batch, 5, channels, *shape).unbind(1)
        cross = ab - a * b / count
        variances = (aa - a * a / count).clamp_min(0) * (bb - b * b / count).clamp_min(0)
        return -(cross * cross / (variances + epsilon)).mean()


def box_sums(volume: Tensor, window: int) -> Tensor:
    """Sums over cubes of ``(B, C, I, J, K)`` with zeros outside, by a banded matrix per axis.

    Products with small matrices are several times faster than pooling on a CPU, forward and back.
    """
    bands = [_band(n, window, volume) for n in volume.shape[2:]]
    volume = bands[1] @ (volume @ bands[2])
    return (bands[0] @ volume.flatten(3)).reshape(volume.shape)


def _band(size: int, window: int, like: Tensor) -> Tensor:
    """``(size, size)``, 1 where two voxels of a line share a window around either, else 0."""
    places = torch.arange(size, device=like.device)
    return ((places[:, None] - places).abs() <= window // 2).to(like.dtype)
