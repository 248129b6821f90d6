"""A result in a notebook: the lines that stand for it, the figure for a paper, and the view to scroll through."""

from __future__ import annotations

import dataclasses
from html.parser import HTMLParser
from io import BytesIO

import nibabel
import numpy as np
import pytest
from PIL import Image as Picture

import anamorph
from anamorph.errors import UserError
from anamorph.methods import METHODS
from anamorph.registration import notebook

SHIFT = np.array([4.0, -6.0, 9.0])
SHAPE = (10, 12, 8)
GRIDS = {
    "LAS": np.array([[-1.5, 0, 0, 20], [0, 1.5, 0, -30], [0, 0, 3.0, 5], [0, 0, 0, 1]]),
    "RPI": np.array([[1.5, 0, 0, -7], [0, -1.5, 0, 3], [0, 0, -3.0, 40], [0, 0, 0, 1]]),
    "SAR": np.array([[0, 0, 2.0, -8], [0, 1.5, 0, 0], [1.0, 0, 0, 30], [0, 0, 0, 1]]),
}
BRIGHT = (6, 3, 5)


@pytest.fixture(autouse=True)
def stub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS.own, "stub", "stub_method:Stub")


def one_bright_block() -> np.ndarray:
    """A grey box with a block of 3 x 3 x 3 brighter voxels."""
    data = np.zeros(SHAPE, np.float32)
    data[1:, 1:, 1:] = 100
    data[tuple(slice(place - 1, place + 2) for place in BRIGHT)] = 500
    return data


def result_on(affine: np.ndarray, name: str = "a.nii.gz", data: np.ndarray | None = None) -> anamorph.Result:
    """A scan, of noise by default, and the same, shifted in its header."""
    data = np.random.default_rng(0).normal(100, 10, SHAPE).astype(np.float32) if data is None else data
    blob = np.zeros(SHAPE, np.uint8)
    blob[5:8, 2:5, 4:7] = 1
    grid = anamorph.Grid(SHAPE, affine)
    elsewhere = affine.copy()
    elsewhere[:3, 3] += SHIFT
    moved = anamorph.Grid(SHAPE, elsewhere)
    return anamorph.register(
        anamorph.Image(data, grid, name),
        anamorph.Image(data, moved, "b.nii.gz"),
        fixed_labels=anamorph.Labels(blob, grid),
        moving_labels=anamorph.Labels(blob, moved),
        method="stub",
    )


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize(
    ("plane", "across", "down", "letters"),
    [("axial", 0, 1, "RLAP"), ("coronal", 0, 2, "RLSI"), ("sagittal", 1, 2, "APSI")],
)
def test_axes_are_millimetres_of_the_world_and_the_right_is_on_the_left(grid, plane, across, down, letters):
    result = result_on(GRIDS[grid], data=one_bright_block())
    bright_mm = result.fixed.grid.voxel_to_world(np.array(BRIGHT, float))
    normal = ({0, 1, 2} - {across, down}).pop()
    figure = result.plot(plane, slice_mm=bright_mm[normal], panels=["fixed", "moving", "warped"])
    for axes, expected in zip(figure.axes, (bright_mm, bright_mm + SHIFT, bright_mm), strict=True):
        pixels = np.asarray(axes.images[0].get_array())
        row, column = np.argwhere(pixels > 200).mean(axis=0)
        left, right, bottom, top = axes.images[0].get_extent()
        x = left + (column + 0.5) / pixels.shape[1] * (right - left)
        y = top + (row + 0.5) / pixels.shape[0] * (bottom - top)
        np.testing.assert_allclose((x, y), (expected[across], expected[down]), atol=1e-6)
        assert [text.get_text() for text in axes.texts] == list(letters)
        assert left > right  # the patient's right, or the front, comes first
        assert top > bottom
        # A pixel of 1.5 x 3 mm stays 1.5 x 3 mm.
        assert axes.get_box_aspect() == pytest.approx(abs(top - bottom) / abs(left - right))


def test_outlines_lie_on_their_labels():
    result = result_on(GRIDS["LAS"])
    figure = result.plot("axial", slice_mm=20.0, panels=["fixed", "after"])
    (line,) = figure.axes[0].lines
    corners = result.fixed.grid.voxel_to_world(np.array([[4.5, 1.5, 5], [7.5, 4.5, 5]]))
    np.testing.assert_allclose(line.get_xdata().min(), corners[:, 0].min(), atol=1e-6)
    np.testing.assert_allclose(line.get_xdata().max(), corners[:, 0].max(), atol=1e-6)
    np.testing.assert_allclose(line.get_ydata().min(), corners[:, 1].min(), atol=1e-6)
    np.testing.assert_allclose(line.get_ydata().max(), corners[:, 1].max(), atol=1e-6)
    assert [line.get_linestyle() for line in figure.axes[1].lines] == ["-", ":"]
    assert not result.plot(labels=False, panels=["fixed"]).axes[0].lines


