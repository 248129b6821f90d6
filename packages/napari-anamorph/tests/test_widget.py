"""The widget in a real viewer: two layers go in, layers come out, errors are one line, and it can be stopped."""

from __future__ import annotations

import time

import numpy as np
import pytest

pytest.importorskip("napari")
pytest.importorskip("pytestqt")
from napari.layers import Image as ImageLayer

import anamorph
from napari_anamorph.frames import from_napari, image_layer, to_napari
from napari_anamorph.widget import RegisterWidget

SHAPE = (48, 40, 44)


@pytest.fixture(scope="module")
def pair():
    return anamorph.make_pair(SHAPE, seed=3)


@pytest.fixture
def viewer(make_napari_viewer, pair):
    viewer = make_napari_viewer()
    for name, image in (("fixed", pair.fixed), ("moving", pair.moving)):
        data, options = image_layer(image)
        viewer.add_image(data, name=name, contrast_limits=(-160, 240), **options)
    return viewer


@pytest.fixture
def widget(viewer):
    widget = RegisterWidget(viewer)
    viewer.window.add_dock_widget(widget, name="anamorph")
    widget.fixed.value, widget.moving.value = viewer.layers["fixed"], viewer.layers["moving"]
    return widget


def finish(qtbot, widget: RegisterWidget) -> None:
    qtbot.waitUntil(lambda: widget.start.enabled and widget._task is None, timeout=120_000)


def test_two_layers_go_in_and_the_result_comes_out_as_layers(qtbot, viewer, widget, pair):
    seen = []
    widget.start.native.click()
    widget._task.progressed.connect(lambda stage, fraction: seen.append((stage, fraction)))
    assert not widget.start.enabled
    assert widget.cancel.enabled
    finish(qtbot, widget)
    assert [layer.name for layer in viewer.layers[2:]] == ["moving warped", "grid of 20 mm, warped", "displacement"]
    expected = anamorph.register(pair.fixed, pair.moving)
    warped, grid, displacement = viewer.layers[2:]
    np.testing.assert_array_equal(warped.data, expected.warped.data[0].transpose())
    np.testing.assert_allclose(warped.data_to_world((3, 4, 5)), viewer.layers["fixed"].data_to_world((3, 4, 5)))
    assert widget.message.value.startswith("PASS: no signs of failure; accuracy not measured")
    fractions = [fraction for _, fraction in seen]
    assert fractions == sorted(fractions)
    assert len(set(seen)) > 5

    starts_mm, steps_mm = (from_napari(displacement.data[:, part]) for part in (0, 1))
    np.testing.assert_allclose(expected.fixed_to_moving.map_world(starts_mm), starts_mm + steps_mm, atol=1e-3)
    assert len(starts_mm) > 1000

    # The lines of the grid are where a regular grid of 20 mm of the moving scan is found.
    on_grid = expected.fixed.grid
    starts_mm = from_napari(grid.data[:, 0])[::50]
    found = on_grid.world_to_voxel(expected.fixed_to_moving.map_world(starts_mm))[:, :2]
    away_mm = (found + 0.5) * on_grid.spacing_mm[:2]
    off_mm = np.abs((away_mm + 10) % 20 - 10).min(axis=1)
    assert np.percentile(off_mm, 95) < 0.5


def test_landmarks_placed_by_hand_are_measured_or_pull(qtbot, viewer, widget, pair):
    matched = zip(pair.fixed_points.positions_mm, pair.moving_points.positions_mm, strict=True)
    inside = [
        (a, b) for a, b in matched if pair.fixed.grid.contains(a[None])[0] and pair.moving.grid.contains(b[None])[0]
    ]
    for name, points_mm in zip(("fixed", "moving"), np.array(inside[:12]).transpose(1, 0, 2), strict=True):
        # Clicked in a layer of points that has the place of its scan: coordinates of its array.
        scan = viewer.layers[name]
        clicked = [scan.world_to_data(point) for point in to_napari(points_mm)]
        layer = viewer.add_points(ndim=3, affine=scan.affine, name=f"{name} landmarks")
        for point in clicked:
            layer.add(point)
    widget.fixed_points.value = viewer.layers["fixed landmarks"]
    widget.moving_points.value = viewer.layers["moving landmarks"]
    widget.start.native.click()
    finish(qtbot, widget)
    assert "mean landmark error" in widget.message.value
    before, after = (
        side.mean("tre_mm_landmarks") for side in (widget.result.metrics.before, widget.result.metrics.after)
    )
    distances = [np.linalg.norm(a - b) for a, b in inside[:12]]
    assert before == pytest.approx(np.mean(distances), rel=1e-6)
    assert after < 0.4 * before

    widget.pull.value, widget.within_mm.value = True, 1.0
    widget.start.native.click()
    finish(qtbot, widget)
    assert widget.result.metrics.after.mean("tre_mm_landmarks") is None  # what pulls measures nothing
    assert widget.result.metrics.used.after.mean("tre_mm_landmarks") < after
    assert "accuracy not measured" in widget.message.value


