"""The maps of a report: what is taken out, and colours that are those of the legend."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image as Picture

from anamorph.geometry import Grid
from anamorph.report.colours import ColourScale
from anamorph.report.figures import Panel
from anamorph.report.lines import anatomy
from anamorph.report.pair import comparison, report_views
from anamorph.report.views import orthogonal_views
from anamorph.transforms import Affine, Composite, Displacement
from reports import make_report

HALF_WIDTH = 3


def pixels(source: str) -> np.ndarray:
    return np.asarray(Picture.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))))


def panel_of(report, title: str) -> Panel:
    return next(p for p in comparison(report, report_views(report))[1] if p.title.startswith(title))


def pushed(grid: Grid, linear: Affine) -> Composite:
    """A bump of 2 mm to the back in the middle of a grid, then an affine map."""
    middle = (np.array(grid.shape) - 1) / 2
    voxels = np.moveaxis(np.indices(grid.shape), 0, -1)
    vectors = np.zeros((3, *grid.shape), np.float32)
    vectors[1] = -2 * np.exp(-(((voxels - middle) / HALF_WIDTH) ** 2).sum(axis=-1))
    there = Composite.of(Displacement.from_world(vectors, grid), linear)
    assert isinstance(there, Composite)
    return there


@pytest.mark.parametrize("turn", [0.0, 0.1])
def test_the_deformation_is_shown_without_the_linear_part(turn):
    grid = Grid((24, 20, 16), np.diag([-2.0, -2.0, 3.0, 1.0]))
    matrix = np.eye(4)
    matrix[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    matrix[:3, 3] = 40, 0, -30
    there = pushed(grid, Affine(matrix))
    panel = panel_of(make_report(grid, fixed_to_moving=there, moving_to_fixed=None), "Deformation")
    assert panel.scale is not None
    assert 1.5 < panel.scale.high < 2.1
    alone = re.search(r"Alone it moves points by ([0-9.]+) mm", panel.caption)
    assert alone is not None
    assert float(alone[1]) == pytest.approx(50, abs=2)  # the shift; a turn adds to it at the edges
    axial = next(figure for column in panel.columns for figure in column if figure.view.name == "axial")
    table = panel.scale.table().astype(int)
    shown = np.abs(pixels(axial.layers[0].source).astype(int)[:, :, None] - table).sum(axis=-1)
    assert shown.min(axis=-1).max() == 0  # every pixel has a colour of the legend
    values = panel.scale.high * shown.argmin(axis=-1) / 255
    assert values[9:11, 11:13].min() > 1.5  # the bump
    assert np.median(values) < 0.2


def test_a_linear_map_is_said_to_deform_nothing():
    grid = Grid((24, 20, 16), np.diag([-2.0, -2.0, 3.0, 1.0]))
    panel = panel_of(make_report(grid, fixed_to_moving=Affine.translation([5.0, 0, 0])), "Deformation")
    assert panel.caption.startswith("The map is linear")
    assert panel.scale == ColourScale("viridis", 0.0, 1.0)


def test_the_fixed_scan_is_in_the_map_as_thin_lines():
    grid = Grid((60, 50, 1), np.eye(4))
    view = orthogonal_views(grid, (0, 0, 0))[0]
    grey = np.zeros(view.pixels, np.uint8)
    grey[10:40, 20:50] = 180
    grey[2, 2] = 255  # a speck
    path = anatomy(grey, view)
    numbers = np.array([float(n) for n in re.findall(r"-?[0-9.]+", path)]).reshape(-1, 2)
    assert path.count("M") == 1
    np.testing.assert_allclose(numbers.min(axis=0), (20, 10), atol=1.5)
    np.testing.assert_allclose(numbers.max(axis=0), (50, 40), atol=1.5)
    assert anatomy(np.zeros_like(grey), view) == ""