def test_agreement_is_grey_and_the_change_of_volume_is_that_of_the_map():
    result = result_on(GRIDS["LAS"])
    figure = result.plot(panels=["before", "after"])
    before, after = (axes.images[0].get_array() for axes in figure.axes)
    assert np.ptp(after.astype(int), axis=-1).mean() < 2 < np.ptp(before.astype(int), axis=-1).mean()
    stretch = anamorph.Affine(np.diag([1.2, 1.0, 1.0, 1.0]))
    outcome = dataclasses.replace(
        result.outcome, fixed_to_moving=stretch, moving_to_fixed=anamorph.Affine(np.diag([1 / 1.2, 1, 1, 1]))
    )
    stretched = anamorph.Result(result.inputs, result.plan, outcome)
    figure = stretched.plot(panels=["jacobian", "displacement"])
    determinant, displacement = (axes.images[0] for axes in figure.axes if axes.get_title())
    np.testing.assert_allclose(determinant.get_array(), 1.2, rtol=1e-4)
    assert (determinant.norm.vmin, determinant.norm.vmax) == pytest.approx((0.8, 1.25))
    place_mm = result.fixed.grid.voxel_to_world(np.stack([np.arange(10.0), np.zeros(10), np.zeros(10)], -1))[:, 0]
    np.testing.assert_allclose(displacement.get_array()[0], 0.2 * np.abs(place_mm), rtol=1e-4)


def test_a_figure_is_saved_for_print_and_shown_small(tmp_path):
    figure = result_on(GRIDS["LAS"]).plot()
    figure.savefig(tmp_path / "figure.png")
    with Picture.open(tmp_path / "figure.png") as saved, Picture.open(BytesIO(figure._repr_png_())) as shown:
        assert saved.width == 2160  # 7.2 inches at 300 dots per inch
        assert shown.width == 720
    figure.savefig(tmp_path / "figure.svg")
    drawn = (tmp_path / "figure.svg").read_text(encoding="utf-8")
    assert ">change of volume (det J)</text>" in drawn


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"plane": "axiel"}, r"no plane 'axiel' \(did you mean 'axial'\?\); choose of: axial, coronal, sagittal"),
        ({"panels": ["warped", "jacobean"]}, r"no panel 'jacobean' \(did you mean 'jacobian'\?\)"),
        ({"panels": []}, "there is no panel to draw"),
        ({"slice_mm": 28.0}, r"no axial slice at 28 mm, only from 5.0 to 26.0 mm"),
    ],
)
def test_what_a_figure_cannot_show_is_one_clear_line(given, message):
    with pytest.raises(UserError, match=message):
        result_on(GRIDS["LAS"]).plot(**given)


TAGS = {"div", "b", "br", "span", "ul", "li", "figure", "img", "figcaption"}
TAGS |= {"table", "tr", "th", "td", "small", "code"}


def test_a_single_slice_is_shown_in_its_own_plane():
    coronal = np.array([[-1.5, 0, 0, 0], [0, 0, 2.0, 7], [0, 1.5, 0, 0], [0, 0, 0, 1]])
    grid = anamorph.Grid((20, 24, 1), coronal)
    scan = anamorph.Image(np.random.default_rng(0).normal(100, 10, grid.shape).astype(np.float32), grid)
    result = anamorph.register(scan, scan, method="stub")
    assert "".join(text.get_text() for text in result.plot().axes[0].texts) == "RLSI"
    with pytest.raises(UserError, match="no axial slices, being a single slice; choose: coronal"):
        result.plot("axial")
    assert "coronal slice, after" in result._repr_html_()


class Tags(HTMLParser):
    """The tags of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.seen.append(tag)


def test_the_lines_that_stand_for_a_result_need_nothing_else_and_hold_no_foreign_tags():
    page = result_on(GRIDS["LAS"], name="<img src=x onerror=alert(1)>.nii")._repr_html_()
    assert "b.nii.gz registered to &lt;img src=x onerror=alert(1)&gt;" in page
    assert set(Tags(page).seen) <= TAGS
    assert Tags(page).seen.count("img") == 2
    assert "http" not in page
    assert len(page) < 100_000
    assert "<td>Dice</td><td>0</td><td>1</td>" in page


def test_the_view_holds_both_scans_where_they_lie():
    pytest.importorskip("ipyniivue")
    result = result_on(GRIDS["SAR"])
    view = result.view(height_px=300)
    assert (view.opts.is_radiological_convention, view.opts.sagittal_nose_left, view.height) == (True, True, 300)
    fixed, warped = view.volumes
    for volume, image in ((fixed, result.fixed), (warped, result.warped)):
        held = nibabel.Nifti1Image.from_bytes(bytes(volume.data))
        np.testing.assert_allclose(held.affine, image.grid.affine, atol=1e-5)
        np.testing.assert_allclose(held.get_fdata(), image.data[0], atol=1e-3)
    assert (fixed.opacity, warped.opacity) == (1.0, 0.5)
    assert (fixed.cal_min, fixed.cal_max) != (0, 0)


def test_without_the_viewer_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setattr(notebook, "find_spec", lambda name: None)
    result = result_on(GRIDS["LAS"])
    with pytest.raises(UserError, match=r"needs ipyniivue; install it: pip install 'anamorph\[notebook\]'"):
        result.view()
    assert "view()" not in result._repr_html_()