def test_a_registration_can_be_stopped(qtbot, viewer, widget):
    begun = time.perf_counter()
    widget.start.native.click()
    qtbot.waitUntil(lambda: widget.progress.value > 0, timeout=60_000)
    widget.cancel.native.click()
    finish(qtbot, widget)
    assert widget.message.value == "stopped; nothing was changed"
    assert len(viewer.layers) == 2
    assert widget.progress.value == 0
    assert time.perf_counter() - begun < 30


def message_of(widget: RegisterWidget) -> str:
    widget.start.native.click()
    assert "\n" not in widget.message.value
    assert widget.start.enabled
    return widget.message.value


def test_what_cannot_work_is_one_line(viewer, widget, monkeypatch):
    shown = []
    monkeypatch.setattr("napari_anamorph.widget.show_error", shown.append)
    widget.moving.value = viewer.layers["fixed"]
    assert message_of(widget) == "the fixed and the moving scan are the same layer; choose two"
    film = viewer.add_image(np.zeros((2, 4, 5, 6)), name="film")
    widget.moving.value = film
    assert message_of(widget).startswith("layer 'film' has 4 axes")
    widget.moving.value = viewer.layers["moving"]
    widget.fixed_points.value = viewer.add_points(np.zeros((3, 3)), name="three")
    assert message_of(widget).startswith("landmarks of one scan alone say nothing")
    widget.moving_points.value = viewer.add_points(np.zeros((2, 3)), name="two")
    assert message_of(widget) == "3 fixed but 2 moving points; they must correspond one to one"
    widget.fixed_points.value = widget.moving_points.value = None
    widget.pull.value = True
    assert message_of(widget).startswith("landmarks cannot pull without landmarks")
    assert len(shown) == 5


def test_what_goes_wrong_in_the_thread_is_one_line_too(qtbot, viewer, widget, monkeypatch):
    shown = []
    monkeypatch.setattr("napari_anamorph.widget.show_error", shown.append)
    widget.moving.value = viewer.add_image(np.full((20, 20, 20), 7.0), name="nothing")
    widget.start.native.click()
    finish(qtbot, widget)
    assert "\n" not in widget.message.value
    assert widget.message.value == "nothing: every voxel has the value 7.0; is this the right file?"
    assert shown == [widget.message.value]
    assert not [layer for layer in viewer.layers if "warped" in layer.name]


def test_presets_are_those_of_the_method_and_layers_come_and_go(viewer, widget):
    assert "abdomen-ct" in widget.preset.choices
    assert widget.preset.value == "auto"
    widget.method.value = "affine"
    assert widget.preset.choices[0] == "auto"
    assert len(widget.fixed.choices) == 2
    added = viewer.add_image(np.zeros((4, 4, 4)), name="third")
    assert added in widget.fixed.choices
    viewer.layers.remove(added)
    assert len(widget.fixed.choices) == 2
    assert all(isinstance(layer, ImageLayer) for layer in widget.moving.choices)


def test_napari_finds_the_widget_the_reader_and_the_samples(make_napari_viewer, tmp_path, pair):
    from npe2 import PluginManager, PluginManifest

    manifest = PluginManifest.from_distribution("napari-anamorph")
    manifest.validate_imports()
    PluginManager.instance().register(
        manifest, warn_disabled=False
    ) if manifest.name not in PluginManager.instance() else None
    anamorph.write_image(pair.fixed, tmp_path / "scan.nii.gz")
    viewer = make_napari_viewer()
    (layer,) = viewer.open(tmp_path / "scan.nii.gz", plugin="napari-anamorph")
    corner_mm = pair.fixed.grid.voxel_to_world(np.zeros(3))
    place = tuple(np.rint(layer.world_to_data(to_napari(corner_mm))).astype(int))
    assert layer.data[place] == pair.fixed.data[0, 0, 0, 0]
    viewer.open_sample("napari-anamorph", "abdomens")
    assert [layer.name for layer in viewer.layers[1:]] == ["fixed", "fixed landmarks", "moving", "moving landmarks"]
    _docked, widget = viewer.window.add_plugin_dock_widget("napari-anamorph", "Register two scans")
    assert isinstance(widget, RegisterWidget)
