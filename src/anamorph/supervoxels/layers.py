"""Layers of supervoxels: the same scan cut several times, each time a little differently.

Together the numbers that the layers give to a voxel tell its place almost uniquely, so that a network that has learnt
them registers a scan by segmenting it (SLIC-Reg, Heinrich and Hansen, MIDL 2021). Per layer:

1. The scan is sampled through a random affine map near the identity.
2. SLIC cuts what lies in the mask into about 1.6 times as many segments as wanted.
3. The segments are brought back, split into their pieces, and the smallest are merged into neighbours until exactly the
   wanted number is left.

The published program counts and merges before it brings the segments back, and takes another of 64 candidates where its
count is not right. Here the pieces are those of the scan itself: all layers have one background, every supervoxel is of
one piece, and no candidate fails. The library's own joining of small pieces is left out: it does not see what they have
joined already, so that a segment may grow to ten times the others.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np

from anamorph.errors import UserError
from anamorph.features.intensity import prepared_channels
from anamorph.geometry.averaging import pool_volume
from anamorph.geometry.grid import Grid
from anamorph.geometry.sampling import sample
from anamorph.image.background import looks_like_ct
from anamorph.image.image import Image, Mask
from anamorph.supervoxels.mask import body
from anamorph.transforms.maps import Affine, Transform

HU_UNIT = 500.0
"""CT is measured in this many HU, other scans in the range between their 1st and 99th percentile."""
COMPACTNESS = 1.5
JITTER = 0.05
SEGMENTS_PER_SUPERVOXEL = 208 / 127
MORE_SEGMENTS = 1.3
ATTEMPTS = 8
HIGHEST_LABEL = 255


@dataclass(frozen=True, eq=False)
class Layers:
    """Label maps of supervoxels of one scan.

    Args:
        labels: ``(L, I, J, K)`` uint8, 0 background, 1 and up.
        grid: of every layer.
        provenance: how they were made, as plain values.
    """

    labels: np.ndarray
    grid: Grid
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How many layers."""
        return self.labels.shape[0]

    @property
    def supervoxels(self) -> int:
        """The highest label: how many supervoxels the layers were made with."""
        return int(self.provenance.get("supervoxels", self.labels.max(initial=0)))


def layer_grid(scan: Grid, spacing_mm: float | None = None) -> Grid:
    """The voxels of the layers of a scan: over the same field of view, of a given size or twice the scan's."""
    return scan.resampled(2 * scan.spacing_mm if spacing_mm is None else spacing_mm)


def make_layers(
    image: Image,
    *,
    layers: int = 16,
    supervoxels: int = 127,
    spacing_mm: float | None = None,
    mask: Mask | None = None,
    seed: int = 0,
    compactness: float = COMPACTNESS,
    jitter_sigma: float = JITTER,
    progress: Callable[[str, float], None] | None = None,
) -> Layers:
    """Cut a scan into layers of supervoxels; the defaults are those of the publication.

    Args:
        image: the scan.
        layers: how many.
        supervoxels: of each layer, up to 255.
        spacing_mm: voxel size of the layers; twice that of the scan by default.
        mask: where the scan is cut, on any grid; the body by default.
        seed: layer ``n`` depends on it and on ``n`` alone.
        compactness: larger is rounder; in units of 500 HU for CT, else of the range of the intensities.
        jitter_sigma: of the random maps, in halves of the field of view.
        progress: called as ``progress(stage, fraction)``.

    Returns:
        Layers in which each label from 1 to ``supervoxels`` occurs, of one piece across faces; the background is what
        lies outside the mask.

    Raises:
        UserError: scikit-image is missing, numbers that cannot be, or a mask too small or in too many parts for so
            many supervoxels.
    """
    check_library()
    if layers < 1 or not 1 <= supervoxels <= HIGHEST_LABEL:
        raise UserError(f"layers need at least one of 1 to {HIGHEST_LABEL} supervoxels, not {layers} of {supervoxels}")
    if spacing_mm is not None and not 0 < spacing_mm < np.inf:
        raise UserError(f"the voxel size of layers must be a positive number of mm, not {spacing_mm:g}")
    grid = layer_grid(image.grid, spacing_mm)
    source = _source(image, grid)
    inside = _mask_on(grid, mask if mask is not None else body(_averaged(image, grid)))
    if inside.sum() < supervoxels:
        raise UserError(
            f"the mask holds {int(inside.sum())} voxels of {grid.finest_mm:.3g} mm, too few for {supervoxels} "
            "supervoxels; ask for fewer, or for layers of smaller voxels"
        )
    out = np.zeros((layers, *grid.shape), np.uint8)
    for number in range(layers):
        if progress is not None:
            progress(f"layer {number + 1} of {layers}", number / layers)
        move = jitter(grid, jitter_sigma, np.random.default_rng((seed, number)))
        out[number] = _layer(source, inside, grid, move, supervoxels, compactness)
    provenance = {
        "layers": layers,
        "supervoxels": supervoxels,
        "seed": seed,
        "compactness": compactness,
        "jitter": jitter_sigma,
        "spacing_mm": [float(s) for s in grid.spacing_mm],
        "scan": image.name,
        "mask": "body" if mask is None else mask.name,
    }
    return Layers(out, grid, provenance)


