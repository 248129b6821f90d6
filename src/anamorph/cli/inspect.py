from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anamorph.cli import common_options as common
from anamorph.cli.console import make_table, show
from anamorph.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anamorph.image.image import Image
    from anamorph.registration.preflight import ImageFacts
    from anamorph.registration.request import Request


def inspect(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="The fixed scan first, then scans and label maps.")
    ],
    init: common.Init = None,
    preset: common.Preset = "auto",
    settings: common.Settings = None,
    same_patient: common.SamePatient = False,
    series: common.SeriesChoice = None,
    fixed_mask: common.FixedMask = None,
    moving_mask: common.MovingMask = None,
    resample: common.Resample = False,
    no_partner: common.NoPartner = None,
    moving_no_partner: common.MovingNoPartner = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    no_start: Annotated[bool, typer.Option("--no-start", help="Do not look for the linear start of scans.")] = False,
) -> None:
    """Look at scans before registering them: headers, intensities, overlap, and what `register` would do.

    Scans after the first are laid upon it by the linear start that `register` would take, which is described. Options
    change it as they change that of `register --only-start`.
    """
    from dataclasses import asdict, replace

    from anamorph.image.read import needs_scan, read_image, read_labels
    from anamorph.registration.preflight import dates_of_one_patient, inspect_image
    from anamorph.registration.request import Request

    files = [common.of_series(file, series) for file in files]
    images: list[Image] = []
    for file in files:  # contours lie on the grid of the first scan, or of the one beside them
        drawn = not Path(file).is_dir() and needs_scan(file)
        images.append(read_labels(file, scan=images[0] if images else None) if drawn else read_image(file))
    facts = [replace(inspect_image(image, file), name=file) for image, file in zip(images, files, strict=True)]
    facts = [_with_notes(one, image) for one, image in zip(facts, images, strict=True)]
    relations: list[dict[str, Any]] = [
        _relation(images[0], image, facts[0], other) for image, other in zip(images[1:], facts[1:], strict=True)
    ]
    for file, relation in zip(files[1:], relations, strict=True):
        visits = dates_of_one_patient(files[0], file) if "findings" in relation else None
        if visits is not None and not same_patient:
            relation["findings"] = (*relation["findings"], asdict(visits))
    asked: dict[str, Any] = {
        "init": init,
        "preset": preset,
        "settings": settings,
        "same_patient": same_patient,
        "fixed_mask": fixed_mask,
        "moving_mask": moving_mask,
        "resample": resample,
        "no_partner": no_partner,
        "moving_no_partner": moving_no_partner,
    }
    pairs = [] if no_start else [pair for pair in zip(images[1:], relations, strict=True) if "preset" in pair[1]]
    _find_starts(images[0], pairs, {key: value for key, value in asked.items() if value != getattr(Request, key)})
    if json_output:
        import json

        content = {"files": [one.as_dict() for one in facts], "relations": relations}
        print(json.dumps(content, indent=2, ensure_ascii=False, default=str))
        return
    for one in facts:
        _show_facts(one)
    for relation in relations:
        _show_relation(relation)


def _with_notes(facts: ImageFacts, image: Image) -> ImageFacts:
    """The facts of contours or segments, with their names in place of guesses."""
    from dataclasses import replace

    from anamorph.image.image import Labels
    from anamorph.registration.preflight import Finding

    if not isinstance(image, Labels) or not image.notes:
        return facts
    return replace(facts, findings=tuple(Finding("note", n, "compares structures by name") for n in image.notes))


def _relation(first: Image, other: Image, first_facts: ImageFacts, other_facts: ImageFacts) -> dict[str, Any]:
    """What a file says about the first one: a label map should share its grid, a scan should overlap."""
    from anamorph.geometry.grid import SAME_GRID_MM
    from anamorph.geometry.lengths import significant
    from anamorph.registration.preflight import header_mismatch_mm, inspect_pair, overlap_percent

    relation: dict[str, Any] = {"of": other_facts.name, "to": first_facts.name}
    if "mask-like" in (first_facts.modality, other_facts.modality):
        apart = header_mismatch_mm(first.grid, other.grid)
        same = apart <= first.grid.limit_mm(SAME_GRID_MM)
        relation |= {
            "header_mismatch_mm": None if apart == float("inf") else significant(apart, 6),
            "same_grid": same,
            "overlap_percent": round(overlap_percent(first.grid, other.grid), 1),
            "action": "takes them as they are" if same else "refuses labels on another grid unless --resample is given",
        }
        return relation
    return relation | inspect_pair(first, other, first_facts, other_facts).as_dict()


