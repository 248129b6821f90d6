"""The contract every registration method keeps, and the one result type."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from anamorph.geometry import Grid
from anamorph.image import Image, Mask
from anamorph.transforms import Transform

Device = Literal["auto", "cpu", "cuda"]
Progress = Callable[[str, float], None]
"""Called as ``progress(stage, fraction)`` with the fraction of the whole run that is done."""


def setting(default: Any, meaning: str, unit: str = "", renamed: Mapping[str, str] | None = None) -> Any:
    """A field of a method's config with the text that ``anamorph methods NAME`` prints.

    Args:
        default: of the field.
        meaning: one line.
        unit: of its numbers.
        renamed: values of earlier versions, and what each is called now.
    """
    return field(default=default, metadata={"meaning": meaning, "unit": unit, "renamed": renamed or {}})


@dataclass
class Result:
    """What a registration gives, whatever the method.

    ``fixed_to_moving`` pulls the moving image onto the fixed grid and maps fixed points to moving points;
    ``moving_to_fixed`` does the reverse. ``timings`` are seconds per stage; ``trace`` holds the objective per iteration
    for each stage; ``provenance`` says how to repeat the run.
    """

    fixed_to_moving: Transform
    moving_to_fixed: Transform
    timings: dict[str, float] = field(default_factory=dict)
    trace: dict[str, list[float]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    provenance: dict[str, Any] = field(default_factory=dict)

    def exchanged(self) -> Result:
        """The result for fixed and moving scan exchanged."""
        return dataclasses.replace(self, fixed_to_moving=self.moving_to_fixed, moving_to_fixed=self.fixed_to_moving)

    def __post_init__(self) -> None:
        self.fixed_to_moving = self.fixed_to_moving.between("fixed", "moving")
        self.moving_to_fixed = self.moving_to_fixed.between("moving", "fixed")


class Method(ABC):
    """A registration method: a frozen config, and a call that registers a pair.

    Subclasses set ``name``, ``summary``, ``Config`` (a frozen dataclass whose fields are made with :func:`setting`) and
    ``presets`` (config values per kind of scan).
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    Config: ClassVar[type]
    presets: ClassVar[dict[str, dict[str, Any]]]

    def __init__(self, config: Any = None) -> None:
        self.config = self.Config() if config is None else config

    @abstractmethod
    def __call__(
        self,
        fixed: Image,
        moving: Image,
        *,
        fixed_mask: Mask | None = None,
        moving_mask: Mask | None = None,
        init: Transform | None = None,
        device: Device = "auto",
        seed: int = 0,
        progress: Progress | None = None,
    ) -> Result:
        """Register a pair.

        Args:
            fixed: stays where it is; any grid.
            moving: is brought to the fixed image; any grid, as many channels as the fixed image.
            fixed_mask: weights in [0, 1] on the fixed grid; a voxel of weight 0 has no influence.
            moving_mask: the same for the moving image.
            init: fixed-to-moving transform to start from instead of the method's own initialisation.
            device: where to compute.
            seed: of every random choice.
            progress: called with the stage and the fraction done.

        Raises:
            UserError: the pair cannot be registered as given.
            RegistrationFailure: the run failed.
        """

    @abstractmethod
    def peak_memory_bytes(self, fixed: Grid, moving: Grid) -> int:
        """Predicted peak memory of a call on images of these grids, without the interpreter itself."""

    def settings(self) -> dict[str, Any]:
        """The config as plain values."""
        return dataclasses.asdict(self.config)
