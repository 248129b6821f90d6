"""The picture of docs/how-to/napari.md: the plugin in napari after registering two synthetic abdomens.

Usage, where napari-anamorph is installed: xvfb-run -s "-screen 0 1400x900x24" python docs/make_napari_image.py
"""

from __future__ import annotations

from pathlib import Path

import napari
from qtpy.QtCore import QTimer

from napari_anamorph.reader import demo_pair
from napari_anamorph.widget import RegisterWidget

PICTURE = Path(__file__).parent / "images" / "napari.png"


def main() -> None:
    """Open the demo pair, press the button, and take a picture of the window."""
    from napari.layers import Layer

    viewer = napari.Viewer(show=True)
    viewer.window.resize(1400, 860)
    for layer in demo_pair():
        viewer.add_layer(Layer.create(*layer))
    widget = RegisterWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Register two scans")
    widget.fixed.value, widget.moving.value = viewer.layers["fixed"], viewer.layers["moving"]
    widget.fixed_points.value = viewer.layers["fixed landmarks"]
    widget.moving_points.value = viewer.layers["moving landmarks"]
    widget.register()

    def look() -> None:
        if widget.result is None:
            QTimer.singleShot(200, look)
            return
        viewer.layers["moving"].visible = False
        viewer.layers["fixed"].colormap = "green"
        next(layer for layer in viewer.layers if layer.name.startswith("grid")).visible = True
        viewer.reset_view()
        viewer.camera.zoom *= 0.75
        QTimer.singleShot(1500, take)

    def take() -> None:
        viewer.window.screenshot(str(PICTURE), canvas_only=False, flash=False)
        viewer.close()

    QTimer.singleShot(200, look)
    napari.run()


if __name__ == "__main__":
    main()
