from __future__ import annotations

import numpy as np
import pytest
import torch

from anamorph.features.mind_ssc import ENTRIES, mind_ssc, mind_ssc_torch, patch_pairs
from arrays import SHAPES

WHOLE = (1, 1, 1)


def texture(shape, seed=0):
    return np.random.default_rng(seed).random(shape, np.float32)


def by_definition(image, voxel, radius, dilation):
    """The twelve entries of one voxel away from the border, from the words of the paper."""
    offsets = np.stack(np.meshgrid(*(np.arange(-r, r + 1) for r in radius), indexing="ij"), -1).reshape(-1, 3)

    def patch(centre):
        return image[tuple((np.array(voxel) + centre * np.array(dilation) + offsets).T)]

    distance = np.array([((patch(a) - patch(b)) ** 2).sum() for a, b in patch_pairs()])
    distance -= distance.min()
    return np.exp(-distance / distance.mean())


@pytest.mark.parametrize(
    ("radius", "dilation"), [((1, 1, 1), (1, 1, 1)), ((1, 1, 1), (2, 2, 2)), ((2, 1, 0), (1, 3, 2))]
)
def test_entries_are_those_of_the_definition(radius, dilation):
    image = texture((13, 12, 11))
    described = mind_ssc(image, radius, dilation, WHOLE)
    for voxel in [(6, 5, 5), (5, 6, 5), (7, 5, 6)]:
        np.testing.assert_allclose(
            described[voxel][:ENTRIES], by_definition(image.astype(float), voxel, radius, dilation), atol=1e-4
        )
    assert not described[..., ENTRIES:].any()


def test_pairs_are_neighbours_of_each_other():
    pairs = patch_pairs()
    assert len(pairs) == ENTRIES
    assert len({frozenset(map(tuple, pair.tolist())) for pair in pairs}) == ENTRIES
    assert (((pairs[:, 0] - pairs[:, 1]) ** 2).sum(axis=1) == 2).all()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("pool", [(1, 1, 1), (2, 3, 2), (4, 1, 5)])
def test_kernel_equals_twin(shape, pool):
    image = texture(shape)
    radius = tuple(int(n > 1) for n in shape)
    kernel = mind_ssc(image, radius, (1, 2, 1), pool)
    twin = mind_ssc_torch(torch.from_numpy(image), radius, (1, 2, 1), pool).numpy()
    assert kernel.shape == twin.shape == (*(-(-n // p) for n, p in zip(shape, pool, strict=True)), 16)
    np.testing.assert_allclose(kernel, twin, atol=2e-4)


def test_contrast_and_its_inversion_change_nothing():
    image = texture((12, 11, 10))
    np.testing.assert_allclose(
        mind_ssc(300 - 700 * image, WHOLE, WHOLE, WHOLE), mind_ssc(image, WHOLE, WHOLE, WHOLE), atol=2e-3
    )


def test_a_constant_image_says_nothing_and_a_flat_background_gives_no_nan():
    constant = mind_ssc(np.full((8, 8, 8), 5, np.float32), WHOLE, WHOLE, (2, 2, 2))
    np.testing.assert_allclose(constant[..., :ENTRIES], 1, atol=1e-6)
    image = np.full((12, 12, 12), -1024, np.float32)
    image[4:9, 4:9, 4:9] += 1000 * texture((5, 5, 5))
    described = mind_ssc(image, WHOLE, WHOLE, WHOLE)
    assert np.isfinite(described).all()
    assert described.min() >= 0
    assert described.max() <= 1 + 1e-6
