"""Methods that ask a trained network: its fields as they are, or followed by a search and a refinement on the pair."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from scipy.linalg import expm, logm

from anamorph.features.intensity import comparable_intensities
from anamorph.geometry.grid import Grid
from anamorph.geometry.sampling import identity_positions
from anamorph.image.image import Image
from anamorph.methods.base import Outcome, Pair, Run, setting
from anamorph.methods.discrete_search import AUTOMATIC_REACH, SearchConfig, search
from anamorph.methods.foreseen import NETWORK_S, deformation_seconds, start_seconds
from anamorph.methods.guide import Guide, guide_models
from anamorph.methods.learned_features import named_model
from anamorph.methods.linear_start import GIVEN, compared_at, linear_start_bytes
from anamorph.methods.pyramid import Pyramid
from anamorph.methods.recipe import FINISHED, Recipe, prepared, prepared_bytes, search_start
from anamorph.methods.started import Array, Started
from anamorph.methods.uncertainty import evidence_bytes
from anamorph.methods.working_frame import Scan, body_weight, within
from anamorph.networks.trained import Kind, RegistrationModel, TemplateModel
from anamorph.runtime.device import to_device
from anamorph.transforms.affine import fit_least_trimmed_squares, is_plausible
from anamorph.transforms.fields import compose
from anamorph.transforms.maps import Affine, Composite, Displacement, Transform

FRAMES = "the frames of the network laid upon each other, as in training"
NetworkStart = Literal["frame", "auto", "world", "centres", "translation", "rigid", "similarity", "affine", "any-pose"]


@dataclass(frozen=True)
class NetworkConfig(SearchConfig):
    """Settings of the methods that ask a trained network."""

    model: str = setting("", "a model folder, a run of `anamorph train`, or a model by name")
    init: NetworkStart = setting(  # type: ignore[assignment]
        "frame",
        "linear start: frame lays the frames of the network upon each other, as in training; world trusts the files",
        renamed={"none": "world", "centre": "frame"},
    )
    guide: str = setting("auto", "a model of `segment` that guides the refinement, auto for the network's own, or none")
    search: bool = setting(True, "look around the field of the network as convex does, before refining it")
    search_scales: tuple[int, ...] = setting((1,), "levels of that search, in descriptor spacings")
    search_cells: tuple[int, ...] = setting((2,), "cell size per level", "descriptor voxels of the level")
    search_radius_mm: tuple[float, ...] = setting((0.0,), "reach per level; 0: 2 voxels of the finest level", "mm")
    refine: bool = setting(True, "optimise the field of the network on this pair; its result does not fold")

    def models(self) -> tuple[str, ...]:
        own = self.model, *guide_models(self.guide, beside=self.model), named_model(self.feature_model)
        return tuple(name for name in own if name)

    def refinement_memory(self, fixed: Grid, moving: Grid) -> int:
        """Peak memory of the linear start, or of search and refinement, in bytes; 0 without."""
        start = linear_start_bytes(fixed, moving, self.init)
        if not self.refine:
            return start
        pyramid = self.pyramid(fixed)
        held = self.held_bytes(pyramid, fixed, moving)
        costs = self.costs_bytes(pyramid, held) if self.search else 0
        return max(start, held + max(costs, evidence_bytes(pyramid)))

    def compared(self, pyramid: Pyramid) -> int:
        return super().compared(pyramid) if self.search else 0

    def seen_bytes(self, base: Grid, fixed: Grid, moving: Grid, beside: str | None = None) -> int:
        return super().seen_bytes(base, fixed, moving, beside or self.model)


@dataclass(frozen=True, eq=False)
class Seen:
    """A pair as a network sees it.

    Args:
        model: the loaded model.
        pair: the scans without what is masked.
        scans: prepared for the refinement.
        frame: of the network, in the world of the fixed scan.
        start: of fixed to moving points; the moving scan is read through it.
    """

    model: Any
    pair: Pair
    scans: tuple[Scan, Scan]
    frame: Grid
    start: Transform


@dataclass(frozen=True, eq=False)
class Found:
    """What a network finds, in the world of the fixed scan, the moving one brought there by the start.

    Args:
        forward: field ``(3, I, J, K)`` in voxels of the grid.
        backward: of the other direction.
        grid: of both.
        seen: channels of the fixed and the moving scan to be compared beside their descriptors, scaled by the root of
            their weight; None for none.
    """

    forward: np.ndarray
    backward: np.ndarray
    grid: Grid
    seen: tuple[Scan, Scan] | None = None

    def moved(self, matrix: np.ndarray) -> Found:
        """The same under a map ``(4, 4)`` of its world."""
        seen = self.seen and tuple(dataclasses.replace(scan, grid=_moved(scan.grid, matrix)) for scan in self.seen)
        return Found(self.forward, self.backward, _moved(self.grid, matrix), seen)  # type: ignore[arg-type]


def _moved(grid: Grid, matrix: np.ndarray) -> Grid:
    return Grid(grid.shape, matrix @ grid.affine)


class Learned(Recipe):
    """A trained network, then the recipe around its field; the hook of a method is :meth:`fields`."""

    config: NetworkConfig
    same_patient: ClassVar[dict[str, Any]] = {"diffusion": 1.0}

    @abstractmethod
    def load(self, pair: Pair, device: Literal["cpu", "cuda"]) -> Any:
        """The model of the settings.

        Raises:
            UserError: there is no such model, or it does not take these scans.
        """

    @abstractmethod
    def frame_of(self, model: Any, image: Image, pair: Pair) -> Grid:
        """The frame of the network in the world of one scan of a pair, as in training."""

    @abstractmethod
    def fields(self, seen: Seen, run: Run) -> Found:
        """What the network finds; announces its own stages, between the fractions 0.1 and 0.6 of the run."""

    @abstractmethod
    def network_bytes(self, fixed: Grid, moving: Grid) -> int:
        """Peak memory of the network on scans of these grids."""

    def __call__(self, pair: Pair, run: Run) -> Outcome:
        with run.stage("load", 0.0):
            model = self.load(pair, run.device)
            run.provenance["model"] = model.identity
            run.warnings += model.warnings_for(pair.fixed, pair.moving)
        with run.stage("initialise", 0.05):
            seen = self._see(model, pair, run)
        found = self.fields(seen, run)
        if not self.config.refine:
            with run.stage("finish", FINISHED):
                there, back = (Displacement(disp_vox, found.grid) for disp_vox in (found.forward, found.backward))
                start = seen.start
                return run.outcome(Composite.of(there, start), Composite.of(start.inverse(), back))
        with run.timed("refine"):
            followed = self.follow(seen, found, run)
        return run.outcome(*self.deformed(followed, run))

    def peak_memory_bytes(self, fixed: Grid, moving: Grid) -> int:
        return prepared_bytes(fixed, moving) + max(self.network_bytes(fixed, moving), self.led_bytes(fixed, moving))

    def one_core_seconds(self, fixed: Grid, moving: Grid) -> float:
        refined = deformation_seconds(self.config, fixed, moving) if self.config.refine else 0.0
        return NETWORK_S * self.network_bytes(fixed, moving) + start_seconds(self.config) + refined

    def led_bytes(self, fixed: Grid, moving: Grid) -> int:
        return self.config.refinement_memory(fixed, moving)

    def _see(self, model: Any, pair: Pair, run: Run) -> Seen:
        scans = prepared(pair)
        fixed, moving = within(pair.fixed, pair.fixed_mask), within(pair.moving, pair.moving_mask)
        pair = dataclasses.replace(pair, fixed=fixed, moving=moving)
        frame = self.frame_of(model, fixed, pair)
        if pair.start is not None:
            start: Transform = pair.start
            run.provenance["start"] = [GIVEN]
        elif self.config.init == "frame":
            start = Affine(self.frame_of(model, moving, pair).affine @ np.linalg.inv(frame.affine))
            run.provenance["start"] = [FRAMES]
        else:
            start = search_start(self.config, scans, run).transform
        run.start = start
        return Seen(model, pair, scans, frame, start)

    def follow(self, seen: Seen, found: Found, run: Run) -> Started:
        """Prepare the search around a network's field: the start holds the linear part, ``known`` is the rest.

        It starts from the linear part of both fields, where that reaches beyond a search at the finest level, and from
        what the forward one leaves: a network that is right in each direction need not be consistent, and the average
        of two fields that disagree fits neither scan.
        """
        config, (fixed, moving) = self.config, seen.scans
        kind = comparable_intensities(fixed.image, moving.image)
        sides = fixed.onto(found.grid), moving.onto(found.grid, seen.start)
        reach_mm = AUTOMATIC_REACH[0] * config.pyramid(fixed.grid).base.finest_mm
        rest, linear = split_linear(found.forward, found.backward, *sides, kind == "ct", reach_mm)
        start = Composite.of(linear, seen.start)
        compared = compared_at(fixed, moving, start)
        run.provenance["intensities"] = compared.kind
        guide = Guide.of(config.guide, seen.pair.fixed, seen.pair.moving, run.device, start, config.model)
        run.warnings += guide.doubts if guide else ()
        known = to_device(rest, run.device), found.grid
        tissues = seen.pair.tissues
        config = config.counting(compared.counts)
        followed = Started(
            config, fixed, moving, start, compared, run.device, guide=guide, tissues=tissues, known=known
        )
        followed.seen = found.seen and (*found.seen, linear)
        self._use(followed, seen.pair, run, may_move=False)
        return followed

    def find_field(self, started: Started, run: Run) -> tuple[Array, Grid]:
        assert started.known is not None
        if not self.config.search:
            return started.known
        with run.stage("search", self.refined_from):
            held = self.config.held_bytes(started.pyramid, started.fixed.grid, started.moving.grid)
            return search(started.described, started.pyramid, self.config, held, started.known)


class OnePass(Learned):
    """A network that sees both scans and gives both directions; its models are of the kind of the method's name."""

    def load(self, pair: Pair, device: Literal["cpu", "cuda"]) -> RegistrationModel:
        model = RegistrationModel.load(self.config.model, self.name, device)
        model.check(pair.fixed)
        return model

    def frame_of(self, model: RegistrationModel, image: Image, pair: Pair) -> Grid:
        return model.own_frame(image.grid, model.shape_for(pair.fixed.grid, pair.moving.grid))

    def fields(self, seen: Seen, run: Run) -> Found:
        with run.stage("network", 0.3):
            return Found(*self.directions(seen, run), seen.frame)

    def directions(self, seen: Seen, run: Run) -> tuple[np.ndarray, np.ndarray]:
        """Both fields, ``(3, I, J, K)`` voxels of the frame each."""
        forward, backward = seen.model.fields(seen.pair.fixed, seen.pair.moving, seen.frame, seen.start)
        return forward, backward

    def network_bytes(self, fixed: Grid, moving: Grid) -> int:
        model = RegistrationModel.describe(self.config.model, self.name)
        return self.pass_bytes(model, int(np.prod(model.shape_for(fixed, moving))))

    @abstractmethod
    def pass_bytes(self, model: RegistrationModel, voxels: int) -> int:
        """Memory that a pass of the network takes in a frame of so many voxels."""


