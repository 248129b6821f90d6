"""What a run is given: a request in paths, and the same read and checked."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anamorph.errors import UserError
from anamorph.image import Image, Labels, Mask, Points
from anamorph.image.dicom import split_choice
from anamorph.image.read import read_image, read_labels, read_points
from anamorph.image.write import SCANNER, world_code
from anamorph.methods import DEFAULT_METHOD, find_method
from anamorph.methods.base import Device
from anamorph.registration.api import check_grid, mask_on, read_init
from anamorph.registration.provenance import models_of
from anamorph.settings import GivenSettings, make_config
from anamorph.transforms import Affine, Transform


@dataclass(frozen=True)
class PairRequest:
    """What to register and how; scans, labels, masks and points as paths or as objects already read."""

    fixed: Any
    moving: Any
    fixed_labels: Any = None
    moving_labels: Any = None
    fixed_points: Any = None
    moving_points: Any = None
    fixed_mask: Any = None
    moving_mask: Any = None
    init: Any = None
    method: str = DEFAULT_METHOD
    preset: str = "auto"
    settings: GivenSettings = None
    device: Device = "auto"
    seed: int = 0
    resample: bool = False
    max_memory: int | None = None

    def scans(self) -> dict[str, Any]:
        """Scans, labels and masks by what they are."""
        roles = ("fixed", "moving", "fixed_labels", "moving_labels", "fixed_mask", "moving_mask")
        return {role.replace("_", " "): getattr(self, role) for role in roles}

    def files(self) -> list[Path]:
        """Files and folders that are read, models included; of objects that were read before, none."""
        given = (
            *(self.fixed, self.moving, self.fixed_labels, self.moving_labels, self.fixed_points, self.moving_points),
            *(self.fixed_mask, self.moving_mask, self.init),
        )
        files = [split_choice(str(source))[0] for source in given if isinstance(source, (str, os.PathLike))]
        with suppress(UserError):  # settings that are wrong are told when the pair is planned
            method = find_method(self.method)
            config = make_config(method, "default" if self.preset == "auto" else self.preset, self.settings)
            files += models_of(config).values()
        return files


@dataclass(frozen=True)
class PairInputs:
    """A request with everything read and checked against each other."""

    fixed: Image
    moving: Image
    fixed_labels: Labels | None
    moving_labels: Labels | None
    fixed_points: Points | None
    moving_points: Points | None
    fixed_mask: Mask | None
    moving_mask: Mask | None
    init: Transform | None
    world: int = SCANNER
    """NIfTI's code of the world of the fixed scan, for what is written on its grid."""

    @property
    def point_notes(self) -> tuple[str, ...]:
        """What was assumed in reading the landmarks."""
        return tuple(note for points in (self.fixed_points, self.moving_points) if points for note in points.notes)


def read_pair(request: PairRequest) -> PairInputs:
    """Read everything a request names, and see that masks, labels and points belong to their scans.

    Raises:
        UserError: a file cannot be read, or lies elsewhere than its scan.
    """
    if request.fixed_labels is not None and request.moving_labels is None:
        raise UserError("--fixed-labels alone measure nothing; give --moving-labels too")
    if (request.fixed_points is None) != (request.moving_points is None):
        raise UserError("landmarks need both sides; give --fixed-points and --moving-points")
    with ThreadPoolExecutor() as pool:  # unpacking gzip lets go of the interpreter
        fixed_job = pool.submit(read_image, request.fixed)
        moving_job = pool.submit(read_image, request.moving)
        fixed_labels_job = pool.submit(_labels, request.fixed_labels)
        moving_labels_job = pool.submit(_labels, request.moving_labels)
        fixed, moving = fixed_job.result(), moving_job.result()
        fixed_labels, moving_labels = fixed_labels_job.result(), moving_labels_job.result()
    if fixed_labels is not None:
        if not check_grid(fixed_labels, fixed, request.resample, "labels"):
            fixed_labels = Affine.identity().warp_labels(fixed_labels, fixed.grid)
        fixed_labels = Labels(fixed_labels.data, fixed.grid, fixed_labels.name)
    if moving_labels is not None:
        check_grid(moving_labels, moving, request.resample, "labels")
    return PairInputs(
        fixed=fixed,
        moving=moving,
        fixed_labels=fixed_labels,
        moving_labels=moving_labels,
        fixed_points=_points_of(request.fixed_points, fixed),
        moving_points=_points_of(request.moving_points, moving),
        fixed_mask=mask_on(fixed, request.fixed_mask, request.resample),
        moving_mask=mask_on(moving, request.moving_mask, request.resample),
        init=read_init(request.init, fixed, moving),
        world=world_code(request.fixed),
    )


def _labels(source: Any) -> Labels | None:
    return None if source is None else read_labels(source)


def _points_of(source: Any, image: Image) -> Points | None:
    """Read landmarks and see that they lie in their scan."""
    if source is None:
        return None
    points = source if isinstance(source, Points) else read_points(source, grid=image.grid)
    points.check_inside(image.grid, image.name)
    return points
