"""What a registration gives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from anamorph.evaluation.change import Change, find_change
from anamorph.evaluation.kept_tissue import kept_pieces
from anamorph.evaluation.measure import RegisteredPair, measure
from anamorph.evaluation.measured import Measured
from anamorph.evaluation.no_partner import NoPartner, judge_no_partner
from anamorph.evaluation.seen_labels import SeenLabels, judge_seen
from anamorph.evaluation.uncertainty import Uncertainty, judge_uncertainty
from anamorph.evaluation.verdict import Verdict, verdict
from anamorph.image.image import Image, Labels
from anamorph.image.points import Points
from anamorph.image.types import ImageLike, MeshLike
from anamorph.methods.base import Outcome
from anamorph.registration.carrier import Carrier, Direction, Kind, MeshT
from anamorph.registration.folder import Extras, Saved, save_result
from anamorph.registration.page import report_of
from anamorph.registration.plan import RegistrationPlan
from anamorph.registration.request import Inputs
from anamorph.registration.stopwatch import Stopwatch
from anamorph.runtime.threads import limited_threads
from anamorph.transforms.files.itk_field import delivered
from anamorph.transforms.maps import PointFrame, Transform
from anamorph.types import Progress

if TYPE_CHECKING:
    from anamorph.registration.figure import Panel, PaperFigure, Plane


class Result:
    """Both directions of a transform, and what follows from them: numbers, warped scans, files, a report.

    ``fixed_to_moving`` pulls moving images onto the fixed grid and maps fixed points to moving points;
    ``moving_to_fixed`` does the reverse. Numbers and maps are computed when something asks for them.

    Args:
        inputs: the scans and all that was given with them.
        plan: method and settings, and what is odd about the scans.
        outcome: what the method gave.
        seconds: of the stages so far.
        threads: CPU threads for what is computed later.
    """

    def __init__(
        self,
        inputs: Inputs,
        plan: RegistrationPlan,
        outcome: Outcome,
        *,
        seconds: Mapping[str, float] | None = None,
        threads: int | None = None,
    ) -> None:
        self.inputs, self.plan, self.outcome = inputs, plan, outcome
        self.seconds, self.threads = dict(seconds or {}), threads

    def __repr__(self) -> str:
        seconds = sum(self.timings.values())
        judged = f", {self.verdict.status}" if "verdict" in vars(self) else ""
        return f"Result({self.plan.name}: {self.moving.name} to {self.fixed.name}, {seconds:.1f} s{judged})"

    @property
    def fixed(self) -> Image:
        """The fixed scan."""
        return self.inputs.pair.fixed

    @property
    def moving(self) -> Image:
        """The moving scan."""
        return self.inputs.pair.moving

    @property
    def fixed_to_moving(self) -> Transform:
        """The map of fixed points to moving points."""
        return self.outcome.fixed_to_moving

    @property
    def moving_to_fixed(self) -> Transform:
        """The map of moving points to fixed points."""
        return self.outcome.moving_to_fixed

    @property
    def timings(self) -> dict[str, float]:
        """Seconds per stage of the method."""
        return self.outcome.timings

    @property
    def trace(self) -> dict[str, list[float]]:
        """The objective per iteration of each stage."""
        return self.outcome.trace

    @property
    def warnings(self) -> list[str]:
        """What is odd about the scans and the run, one line each."""
        return self.outcome.warnings

    @property
    def provenance(self) -> dict[str, Any]:
        """Everything needed to repeat the run."""
        return self.outcome.provenance

    @cached_property
    def pair(self) -> RegisteredPair:
        """The scans with both transforms as their files hold them, and the maps that follow."""
        pair = self.inputs.pair
        points = {}
        if pair.fixed_points is not None and pair.moving_points is not None:
            points["landmarks"] = pair.fixed_points, pair.moving_points
        both = delivered(self.fixed_to_moving, pair.fixed.grid), delivered(self.moving_to_fixed, pair.moving.grid)
        return RegisteredPair(
            *(pair.fixed, pair.moving, *both),
            fixed_labels=self.inputs.fixed_labels,
            moving_labels=self.inputs.moving_labels,
            points=points,
            fixed_mask=pair.fixed_mask,
            moving_mask=pair.moving_mask,
            kept=tuple(kept_pieces(pair, self.outcome, *both)),
            outlines=self.inputs.outline_points,
            used_labels=frozenset(() if pair.labels is None else pair.labels.values),
            uses_points=pair.marks is not None,
        )

    @cached_property
    def metrics(self) -> Measured:
        """All numbers before and after registration."""
        with self._stage("evaluation"):
            return measure(self.pair)

    @property
    def uncertainty_mm(self) -> Image | None:
        """Within which the right place lies in about two of three cases, NaN where not compared; None without."""
        return self.outcome.uncertainty_mm

    @cached_property
    def uncertainty(self) -> Uncertainty | None:
        """The numbers of that map inside the body, and the place to look at first."""
        return judge_uncertainty(self.uncertainty_mm, self.fixed)

    @cached_property
    def seen(self) -> SeenLabels | None:
        """What a guide sees in both scans, and how well it lies upon each other; None where none was used."""
        return judge_seen(self.outcome.seen, self.provenance.get("guide", {}), self.fixed_to_moving)

    @cached_property
    def change(self) -> Change | None:
        """What changed between two dates of one patient; None where it was not asked for, or cannot be seen."""
        if not self.inputs.same_patient or self.changes_unseen:
            return None
        with self._stage("change"):
            return find_change(self.fixed, self.moving, self.fixed_to_moving)

    @property
    def changes_unseen(self) -> str:
        """Why change between two dates cannot be seen, where it cannot."""
        if self.provenance.get("intensities") == "none":
            return "the intensities of the scans do not compare; give two of one contrast"
        return "" if self.fixed.channels == 1 else "the scans have several channels; give two of one contrast"

    @cached_property
    def no_partner(self) -> NoPartner | None:
        """What one scan alone shows, as given and as found; None where nothing was."""
        return judge_no_partner(self.outcome.no_partner, self.inputs.no_partner)

    @cached_property
    def verdict(self) -> Verdict:
        """Whether anything went wrong, and how accurate the result is."""
        return verdict(self.metrics, (*self.warnings, *self.metrics.notes))

    @property
    def warped(self) -> Image:
        """The moving scan on the fixed grid."""
        return self.pair.warped

    def measure(self, progress: Progress | None = None) -> Verdict:
        """Compute numbers and verdict now, rather than when something asks for them."""
        if progress is not None:
            progress("evaluation", 0.0)
        _ = self.change
        return self.verdict

    @overload
    def warp(self, thing: Labels, *, direction: Direction = ...) -> Labels: ...
    @overload
    def warp(self, thing: Image, *, direction: Direction = ..., background: float | Literal["auto"] = ...) -> Image: ...
    @overload
    def warp(self, thing: Points, *, direction: Direction = ...) -> Points: ...
    @overload
    def warp(self, thing: np.ndarray, *, direction: Direction = ..., frame: PointFrame = ...) -> np.ndarray: ...
    @overload
    def warp(
        self,
        thing: ImageLike,
        *,
        direction: Direction = ...,
        kind: Kind | Literal["auto"] = ...,
        background: float | Literal["auto"] = ...,
    ) -> Image | Points: ...
    @overload
    def warp(self, thing: MeshT, *, direction: Direction = ..., frame: PointFrame = ...) -> MeshT: ...

    def warp(
        self,
        thing: ImageLike | Points | np.ndarray | MeshLike,
        *,
        direction: Direction = "moving_to_fixed",
        kind: Kind | Literal["auto"] = "auto",
        frame: PointFrame = "ras",
        background: float | Literal["auto"] = "auto",
    ) -> object:
        """Bring something of the moving scan to the fixed scan, or the other way.

        Images and labels are pulled onto the grid of the other scan, once, from their original voxels; points and
        meshes are mapped.

        Args:
            thing: an image, labels, a mask, points, ``(N, 3)`` millimetres, a mesh (an object with ``vertices`` or
                ``points``, as of trimesh, PyVista or meshio), a file, or an image of another package.
            direction: ``"moving_to_fixed"`` for what belongs to the moving scan, ``"fixed_to_moving"`` for what belongs
                to the fixed scan.
            kind: what a file or an image of another package holds; ``"auto"`` looks.
            frame: of an array of points and of a mesh: ``"ras"`` or ``"lps"``.
            background: value where the scan has no voxel; ``"auto"`` is CT air for CT, else the image's minimum.

        Returns:
            A new thing of the same kind; an :class:`Image` for an image of another package.

        Raises:
            UserError: the thing is none of these, or cannot be read.
        """
        with limited_threads(self.threads):
            return self._carrier(direction, background).anything(thing, kind, frame)

    def _carrier(self, direction: Direction, background: float | Literal["auto"]) -> Carrier:
        fixed, moving = self.fixed.grid, self.moving.grid
        if direction == "moving_to_fixed":
            return Carrier(self.fixed_to_moving, self.moving_to_fixed, moving, fixed, background)
        return Carrier(self.moving_to_fixed, self.fixed_to_moving, fixed, moving, background)

    def save(
        self,
        folder: str | Path,
        *,
        overwrite: bool = False,
        composite: bool = False,
        dense_fields: bool = False,
        progress: Progress | None = None,
        extras: Extras | None = None,
        viewer: bool = True,
    ) -> Saved:
        """Write what ``anamorph register`` writes: transforms, the warped scan, numbers, maps and the report.

        Args:
            folder: appears when all but the report is complete, which is drawn last.
            overwrite: replace an earlier result there.
            composite: write ITK ``.h5`` composites too.
            dense_fields: sample fields and maps at every voxel, rather than where they are defined.
            progress: called with the stage and the fraction of the writing that is done.
            extras: writes more files into the folder, and returns more for ``result.json``.
            viewer: whether the report holds the interactive view, and with it the scans in small.

        Returns:
            The folder, the content of its ``result.json``, and why there is no report if there is none.

        Raises:
            UserError: the folder exists, or may not be written.
            RegistrationFailure: the disk is full.
        """
        with limited_threads(self.threads):
            return save_result(self, Path(folder), overwrite, composite, dense_fields, progress, extras, viewer)

    @overload
    def report(self) -> str: ...
    @overload
    def report(self, path: str | Path) -> Path: ...

    def report(self, path: str | Path | None = None) -> str | Path:
        """The report as one HTML page that needs nothing else: its text, or the file it was written to.

        Raises:
            UserError: the file cannot be written.
        """
        from anamorph.report.pair import render, write_report

        if path is None:
            return render(report_of(self))
        write_report(path, report_of(self))
        return Path(path)

    def plot(
        self,
        plane: Plane | None = None,
        *,
        slice_mm: float | None = None,
        panels: Sequence[Panel] = ("fixed", "moving", "warped", "before", "after", "jacobian"),
        labels: bool = True,
    ) -> PaperFigure:
        """A figure of one slice that is fit for a paper: both scans, before and after, change of volume.

        Axes are in mm of the world (along the slice where the grid is oblique), and the patient's right is on the left.
        ``savefig`` writes 300 dots per inch, and lines and text of PDF and SVG as such. Nothing is shown by itself.

        Args:
            plane: ``"axial"``, ``"coronal"`` or ``"sagittal"``; axial by default, or that of a single slice.
            slice_mm: place of the slice, in RAS mm along the normal of the plane; by default amid the labels, the
                landmarks or what moves.
            panels: some of ``fixed``, ``moving`` (on its own grid, through the same place), ``warped``, ``before`` and
                ``after`` (fixed green, moving magenta), ``checkerboard``, ``grid``, ``jacobian``, ``displacement``.
            labels: draw outlines of the labels: solid, and those of the moving scan dotted in ``before`` and ``after``.

        Raises:
            UserError: there is no such plane, slice or panel.
        """
        from anamorph.registration.figure import plot

        return plot(self, plane, slice_mm, panels, labels)

    def view(self, height_px: int = 420) -> Any:
        """The fixed and the warped scan in NiiVue, to scroll through in a notebook: a widget of ipyniivue.

        Raises:
            UserError: ipyniivue is not installed.
        """
        from anamorph.registration.notebook import view

        return view(self, height_px)

    def _repr_html_(self) -> str:
        from anamorph.registration.notebook import summary_html

        return summary_html(self)

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        watch = Stopwatch(None, self.seconds)
        with limited_threads(self.threads), watch.stage(name, 0.0):
            yield
