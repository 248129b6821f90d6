"""A scan cut into segments by SLIC, and segments merged until a wanted number is left."""

from __future__ import annotations

import heapq
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


def split_pieces(segments: np.ndarray) -> np.ndarray:
    """Number the pieces of a label map, 1 and up: voxels of one value that touch across faces; 0 stays 0."""
    from skimage.measure import label

    pieces: np.ndarray = label(segments, background=0, connectivity=1)
    return pieces


def merge_smallest(pieces: np.ndarray, count: int) -> np.ndarray:
    """Merge pieces until ``count`` are left.

    Again and again the smallest piece that touches another joins the smallest that it touches. The pieces are kept as
    disjoint sets, so that what joined a piece follows it wherever that goes.

    Args:
        pieces: ``(I, J, K)``, numbered from 1, each of one piece; 0 is background.
        count: wanted; no more than there are.

    Returns:
        ``(I, J, K)`` with the labels 1 to ``count``, each still of one piece, in the order of the pieces.

    Raises:
        UserError: so many pieces touch no other that more than ``count`` are left.
    """
    sizes = np.bincount(pieces.ravel()).tolist()
    neighbours: list[set[int]] = [set() for _ in sizes]
    for a, b in touching(pieces).tolist():
        neighbours[a].add(b)
        neighbours[b].add(a)
    parent = list(range(len(sizes)))
    queue = [(size, piece) for piece, size in enumerate(sizes) if piece > 0]
    heapq.heapify(queue)
    left = len(queue)
    while left > count:
        if not queue:
            raise UserError(f"the mask falls into {left} separate parts, more than {count} supervoxels; mend the mask")
        size, piece = heapq.heappop(queue)
        if parent[piece] != piece or sizes[piece] != size:
            continue  # it joined another, or grew since it was put here
        around = {_root(parent, other) for other in neighbours[piece]} - {piece}
        if not around:
            continue
        target = min(around, key=lambda other: (sizes[other], other))
        parent[piece] = target
        sizes[target] += size
        neighbours[target] |= around
        heapq.heappush(queue, (sizes[target], target))
        left -= 1
    roots = np.array([_root(parent, piece) for piece in range(len(parent))])
    numbers = np.unique(roots, return_inverse=True)[1]
    return numbers[pieces]


def touching(pieces: np.ndarray) -> np.ndarray:
    """``(N, 2)`` pairs of the pieces that touch across a face, the lower first, without background."""
    pairs = []
    for axis in range(pieces.ndim):
        near = np.stack(
            [np.delete(pieces, -1, axis).ravel(), np.delete(pieces, 0, axis).ravel()],
            axis=1,
        )
        near = near[(near[:, 0] != near[:, 1]) & (near > 0).all(axis=1)]
        pairs.append(np.unique(np.sort(near, axis=1), axis=0))
    return np.unique(np.concatenate(pairs), axis=0)


def _root(parent: list[int], piece: int) -> int:
    """The piece that stands for a set; what is passed on the way points nearer to it afterwards."""
    while parent[piece] != piece:
        parent[piece] = parent[parent[piece]]
        piece = parent[piece]
    return piece
