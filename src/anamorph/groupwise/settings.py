from __future__ import annotations

from dataclasses import dataclass

from anamorph.errors import UserError

MEAN = "mean"
"""The start that favours no scan."""


@dataclass(frozen=True)
class TemplateSettings:
    """How a template is built.

    Args:
        start: ``mean`` for the mean of the scans with aligned centres, or the key, subject or file name of a scan.
        iterations: at most so many rounds of registering, averaging and moving to the mean shape.
        tolerance_mm: no further round once the mean field is smaller (root mean square); None is a tenth of the spread
            of the scans, the length of their own maps.
        sharpening: how much of what a smoothing by one voxel removes is added to the mean; 0 leaves the mean as it is.
        leave_out_failed: go on without scans that cannot be registered.

    Raises:
        UserError: a value out of its range.
    """

    start: str = MEAN
    iterations: int = 4
    tolerance_mm: float | None = None
    sharpening: float = 0.0
    leave_out_failed: bool = False

    def __post_init__(self) -> None:
        if self.iterations < 1:
            raise UserError(f"--iterations must be at least 1, not {self.iterations}")
        if self.tolerance_mm is not None and not self.tolerance_mm >= 0:
            raise UserError(f"--tolerance must not be negative, not {self.tolerance_mm}")
        if not 0 <= self.sharpening <= 2:
            raise UserError(f"--sharpen must lie in [0, 2], not {self.sharpening}")
