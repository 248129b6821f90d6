from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from anamorph.errors import UserError
from anamorph.geometry import Grid
from anamorph.training.augmentation import Augmentation, augmented_batch

EVERYTHING = Augmentation(
    flip_axes=(0, 2),
    quarter_turns=True,
    probability=1.0,
    rotation_deg=30,
    zoom=(0.8, 1.25),
    shift=0.1,
    shear=0.1,
    gamma=0.4,
    contrast=0.3,
    brightness=0.1,
    noise=0.1,
)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def block(shape=(12, 12, 12)) -> tuple[torch.Tensor, torch.Tensor]:
    """An image whose value is its label, so that one map of both shows as agreement."""
    labels = torch.zeros((1, *shape), dtype=torch.uint8)
    labels[:, 2:7, 3:9, 4:8] = 1
    return labels[:, None].float(), labels


def test_image_and_labels_go_through_the_same_map():
    images, labels = block((16, 16, 16))
    for seed in range(20):
        transform = EVERYTHING.draw(generator(seed))
        moved, maps = EVERYTHING.move([transform], images, labels)
        assert maps.dtype == torch.uint8
        sure = (moved[:, 0] - 0.5).abs() > 1e-3
        assert torch.equal((moved[:, 0] > 0.5)[sure], (maps == 1)[sure]), seed
        assert 0 < maps.sum() < labels.numel()


def test_flips_and_quarter_turns_are_exact():
    images = torch.rand(1, 2, 8, 8, 8, generator=generator(0))
    augmentation = Augmentation(flip_axes=(0, 1, 2), quarter_turns=True, probability=0)
    seen = set()
    for seed in range(60):
        transform = augmentation.draw(generator(seed))
        moved, _ = augmentation.move([transform], images, None)
        order = transform[:, :3].abs().argmax(dim=1).tolist()
        signs = transform[:, :3].sum(dim=1).tolist()
        # Source axis a runs along result axis order[a].
        expected = images.flip([2 + a for a in range(3) if signs[a] < 0])
        expected = expected.permute(0, 1, *[2 + order.index(axis) for axis in range(3)])
        torch.testing.assert_close(moved, expected, rtol=0, atol=1e-5)
        seen.add((tuple(order), tuple(signs)))
    assert len(seen) > 20


def test_flips_happen_along_the_axes_allowed_alone_half_the_time():
    augmentation = Augmentation(flip_axes=(1,), probability=0)
    drawn = [augmentation.draw(generator(seed)) for seed in range(200)]
    flipped = sum(bool(one[1, 1] < 0) for one in drawn)
    assert 70 < flipped < 130
    assert all(one[0, 0] == one[2, 2] == 1 for one in drawn)


def test_a_shift_moves_by_a_share_of_the_extent():
    images = torch.zeros(1, 1, 9, 9, 9)
    images[0, 0, 4, 4, 4] = 1
    transform = torch.eye(3, 4, dtype=torch.float64)
    transform[:, 3] = torch.tensor([1.0, -2.0, 0.0]) / 9
    moved, _ = Augmentation().move([transform], images, None)
    assert moved[0, 0].argmax() == (3 * 9 + 6) * 9 + 4
    assert moved.sum() == pytest.approx(1, abs=1e-4)


def test_a_rotation_is_one_of_the_body_not_of_the_voxels():
    """With voxels of 1 x 1 x 3 the map of millimetres is a rotation, that of voxels is not."""
    augmentation = Augmentation(probability=1, rotation_deg=40)
    spacing = torch.diag(torch.tensor([1.0, 1.0, 3.0], dtype=torch.float64))
    angles = []
    for seed in range(30):
        matrix = augmentation.draw(generator(seed), (1.0, 1.0, 3.0))[:, :3]
        of_body = spacing @ matrix @ torch.linalg.inv(spacing)
        torch.testing.assert_close(of_body @ of_body.T, torch.eye(3, dtype=torch.float64))
        angles.append(math.degrees(math.acos(min((float(of_body.trace()) - 1) / 2, 1.0))))
    assert 25 < max(angles) <= 40


def test_zoom_stays_within_its_limits():
    augmentation = Augmentation(probability=1, zoom=(0.5, 2.0))
    sizes = [1 / float(torch.linalg.det(augmentation.draw(generator(s))[:, :3])) ** (1 / 3) for s in range(50)]
    assert 0.5 <= min(sizes) < 0.65
    assert 1.5 < max(sizes) <= 2.0


