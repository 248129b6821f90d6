"""The label maps that features of any contrast are trained on.

``python -m benchmarks.gpu.shape_data LABEL_MAPS... -o .gpu/data/shapes``

Each of ``LABEL_MAPS`` is a folder of label maps, such as the whole heads of SynthSeg (Billot et al., MedIA 2023;
Apache-2.0). Their structures, one by one, turned, stretched and pasted into each other above regions of smooth noise,
are the bodies of this set (after anatomix, Dey et al., ICLR 2025); those of the first folder also come as they are.
There are no scans: the training ``features`` makes them.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import nibabel
import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from anamorph.data import Case, Dataset, write_dataset
from anamorph.image.read import read_labels
from anamorph.networks.preprocessing import canonical
from anamorph.transforms.maps import Affine

NAME = "SHAPES"
SIDE = 112
"""Voxels of a body along each axis."""
BODIES, SEED = 120, 0
VALIDATION = 8
"""Every so many bodies one is measured."""
SHAPES = (20, 40)
SIZES = (0.12, 0.6)
"""Length of a shape, as a share of the side."""
STRETCH = 1.5
REGIONS = 14
LEAST_VOXELS = 300
HIGHEST = 62
BONE_EVERY = 8
WHOLE_MM = 1.8
"""Voxels of the bodies that come as they are: so a head fits."""


def main() -> None:
    """Write all maps and their manifest."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("maps", type=Path, nargs="+")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--bodies", type=int, default=BODIES)
    arguments = parser.parse_args()
    files = [sorted(folder.glob("*.nii.gz")) for folder in arguments.maps]
    dataset = write_shapes(files, arguments.out, arguments.bodies)
    print({split: len(dataset.of_split(split)) for split in ("training", "validation")})


def write_shapes(files: Sequence[Sequence[Path]], out: Path, bodies: int) -> Dataset:
    """Write label maps with numbers up to ``HIGHEST``, and ``SHAPES_dataset.json`` in ``out``."""
    random = np.random.default_rng(SEED)
    shapes = [shape for folder in files for path in folder for shape in shapes_in(path)]
    made = (one_body(shapes, random) for _ in range(bodies))
    cases = []
    for n, body in enumerate(chain(map(whole_body, files[0]), made), 1):
        path = out / "labelsTr" / f"{NAME}_{n:04d}_0000.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        nibabel.Nifti1Image(body, np.eye(4)).to_filename(path)
        split = "validation" if n % VALIDATION == 0 else "training"
        cases.append(Case(f"{n:04d}", "0000", path, path, split=split))  # type: ignore[arg-type]
    # Every so many shapes are bright where a scan is to look like CT, as bones are.
    names = {n: f"shape {n}" + (" bone" if n % BONE_EVERY == 0 else "") for n in range(1, HIGHEST + 1)}
    path = out / f"{NAME}_dataset.json"
    extra = {"description": "shapes pasted into each other", "attribution": "shapes of the folders that were named"}
    dataset = Dataset(path, out, NAME, {"0000": "label map"}, names, tuple(cases), extra=extra)
    write_dataset(dataset, path)
    return dataset


def shapes_in(path: Path) -> list[np.ndarray]:
    """Every label of a map as a bool array, cut out, in cubes of about a millimetre or of the map's finest voxels."""
    labels = read_labels(path)
    grid = labels.grid.resampled(np.full(3, max(labels.grid.spacing_mm.min(), 1.0)))
    data = Affine.identity().warp_labels(labels, grid).data[0].astype(np.int64)
    boxes = ndimage.find_objects(data)
    found = [data[box] == value for value, box in enumerate(boxes, 1) if box is not None]
    return [np.pad(shape, 1) for shape in found if shape.sum() >= LEAST_VOXELS]


