"""A trained network that sees pairs: where, and what it makes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from anamorph.geometry import Grid
from anamorph.image import Image
from anamorph.networks.model import Model
from anamorph.transforms import Transform

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
