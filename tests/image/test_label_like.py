from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from typer.testing import CliRunner

from anamorph.cli.main import app
from anamorph.geometry import Grid
from anamorph.image import Image, Labels
from anamorph.image.label_like import is_label_map
from anamorph.image.read import read_labels
from anamorph.image.write import write_image
from anamorph.registration.preflight import guess_modality
from anamorph.transforms import Affine
from anamorph.transforms.files import write_transform

SHAPE = (48, 48, 40)
RNG = np.random.default_rng(0)
BALL = np.linalg.norm(np.indices(SHAPE) - 20, axis=0) < 15


def image(data: np.ndarray) -> Image:
    return Image(data, Grid(data.shape, np.eye(4)))


def atlas(regions: int, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    seeds = np.zeros(shape, np.int64)
    seeds[tuple(RNG.integers(0, n, regions) for n in shape)] = np.arange(1, regions + 1)
    nearest = ndimage.distance_transform_edt(seeds == 0, return_distances=False, return_indices=True)
    return seeds[tuple(nearest)]


def smooth(sigma: float, top: float) -> np.ndarray:
    values = ndimage.gaussian_filter(RNG.normal(size=SHAPE), sigma)
    return np.rint((values - values.min()) / np.ptp(values) * top)


def noisy_ct() -> np.ndarray:
    return np.clip(RNG.normal(40, 20, SHAPE) + 1000 * (smooth(4, 2) - 1), -1024, 2000).astype(np.int16)


def padded_ct() -> np.ndarray:
    values = noisy_ct()
    values[:16], values[32:] = -1024, -3024
    return values


def points() -> np.ndarray:
    values = np.zeros(SHAPE, np.uint8)
    values[tuple(RNG.integers(2, 38, (3, 20)))] = np.arange(1, 21)
    return values


def spine() -> np.ndarray:
    values = np.zeros(SHAPE, np.uint8)
    for n in range(18):
        values[16:32, 16:32, 2 + 2 * n : 4 + 2 * n] = n + 1
    return values


LABELS = {
    "336 regions": lambda: atlas(336),
    "ids of Allen": lambda: np.where(BALL, atlas(336) * 1_829_000, 0),
    "2000 regions": lambda: atlas(2000),
    "as floats": lambda: atlas(300).astype(np.float32),
    "negative": lambda: np.where(atlas(60) % 2, -5, atlas(60)),
    "2D": lambda: atlas(30, (64, 64, 1)),
    "mask": lambda: BALL.astype(np.uint8),
    "vessels": lambda: (ndimage.gaussian_filter(RNG.normal(size=SHAPE), 1) > 0.25).astype(np.uint8),
    "points": points,
    "spine": spine,
}
SCANS = {
    "CT": noisy_ct,
    "padded CT": padded_ct,
    "one slice of CT": lambda: noisy_ct()[:, :, :1],
    "smooth MR": lambda: smooth(6, 255).astype(np.uint8),
    "very smooth MR": lambda: smooth(12, 100).astype(np.uint8),
    "few grey values": lambda: smooth(8, 30).astype(np.uint8),
    "masked MR": lambda: np.where(BALL, smooth(6, 200) + 20, 0).astype(np.uint8),
    "probabilities": lambda: ndimage.gaussian_filter(BALL.astype(np.float32), 3),
    "probabilities of 8 bit": lambda: np.rint(255 * ndimage.gaussian_filter(BALL.astype(float), 3)).astype(np.uint8),
    "counts": lambda: RNG.poisson(2, SHAPE),
}


@pytest.mark.parametrize("name", LABELS)
def test_label_maps_are_recognised(name: str) -> None:
    assert is_label_map(image(LABELS[name]()))


@pytest.mark.parametrize("name", SCANS)
def test_scans_are_no_label_maps(name: str) -> None:
    scan = image(SCANS[name]())
    assert not is_label_map(scan)
    assert guess_modality(scan) != "mask-like"


def test_one_fraction_anywhere_makes_it_a_scan() -> None:
    values = atlas(300).astype(np.float32)
    values[1, 2, 3] += 0.5
    assert not is_label_map(image(values))


def test_apply_keeps_ids_and_says_what_it_took(tmp_path: Path) -> None:
    ids = np.where(BALL, atlas(336) * 12_000_017, 0)  # beyond 2^31
    scan = image(noisy_ct())
    write_image(Labels(ids, scan.grid), tmp_path / "atlas.nii.gz")
    write_image(scan, tmp_path / "scan.nii.gz")
    write_transform(Affine.translation([0.4, 0.3, 0.2]), tmp_path / "t.tfm", "itk-tfm", scan.grid)
    files = [str(tmp_path / name) for name in ("atlas.nii.gz", "scan.nii.gz")]
    like = ["--like", files[1], "-o", str(tmp_path / "out")]
    done = CliRunner().invoke(app, ["apply", str(tmp_path / "t.tfm"), "--to", *files, *like])
    assert done.exit_code == 0, done.output
    assert "atlas.nii.gz: taken for a label map" in done.output
    assert "scan.nii.gz: taken for an image" in done.output
    warped = read_labels(tmp_path / "out" / "atlas.nii.gz")
    assert set(warped.present()) <= set(np.unique(ids).tolist())
    assert max(warped.present()) > 2**31