def _source(image: Image, grid: Grid) -> Image:
    """The scan in the unit of the compactness, averaged where the layers are more than twice as coarse."""
    channels = prepared_channels(image)
    if looks_like_ct(image):
        channels /= HU_UNIT
    scan = image.with_data(channels)
    return _pooled(scan, np.floor(grid.spacing_mm / (2 * image.grid.spacing_mm) + 1e-6))


def _averaged(image: Image, grid: Grid) -> Image:
    """The scan on the grid of the layers, each voxel the mean of about what it covers."""
    pooled = _pooled(image, np.floor(grid.spacing_mm / image.grid.spacing_mm + 1e-6))
    return Affine.identity().warp_image(pooled, grid)


def _pooled(image: Image, factor: np.ndarray) -> Image:
    i, j, k = (int(f) for f in np.clip(factor, 1, image.grid.shape))
    if max(i, j, k) == 1:
        return image
    return Image(pool_volume(image.data, (i, j, k)), image.grid.pooled((i, j, k)), image.name)


def _mask_on(grid: Grid, mask: Mask) -> np.ndarray:
    if mask.grid.matches(grid):
        return mask.data[0] >= 0.5
    values = sample(mask.data.astype(np.float32), Affine.identity().moving_positions(grid, mask.grid), fill=0)
    inside: np.ndarray = values[0] >= 0.5
    return inside


def _layer(
    source: Image, inside: np.ndarray, grid: Grid, move: Affine, supervoxels: int, compactness: float
) -> np.ndarray:
    channels = sample(source.data, move.moving_positions(grid, source.grid))
    jittered = sample(inside[None].astype(np.float32), move.positions_on(grid))[0] >= 0.5
    back = move.inverse().positions_on(grid)
    find = partial(slic_segments, channels, jittered if jittered.any() else np.ones_like(jittered))
    wanted = supervoxels * SEGMENTS_PER_SUPERVOXEL
    for _ in range(ATTEMPTS):
        segments = find(round(wanted), compactness)
        pieces = split_pieces(_fitted(sample(segments[None].astype(np.int32), back, "nearest")[0], inside))
        if pieces.max() >= supervoxels:
            return merge_smallest(pieces, supervoxels)
        wanted *= MORE_SEGMENTS
    raise UserError(f"the scan yields {pieces.max()} supervoxels at most, not {supervoxels}; ask for fewer")


def _fitted(segments: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Segments that fill the mask and nothing else: gaps belong to the nearest segment."""
    from scipy.ndimage import distance_transform_edt

    segments = np.where(inside, segments, 0)
    if (inside & (segments == 0)).any() and segments.any():
        nearest = distance_transform_edt(segments == 0, return_distances=False, return_indices=True)
        segments = np.where(inside, segments[tuple(nearest)], 0)
    return segments


def jitter(grid: Grid, sigma: float, rng: np.random.Generator) -> Affine:
    """A random affine map near the identity: every entry of its 3x4 matrix is off by ``N(0, sigma^2)``.

    The matrix acts on coordinates in which the field of view is the cube from -1 to 1, as in SLIC-Reg (Heinrich and
    Hansen 2021, published code).

    Args:
        grid: whose field of view that is.
        sigma: 0.05 in the published layers.
        rng: of the noise.

    Raises:
        UserError: the map is singular, which takes a sigma far too large.
    """
    half = np.array(grid.shape) / 2
    cube_to_voxel = np.eye(4)
    cube_to_voxel[:3, :3] = np.diag(half)
    cube_to_voxel[:3, 3] = half - 0.5
    cube_to_world = grid.affine @ cube_to_voxel
    matrix = np.eye(4)
    matrix[:3] += rng.normal(0, sigma, (3, 4))
    return Affine(cube_to_world @ matrix @ np.linalg.inv(cube_to_world))


def warp_layers(layers: Layers, scan_to_template: Transform, grid: Grid) -> Layers:
    """Bring the layers of a template to a scan: each voxel has the labels of the nearest voxel of the template.

    Args:
        layers: of the template.
        scan_to_template: maps points of the scan to points of the template, as a registration with the scan fixed and
            the template moving gives it.
        grid: of the result, in the scan.

    Returns:
        Layers on ``grid``; background where the template has no voxel.
    """
    positions = scan_to_template.moving_positions(grid, layers.grid)
    return Layers(sample(layers.labels, positions, "nearest", 0), grid, layers.provenance)


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
