"""The task ``segment-synthetic``, whose scans are made from label maps, and the shared loss of dense labels."""

from __future__ import annotations

import json

import nibabel
import numpy as np
import pytest
import torch
from benchmarks.gpu.head_data import LEARNED, STRUCTURES, write_heads

from anamorph.data import read_dataset
from anamorph.errors import UserError
from anamorph.networks.blocks import one_hot
from anamorph.networks.preprocessing import Preprocessing
from anamorph.training.augmentation import Augmentation
from anamorph.training.cache import Cohort
from anamorph.training.losses import dice_and_cross_entropy, partial_cross_entropy, partial_dice
from anamorph.training.tasks.label_maps import Synthesis, anatomy_of
from anamorph.training.tasks.segment import SyntheticTask, SyntheticTraining
from blobs import make_blobs
from learning import CPU, generators

NAMES = {1: "left half", 2: "right half", 3: "skull bone"}
UNIONS = {"left brain": [1], "right brain": [2], "head": [3]}
ANATOMY = anatomy_of(NAMES, UNIONS, ["head"])
SHAPE = (20, 16, 12)
EXACT = Synthesis(Augmentation())


def halves() -> torch.Tensor:
    """Two halves along the first axis within a shell, air around."""
    labels = torch.zeros(SHAPE, dtype=torch.uint8)
    labels[2:18, 2:14, 2:10] = 3
    labels[4:10, 4:12, 4:8] = 1
    labels[10:16, 4:12, 4:8] = 2
    return labels


def draw(synthesis: Synthesis, seed: int, shape: tuple[int, int, int] = SHAPE) -> tuple[np.ndarray, np.ndarray]:
    random = torch.Generator().manual_seed(seed)
    image, labels = synthesis.draw(halves(), ANATOMY, shape, (2.0, 2.0, 2.0), random)
    return image[0].numpy(), labels.numpy()


def test_what_is_neither_moved_nor_bent_is_the_map_about_the_middle_of_the_brain():
    _, labels = draw(EXACT, 0)
    np.testing.assert_array_equal(labels, halves())
    _, part = draw(EXACT, 0, (10, 8, 6))
    np.testing.assert_array_equal(part, halves()[5:15, 4:12, 3:9])


