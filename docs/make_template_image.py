"""The picture of docs/how-to/build-a-template.md: synthetic abdomens, their start, and their template.

Usage: python docs/make_template_image.py [FOLDER]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from make_images import BACKGROUND, TEXT

from anamorph.data import Case
from anamorph.image import Image
from anamorph.image.read import read_image
from anamorph.image.write import write_image
from anamorph.phantom import make_pair
from anamorph.report.pictures import SOFT_TISSUE_HU, to_grey
from anamorph.report.views import orthogonal_views
from anamorph.workflows.template.build import build_template
from anamorph.workflows.template.scans import TemplateSettings

TARGET = Path(__file__).parent / "images" / "template.png"
COUNT, SHAPE, SHOWN, ITERATIONS = 6, (84, 66, 76), 3, 2
COLOURS = 64


def main(folder: Path) -> None:
    """Build the template of some patients, and draw coronal slices of scans and stages."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    cases = [scan(seed, folder) for seed in range(COUNT)]
    template = build_template(cases, folder / "template", settings=TemplateSettings(iterations=ITERATIONS), resume=True)
    pictures = [(f"scan {n + 1} of {COUNT}", read_image(case.image)) for n, case in enumerate(cases[:SHOWN])]
    names = ["start: mean, centres aligned", *(f"after iteration {n + 1}" for n in range(ITERATIONS))]
    pictures += [(name, read_image(told.template)) for name, told in zip(names, template.iterations, strict=False)]
    figure, axes = plt.subplots(2, 3, figsize=(8.4, 5.7), facecolor=BACKGROUND)
    figure.subplots_adjust(left=0.01, right=0.99, top=0.95, bottom=0.01, wspace=0.03, hspace=0.1)
    for axis, (name, image) in zip(axes.ravel(), pictures, strict=True):
        show(axis, name, image)
    figure.savefig(TARGET, dpi=100, facecolor=BACKGROUND)
    reduce_colours()


def scan(seed: int, folder: Path) -> Case:
    """A synthetic patient."""
    path = folder / f"patient{seed}.nii.gz"
    if not path.is_file():
        write_image(make_pair(SHAPE, seed=seed).fixed, path)
    return Case(f"patient{seed}", "0000", path)


def show(axis: Any, name: str, image: Image) -> None:
    """A coronal slice through the middle."""
    i, j, k = image.grid.shape
    view = next(one for one in orthogonal_views(image.grid, (i // 2, j // 2, k // 2)) if one.name == "coronal")
    grey = to_grey(view.take_image(image), SOFT_TISSUE_HU)
    axis.imshow(grey, cmap="gray", vmin=0, vmax=255, extent=(0, view.width_mm, view.height_mm, 0))
    axis.set_title(name, color=TEXT, fontsize=10, pad=4)
    axis.set_axis_off()


def reduce_colours() -> None:
    """Hardly a difference to be seen, and a third of the size."""
    from PIL import Image as Picture

    with Picture.open(TARGET) as picture:
        picture.convert("RGB").quantize(COLOURS).save(TARGET, optimize=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
