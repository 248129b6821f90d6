"""``anamorph.register``: one call, whatever the method."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from anamorph.errors import AnamorphError, RegistrationFailure, UserError
from anamorph.geometry import SAME_GRID_MM
from anamorph.geometry.lengths import length_text, patient_mm
from anamorph.image import Image, Mask
from anamorph.image.read import read_image, read_mask
from anamorph.memory import INTERPRETER_BYTES
from anamorph.methods import DEFAULT_METHOD, METHODS
from anamorph.methods.base import Device, Method, Progress, Result
from anamorph.methods.linear_start import Init
from anamorph.registration.preflight import (
    UNIT_REMEDY,
    header_mismatch_mm,
    inspect_image,
    inspect_pair,
    overlap_percent,
    told_of_headers,
    unit_mismatch,
)
from anamorph.registration.provenance import describe_run
from anamorph.runtime.device import resolve_device
from anamorph.settings import GivenSettings, make_config
from anamorph.transforms import Affine, Transform


@dataclass(frozen=True)
class Plan:
    """What a registration will do: method and settings, how the preset was found, and what is odd about the input.

    Warnings count in the verdict, notes do not.
    """

    method: Method
    preset: str
    preset_reason: str
    warnings: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name of the method."""
        return self.method.name


def register(
    fixed: Any,
    moving: Any,
    *,
    method: str = DEFAULT_METHOD,
    preset: str = "auto",
    settings: GivenSettings = None,
    fixed_mask: Any = None,
    moving_mask: Any = None,
    init: Transform | str | os.PathLike[str] | None = None,
    device: Device = "auto",
    seed: int = 0,
    resample_masks: bool = False,
    progress: Progress | None = None,
) -> Result:
    """Register a pair of scans.

    Args:
        fixed: stays where it is: a path (file or DICOM folder), an :class:`Image`, a nibabel or SimpleITK image.
        moving: is brought to the fixed scan; any grid.
        method: one of ``anamorph.methods.METHODS``.
        preset: one of the method's presets, ``"default"``, or ``"auto"``: chosen by what the scans look like.
        settings: of the method, as a mapping or as ``"key=value"`` strings; they go before the preset's.
        fixed_mask: weights in [0, 1] on the fixed grid; sources as for the scans.
        moving_mask: the same for the moving scan.
        init: fixed-to-moving transform (or its file) to start from, or the name of hypotheses such as ``"world"``.
        device: ``"cuda"`` asks for a GPU; ``"auto"`` leaves the choice to the method.
        seed: of every random choice.
        resample_masks: bring masks on another grid to the grid of their scan instead of refusing them.
        progress: called as ``progress(stage, fraction)``.

    Returns:
        Both directions of the transform, timings, warnings, and provenance from which the run can be repeated.

    Raises:
        UserError: the input or the settings are wrong.
        RegistrationFailure: the run failed, or memory ran out.
    """
    init, settings = named_start(init, settings)
    sources = {"fixed": fixed, "moving": moving, "fixed mask": fixed_mask, "moving mask": moving_mask}
    fixed, moving = read_image(fixed), read_image(moving)
    fixed_mask = mask_on(fixed, fixed_mask, resample_masks)
    moving_mask = mask_on(moving, moving_mask, resample_masks)
    plan = make_plan(fixed, moving, method=method, preset=preset, settings=settings, sources=sources)
    return run_plan(
        plan,
        fixed,
        moving,
        fixed_mask=fixed_mask,
        moving_mask=moving_mask,
        init=read_init(init, fixed, moving),
        device=device,
        seed=seed,
        progress=progress,
    )


def make_plan(
    fixed: Image,
    moving: Image,
    *,
    method: str = DEFAULT_METHOD,
    preset: str = "auto",
    settings: GivenSettings = None,
    max_memory: int | None = None,
    sources: Mapping[str, Any] | None = None,
) -> Plan:
    """Choose the preset and check the settings and the pair.

    ``max_memory`` bytes bound the process; what scans and Python leave is the method's ``max_memory_mb``. ``sources``
    are the files that the scans, their labels and masks were read from, by what they are ("moving labels"): their
    headers are looked at too.

    Raises:
        UserError: unknown method, preset or setting, a wrong value, or scans that cannot be a pair.
    """
    method_class = METHODS.find(method)
    if preset != "auto":
        make_config(method_class, preset, settings)  # a typing mistake is told before the scans are looked at
    if fixed.channels != moving.channels:
        raise UserError(
            f"{fixed.name} has {fixed.channels} channels but {moving.name} has {moving.channels}; "
            "give both the same channels"
        )
    if fixed.grid.is_2d != moving.grid.is_2d:
        raise UserError(f"{fixed.name} and {moving.name}: one is a single slice, the other is not; give two of a kind")
    apart = unit_mismatch(fixed.grid, moving.grid)
    if apart is not None:
        raise UserError(f"{fixed.name} and {moving.name}: {apart}; {UNIT_REMEDY}")
    facts = inspect_image(fixed), inspect_image(moving)
    pair = inspect_pair(fixed, moving, *facts)
    reason = "as asked for"
    if preset == "auto":
        preset, reason = pair.preset, pair.preset_reason
        if preset not in method_class.presets:
            preset, reason = "default", f"the method has no preset {preset}"
    config = make_config(method_class, preset, settings, patient_mm(fixed.grid))
    if max_memory is not None and hasattr(config, "max_memory_mb"):
        left = (max_memory - INTERPRETER_BYTES - fixed.data.nbytes - moving.data.nbytes) // 2**20
        config = dataclasses.replace(config, max_memory_mb=max(left, 1))
    told = [(finding.severity, finding.message) for finding in told_of_headers(sources or {})]
    told += [(f.severity, f"{one.name}: {f.message}; register {f.action}") for one in facts for f in one.findings]
    told += [(finding.severity, f"{finding.message}: {finding.action}") for finding in pair.findings]
    warnings, notes = (tuple(text for severity, text in told if severity == wanted) for wanted in ("warning", "note"))
    return Plan(method_class(config), preset, reason, warnings, notes)


