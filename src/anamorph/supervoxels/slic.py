from __future__ import annotations

from importlib.util import find_spec

import numpy as np

from anamorph.errors import UserError

ITERATIONS = 5


def check_library() -> None:
    """See that scikit-image is there.

    Raises:
        UserError: it is not.
    """
    if find_spec("skimage") is None:
        raise UserError("supervoxels need scikit-image; install it with: pip install 'anamorph[slicreg]'")


def slic_segments(
    channels: np.ndarray, mask: np.ndarray, count: int, compactness: float, iterations: int = ITERATIONS
) -> np.ndarray:
    """Cut what a mask holds into about ``count`` segments of similar size and intensity (SLIC, Achanta et al. 2012).

    Voxels join the nearest of ``count`` centres by ``|intensity|^2 / compactness^2 + |position|^2 / step^2``; the
    centres start where k-means spreads them over the mask (maskSLIC, Irving 2016).

    Args:
        channels: ``(C, I, J, K)`` in the unit of ``compactness``. The library scales the intensities inside the mask to
            [0, 1] first, which older versions did not; that is made up for here.
        mask: ``(I, J, K)`` bool, not empty.
        count: of centres.
        compactness: larger is rounder.
        iterations: of k-means.

    Returns:
        ``(I, J, K)`` integers, 0 outside the mask. A segment may be of several pieces.
    """
    from skimage.segmentation import slic

    inside = channels[:, mask]
    extent = float(inside.max() - inside.min()) or 1.0
    segments: np.ndarray = slic(
        np.moveaxis(channels, 0, -1).astype(np.float32),
        n_segments=count,
        compactness=compactness / extent,
        max_num_iter=iterations,
        convert2lab=False,
        enforce_connectivity=False,
        mask=mask,
        channel_axis=-1,
        start_label=1,
    )
    return segments