FEWEST_POINTS = 8
"""A scan in which fewer points of the template are found is left where it is."""


def carries_spline(points_mm: np.ndarray) -> bool:
    """Whether points ``(N, 3)`` are enough for a spline, and span space."""
    return len(points_mm) >= FEWEST_POINTS and np.linalg.matrix_rank(points_mm - points_mm.mean(axis=0)) == 3


LATTICE_VOXELS = 2.5
"""Spacing of the lattice on which splines are evaluated, voxels of the frame; five of the scans, as published."""


def lattice(frame: Grid) -> Grid:
    """The coarse grid of fields in a frame."""
    return frame.resampled(LATTICE_VOXELS * frame.spacing_mm)


def through_template(to_template: np.ndarray, from_template: np.ndarray) -> np.ndarray:
    """The field of a scan to another by way of the template; all on one lattice."""
    return compose(np.ascontiguousarray(to_template), np.ascontiguousarray(from_template))


@dataclass(frozen=True, eq=False)
class TemplatePair:
    """Both scans in the frame of a template: voxels of one index belong together after the start.

    Args:
        model: the loaded model.
        inputs: of the network, fixed and moving, ``(C, I, J, K)`` each.
        masks: ``(I, J, K)`` bool, fixed and moving, or None.
    """

    model: TemplateModel
    inputs: tuple[np.ndarray, np.ndarray]
    masks: tuple[np.ndarray | None, np.ndarray | None]

    @classmethod
    def of(cls, seen: Seen) -> TemplatePair:
        """Read both scans in the frame."""
        model, pair, frame = seen.model, seen.pair, seen.frame
        inputs = model.channels(pair.fixed, frame), model.channels(pair.moving, frame, seen.start)
        masks = (
            None if pair.fixed_mask is None else seen.scans[0].onto(frame, Affine.identity()).weight > 0,
            None if pair.moving_mask is None else seen.scans[1].onto(frame, seen.start).weight > 0,
        )
        return cls(model, inputs, masks)


