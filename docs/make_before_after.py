"""The moving picture of the landing page: one synthetic abdomen deforms into another, fixed green, moving magenta.

Usage: python docs/make_before_after.py
"""

from __future__ import annotations

import numpy as np
from make_images import TARGET

import anamorph
from anamorph.report.lines import contours_mm, grid_lines_mm
from anamorph.report.pictures import SOFT_TISSUE_HU, fuse, to_grey
from anamorph.report.views import View, orthogonal_views
from anamorph.transforms import Displacement

FILM = TARGET.with_name("before-after.webp")
STILL = TARGET.with_name("before-after.png")
STEPS, HOLD_MS, STEP_MS = 14, 1400, 70
GRID_MM, ENLARGED = 20.0, 3
ORGANS = ("#56b4e9", "#e69f00", "#00c48c", "#f0e442", "#ff7a45", "#e58cc0")


def main() -> None:
    """Register two phantoms and draw the deformation step by step, there and back."""
    from PIL import Image as Picture

    pair = anamorph.make_pair((152, 120, 136), seed=3, deformation_mm=25.0)
    result = anamorph.register(pair.fixed, pair.moving)
    grid = pair.fixed.grid
    view = orthogonal_views(grid, (76, 60, 66))[1]
    whole = result.fixed_to_moving.displacement_on(grid)
    frames = []
    for share in np.sin(np.linspace(0, np.pi / 2, STEPS + 1)) ** 2:
        part = Displacement(whole.disp_vox * np.float32(share), grid)
        frames.append(_drawn(pair, view, part))
    pictures = [Picture.fromarray(frame) for frame in (*frames, *frames[-2:0:-1])]
    lasting = [HOLD_MS, *[STEP_MS] * (STEPS - 1), HOLD_MS, *[STEP_MS] * (STEPS - 1)]
    rest = {"save_all": True, "append_images": pictures[1:], "duration": lasting, "loop": 0}
    pictures[0].save(FILM, quality=60, method=6, **rest)
    both = np.concatenate([frames[0], frames[-1]], axis=1)
    Picture.fromarray(both).quantize(96).save(STILL, optimize=True)


def _drawn(pair: anamorph.phantom.PhantomPair, view: View, part: Displacement) -> np.ndarray:
    """Both scans on a slice, the moving one moved by a part of the way, with its outlines and its grid."""
    from PIL import Image as Picture
    from PIL import ImageDraw

    here = to_grey(view.take_image(pair.fixed), SOFT_TISSUE_HU)
    there = to_grey(view.take_image(part.warp_image(pair.moving, view.grid)), SOFT_TISSUE_HU)
    size = (view.pixels[1] * ENLARGED, view.pixels[0] * ENLARGED)
    picture = Picture.fromarray(fuse(here, there)).resize(size, Picture.Resampling.BICUBIC)
    drawing = ImageDraw.Draw(picture)
    scale = ENLARGED / np.array([view.pixel_mm[1], view.pixel_mm[0]])
    for line in grid_lines_mm(view.displacement(part).disp_vox, view, GRID_MM):
        drawing.line([tuple(point) for point in line * scale], fill="#5c5c52", width=1)
    labels = view.take_image(part.warp_labels(pair.moving_labels, view.grid), "nearest")
    for rank, name in enumerate(pair.fixed_labels.present()):
        for line in contours_mm(labels == name, view):
            drawing.line([tuple(point) for point in line * scale], fill=ORGANS[rank % len(ORGANS)], width=2)
    return np.asarray(picture)


if __name__ == "__main__":
    main()
