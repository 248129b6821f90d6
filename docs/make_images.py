"""The picture of the README, from the folder that `make demo` (or `anamorph demo -o demo-out`) writes.

Usage: python docs/make_images.py [demo-out]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from anamorph.image import Image, Labels
from anamorph.image.read import read_image, read_labels
from anamorph.report.colours import jacobian_scale, label_colour
from anamorph.report.lines import deformed_grid, outline
from anamorph.report.pictures import SOFT_TISSUE_HU, fuse, to_grey
from anamorph.report.views import View, focus_voxel, orthogonal_views
from anamorph.transforms.files import read_transform

TARGET = Path(__file__).parent / "images" / "demo.png"
BACKGROUND, TEXT = "#0d1117", "#e6edf3"
GRID_MM = 15.0


def main(folder: Path) -> None:
    """Draw coronal slices: the overlay before and after, the deformed grid, and the change of volume."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    fixed, moving = (read_image(folder / "inputs" / f"{name}.nii.gz") for name in ("fixed", "moving"))
    fixed_labels, moving_labels = (
        read_labels(folder / "inputs" / f"{name}_labels.nii.gz") for name in ("fixed", "moving")
    )
    warped_labels = read_labels(folder / "warped_labels.nii.gz")
    field = read_transform(folder / "fixed_to_moving.nii.gz")
    view = next(one for one in orthogonal_views(fixed.grid, focus_voxel(fixed, fixed_labels)) if one.name == "coronal")
    here = to_grey(view.take_image(fixed), SOFT_TISSUE_HU)
    before, after = (
        to_grey(view.take_image(image, fill=-1024.0), SOFT_TISSUE_HU)
        for image in (moving, read_image(folder / "warped.nii.gz"))
    )
    determinant = view.take(view.determinants(field))
    scale = jacobian_scale([determinant])

    figure, axes = plt.subplots(1, 4, figsize=(11.8, 3.2), facecolor=BACKGROUND)
    figure.subplots_adjust(left=0.006, right=0.994, top=0.89, bottom=0.07, wspace=0.03)
    _show(axes[0], view, fuse(here, before), "before")
    _show(axes[1], view, fuse(here, after), "after")
    _show(axes[2], view, (after * 0.6).astype(np.uint8), f"grid of {GRID_MM:g} mm, warped")
    _show(axes[3], view, scale.paint(determinant, here), "change of volume")
    _outlines(axes[0], view, fixed_labels, moving_labels)
    _outlines(axes[1], view, fixed_labels, warped_labels)
    _draw(axes[2], deformed_grid(view.displacement(field).disp_vox, view, GRID_MM), "#ffd166", 0.7)
    note = {"color": TEXT, "fontsize": 8.5, "va": "center", "ha": "center"}
    legend = "fixed green, moving magenta, grey where both agree; outlines: fixed solid, moving dotted"
    figure.text(0.25, 0.03, legend, **note)
    _colour_bar(figure, scale.name, scale.ticks(), note)
    TARGET.parent.mkdir(exist_ok=True)
    figure.savefig(TARGET, dpi=135, facecolor=BACKGROUND)
    _compress(TARGET)


def _show(axis: Any, view: View, picture: np.ndarray, title: str) -> None:
    axis.imshow(
        picture,
        cmap="gray",
        vmin=0,
        vmax=255,
        interpolation="bicubic",
        extent=(0, view.width_mm, view.height_mm, 0),
    )
    axis.set_title(title, color=TEXT, fontsize=11, pad=5)
    axis.set_axis_off()


def _outlines(axis: Any, view: View, fixed: Labels, other: Image) -> None:
    ranks = {name: rank for rank, name in enumerate(fixed.present())}
    for labels, style in ((fixed, "-"), (other, ":")):
        shown = view.take_image(labels, "nearest")
        for name, rank in ranks.items():
            if (shown == name).any():
                _draw(axis, outline(shown == name, view), label_colour(rank), 1.0, style)


def _draw(axis: Any, path: str, colour: str, width: float, style: str = "-") -> None:
    """Draw an SVG path of straight lines (M x,y x,y ... Z)."""
    for part in path.split("M")[1:]:
        points = np.array([pair.split(",") for pair in part.rstrip("Z").split()], float)
        if part.endswith("Z"):
            points = np.vstack([points, points[:1]])
        axis.plot(*points.T, color=colour, linewidth=width, linestyle=style, scalex=False, scaley=False)


def _colour_bar(figure: Any, name: str, ticks: tuple[str, str, str], note: dict[str, Any]) -> None:
    bar = figure.add_axes((0.815, 0.018, 0.12, 0.026))
    bar.imshow(np.linspace(0, 1, 256)[None], cmap=name, aspect="auto")
    bar.set_axis_off()
    figure.text(0.785, 0.03, f"× {float(ticks[0]):.1f}", **note)
    figure.text(0.955, 0.03, f"× {float(ticks[2]):.1f}", **note)


def _compress(path: Path) -> None:
    """Keep 32 levels per colour: half of the size, and hardly a difference to be seen."""
    from PIL import Image as Picture

    with Picture.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    Picture.fromarray((pixels & 0xF8) | 4).save(path, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo-out"))