def _find_starts(fixed: Image, pairs: list[tuple[Image, dict[str, Any]]], asked: dict[str, Any]) -> None:
    """Add the start that would be taken, as asked, to what each moving scan says about the fixed one.

    Raises:
        UserError: what is asked for cannot be, or is for one moving scan alone.
    """
    from anamorph.registration.request import Request

    if asked and not pairs:
        raise UserError("a start is looked for between two scans; give both without --no-start, or drop its options")
    if len(pairs) > 1 and not asked.keys().isdisjoint(("moving_mask", "moving_no_partner")):
        raise UserError(f"a mask of the moving scan is that of one, and there are {len(pairs)}; give one of them")
    for moving, relation in pairs:
        relation |= _start(Request(fixed, moving, **asked), is_asked=bool(asked))


def _start(request: Request, *, is_asked: bool) -> dict[str, Any]:
    """The preset and the start of a pair, or why there is none; what was asked for and cannot be is an error."""
    from anamorph.errors import AnamorphError
    from anamorph.registration.start_facts import inspect_start

    try:
        found = inspect_start(request)
    except AnamorphError as error:
        if is_asked:
            raise
        return {"start": {"refused": str(error)}}
    return {"preset": found.preset, "preset_reason": found.preset_reason, "start": found.as_dict()}


def _show_facts(facts: ImageFacts) -> None:
    from anamorph.geometry.lengths import lengths_text

    table = make_table("", "", title=facts.name)
    table.show_header = False
    rows = {
        "shape": " x ".join(map(str, facts.shape)) + f", {facts.dtype}",
        "spacing": " x ".join(f"{s:.4g}" for s in facts.spacing_mm) + " mm",
        "extent": lengths_text(facts.extent_mm, 0),
        "orientation": facts.orientation
        + (f", oblique by {facts.obliqueness_deg:.1f}°" if facts.obliqueness_deg else ""),
        "intensity": f"{facts.minimum:g} to {facts.maximum:g}; 1, 5, 50, 95, 99 %: "
        + ", ".join(f"{p:.4g}" for p in facts.percentiles),
        "modality": f"{facts.modality} (a guess)",
    }
    if facts.modality != "mask-like":
        rows["preset"] = f"{facts.region}: {facts.region_reason}"
    for key, value in rows.items():
        table.add_row(key, value)
    for finding in facts.findings:
        table.add_row(finding.severity, f"{finding.message}; register {finding.action}")
    show(table)


def _show_relation(relation: dict[str, Any]) -> None:
    from anamorph.geometry.lengths import length_text

    table = make_table("", "", title=f"{relation['of']} and {relation['to']}")
    table.show_header = False
    table.add_row("overlap", f"{relation['overlap_percent']:.0f} % of the field of view of {relation['to']}")
    if "same_grid" in relation:
        apart = relation["header_mismatch_mm"]
        mismatch = "different shapes" if apart is None else f"corners up to {length_text(apart, 2)} apart"
        table.add_row("grid", ("the same" if relation["same_grid"] else mismatch) + f"; register {relation['action']}")
    else:
        table.add_row("preset", f"{relation['preset']}: {relation['preset_reason']}")
        for finding in relation["findings"]:
            table.add_row(finding["severity"], f"{finding['message']}; register {finding['action']}")
        for name, text in _start_rows(relation.get("start", {})):
            table.add_row(name, text)
    show(table)


def _start_rows(start: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What a table says of a start."""
    from anamorph.registration.start_map import map_rows

    if "refused" in start:
        yield "start", f"none: {start['refused']}"
    if "init" not in start:
        return
    for n, step in enumerate(start["steps"]):
        yield ("" if n else f"start (--init {start['init']})"), step
    for part, text in map_rows(start):
        yield f"  {part}", text
    yield "  time", f"{start['seconds']:.2f} s"
    for warning in start["warnings"]:
        yield "warning", warning
