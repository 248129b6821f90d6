"""What is to be registered and how, and the same read and checked."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias, get_args

import numpy as np

from anamorph.errors import UserError
from anamorph.image.dicom.volumes import split_choice
from anamorph.image.image import Image, Labels, Mask
from anamorph.image.label_names import LabelNames, LabelNamesLike, read_label_names
from anamorph.image.outlines import Outline
from anamorph.image.points import Points
from anamorph.image.read import needs_scan, read_image, read_labels, read_mask, read_points
from anamorph.image.structures import matched_by_name
from anamorph.image.types import ImageLike, PathLike, PointsLike
from anamorph.image.write import SCANNER, world_code
from anamorph.methods import DEFAULT_METHOD, find_method
from anamorph.methods.base import Config, Method, Pair
from anamorph.methods.start.settings import RENAMED, Init
from anamorph.registration.grids import check_grid
from anamorph.registration.lungs import is_lungs
from anamorph.registration.provenance import models_of
from anamorph.registration.pulling import LabelChoice, OutlinesLike, labels_of, marks_of, outline_sources, pair_outlines
from anamorph.registration.tissue import KeepLike, read_tissue, sources_of
from anamorph.registry import closest
from anamorph.runtime.memory import parse_size
from anamorph.settings import GivenSettings, make_config
from anamorph.transforms.maps import Affine, Transform
from anamorph.types import Device

SHOWN = ("fixed", "moving", "fixed_labels", "moving_labels", "fixed_points", "moving_points")
"""What of a request a result can be looked at with, besides its own files."""
STARTS = (*get_args(Init), "frame")
"""What a start may be called; the last name is that of methods with a network."""
MethodLike: TypeAlias = str | type[Method] | Method
"""The name of a method, its class, or a method with its settings."""


@dataclass(frozen=True, eq=False)
class Request:
    """What to register and how. Scans and all that belongs to them are given as files or as objects already read.

    Args:
        fixed: stays where it is.
        moving: is brought to the fixed scan; any grid.
        fixed_labels: label map of the fixed scan.
        moving_labels: label map of the moving scan.
        label_names: names of labels for reports, perhaps with colours: ``"1=liver,2=spleen"``, a mapping, or a file.
        fixed_points: landmarks in the fixed scan.
        moving_points: the same landmarks in the moving scan.
        fixed_outlines: curves and surfaces of the fixed scan.
        moving_outlines: those of the moving scan, by name or in the same order.
        use_points: how exactly landmarks and outlines are known, in mm; they pull then, and measure nothing.
        use_labels: labels that pull, ``"all"`` or values, and then measure nothing.
        fixed_mask: weights in [0, 1] on the fixed grid.
        moving_mask: weights in [0, 1] on the moving grid.
        no_partner: mask of what the fixed scan alone shows, such as a resection; it is left out of every comparison.
        moving_no_partner: mask of what the moving scan alone shows.
        keep_rigid: masks of the fixed scan whose connected pieces move rigidly: one or several, each alone (exactly) or
            as a pair with a weight (about so).
        keep_volume: masks of the fixed scan whose connected pieces keep their volume.
        stiffness: factors of the smoothness of the deformation on the fixed grid, 1 for ordinary tissue.
        sliding: mask of the fixed scan of what slides along what is around it, such as lungs along the chest wall; or
            ``lungs``, which are found in both scans, if these are CT.
        moving_keep_rigid: as ``keep_rigid``, of the moving scan.
        moving_keep_volume: as ``keep_volume``, of the moving scan.
        moving_stiffness: as ``stiffness``, of the moving scan.
        moving_sliding: as ``sliding``, of the moving scan.
        same_patient: whether the scans are two dates of one patient: the start is rigid, the deformation stiff, and
            what changed is looked for.
        init: transform of fixed to moving points to start from, its file, or a name of hypotheses such as ``"world"``.
        method: name, class or instance.
        preset: one of the method's presets, ``"default"``, or ``"auto"``: chosen by what the scans look like.
        settings: of the method, as a mapping or as ``"key=value"`` texts; they go before the preset's.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        seed: of every random choice.
        resample: bring masks and labels on another grid to the grid of their scan instead of refusing them.
        threads: CPU threads; all by default.
        max_memory: upper bound of memory in bytes, or a size such as ``"8 GB"``.

    Raises:
        UserError: a size that is none, or a start that is neither a name nor a file.
    """

    fixed: ImageLike
    moving: ImageLike
    fixed_labels: ImageLike | None = None
    moving_labels: ImageLike | None = None
    label_names: LabelNamesLike | None = None
    fixed_points: PointsLike | None = None
    moving_points: PointsLike | None = None
    fixed_outlines: OutlinesLike | None = None
    moving_outlines: OutlinesLike | None = None
    use_points: float | None = None
    use_labels: LabelChoice | None = None
    fixed_mask: ImageLike | None = None
    moving_mask: ImageLike | None = None
    no_partner: ImageLike | None = None
    moving_no_partner: ImageLike | None = None
    keep_rigid: KeepLike | None = None
    keep_volume: KeepLike | None = None
    stiffness: ImageLike | None = None
    sliding: ImageLike | None = None
    moving_keep_rigid: KeepLike | None = None
    moving_keep_volume: KeepLike | None = None
    moving_stiffness: ImageLike | None = None
    moving_sliding: ImageLike | None = None
    same_patient: bool = False
    init: Transform | PathLike | None = None
    method: MethodLike = DEFAULT_METHOD
    preset: str = "auto"
    settings: GivenSettings = None
    device: Device = "auto"
    seed: int = 0
    resample: bool = False
    threads: int | None = None
    max_memory: int | str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.max_memory, str):
            object.__setattr__(self, "max_memory", parse_size(self.max_memory))
        if is_lungs(self.sliding) and self.moving_sliding is None:
            object.__setattr__(self, "moving_sliding", self.sliding)
        if isinstance(self.init, str) and self.init in (*STARTS, *RENAMED):
            # The name of hypotheses is no transform but a setting of the method.
            given = self.settings
            named = (
                {**given, "init": self.init} if isinstance(given, Mapping) else [*(given or ()), f"init={self.init}"]
            )
            object.__setattr__(self, "settings", named)
            object.__setattr__(self, "init", None)
        elif isinstance(self.init, str) and self.init.isidentifier() and not os.path.exists(self.init):
            raise UserError(
                f"there is no start '{self.init}'{closest(self.init, STARTS)}; "
                f"give a transform in a file, or one of: {', '.join(STARTS)}"
            )

    @property
    def most_bytes(self) -> int | None:
        """The upper bound of memory in bytes."""
        assert not isinstance(self.max_memory, str)
        return self.max_memory

    def scans(self) -> dict[str, ImageLike | None]:
        """Scans, labels and masks by what they are."""
        scans = "fixed", "moving", "fixed_labels", "moving_labels"
        roles = *scans, "fixed_mask", "moving_mask", "no_partner", "moving_no_partner"
        return {role.replace("_", " "): getattr(self, role) for role in roles}

    def sources(self) -> dict[str, str]:
        """Scans, labels and landmarks that are given as files, by their roles, as they are named."""
        given = {role: getattr(self, role) for role in SHOWN}
        return {role: str(source) for role, source in given.items() if isinstance(source, (str, os.PathLike))}

    def files(self) -> list[Path]:
        """Files and folders that are read, models included; of objects that were read before, none."""
        kept = (self.keep_rigid, self.keep_volume, self.moving_keep_rigid, self.moving_keep_volume)
        masks = [source for one in kept for source, _ in sources_of(one)]
        slides = [mask for mask in (self.sliding, self.moving_sliding) if not is_lungs(mask)]
        tissue = (*masks, self.stiffness, self.moving_stiffness, *slides)
        outlines = (*outline_sources(self.fixed_outlines), *outline_sources(self.moving_outlines))
        names = [name for name in (self.label_names,) if isinstance(name, (str, os.PathLike)) and os.path.exists(name)]
        given = (*self.scans().values(), *names, self.fixed_points, self.moving_points, *outlines, *tissue, self.init)
        files = [split_choice(str(source))[0] for source in given if isinstance(source, (str, os.PathLike))]
        with suppress(UserError):  # wrong settings are refused when the pair is planned
            files += models_of(self._config_by_default()).values()
        return files

    def _config_by_default(self) -> Config:
        if isinstance(self.method, Method):
            return self.method.config
        preset = "default" if self.preset == "auto" else self.preset
        return make_config(find_method(self.method), preset, self.settings)

    def read(self) -> Inputs:
        """Read everything, and see that masks, labels and points belong to their scans.

        Raises:
            UserError: a file cannot be read, or lies elsewhere than its scan.
        """
        if self.fixed_labels is not None and self.moving_labels is None:
            raise UserError("--fixed-labels alone measure nothing; give --moving-labels too")
        if (self.fixed_points is None) != (self.moving_points is None):
            raise UserError("landmarks need both sides; give --fixed-points and --moving-points")
        with ThreadPoolExecutor() as pool:  # unpacking gzip lets go of the interpreter
            fixed_job = pool.submit(read_image, self.fixed)
            moving_job = pool.submit(read_image, self.moving)
            fixed_labels_job = pool.submit(_labels, self.fixed_labels, fixed_job)
            moving_labels_job = pool.submit(_labels, self.moving_labels, moving_job)
            fixed, moving = fixed_job.result(), moving_job.result()
            fixed_labels, moving_labels = fixed_labels_job.result(), moving_labels_job.result()
        if fixed_labels is not None:
            if not check_grid(fixed_labels, fixed, self.resample, "labels"):
                fixed_labels = Affine.identity().warp_labels(fixed_labels, fixed.grid)
            fixed_labels = fixed_labels.placed(fixed.grid)
            assert moving_labels is not None
            moving_labels = matched_by_name(moving_labels, fixed_labels)
        if moving_labels is not None:
            check_grid(moving_labels, moving, self.resample, "labels")
        alone = (
            mask_on(fixed, self.no_partner, self.resample),
            mask_on(moving, self.moving_no_partner, self.resample),
        )
        points = _points_of(self.fixed_points, fixed), _points_of(self.moving_points, moving)
        outlines = pair_outlines(self.fixed_outlines, self.moving_outlines, (fixed, moving))
        return Inputs(
            pair=Pair(
                fixed,
                moving,
                _without(fixed, mask_on(fixed, self.fixed_mask, self.resample), alone[0]),
                _without(moving, mask_on(moving, self.moving_mask, self.resample), alone[1]),
                read_init(self.init, fixed, moving),
                *points,
                read_tissue(fixed, self.keep_rigid, self.keep_volume, self.stiffness, self.sliding, self.resample),
                read_tissue(
                    moving,
                    self.moving_keep_rigid,
                    self.moving_keep_volume,
                    self.moving_stiffness,
                    self.moving_sliding,
                    self.resample,
                ),
                marks_of(points, outlines, self.use_points),
                labels_of(self.use_labels, fixed_labels, moving_labels),
            ),
            fixed_labels=fixed_labels,
            moving_labels=moving_labels,
            no_partner=alone,
            label_names=_names(self.label_names, (fixed_labels, moving_labels)),
            same_patient=self.same_patient,
            outlines=outlines,
            world=world_code(self.fixed),
            files=tuple(self.files()),
            sources=self.sources(),
        )


@dataclass(frozen=True, eq=False)
class Inputs:
    """A request with everything read and checked.

    Args:
        pair: what the method is given.
        fixed_labels: label map on the grid of the fixed scan.
        moving_labels: label map of the moving scan.
        label_names: names and colours of labels.
        no_partner: masks of what the fixed and the moving scan alone show; the masks of the pair are without it.
        same_patient: whether the scans are two dates of one patient.
        outlines: curves and surfaces of both scans.
        world: NIfTI's code of the world of the fixed scan, for what is written on its grid.
        files: what was read, which results never replace.
        sources: scans, labels and landmarks that came from files, by what they are: the files as they were named.
    """

    pair: Pair
    fixed_labels: Labels | None = None
    moving_labels: Labels | None = None
    label_names: LabelNames = field(default_factory=LabelNames)
    no_partner: tuple[Mask | None, Mask | None] = (None, None)
    same_patient: bool = False
    outlines: tuple[tuple[Outline, Outline], ...] = ()
    world: int = SCANNER
    files: tuple[Path, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)

    @property
    def outline_points(self) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
        """Points ``(N, 3)`` of the outlines of both scans, RAS mm."""
        return tuple((here.positions_mm, there.positions_mm) for here, there in self.outlines)

    @property
    def label_notes(self) -> tuple[str, ...]:
        """What the labels of DICOM stand for, and what was left out in reading them."""
        return tuple(note for one in (self.fixed_labels, self.moving_labels) if one is not None for note in one.notes)

    @property
    def point_notes(self) -> tuple[str, ...]:
        """What was assumed in reading landmarks and outlines."""
        sides = (self.pair.fixed_points, self.pair.moving_points, *(one for pair in self.outlines for one in pair))
        return tuple(note for points in sides if points is not None for note in points.notes)


def mask_on(image: Image, source: ImageLike | None, resample: bool = False) -> Mask | None:
    """Read the mask of a scan and see that it lies on the scan's grid.

    Raises:
        UserError: it cannot be read, is empty, or lies on another grid and ``resample`` is off.
    """
    if source is None:
        return None
    mask = read_mask(source, scan=image)
    if check_grid(mask, image, resample, "mask"):
        return Mask(mask.data, image.grid, mask.name)
    return Mask(Affine.identity().warp_image(mask, image.grid, background=0).data, image.grid, mask.name)


def _without(image: Image, mask: Mask | None, alone: Mask | None) -> Mask | None:
    """The weights of a scan without what it alone shows.

    Raises:
        UserError: nothing is left.
    """
    if alone is None:
        return mask
    left = (1 - alone.data.astype(np.float32)) * (1 if mask is None else mask.data)
    if not left.any():
        raise UserError(f"{alone.name} leaves nothing of {image.name} to compare; mask only what has no partner")
    return Mask(left, image.grid, f"{image.name} without {alone.name}")


def read_init(init: Transform | PathLike | None, fixed: Image, moving: Image) -> Transform | None:
    """The transform to start from, read from its file if need be.

    Raises:
        UserError: the file cannot be read as a transform.
    """
    if init is None or isinstance(init, Transform):
        return init
    from anamorph.transforms.files import read_transform

    return read_transform(Path(init), grid=fixed.grid, moving_grid=moving.grid)


def _names(given: LabelNamesLike | None, maps: Sequence[Labels | None]) -> LabelNames:
    """Names and colours as they were given, else as the label maps have them."""
    if given is not None:
        return read_label_names(given)
    structures = {one.label: one for labels in maps if labels is not None for one in labels.structures}
    colours = {label: one.colour for label, one in structures.items() if one.colour is not None}
    return LabelNames(
        {label: one.name for label, one in structures.items()},
        {label: "#{:02x}{:02x}{:02x}".format(*colour) for label, colour in colours.items()},
    )


def _labels(source: ImageLike | None, scan: Future[Image]) -> Labels | None:
    """Labels of a scan, which is waited for where they are contours."""
    if source is None:
        return None
    return read_labels(source, scan=scan.result() if needs_scan(source) else None)


def _points_of(source: PointsLike | None, image: Image) -> Points | None:
    """Read landmarks and see that they lie in their scan."""
    if source is None:
        return None
    if isinstance(source, (str, os.PathLike)):
        points = read_points(source, grid=image.grid)
    else:
        points = source if isinstance(source, Points) else Points(np.asarray(source, np.float64))
    points.check_inside(image.grid, image.name)
    return points
