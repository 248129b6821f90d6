"""A prepared data set of phantoms that are known deformations of one template."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from anamorph.data import Case, Dataset, read_dataset, write_dataset
from anamorph.image.write import write_image
from anamorph.phantom import make_pair
from anamorph.phantom.pair import random_affine, random_diffeomorphism
from anamorph.supervoxels import make_layers, warp_layers
from anamorph.supervoxels.files import KEY, TEMPLATE_LAYERS, layers_path, save_layers, transform_path
from anamorph.transforms import Affine, Composite, Transform
from anamorph.transforms.files import write_transform

SHAPE = (32, 28, 32)
SPACING_MM = 12.0
TEMPLATE = "0001_0000"


def truth(number: int) -> Transform:
    """From scan ``number`` to the template, scan 1."""
    if number == 1:
        return Affine.identity()
    rngs = [np.random.default_rng((number, n)) for n in range(2)]
    return Composite.of(random_affine(rngs[0], 30.0, 8.0, 0.08, False), random_diffeomorphism(rngs[1], 20.0, False))


def write_template_cohort(
    root: Path, training: int = 8, validation: int = 2, layers: int = 4, supervoxels: int = 24
) -> Dataset:
    """Scans 1, the template, to ``training`` are for training; ``validation`` more follow."""
    pair = make_pair(SHAPE, SPACING_MM, seed=3)
    template, labels, grid = pair.fixed, pair.fixed_labels, pair.fixed.grid
    made = make_layers(template, layers=layers, supervoxels=supervoxels, spacing_mm=SPACING_MM)
    save_layers(made, root / TEMPLATE_LAYERS)
    cases = []
    for number in range(1, training + validation + 1):
        to_template = truth(number)
        key = f"{number:04d}_0000"
        files = {kind: root / f"{kind}sTr" / f"Phantom_{key}.nii.gz" for kind in ("image", "label")}
        write_image(to_template.warp_image(template, grid), files["image"])
        write_image(to_template.warp_labels(labels, grid), files["label"])
        save_layers(warp_layers(made, to_template, grid), root / layers_path(key))
        if number > 1:
            write_transform(to_template, root / transform_path(key), "itk-h5", grid, grid)
        split = "training" if number <= training else "validation"
        cases.append(Case(f"{number:04d}", "0000", **files, split=split))
    path = root / "Phantom_dataset.json"
    told = {KEY: {"template": TEMPLATE, "scans": [case.key for case in cases]}}
    write_dataset(
        Dataset(path, root, "Phantom", {"0000": "CT"}, {n: str(n) for n in labels.present()}, tuple(cases), extra=told),
        path,
    )
    return read_dataset(path)
