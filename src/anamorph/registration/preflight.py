"""What a scan looks like before anything is computed, what may go wrong, and what ``register`` does about that."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from anamorph.errors import UserError
from anamorph.geometry.grid import NEGLIGIBLE_SHEAR_VOX, Grid
from anamorph.geometry.lengths import is_patient_sized, length_text, lengths_text, significant
from anamorph.image.background import are_hounsfield
from anamorph.image.header_notes import header_notes, visit_of
from anamorph.image.image import Image
from anamorph.image.label_like import is_label_map
from anamorph.image.read import needs_scan

_CERTAIN = ("converted to mm", "read as float32", "scaled by its own, as float", "is dropped", "kept as they are")
_ASSUMED = "assumed"
"""Words of :func:`header_notes` about values that were converted, and about a spacing that the format cannot give."""
MOST_APART, WORTH_TELLING = 200, 50
"""Ratios of the longest sides of two fields of view: no anatomy explains the first, few explain the second."""
UNIT_REMEDY = (
    "one header may give metres or micrometres for millimetres: repair its voxel size, by nibabel or 3D Slicer"
)
CT_ORGANS_MM = 150.0
"""Longest side from which the presets of the neck and the chest, whose lengths are in mm, hold for a CT."""
SMALL_MR_MM = 50.0
"""Longest side from which the preset of small MR scans holds for voxels finer than the 1 mm of its descriptors."""
BOTH_SHOW = ("cardiac-mr",)
"""Presets of how scans were made, such as in thick slices, rather than of what they show: both have to be made so."""

WHOLE_TO_PART = 1.25
"""Ratio of two lengths along the body from which the shorter CT may be a part: shoulders look like a trunk."""

Severity = Literal["note", "warning", "error"]
Modality = Literal["ct", "mr", "mask-like", "other"]


@dataclass(frozen=True)
class Finding:
    """Something worth knowing: what was seen, and what ``register`` does about it."""

    severity: Severity
    message: str
    action: str


@dataclass(frozen=True)
class ImageFacts:
    """What the header and the voxels of one scan say. Lengths in mm; percentiles are 1, 5, 50, 95 and 99 %."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    spacing_mm: tuple[float, ...]
    extent_mm: tuple[float, ...]
    orientation: str
    obliqueness_deg: float
    sheared: bool
    minimum: float
    maximum: float
    percentiles: tuple[float, ...]
    modality: Modality
    region: str
    region_reason: str
    findings: tuple[Finding, ...] = field(default=())

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class PairFacts:
    """What two scans say about each other: share of the fixed field of view inside the moving one, and findings."""

    overlap_percent: float
    preset: str
    preset_reason: str
    findings: tuple[Finding, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def inspect_image(image: Image, path: str | os.PathLike[str] | None = None) -> ImageFacts:
    """Facts and findings of one scan, from at most about a million of its voxels.

    Args:
        image: a scan or a label map, as :func:`~anamorph.image.read.read_image` gives it.
        path: where it came from, to look at the header too.
    """
    grid = image.grid
    values = _thinned(image)
    modality = guess_modality(image)
    region, reason = guess_region(image, modality)
    facts = ImageFacts(
        name=image.name,
        shape=image.data.shape[1:] if image.channels == 1 else image.data.shape,
        dtype=image.data.dtype.name,
        spacing_mm=tuple(significant(s, 6) for s in grid.spacing_mm),
        extent_mm=tuple(significant(e, 5) for e in grid.spacing_mm * grid.shape),
        orientation=grid.orientation,
        obliqueness_deg=round(grid.obliqueness_deg, 2),
        sheared=grid.is_sheared,
        minimum=float(values.min()),
        maximum=float(values.max()),
        percentiles=tuple(float(p) for p in np.percentile(values, [1, 5, 50, 95, 99])),
        modality=modality,
        region=region,
        region_reason=reason,
    )
    return replace(facts, findings=(*_header_findings(path), *_findings(facts, grid)))


def told_of_headers(sources: Mapping[str, Any]) -> list[Finding]:
    """What is odd about the headers of the files of a run; what several files share is said once, with all their names.

    Args:
        sources: files by what they are ("fixed", "moving labels"); what is not a path has no header to look at.
    """
    files: dict[Finding, list[str]] = {}
    for role, source in sources.items():
        if not isinstance(source, str | os.PathLike) or (role not in ("fixed", "moving") and needs_scan(source)):
            continue  # contours and segments speak for themselves
        with suppress(OSError):  # a pipe, or a file that is gone since, has been read and needs no second look
            for finding in _header_findings(source):
                files.setdefault(finding, []).append(f"{role} {Path(source).name}")
    return [replace(found, message=f"{', '.join(names)}: {found.message}") for found, names in files.items()]


def dates_of_one_patient(fixed: Any, moving: Any) -> Finding | None:
    """What follows where two files say that they are two dates of one patient; None otherwise.

    Args:
        fixed: file or folder of the fixed scan; anything else says nothing.
        moving: file or folder of the moving scan.
    """
    if not (isinstance(fixed, str | os.PathLike) and isinstance(moving, str | os.PathLike)):
        return None
    try:
        one, other = visit_of(fixed), visit_of(moving)
    except (OSError, UserError):  # a pipe, or a file that is gone since
        return None
    if one is None or other is None or one[0] != other[0] or one[1] == other[1]:
        return None
    return Finding("note", "the files name one patient on two dates", "looks for what changed with --same-patient")


def inspect_pair(fixed: Image, moving: Image, fixed_facts: ImageFacts, moving_facts: ImageFacts) -> PairFacts:
    """Overlap of the fields of view, differences that matter, and the preset ``register`` would take."""
    overlap = overlap_percent(fixed.grid, moving.grid)
    findings = []
    if overlap < 25:
        shift = float(np.linalg.norm(fixed.grid.centre_mm - moving.grid.centre_mm))
        findings.append(
            Finding(
                "warning",
                f"{overlap:.0f} % of the fixed field of view lies inside the moving one (centres "
                f"{length_text(shift, 0)} apart)",
                "compares all translations with what the headers say (not with --init world)",
            )
        )
    apart = unit_mismatch(fixed.grid, moving.grid)
    if apart is not None:
        findings.append(Finding("error", f"{apart}; {UNIT_REMEDY}", "refuses the pair"))
    elif _side_ratio(fixed.grid, moving.grid) > WORTH_TELLING:
        findings.append(Finding("warning", _sides_apart(fixed.grid, moving.grid), "takes both headers at their word"))
    ratio = fixed.grid.spacing_mm.prod() / moving.grid.spacing_mm.prod()
    if max(ratio, 1 / ratio) > 8:
        findings.append(
            Finding(
                "note",
                f"voxel volumes differ {max(ratio, 1 / ratio):.0f}-fold",
                "works in millimetres on a common spacing; the warped scan gets the fixed grid",
            )
        )
    if fixed.channels != moving.channels:
        findings.append(
            Finding("error", f"{fixed.channels} fixed and {moving.channels} moving channels", "refuses the pair")
        )
    if {fixed_facts.modality, moving_facts.modality} == {"ct", "mr"}:
        findings.append(Finding("note", "one scan is CT, the other MR", "compares local structure, not intensities"))
    preset, reason = choose_preset(fixed_facts, moving_facts)
    return PairFacts(round(overlap, 1), preset, reason, tuple(findings))


def unit_mismatch(fixed: Grid, moving: Grid) -> str | None:
    """What is wrong when two fields of view differ so much that the units of the headers must; None otherwise."""
    return _sides_apart(fixed, moving) if _side_ratio(fixed, moving) > MOST_APART else None


def _side_ratio(fixed: Grid, moving: Grid) -> float:
    ratio = fixed.longest_mm / moving.longest_mm
    return max(ratio, 1 / ratio)


def _sides_apart(fixed: Grid, moving: Grid) -> str:
    here, there = (length_text(grid.longest_mm, 0) for grid in (fixed, moving))
    return f"the fields of view are {here} and {there} long, {_side_ratio(fixed, moving):.0f}-fold apart"


def header_mismatch_mm(grid: Grid, other: Grid) -> float:
    """Largest distance between equal corners of two grids of the same shape; infinite when the shapes differ."""
    if grid.shape != other.shape:
        return float("inf")
    return grid.corner_distance_mm(other)


def overlap_percent(fixed: Grid, moving: Grid, transform: Any = None) -> float:
    """Percentage of the fixed field of view that a transform (by default the identity) maps into the moving one."""
    sites = fixed.sites_mm()
    mapped = sites if transform is None else transform.map_world(sites)
    return 100 * float(moving.contains(mapped).mean())


def choose_preset(fixed: ImageFacts, moving: ImageFacts) -> tuple[str, str]:
    """The preset of what both scans show, the generic one where they show different things; and why.

    A scan that was cut, padded or resampled aslant may not tell what it shows: then the other one does, unless its
    preset is one of ``BOTH_SHOW``. Beside a scan of another kind a CT tells, because it knows bone and air; of two CT
    that look different, the clearly longer one.
    """
    generic = tuple("generic-ct" if facts.modality == "ct" else "generic-mr" for facts in (fixed, moving))
    told = [facts for facts, plain in zip((fixed, moving), generic, strict=True) if facts.region != plain]
    ct = [facts for facts in (fixed, moving) if facts.modality == "ct"]
    if len(ct) == 1:
        return ct[0].region, f"{ct[0].region_reason}, beside a scan that is no CT"
    apart = len({facts.region for facts in told}) > 1
    if apart and len(ct) == 2:
        part, whole = sorted(ct, key=_length_mm)
        if _length_mm(whole) >= WHOLE_TO_PART * _length_mm(part):
            side = "fixed" if whole is fixed else "moving"
            return whole.region, f"{whole.region_reason}, by the {side} scan, of which the other one may be a part"
    if apart or (len(told) == 1 and told[0].region in BOTH_SHOW):
        reason = f"the scans look different (fixed: {fixed.region}, moving: {moving.region})"
        return generic[0], reason
    facts = told[0] if told else fixed
    side = "" if len(told) != 1 else f", which the {'fixed' if facts is fixed else 'moving'} scan tells alone"
    return facts.region, facts.region_reason + side


def _length_mm(facts: ImageFacts) -> float:
    """From the feet to the head of what is in view."""
    return next(e for e, axis in zip(facts.extent_mm, facts.orientation, strict=True) if axis in "SI")


def guess_modality(image: Image) -> Modality:
    """A label map by its constant pieces, CT by Hounsfield values, MR if nothing is negative, else other."""
    if is_label_map(image):
        return "mask-like"
    values = _thinned(image)
    if are_hounsfield(values):
        return "ct"
    return "mr" if values.min() >= 0 else "other"


def guess_region(image: Image, modality: Modality) -> tuple[str, str]:
    """Which preset fits, by extent of the field of view, spacing and, for CT, bone and enclosed air; and why."""
    grid = image.grid
    if grid.is_2d:
        return ("generic-ct" if modality == "ct" else "generic-mr"), "a single slice"
    if not is_patient_sized(grid):
        kind = "generic-ct" if modality == "ct" else "generic-mr"
        return kind, f"a field of view of {lengths_text(grid.spacing_mm * grid.shape, 0)} is no part of a patient"
    if modality == "ct":
        return _ct_region(image)
    return _mr_region(grid) if modality == "mr" else ("generic-mr", f"neither CT nor MR: {modality}")


def _mr_region(grid: Grid) -> tuple[str, str]:
    spacing, extent = grid.spacing_mm, grid.spacing_mm * grid.shape
    text = lengths_text(extent, 0)
    thick = int(np.argmax(spacing))
    others = np.delete(spacing, thick)
    if spacing[thick] >= 4 and spacing[thick] >= 2.5 * others.max() and grid.shape[thick] <= 24:
        return "cardiac-mr", f"MR of {grid.shape[thick]} thick slices ({length_text(spacing[thick], 1)})"
    if extent.max() <= 80 and (extent.max() >= SMALL_MR_MM or spacing.min() >= 0.7):
        return "small-mr", f"MR of a small field of view ({text})"
    if extent.min() >= 80 and extent.max() <= 300 and spacing.max() <= 2:
        return "brain-mr", f"MR of fine voxels over the extent of a head ({text})"
    return "generic-mr", f"MR of {text}"


def _ct_region(image: Image) -> tuple[str, str]:
    """Bone share, size of the cross-section and enclosed air on a grid of about 6 mm."""
    from scipy import ndimage

    grid = image.grid
    axial = int(np.argmax(np.abs(grid.directions[2])))
    step = np.maximum(np.rint(6 / grid.spacing_mm).astype(int), 1)
    thinning = tuple(slice(min(s // 2, n - 1), None, s) for s, n in zip(step, grid.shape, strict=True))
    hounsfield = image.data[0][thinning].astype(np.float32)
    hounsfield = np.moveaxis(hounsfield, axial, 2)
    pixel_cm2 = float(np.delete(grid.spacing_mm * step, axial).prod()) / 100
    body = hounsfield > -300
    voxels = int(body.sum())
    if voxels == 0:
        return "generic-ct", "CT without tissue"
    area_cm2 = float(np.median(body.sum(axis=(0, 1)))) * pixel_cm2
    bone = float((hounsfield > 300).sum()) / voxels
    rim = np.ones(body.shape[:2], bool)
    rim[1:-1, 1:-1] = False
    # Air is enclosed when it hardly touches the sides of the field of view: also true for a scan cropped to a lung.
    components, count = ndimage.label(hounsfield < -500)
    sizes = np.bincount(components.ravel(), minlength=count + 1)[1:]
    touching = np.bincount(components[rim].ravel(), minlength=count + 1)[1:]
    enclosed = int(sizes[(touching < 0.05 * sizes) & (touching < 0.05 * rim.sum() * body.shape[2])].sum())
    air = enclosed / (enclosed + voxels)
    cut = float(body[rim].mean())
    if grid.longest_mm < CT_ORGANS_MM:
        return "generic-ct", f"CT of a small field of view ({lengths_text(grid.spacing_mm * grid.shape, 0)})"
    if bone >= 0.045 and area_cm2 < 300 and cut < 0.3:
        return "head-neck-ct", f"CT with {100 * bone:.0f} % of bone and a median cross-section of {area_cm2:.0f} cm²"
    if air >= 0.17:
        return "lung-ct", f"CT with {100 * air:.0f} % of enclosed air"
    if area_cm2 >= 350:
        return (
            "abdomen-ct",
            f"CT of a trunk: median cross-section {area_cm2:.0f} cm², {100 * air:.0f} % of enclosed air",
        )
    return "generic-ct", f"CT with a median cross-section of {area_cm2:.0f} cm²"


def _header_findings(path: str | os.PathLike[str] | None) -> list[Finding]:
    """What is odd about a header: a note where nothing is left to doubt, else a warning."""
    notes = [] if path is None else header_notes(path)
    return [
        Finding("note" if _leaves_no_doubt(note) else "warning", note, "takes the header as described")
        for note in notes
    ]


def _leaves_no_doubt(note: str) -> bool:
    beside = note.startswith("left out ") and not note.startswith("left out slices")  # contours and doses, for example
    return beside or note.endswith(_CERTAIN) or _ASSUMED in note


def _findings(facts: ImageFacts, grid: Grid) -> list[Finding]:
    found = []
    if facts.modality == "mask-like":
        found.append(
            Finding(
                "note",
                "constant pieces of whole values: a label map?",
                "takes it as an image; labels go to --fixed-labels",
            )
        )
    if np.allclose(grid.affine, np.eye(4)):
        found.append(
            Finding(
                "note",
                "the affine is the identity: no world position",
                "takes 1 mm voxels, and does not rely on the position",
            )
        )
    elif np.allclose(grid.spacing_mm, 1) and max(facts.extent_mm) > 450:
        found.append(
            Finding("warning", "1 mm voxels over more than 450 mm: placeholder?", "takes the header at its word")
        )
    if facts.obliqueness_deg > 1:
        found.append(
            Finding("note", f"oblique by {facts.obliqueness_deg:.1f}°", "keeps the grid; nothing is re-oriented")
        )
    if facts.sheared:
        found.append(
            Finding(
                "warning",
                f"the axes are sheared (corners {grid.shear_vox:.2f} voxels off a grid at right angles), which ITK "
                + ("takes to be at right angles" if grid.shear_vox < NEGLIGIBLE_SHEAR_VOX else "readers refuse"),
                "takes it as it is; ITK fields go on an orthogonal grid"
                + ("" if grid.shear_vox < NEGLIGIBLE_SHEAR_VOX else ", ITK cannot read scans written on this one"),
            )
        )
    if max(facts.spacing_mm) > 4 * min(facts.spacing_mm) and not grid.is_2d:
        found.append(Finding("note", "strongly anisotropic voxels", "works in millimetres"))
    return found


def _thinned(image: Image) -> np.ndarray:
    """About a million voxels of the first channel, evenly spread, as a flat float32 array."""
    volume = image.data[0]
    step = max(int(np.ceil((volume.size / 1e6) ** (1 / 3))), 1)
    return (
        volume[tuple(slice(None, None, step if n > 8 * step else 1) for n in volume.shape)].astype(np.float32).ravel()
    )