def whole_body(path: Path) -> np.ndarray:
    """A map as it is, its labels numbered in order, around the middle of a cube."""
    labels = read_labels(path)
    grid = canonical(labels.grid).resampled(np.full(3, WHOLE_MM))
    data = Affine.identity().warp_labels(labels, grid).data[0]
    _, places = np.unique(data, return_inverse=True)
    numbered = places.reshape(data.shape).astype(np.uint8)
    body = np.zeros((SIDE,) * 3, np.uint8)
    here = tuple(slice(max((SIDE - n) // 2, 0), max((SIDE - n) // 2, 0) + min(n, SIDE)) for n in numbered.shape)
    there = tuple(slice(max((n - SIDE) // 2, 0), max((n - SIDE) // 2, 0) + min(n, SIDE)) for n in numbered.shape)
    body[here] = np.minimum(numbered[there], HIGHEST)
    return body


def one_body(shapes: Sequence[np.ndarray], random: np.random.Generator) -> np.ndarray:
    """Regions of smooth noise with shapes pasted over them, most inside a bent ball, some of these with a shell."""
    body = _regions(random)
    for _ in range(int(random.integers(*SHAPES))):
        _paste(body, shapes[int(random.integers(len(shapes)))], int(random.integers(1, HIGHEST - 1)), random)
    if random.random() < 2 / 3:
        distance = _ball(random)
        if random.random() < 0.5:
            body[(distance > 0) & (distance < random.uniform(2, 4))] = HIGHEST - 1
        body[distance <= 0] = 0
    return body


def _regions(random: np.random.Generator) -> np.ndarray:
    """Which of several smooth fields is largest, numbered from 1; one region in a third of the cases."""
    count = 1 if random.random() < 1 / 3 else int(random.integers(3, REGIONS))
    nodes = int(random.integers(3, 9))
    best, found = np.full((SIDE,) * 3, -np.inf, np.float32), np.zeros((SIDE,) * 3, np.uint8)
    for number in random.permutation(HIGHEST - 2)[:count] + 1:
        field = _smooth(nodes, random)
        found[field > best] = number
        best = np.maximum(best, field)
    return found


def _smooth(nodes: int, random: np.random.Generator) -> np.ndarray:
    """Random values at so many nodes along each axis, and between them by cubic splines."""
    coarse = random.standard_normal((nodes,) * 3).astype(np.float32)
    return ndimage.zoom(coarse, SIDE / nodes, order=3)


def _ball(random: np.random.Generator) -> np.ndarray:
    """How deep voxels lie below the surface of a bent ball, voxels."""
    radius = random.uniform(0.4, 0.6) * SIDE
    middle = SIDE / 2 + random.uniform(-0.1, 0.1, 3) * SIDE
    places = np.stack(np.meshgrid(*(np.arange(SIDE, dtype=np.float32) - m for m in middle), indexing="ij"))
    stretch = np.exp(random.uniform(-0.25, 0.25, 3)).reshape(3, 1, 1, 1)
    depth: np.ndarray = radius - np.sqrt(np.square(places * stretch).sum(axis=0)) + 5 * _smooth(5, random)
    return depth


def _paste(body: np.ndarray, shape: np.ndarray, number: int, random: np.random.Generator) -> None:
    """Write a number where a shape lies that is turned, stretched and put somewhere."""
    length = SIDE * float(np.exp(random.uniform(*np.log(SIZES))))
    factors = length / max(shape.shape) * np.exp(random.uniform(-np.log(STRETCH), np.log(STRETCH), 3))
    turn = Rotation.random(random_state=int(random.integers(2**31))).as_matrix()
    back = np.linalg.inv(turn @ np.diag(factors * random.choice([-1, 1], 3)))
    reach = np.ceil(np.abs(np.linalg.inv(back)) @ (np.array(shape.shape) / 2)).astype(int)
    centre = random.integers(0, SIDE, 3)
    low, high = np.maximum(centre - reach, 0), np.minimum(centre + reach + 1, SIDE)
    offset = (np.array(shape.shape) - 1) / 2 + back @ (low - centre)
    read = ndimage.affine_transform(shape.astype(np.float32), back, offset, tuple(high - low), order=1)
    i, j, k = (slice(a, b) for a, b in zip(low, high, strict=True))
    body[i, j, k][read > 0.5] = number


if __name__ == "__main__":
    main()
