"""The field of each pair of a list, kept with a record so that another run, year or format costs no computation."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from anamorph.batch.registration import RegistrationSettings, read_pair_of, register_pair_of
from anamorph.batch.store import Contents, Kept
from anamorph.data.dataset import Pair
from anamorph.errors import AnamorphError, UserError
from anamorph.geometry.grid import Grid
from anamorph.image.read import read_grid, read_image
from anamorph.transforms.files import write_transform
from anamorph.transforms.maps import Transform
from anamorph.types import Progress
from anamorph.workflows.submission.formats import ArchiveFormat, Grids, field_path, zero_field


@dataclass(frozen=True)
class FieldJob:
    """The field of a pair in full resolution, float32, in the form Learn2Reg takes since 2022.

    Args:
        pair: to register.
        wanted: method and settings.
        folder: of the fields.
        origin: all that the field depends on.
    """

    pair: Pair
    wanted: RegistrationSettings
    folder: Path
    origin: dict[str, Any]

    @property
    def name(self) -> str:
        """The key of the pair."""
        return self.pair.key

    def find(self) -> dict[str, Any] | None:
        """The record of a field of the same scans and settings."""
        return self._kept().find()

    def do(self, progress: Progress | None = None) -> dict[str, Any]:
        """Register the pair and write its field.

        Raises:
            UserError: the scans cannot be read, or have different shapes.
            RegistrationFailure: the run failed.
        """
        fixed, moving = read_image(self.pair.fixed.image), read_image(self.pair.moving.image)
        if fixed.grid.shape != moving.grid.shape:
            shapes = " and ".join(" x ".join(map(str, image.grid.shape)) for image in (fixed, moving))
            raise UserError(
                f"Learn2Reg fields need two scans of one shape, not {shapes} voxels; bring them to one with "
                "`anamorph preprocess --shape`"
            )
        start = time.perf_counter()
        read = read_pair_of(self.pair, self.wanted, fixed, moving)
        result = register_pair_of(self.pair, self.wanted, read.pair, progress)
        told = {"seconds": round(time.perf_counter() - start, 3), "warnings": result.warnings}
        return self.keep(result.fixed_to_moving, fixed.grid, moving.grid, told)

    def keep(self, transform: Transform, fixed: Grid, moving: Grid, run: dict[str, Any]) -> dict[str, Any]:
        """Write a field, then its record."""
        self._kept().forget()
        path = field_path(self.folder, self.pair)
        write_transform(transform, path, "learn2reg", fixed, moving)
        return self._kept().keep([path], {"run": run})

    def keep_zeros(self, grids: Grids) -> None:
        """Write the field that moves nothing in the place of one that failed; it counts as not done.

        Raises:
            UserError: a scan cannot be read.
        """
        unregistered = replace(self, origin={"zero": "the pair failed"})
        unregistered.keep(*zero_field(self.pair, grids), {})

    def peak_bytes(self) -> int:
        """Predicted memory."""
        return self.wanted.peak_bytes(read_grid(self.pair.fixed.image), read_grid(self.pair.moving.image))

    def _kept(self) -> Kept:
        record = self.folder / f"{self.pair.disp_names['long']}.json"
        return Kept(record, self.folder, self.origin)


def field_jobs(pairs: tuple[Pair, ...], wanted: RegistrationSettings, work: Path) -> list[FieldJob]:
    """A job for each pair, whose fields are kept in a folder."""
    described, contents = wanted.described(), Contents()
    contents.look(case.image for pair in pairs for case in (pair.fixed, pair.moving))
    jobs = []
    for pair in pairs:
        files = {"fixed": pair.fixed.image, "moving": pair.moving.image}
        masks = {"fixed_mask": pair.fixed.mask, "moving_mask": pair.moving.mask} if wanted.masks else {}
        jobs.append(FieldJob(pair, wanted, work, described | {"inputs": contents.of(files | masks)}))
    return jobs


def grids_of(pairs: tuple[Pair, ...], layout: ArchiveFormat) -> dict[Path, Grid]:
    """The grids of all scans, which suit the format. What cannot be read is left out, and reported with its pair."""
    grids = {}
    for image in {case.image for pair in pairs for case in (pair.fixed, pair.moving)}:
        with suppress(AnamorphError):
            grids[image] = read_grid(image)
    for grid in grids.values():
        layout.stored_shape(grid.shape)
    return grids
