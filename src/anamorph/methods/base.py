"""The contract of registration methods: a method takes a pair and a run, and gives an outcome."""

from __future__ import annotations

import dataclasses
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self

import numpy as np

from anamorph.geometry.grid import Grid
from anamorph.image.image import Image, Labels, Mask
from anamorph.image.points import Points
from anamorph.methods.tissue import NOTHING_KNOWN, Tissue
from anamorph.runtime.device import resolve_device
from anamorph.transforms.maps import Transform
from anamorph.transforms.marks import Marks
from anamorph.types import Device, Progress


def setting(default: Any, meaning: str, unit: str = "", renamed: Mapping[str, str] | None = None) -> Any:
    """A field of a method's config with the text that ``anamorph methods NAME`` prints.

    Args:
        default: of the field.
        meaning: one line.
        unit: of its numbers; millimetres of presets are scaled to the size of the patient.
        renamed: values of earlier versions, and what each is called now.
    """
    return field(default=default, metadata={"meaning": meaning, "unit": unit, "renamed": renamed or {}})


@dataclass(frozen=True, eq=False)
class SharedLabels:
    """Labels of both scans that pull.

    Args:
        fixed: label map of the fixed scan, on any grid.
        moving: label map of the moving scan.
        values: those that pull.
        weight: of squared differences of their shares beside MIND-SSC.
    """

    fixed: Labels
    moving: Labels
    values: tuple[int, ...]
    weight: float

    def exchanged(self) -> SharedLabels:
        """The same with the roles of the scans exchanged."""
        return dataclasses.replace(self, fixed=self.moving, moving=self.fixed)


@dataclass(frozen=True, eq=False)
class Pair:
    """Two scans to be registered, and what is known about them.

    Args:
        fixed: stays where it is; any grid.
        moving: is brought to the fixed scan; any grid, as many channels as the fixed scan.
        fixed_mask: weights in [0, 1] on the fixed grid; a voxel of weight 0 has no influence.
        moving_mask: weights in [0, 1] on the moving grid.
        start: transform of fixed to moving points to begin with, in place of the method's own search for one.
        fixed_points: landmarks in the fixed scan.
        moving_points: the same landmarks in the moving scan, in the same order.
        fixed_tissue: what of the fixed scan must not deform, or is stiff.
        moving_tissue: likewise of the moving scan.
        marks: landmarks and outlines that pull, of the fixed and of the moving scan.
        labels: labels that pull.
    """

    fixed: Image
    moving: Image
    fixed_mask: Mask | None = None
    moving_mask: Mask | None = None
    start: Transform | None = None
    fixed_points: Points | None = None
    moving_points: Points | None = None
    fixed_tissue: Tissue = NOTHING_KNOWN
    moving_tissue: Tissue = NOTHING_KNOWN
    marks: Marks | None = None
    labels: SharedLabels | None = None

    @property
    def tissues(self) -> tuple[Tissue, Tissue]:
        """What is known of the tissue of the fixed and of the moving scan."""
        return self.fixed_tissue, self.moving_tissue

    @property
    def slides(self) -> bool:
        """Whether tissue of either scan slides, so that the map may change from voxel to voxel."""
        return any(tissue.sliding is not None for tissue in self.tissues)

    def exchanged(self) -> Pair:
        """The pair with the roles of fixed and moving scan exchanged."""
        return Pair(
            self.moving,
            self.fixed,
            self.moving_mask,
            self.fixed_mask,
            None if self.start is None else self.start.inverse(),
            self.moving_points,
            self.fixed_points,
            self.moving_tissue,
            self.fixed_tissue,
            None if self.marks is None else self.marks.exchanged(),
            None if self.labels is None else self.labels.exchanged(),
        )