def run_plan(
    plan: Plan,
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
    """Run a plan on the scans it was made for, and add warnings and provenance.

    Raises:
        UserError: no GPU, or nothing of the fixed scan lies in the moving one and the method may not look for it.
        RegistrationFailure: the run failed, or memory ran out.
    """
    device = resolve_device(device)
    _check_start(plan, fixed, moving, init)
    try:
        result = plan.method(
            fixed,
            moving,
            fixed_mask=fixed_mask,
            moving_mask=moving_mask,
            init=init,
            device=device,
            seed=seed,
            progress=progress,
        )
    except (MemoryError, RuntimeError) as error:
        failure = out_of_memory_failure(error)
        if failure is None:
            raise
        raise failure from error
    result.warnings[:0] = plan.warnings
    described = describe_plan(plan, fixed, moving, fixed_mask, moving_mask, seed=seed, device=device)
    result.provenance = described | {k: v for k, v in result.provenance.items() if k not in described}
    return result


def describe_plan(
    plan: Plan,
    fixed: Image,
    moving: Image,
    fixed_mask: Mask | None,
    moving_mask: Mask | None,
    *,
    seed: int,
    device: str,
) -> dict[str, Any]:
    """The provenance of a run of a plan."""
    inputs = {"fixed": fixed, "moving": moving, "fixed_mask": fixed_mask, "moving_mask": moving_mask}
    return describe_run(
        method=plan.name,
        preset=plan.preset,
        preset_reason=plan.preset_reason,
        settings=plan.method.settings(),
        seed=seed,
        device=device,
        inputs={role: image for role, image in inputs.items() if image is not None},
    )


def mask_on(image: Image, source: Any, resample: bool = False) -> Mask | None:
    """Read the mask of a scan and see that it lies on the scan's grid.

    Raises:
        UserError: it cannot be read, is empty, or lies on another grid and ``resample`` is off.
    """
    if source is None:
        return None
    mask = read_mask(source)
    if check_grid(mask, image, resample, "mask"):
        return Mask(mask.data, image.grid, mask.name)
    return Mask(Affine.identity().warp_image(mask, image.grid, background=0).data, image.grid, mask.name)


def check_grid(companion: Image, image: Image, resample: bool, kind: Literal["mask", "labels"]) -> bool:
    """True when a mask or label map lies on the grid of its scan, False when it has to be resampled.

    Raises:
        UserError: it lies elsewhere and ``resample`` is off.
    """
    apart = header_mismatch_mm(companion.grid, image.grid)
    same = apart <= image.grid.limit_mm(SAME_GRID_MM)
    if same or resample:
        return same
    where = (
        f"has shape {_times(companion)}, not {_times(image)}"
        if companion.grid.shape != image.grid.shape
        else f"lies up to {length_text(apart, 1)} away (another header)"
    )
    verb = "is" if kind == "mask" else "are"
    raise UserError(
        f"the {kind} {companion.name} {verb} not on the grid of {image.name}: it {where}; "
        f"pass --resample to bring it there by world position, or repair the header"
    )


def _times(image: Image) -> str:
    return " x ".join(map(str, image.grid.shape))


def named_start(init: Any, settings: GivenSettings) -> tuple[Any, GivenSettings]:
    """A transform to start from and the settings; the name of hypotheses is no transform but the setting ``init``."""
    if init is None or str(init) not in (*get_args(Init), "frame"):
        return init, settings
    if isinstance(settings, Mapping):
        return None, {**settings, "init": str(init)}
    return None, [*(settings or ()), f"init={init}"]


def read_init(init: Transform | str | os.PathLike[str] | None, fixed: Image, moving: Image) -> Transform | None:
    """The transform to start from, read from its file if need be.

    Raises:
        UserError: the file cannot be read as a transform.
    """
    if init is None or isinstance(init, Transform):
        return init
    from anamorph.transforms.files import read_transform

    return read_transform(Path(init), grid=fixed.grid, moving_grid=moving.grid)


def out_of_memory_failure(error: Exception) -> RegistrationFailure | None:
    """One line for Python's and NumPy's MemoryError and for what PyTorch raises instead; None for other errors."""
    text = str(error).lower()
    if isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text:
        return RegistrationFailure(
            "memory ran out; lower --max-memory, crop the scans or resample them to larger voxels"
        )
    return None


def failure_line(error: Exception) -> str:
    """One line for whatever made one of many scans or pairs fail."""
    known = out_of_memory_failure(error) or error
    if isinstance(known, AnamorphError):
        return str(known)
    return f"{type(known).__name__}: {' '.join(str(known).split())[:200]}"


def _check_start(plan: Plan, fixed: Image, moving: Image, init: Transform | None) -> None:
    """A given start, or none, must leave something to compare; otherwise the method looks for the start itself."""
    if init is None and plan.method.settings().get("init") != "world":
        return
    if overlap_percent(fixed.grid, moving.grid, init) == 0:
        start = "the world positions in the headers" if init is None else "the transform of --init"
        raise UserError(
            f"by {start} the fields of view of {fixed.name} and {moving.name} do not overlap; "
            "let the method find the start (drop init=world or --init)"
        )