class TemplateSpace(Learned):
    """A network that knows a template; the hook of a method is :meth:`match`."""

    name: ClassVar[Kind]

    @abstractmethod
    def match(self, pair: TemplatePair, run: Run) -> Found:
        """Fields on the :func:`lattice` of the model's own frame, in whose world both scans are.

        What the network says of both scans is the stage ``network``, from 0.1, what follows ``match``, from 0.4.
        """

    def load(self, pair: Pair, device: Literal["cpu", "cuda"]) -> TemplateModel:
        model = TemplateModel.load(self.config.model, self.name, device)
        model.check(pair.fixed, pair.moving)
        return model

    def frame_of(self, model: TemplateModel, image: Image, pair: Pair) -> Grid:
        return model.frame_in(image)

    def fields(self, seen: Seen, run: Run) -> Found:
        with run.timed("network"):
            pair = TemplatePair.of(seen)
        return self.match(pair, run).moved(seen.frame.affine @ np.linalg.inv(seen.model.frame.affine))

    def network_bytes(self, fixed: Grid, moving: Grid) -> int:
        outputs = int(np.prod(TemplateModel.describe(self.config.model, self.name).shape)) // 8
        # The hidden channels of the head twice, the coded features of two scans and one of a layer's scores.
        return 4 * outputs * (2 * 512 + 3 * 256 + 2 * 128)