class Run:
    """One run of a method: where it computes, its seed, and what it collects on the way.

    A method adds to ``trace`` (the objective per iteration, by stage), ``warnings`` and ``provenance``, and may leave a
    map ``uncertainty_mm`` of the fixed scan, maps ``no_partner`` of both, labels ``seen`` by a guide in both and, where
    it knows of tissue, ``free``: both directions before that had a say. ``start`` is the linear start of fixed to
    moving points where there is one. ``pulled`` says that marks and labels of the pair had their say. ``seconds`` are
    the times of the stages.

    Args:
        device: ``"cuda"`` asks for a GPU, ``"auto"`` takes one if there is one; the attribute is what was chosen.
        seed: of every random choice.
        progress: called with the stage and the fraction of the run that is done when it starts.

    Raises:
        UserError: there is no such device.
    """

    def __init__(self, device: Device = "auto", seed: int = 0, progress: Progress | None = None) -> None:
        self.device: Literal["cpu", "cuda"] = resolve_device(device)
        self.seed = seed
        self.progress: Progress = progress or (lambda stage, fraction: None)
        self.seconds: dict[str, float] = {}
        self.trace: dict[str, list[float]] = {}
        self.warnings: list[str] = []
        self.provenance: dict[str, Any] = {}
        self.uncertainty_mm: Image | None = None
        self.no_partner: tuple[Image, Image] | None = None
        self.seen: tuple[Labels, Labels] | None = None
        self.free: tuple[Transform, Transform] | None = None
        self.start: Transform | None = None
        self.pulled = False

    @contextmanager
    def stage(self, name: str, fraction: float) -> Iterator[None]:
        """Announce a stage and add its time."""
        self.progress(name, fraction)
        with self.timed(name):
            yield

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add the time of a part that is too short to be announced."""
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def within(self, name: str, begin: float, end: float) -> Callable[[float], None]:
        """A progress of one stage: takes the fraction of the stage, tells that of the run.

        Args:
            name: of the stage.
            begin: fraction of the run that is done when the stage starts.
            end: fraction of the run that is done when the stage ends.
        """
        return lambda fraction: self.progress(name, begin + (end - begin) * fraction)

    def outcome(self, fixed_to_moving: Transform, moving_to_fixed: Transform) -> Outcome:
        """Both transforms with everything that the run has collected."""
        collected = self.seconds, self.trace, self.warnings, self.provenance, self.uncertainty_mm, self.free
        return Outcome(fixed_to_moving, moving_to_fixed, *collected, self.no_partner, self.start, self.seen)


@dataclass
class Outcome:
    """What a method gives, whichever it is.

    ``fixed_to_moving`` pulls the moving image onto the fixed grid and maps fixed points to moving points;
    ``moving_to_fixed`` does the reverse. ``timings`` are seconds per stage; ``trace`` holds the objective per iteration
    for each stage; ``provenance`` says how to repeat the run. ``uncertainty_mm`` is a map on a grid of the fixed frame:
    the distance within which the right place of a point lies in about two of three cases, NaN where nothing was
    compared; None if the method has no such map. ``free`` holds both directions as they were before tissue had a say;
    None where that changed nothing. ``no_partner`` are maps of the fixed and of the moving scan, each in its own frame:
    1 where the method found that the other scan shows nothing of the kind, else 0; None where it found none.
    ``start`` is what was there before anything was deformed, of fixed to moving points; None where a method has none.
    ``seen`` are the labels that a guide sees in the fixed and in the moving scan, numbered from 1; None without one.
    """

    fixed_to_moving: Transform
    moving_to_fixed: Transform
    timings: dict[str, float] = field(default_factory=dict)
    trace: dict[str, list[float]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    provenance: dict[str, Any] = field(default_factory=dict)
    uncertainty_mm: Image | None = None
    free: tuple[Transform, Transform] | None = None
    no_partner: tuple[Image, Image] | None = None
    start: Transform | None = None
    seen: tuple[Labels, Labels] | None = None

    def exchanged(self, moving: Grid) -> Outcome:
        """The outcome for the pair with fixed and moving scan exchanged.

        Args:
            moving: grid of the moving scan, the fixed one from here on.
        """
        unsure = self.uncertainty_mm
        if unsure is not None:
            there = moving.resampled(np.maximum(moving.spacing_mm, unsure.grid.finest_mm))
            unsure = self.moving_to_fixed.warp_image(unsure, there, background=np.nan)
        return dataclasses.replace(
            self,
            fixed_to_moving=self.moving_to_fixed,
            moving_to_fixed=self.fixed_to_moving,
            uncertainty_mm=unsure,
            free=None if self.free is None else self.free[::-1],
            no_partner=None if self.no_partner is None else self.no_partner[::-1],
            start=None if self.start is None else self.start.inverse(),
            seen=None if self.seen is None else self.seen[::-1],
        )

    def __post_init__(self) -> None:
        self.fixed_to_moving = self.fixed_to_moving.between("fixed", "moving")
        self.moving_to_fixed = self.moving_to_fixed.between("moving", "fixed")


@dataclass(frozen=True)
class Config:
    """Settings of a method, and what the rest of the package asks of them.

    A method's own are a frozen dataclass that inherits this one; its fields are made with :func:`setting`.
    """

    @property
    def trusts_headers(self) -> bool:
        """Whether scans are compared where their headers place them, so that no start is looked for."""
        return False

    def within_memory(self, limit_bytes: int) -> Self:
        """The settings with a bound on the memory of the method beside scans and Python, where it has such a bound."""
        return self

    def models(self) -> tuple[str, ...]:
        """Names or folders of the trained models that a result depends on."""
        return ()

    @property
    def remark(self) -> str:
        """A line on what the settings bring along that a user may not expect; empty for nothing."""
        return ""


class Method(ABC):
    """A registration method: a config, and a call that registers a pair.

    Subclasses set ``name``, ``summary`` (one line), ``Config`` (a class of settings) and ``presets`` (values other than
    the defaults, by kind of scan).
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    Config: ClassVar[type[Config]] = Config
    presets: ClassVar[dict[str, dict[str, Any]]] = {}
    same_patient: ClassVar[dict[str, Any]] = {}
    """Settings for two dates of one patient, where little moves and what changed must stay visible."""
    fields_at_voxels: ClassVar[bool] = True
    """Whether a direction of the map may be one that files hold at every voxel alone, which takes memory."""

    def __init__(self, config: Any = None) -> None:
        self.config = self.Config() if config is None else config

    @abstractmethod
    def __call__(self, pair: Pair, run: Run) -> Outcome:
        """Register a pair.

        Raises:
            UserError: the pair cannot be registered as given.
            RegistrationFailure: the run failed.
        """

    @abstractmethod
    def peak_memory_bytes(self, fixed: Grid, moving: Grid) -> int:
        """Predicted peak memory of a call on images of these grids, without the interpreter itself."""

    def one_core_seconds(self, fixed: Grid, moving: Grid) -> float | None:
        """Predicted seconds of a call on images of these grids on one core; None where a method cannot tell."""
        return None

    def known_bytes(self, fixed: Grid, moving: Grid, labels: int = 0, slides: bool = False) -> int:
        """Predicted memory that a call takes beside that for what is known of the scans.

        Args:
            fixed: grid of the fixed scan.
            moving: grid of the moving scan.
            labels: how many labels pull.
            slides: whether tissue slides.
        """
        return 0

    def settings(self) -> dict[str, Any]:
        """The config as plain values."""
        return dataclasses.asdict(self.config)
