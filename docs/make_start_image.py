"""The pictures of docs/concepts/the-start.md: scans of a synthetic abdomen, laid upon another one in several ways.

Usage: python docs/make_start_image.py
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from make_images import BACKGROUND, TARGET, TEXT
from scipy.spatial.transform import Rotation

import anamorph
from anamorph.geometry import Grid
from anamorph.image import Image
from anamorph.phantom import make_pair
from anamorph.report.pictures import SOFT_TISSUE_HU, fuse, to_grey
from anamorph.report.views import orthogonal_views
from anamorph.transforms import Affine

FOLDER = TARGET.parent
SHAPE, SEEN_SLICES = (76, 60, 68), 38
HEADER_OFF_MM = (45.0, 0.0, -70.0)
LARGER, TURN_DEG = 1.15, 75.0
COLOURS = 96
Panel = tuple[Image, str, str]
"""A moving scan, the name of a start, and a title."""


def main() -> None:
    """Draw a part of a body under each start, then what the kinds of maps can do, and a header that is mirrored."""
    pair = make_pair(SHAPE, seed=5, deformation_mm=12.0, translation_mm=8.0)
    part = upper_part(pair.moving)
    draw(
        FOLDER / "start.png",
        pair.fixed,
        [
            (part, "world", "world coordinates of the files"),
            (part, "centres", "middles of the fields of view"),
            (part, "translation", "best of all translations"),
            (part, "auto", "the start that is taken"),
        ],
    )
    larger = moved(pair.moving, np.diag([LARGER] * 3))
    turned = moved(pair.moving, Rotation.from_euler("y", TURN_DEG, degrees=True).as_matrix())
    mirrored = pair.moving.with_data(np.ascontiguousarray(pair.moving.data[:, ::-1]))
    draw(
        FOLDER / "start-kinds.png",
        pair.fixed,
        [
            (larger, "rigid", "a larger body: rigid"),
            (larger, "affine", "a larger body: affine"),
            (turned, "translation", "a turned scan: translation"),
            (turned, "any-pose", "a turned scan: any-pose"),
            (mirrored, "auto", "a mirrored header: auto"),
        ],
    )


def draw(picture: Path, fixed: Image, panels: Sequence[Panel]) -> None:
    """Coronal slices of a fixed scan and moving ones under the starts that they are given."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from PIL import Image as Picture

    i, j, k = fixed.grid.shape
    view = next(one for one in orthogonal_views(fixed.grid, (i // 2, j // 2, k // 2)) if one.name == "coronal")
    here = to_grey(view.take_image(fixed), SOFT_TISSUE_HU)
    figure, axes = plt.subplots(1, len(panels), figsize=(2.95 * len(panels), 3.2), facecolor=BACKGROUND)
    figure.subplots_adjust(left=0.006, right=0.994, top=0.89, bottom=0.07, wspace=0.03)
    for axis, (moving, init, title) in zip(axes, panels, strict=True):
        start = anamorph.register(fixed, moving, method="linear", init=init)
        print(title, *start.provenance["start"], *start.warnings, sep="\n  ")
        placed = start.fixed_to_moving.warp_image(moving, fixed.grid, background=-1024)
        there = to_grey(view.take_image(placed), SOFT_TISSUE_HU)
        axis.imshow(fuse(here, there), interpolation="bicubic", extent=(0, view.width_mm, view.height_mm, 0))
        axis.set_title(title, color=TEXT, fontsize=11, pad=5)
        axis.set_axis_off()
    note = {"color": TEXT, "fontsize": 8.5, "va": "center", "ha": "center"}
    figure.text(0.5, 0.03, "fixed green, moving magenta, grey where both agree", **note)
    figure.savefig(picture, dpi=110, facecolor=BACKGROUND)
    with Picture.open(picture) as drawn:
        drawn.convert("RGB").quantize(COLOURS).save(picture, optimize=True)


def upper_part(scan: Image) -> Image:
    """The upper slices, with a header that says they are elsewhere."""
    first = scan.grid.shape[2] - SEEN_SLICES
    affine = scan.grid.affine.copy()
    affine[:3, 3] += affine[:3, 2] * first + np.array(HEADER_OFF_MM)
    return Image(scan.data[..., first:], Grid((*scan.grid.shape[:2], SEEN_SLICES), affine), "moving")


def moved(scan: Image, matrix: np.ndarray) -> Image:
    """The same voxels under a header that turns or enlarges them about their middle."""
    return Image(scan.data, Grid(scan.grid.shape, Affine.about(matrix, scan.grid.centre_mm).matrix @ scan.grid.affine))


if __name__ == "__main__":
    main()