FITTED_VOXELS = 3.0e4
"""More say nothing new of twelve numbers."""
FEWEST = 16


def split_linear(
    forward: np.ndarray, backward: np.ndarray, fixed: Scan, moving: Scan, is_ct: bool, reach_mm: float = 0.0
) -> tuple[np.ndarray, Affine]:
    """Split a field into a deformation and the linear map after it, which both directions have a say in.

    Descriptors do not turn with a field, and what a field brings into view from outside is not described: so the linear
    part of a network's field goes into the start of a refinement.

    Args:
        forward: ``(3, I, J, K)`` voxels of the grid on which both scans are given.
        backward: the other direction.
        fixed: whose body the forward map is fitted to, by least squares.
        moving: likewise, of the backward map.
        is_ct: whether air differs from the body.
        reach_mm: a linear part that moves no corner of the grid farther is left in the field: the descriptors of a scan
            that lies nearly right are as good, and it is not interpolated.

    Returns:
        the rest of the forward field ``(3, I, J, K)`` in voxels, and the map that follows it in the world; nothing is
        split off a field whose linear part would be no map of a body.
    """
    onward, back = _fit(forward, fixed, is_ct), _fit(backward, moving, is_ct)
    if not (is_plausible(onward) and is_plausible(back)):
        return forward, Affine.identity()
    between = np.real(expm((logm(onward) - logm(back)) / 2))
    # Beside the identity, so that an axis along which nothing moves stays as it is to the last bit.
    affine = fixed.grid.affine
    linear = Affine(np.eye(4) + affine @ (between - np.eye(4)) @ np.linalg.inv(affine))
    corners = fixed.grid.corners_mm()
    if np.linalg.norm(linear.map_world(corners) - corners, axis=1).max() <= reach_mm:
        return forward, Affine.identity()
    places = identity_positions(fixed.grid.shape).reshape(3, -1)
    undone = np.linalg.inv(between)
    rest = undone[:3, :3] @ (places + forward.reshape(3, -1)) + undone[:3, 3:] - places
    return rest.reshape(forward.shape).astype(np.float32), linear


def _fit(disp_vox: np.ndarray, scan: Scan, is_ct: bool) -> np.ndarray:
    """The 4x4 map of voxels nearest to a field, over the body on a coarse lattice."""
    shape = scan.grid.shape
    stride = max(int(np.ceil((np.prod(shape) / FITTED_VOXELS) ** (1 / 3))), 1)
    lattice = np.zeros(shape, bool)
    lattice[::stride, ::stride, ::stride] = True
    body = lattice & (body_weight(scan, is_ct, reach_mm=0.0, background=0.0) > 0.5)
    here = np.argwhere(body if body.sum() >= FEWEST else lattice)
    there = here + disp_vox[:, here[:, 0], here[:, 1], here[:, 2]].T
    return fit_least_trimmed_squares(here.astype(np.float64), there, "affine", iterations=0)
