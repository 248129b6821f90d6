"""The widget: two layers, a preset, a button, and what came out."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from magicgui.widgets import CheckBox, ComboBox, Container, FloatSpinBox, Label, ProgressBar, PushButton, create_widget
from napari.layers import Image as ImageLayer
from napari.layers import Layer
from napari.layers import Points as PointsLayer
from napari.qt.threading import create_worker
from napari.utils.notifications import show_error

from anamorph import AnamorphError, UserError
from anamorph.methods import DEFAULT_METHOD, METHODS, find_method
from napari_anamorph.frames import image_of, points_of
from napari_anamorph.results import LayerData, layers_of
from napari_anamorph.task import Stopped, Task

if TYPE_CHECKING:
    from napari import Viewer

log = logging.getLogger(__name__)
UNTRAINED = ("convex", "deeds", "affine", "linear")
READY = "Choose two scans."


class RegisterWidget(Container):
    """Registers one image layer to another.

    Args:
        napari_viewer: whose layers are registered, and which gets those that come out; napari knows it by this name.
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.fixed = create_widget(annotation=ImageLayer, label="fixed (stays)")
        self.moving = create_widget(annotation=ImageLayer, label="moving")
        self.method = ComboBox(label="method", choices=[name for name in UNTRAINED if name in METHODS])
        self.method.value = DEFAULT_METHOD
        self.preset = ComboBox(label="preset", choices=self._presets)
        optional: dict[str, Any] = {"annotation": PointsLayer | None}
        self.fixed_points = create_widget(**optional, label="fixed landmarks")
        self.moving_points = create_widget(**optional, label="moving landmarks")
        self.pull = CheckBox(text="landmarks pull", value=False)
        self.within_mm = FloatSpinBox(label="known to (mm)", value=2.0, min=0.1, max=50.0, step=0.5)
        self.start = PushButton(text="Register")
        self.cancel = PushButton(text="Cancel", enabled=False)
        self.progress = ProgressBar(label="", min=0, max=100, value=0)
        self.message = Label(value=READY)
        self.result: Any = None
        self._task: Task | None = None
        self.extend(
            [self.fixed, self.moving, self.method, self.preset, self.fixed_points, self.moving_points, self.pull]
        )
        self.extend([self.within_mm, self.start, self.cancel, self.progress, self.message])
        self.method.changed.connect(lambda: self.preset.reset_choices())
        self.start.changed.connect(self.register)
        self.cancel.changed.connect(self.stop)
        self.message.native.setWordWrap(True)
        napari_viewer.layers.events.inserted.connect(self.reset_choices)
        napari_viewer.layers.events.removed.connect(self.reset_choices)
        self.reset_choices()

    def _presets(self, _: object = None) -> list[str]:
        return ["auto", *sorted(find_method(self.method.value).presets)]

    def options(self) -> dict[str, Any]:
        """The arguments of the registration, besides the scans.

        Raises:
            UserError: landmarks of one scan alone, of another number of axes, or that do not correspond.
        """
        options: dict[str, Any] = {"method": self.method.value, "preset": self.preset.value}
        given = self.fixed_points.value, self.moving_points.value
        if given == (None, None):
            if self.pull.value:
                raise UserError("landmarks cannot pull without landmarks; choose a points layer of both scans")
            return options
        if None in given:
            raise UserError("landmarks of one scan alone say nothing; choose a points layer of both scans")
        fixed, moving = points_of(given[0]).matched(points_of(given[1]))
        options |= {"fixed_points": fixed, "moving_points": moving}
        return options | ({"use_points": self.within_mm.value} if self.pull.value else {})

    def register(self) -> None:
        """Start a registration of the chosen layers; its end is shown in the widget."""
        if self._task is not None:
            return
        try:
            fixed, moving = self.fixed.value, self.moving.value
            if fixed is None or moving is None:
                raise UserError("open two scans first, each as an image layer")
            if fixed is moving:
                raise UserError("the fixed and the moving scan are the same layer; choose two")
            task = Task(image_of(fixed), image_of(moving), self.options())
        except AnamorphError as error:
            self._fail(error)
            return
        self._task = task
        self._busy(True)
        task.progressed.connect(self._show)
        worker = create_worker(_work, task, moving, _start_thread=False, _ignore_errors=True)
        worker.returned.connect(self._done)
        worker.errored.connect(self._fail)
        worker.finished.connect(lambda: self._busy(False))
        worker.start()

    def stop(self) -> None:
        """Ask a running registration to end."""
        if self._task is not None:
            self._task.stop()
            self.message.value = "stopping ..."

    def _busy(self, busy: bool) -> None:
        self.start.enabled, self.cancel.enabled = not busy, busy
        self.progress.value = 0
        if not busy:
            self._task = None

    def _show(self, stage: str, fraction: float) -> None:
        self.progress.value = round(100 * fraction)
        if self.cancel.enabled and self.message.value != "stopping ...":
            self.message.value = stage

    def _done(self, made: tuple[Any, list[LayerData]]) -> None:
        result, layers = made
        self.result = result
        for data, options, kind in layers:
            self.viewer.add_layer(Layer.create(data, options, kind))
        judged = result.verdict
        notes = "".join(f"\n{reason}" for reason in judged.reasons[:3])
        self.message.value = f"{judged.status}: {judged.headline}{notes}"

    def _fail(self, error: BaseException) -> None:
        """What went wrong, in one line."""
        if isinstance(error, Stopped):
            self.message.value = "stopped; nothing was changed"
            return
        if not isinstance(error, AnamorphError):
            log.error("the registration failed", exc_info=error)
        text = " ".join(str(error).split()) or type(error).__name__
        self.message.value = text if isinstance(error, UserError) else f"failed: {text}"
        show_error(self.message.value)


def _work(task: Task, moving: ImageLayer) -> tuple[Any, list[LayerData]]:
    """All that takes time, in the thread: the result and the layers that show it."""
    result = task.run()
    return result, layers_of(result, moving)