def test_an_item_is_varied_the_same_in_any_batch():
    images, labels = block()
    images = images.repeat(3, 1, 1, 1, 1) * torch.rand(3, 1, 12, 12, 12, generator=generator(9))
    labels = labels.repeat(3, 1, 1, 1)

    def varied(rows: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        generators = [generator(row) for row in rows]
        maps = [EVERYTHING.draw(one) for one in generators]
        moved, moved_labels = EVERYTHING.move(maps, images[rows], labels[rows])
        return EVERYTHING.recolour(moved, generators), moved_labels

    together, together_labels = varied([0, 1, 2])
    alone, alone_labels = varied([2])
    assert torch.equal(together[2:], alone)
    assert torch.equal(together_labels[2:], alone_labels)
    assert not torch.equal(together[0], together[1])


def test_intensities_change_within_the_body_alone():
    images = torch.rand(4, 1, 8, 8, 8, generator=generator(1))
    images[:, :, :3] = 0
    changed = EVERYTHING.recolour(images, [generator(n) for n in range(4)])
    assert not changed[:, :, :3].any()
    assert (changed - images)[:, :, 3:].abs().mean() > 0.02
    assert changed.min() >= 0
    assert changed.max() <= 1
    untouched = Augmentation().recolour(images, [generator(n) for n in range(4)])
    assert torch.equal(untouched, images)


def test_gamma_is_an_exponent():
    images = torch.full((1, 1, 4, 4, 4), 0.25)
    augmentation = Augmentation(probability=1, gamma=math.log(2))
    values = [float(augmentation.recolour(images, [generator(s)])[0, 0, 0, 0, 0]) for s in range(40)]
    assert 0.25**2 <= min(values) < 0.09
    assert 0.42 < max(values) <= 0.25**0.5


def test_every_other_scan_ends_somewhere_and_its_labels_with_it():
    images, labels = torch.ones(400, 2, 10, 8, 6), torch.ones(400, 10, 8, 6, dtype=torch.uint8)
    shown, known = Augmentation(cut=0.5).cut_off(images, labels, generator(0))
    assert torch.equal(shown, known[:, None].float().expand_as(shown))
    lost = torch.stack([(known.amax(dim=[d for d in (1, 2, 3) if d != axis]) == 0).sum(1) for axis in (1, 2, 3)], 1)
    assert ((lost > 0).sum(1) <= 1).all()  # along one axis
    assert lost.amax(0).tolist() == [5, 4, 3]
    assert 0.35 < (lost > 0).any(1).float().mean() < 0.5  # half of them, but for shares below half a voxel
    first = (known[:, 0, 0, 0] == 0).float().mean() / (lost > 0).any(1).float().mean()
    assert 0.4 < first < 0.6  # either end
    same, kept = Augmentation().cut_off(images, labels, generator(0))
    assert same is images
    assert kept is labels


def test_what_cannot_be_done_is_refused():
    with pytest.raises(UserError, match="quarter turns need cubes, not 8 x 8 x 9 voxels"):
        EVERYTHING.check((8, 8, 9))
    with pytest.raises(UserError, match="axes of flips are 0, 1 and 2"):
        Augmentation(flip_axes=(3,)).check((8, 8, 8))
    EVERYTHING.check((8, 8, 8))


def test_a_bend_adds_to_where_a_voxel_is_read():
    images, labels = block()
    bend = torch.zeros((3, 12, 12, 12))
    bend[1] = 2.0
    moved, maps = Augmentation().move([torch.eye(3, 4, dtype=torch.float64)], images, labels, [bend])
    assert torch.equal(maps[:, :, :-2], labels[:, :, 2:])
    assert not maps[:, :, -2:].any()
    assert torch.equal(moved[:, 0], maps.float())


def test_bends_are_as_long_as_said_and_the_same_in_thick_voxels():
    random = (generator(seed) for seed in range(40))
    bends = [Augmentation(bend_vox=1.5).bend((16, 16, 16), (1.0, 1.0, 2.0), one, torch.device("cpu")) for one in random]
    along = torch.stack(bends).std(dim=(2, 3, 4)).mean(0)
    # Half of 1.5 voxels on average, less what reading between the nodes takes.
    assert 0.4 < along[0] < 0.75
    assert along[2] == pytest.approx(along[0] / 2, rel=0.25)


def test_nothing_is_drawn_where_nothing_bends():
    random = generator(3)
    assert Augmentation().bend((8, 8, 8), (1.0, 1.0, 1.0), random, torch.device("cpu")) is None
    assert torch.equal(random.get_state(), generator(3).get_state())


class TwoAlike:
    """A cohort of two equal scans."""

    frames = (Grid((16, 16, 16), np.eye(4)),) * 2

    def load(self, rows):
        images, labels = block((16, 16, 16))
        return images.repeat(len(rows), 1, 1, 1, 1), labels.repeat(len(rows), 1, 1, 1)


@pytest.mark.parametrize("apart", [False, True])
def test_a_pair_is_bent_as_one_unless_its_scans_move_apart(apart):
    bending = Augmentation(bend_vox=3.0)
    given = [TwoAlike()], [(0, (0, 1))], bending, (), apart, torch.device("cpu"), [generator(1)]
    (one, labels), (other, _) = augmented_batch(*given)
    assert torch.equal(one, other) is not apart
    assert not torch.equal(labels, block((16, 16, 16))[1])