def test_contrasts_differ_by_the_seed_alone_and_both_sides_share_theirs():
    first, again, other = (draw(EXACT, seed)[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert first.min() >= 0
    assert first.max() <= 1
    assert np.abs(first - other).mean() > 0.05
    differences = {"sides": [], "shell": []}
    for seed in range(20):
        image, labels = draw(EXACT, seed)
        left, right, shell = (float(np.median(image[labels == n])) for n in (1, 2, 3))
        differences["sides"].append(abs(left - right))
        differences["shell"].append(abs(left - shell))
    assert np.mean(differences["sides"]) < 0.1
    assert np.mean(differences["shell"]) > 0.3


def test_left_stays_left_in_mirrored_scans():
    flipping = Synthesis(Augmentation(flip_axes=(0,)))
    plain = halves().numpy()
    for seed in range(6):  # every other one is mirrored
        np.testing.assert_array_equal(draw(flipping, seed)[1] == 1, plain == 1)


def test_a_stripped_scan_has_no_head_and_black_around_the_brain():
    image, labels = draw(Synthesis(Augmentation(), strip=1.0), 3)
    assert set(np.unique(labels)) == {0, 1, 2}
    outside = halves().numpy() == 0
    assert image[outside].max() < 0.05
    assert image[labels > 0].mean() > 0.1


def test_bone_is_the_brightest_in_ct():
    image, labels = draw(Synthesis(Augmentation(), ct=1.0), 4)
    means = [float(np.median(image[labels == n])) for n in range(4)]
    assert means[3] == max(means)
    assert means[0] == min(means)
    assert abs(means[1] - means[2]) < 0.1


def test_slices_are_thick_along_one_axis_and_keep_what_is_constant():
    synthesis = Synthesis(Augmentation(), thickness_vox=6.0)
    thick = []
    for seed in range(12):
        matrices = synthesis._slices((32, 32, 32), torch.Generator().manual_seed(seed))
        for matrix in matrices:
            assert (matrix.sum(1) - 1).abs().max() < 1e-5
        # Noise that is read through a matrix keeps this share of its deviation.
        kept = [float(matrix.square().sum(1).mean().sqrt()) for matrix in matrices]
        thick.append(sum(share < 0.6 for share in kept))
    assert max(thick) == 1
    assert min(thick) == 0


def test_a_bend_moves_voxels_by_about_its_size():
    _, bent = draw(Synthesis(Augmentation(bend_vox=1.5)), 5)
    changed = (bent != halves().numpy()).mean()
    assert 0.01 < changed < 0.5


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("blobs")
    path = make_blobs(folder, labels={"1": "left shell", "2": "core"}, learned={"body": [1, 2], "core": [2]})
    return Cohort.of(read_dataset(path), Preprocessing(), folder / "cache")


def test_the_task_learns_unions_of_labels_as_a_segmentation(cohort):
    task = SyntheticTask(SyntheticTraining(mult=1, convolutions=(1, 1), cross_entropy=1.0, crop=(16, 16, 16)), [cohort])
    task.check()
    batch = task.batch([(0, 0), (0, 1)], CPU, generators(2))
    assert batch["image"].shape == (2, 1, 16, 16, 16)
    torch.manual_seed(0)
    network = task.network()
    assert set(task.loss(network, batch)) == {"loss", "dice", "cross_entropy"}
    card = task.export(network)
    assert card["kind"] == "segment"
    assert card["labels"] == {1: "body", 2: "core"}
    assert card["architecture"]["classes"] == 3
    with torch.no_grad():
        assert task.validate(network, CPU) == task.validate(network, CPU), "on the same scans every time"


def test_without_unions_every_label_is_learned_and_strange_numbers_are_refused(tmp_path, cohort):
    path = make_blobs(tmp_path / "a", name="Plain", labels={"1": "left shell", "2": "core"})
    plain = Cohort.of(read_dataset(path), Preprocessing(), tmp_path / "cache")
    task = SyntheticTask(SyntheticTraining(mult=1, convolutions=(1, 1)), [plain])
    assert task.learned == {"left shell": [1], "core": [2]}
    with pytest.raises(UserError, match="one list of labels"):
        SyntheticTask(task.config, [plain, cohort]).check()
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"learned": {"body": [1, 7]}}))
    wrong = Cohort.of(read_dataset(path), Preprocessing(), tmp_path / "cache")
    with pytest.raises(UserError, match="'learned' must list numbers of its labels"):
        SyntheticTask(task.config, [wrong])


def test_dice_and_cross_entropy_together_are_what_they_are_apart():
    torch.manual_seed(0)
    logits = (3 * torch.randn(2, 4, 5, 6, 7)).requires_grad_()
    labels = torch.randint(0, 4, (2, 5, 6, 7))
    annotated = torch.ones((2, 3), dtype=torch.bool)
    target = one_hot(labels[:, None], torch.arange(1, 4))
    apart = (
        partial_dice(logits.softmax(1)[:, 1:], target, annotated),
        partial_cross_entropy(logits, labels, [1, 2, 3], annotated),
    )
    together = dice_and_cross_entropy(logits, labels)
    slopes = [torch.autograd.grad(sum(losses), logits, retain_graph=True)[0].numpy() for losses in (apart, together)]
    np.testing.assert_allclose([float(loss) for loss in together], [float(loss) for loss in apart], rtol=1e-5)
    np.testing.assert_allclose(*slopes, atol=1e-7)


def test_head_maps_are_written_under_small_numbers_with_what_is_learned(tmp_path):
    values = np.array([0, 2, 41, 507, 515, 14], np.int16)
    source = np.random.default_rng(0).choice(values, (6, 7, 8))
    paths = [tmp_path / f"head_{n}.nii.gz" for n in range(1, 6)]
    for path in paths:
        nibabel.Nifti1Image(source, np.diag([-1.5, 1.5, 1.5, 1])).to_filename(path)
    dataset = write_heads(paths, tmp_path / "out")
    assert [case.split for case in dataset.cases] == ["training"] * 4 + ["validation"]
    read = read_dataset(dataset.path)
    written = np.asarray(nibabel.load(read.cases[0].label).dataobj)
    names = {0: "background", **STRUCTURES}
    for number in np.unique(written):
        value = values[[names[int(v)] == read.labels.get(int(number), "background") for v in values]][0]
        np.testing.assert_array_equal(written == number, source[::-1] == value)
    assert list(read.extra["learned"]) == list(LEARNED)
    covered = sorted(number for numbers in read.extra["learned"].values() for number in numbers)
    assert covered == sorted(read.labels), "every structure once"
