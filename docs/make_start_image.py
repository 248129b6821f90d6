"""The picture of docs/concepts/the-start.md: a part of a synthetic abdomen, laid upon a whole one in several ways.

Usage: python docs/make_start_image.py
"""

from __future__ import annotations

import numpy as np
from make_images import BACKGROUND, TARGET, TEXT

import anamorph
from anamorph.geometry import Grid
from anamorph.image import Image
from anamorph.phantom import make_pair
from anamorph.report.pictures import SOFT_TISSUE_HU, fuse, to_grey
from anamorph.report.views import orthogonal_views

PICTURE = TARGET.with_name("start.png")
SHAPE, SEEN_SLICES = (76, 60, 68), 38
HEADER_OFF_MM = (45.0, 0.0, -70.0)
STARTS = {
    "world": "world coordinates of the files",
    "centres": "middles of the fields of view",
    "translation": "best of all translations",
    "auto": "the start that is taken",
}
COLOURS = 96


def main() -> None:
    """Draw coronal slices of both scans under each start."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from PIL import Image as Picture

    pair = make_pair(SHAPE, seed=5, deformation_mm=12.0, translation_mm=8.0)
    fixed, moving = pair.fixed, upper_part(pair.moving)
    i, j, k = fixed.grid.shape
    view = next(one for one in orthogonal_views(fixed.grid, (i // 2, j // 2, k // 2)) if one.name == "coronal")
    here = to_grey(view.take_image(fixed), SOFT_TISSUE_HU)
    figure, axes = plt.subplots(1, len(STARTS), figsize=(11.8, 3.2), facecolor=BACKGROUND)
    figure.subplots_adjust(left=0.006, right=0.994, top=0.89, bottom=0.07, wspace=0.03)
    for axis, (init, title) in zip(axes, STARTS.items(), strict=True):
        start = anamorph.register(fixed, moving, method="linear", settings={"init": init}).fixed_to_moving
        placed = start.warp_image(moving, fixed.grid, background=-1024)
        there = to_grey(view.take_image(placed), SOFT_TISSUE_HU)
        axis.imshow(fuse(here, there), interpolation="bicubic", extent=(0, view.width_mm, view.height_mm, 0))
        axis.set_title(title, color=TEXT, fontsize=11, pad=5)
        axis.set_axis_off()
    note = {"color": TEXT, "fontsize": 8.5, "va": "center", "ha": "center"}
    figure.text(0.5, 0.03, "fixed green, moving magenta, grey where both agree", **note)
    figure.savefig(PICTURE, dpi=110, facecolor=BACKGROUND)
    with Picture.open(PICTURE) as picture:
        picture.convert("RGB").quantize(COLOURS).save(PICTURE, optimize=True)


def upper_part(scan: Image) -> Image:
    """The upper slices, with a header that says they are elsewhere."""
    first = scan.grid.shape[2] - SEEN_SLICES
    affine = scan.grid.affine.copy()
    affine[:3, 3] += affine[:3, 2] * first + np.array(HEADER_OFF_MM)
    return Image(scan.data[..., first:], Grid((*scan.grid.shape[:2], SEEN_SLICES), affine), "moving")


if __name__ == "__main__":
    main()
