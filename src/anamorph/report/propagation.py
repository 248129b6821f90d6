"""The page of a plan propagated to days: the numbers of TG-132 beside their tolerances, volumes and doses."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from anamorph.report.page import fill, save


@dataclass(frozen=True)
class DayLine:
    """One day.

    Args:
        name: of its folder.
        scan: what was registered to.
        status: verdict of the registration.
        report: link to its own page.
        numbers: what was measured.
    """

    name: str
    scan: str
    status: str
    report: str
    numbers: Mapping[str, Any]


@dataclass(frozen=True)
class PropagationReport:
    """What the page shows.

    Args:
        title: of the page.
        days: in the order of time.
        dose: what became of the doses; None without one.
    """

    title: str
    days: Sequence[DayLine]
    dose: Mapping[str, Any] | None = None


def write_propagation_page(path: str | os.PathLike[str], report: PropagationReport) -> None:
    """Write the page as one HTML file.

    Raises:
        UserError: the file cannot be written.
        RegistrationFailure: the disk is full.
    """
    save(path, propagation_page(report))


def propagation_page(report: PropagationReport) -> str:
    """The page as text."""
    criteria = [*report.days[0].numbers["tg132"]]
    rows = [
        (
            name,
            report.days[0].numbers["tg132"][name]["tolerance"],
            [_cell(day.numbers["tg132"][name]) for day in report.days],
        )
        for name in criteria
    ]
    names = [one["name"] for one in report.days[0].numbers["structures"]]
    structures = [(name, [_structure(day, name) for day in report.days]) for name in names]
    missing = sorted(
        {
            f"{name}: {found['missing']}"
            for day in report.days
            for name, found in day.numbers["tg132"].items()
            if "missing" in found
        }
    )
    return fill(
        "propagation.html.j2",
        report=report,
        rows=rows,
        structures=structures,
        missing=missing,
        remarks=[f"{day.name}: {line}" for day in report.days for line in day.numbers["remarks"]],
        doses=_doses(report),
    )


def _cell(found: Mapping[str, Any]) -> tuple[str, str]:
    """A number and whether it keeps to its tolerance."""
    value = found["value"]
    return ("–" if value is None else f"{value:.3g} {found['unit']}".strip()), found["result"]


def _structure(day: DayLine, name: str) -> tuple[str, str]:
    """Volume on the day, and what else is known."""
    found = next(one for one in day.numbers["structures"] if one["name"] == name)
    told = [f"plan {found['plan_ml']:.1f} ml"]
    if "dice" in found:
        told.append(f"Dice {found['dice']:.3f}, {found['distance_mm']:.2f} mm")
    if found["outside_percent"] >= 0.5:
        told.append(f"{found['outside_percent']:.0f} % beyond the scan")
    return f"{found['day_ml']:.1f} ml", ", ".join(told)


def _doses(report: PropagationReport) -> list[tuple[str, list[str]]]:
    """Planned and accumulated numbers of each structure."""
    if report.dose is None:
        return []
    return [
        (
            one["name"],
            [f"{one[when][key]:.2f}" for key in ("mean_gy", "d95_gy", "d2_gy") for when in ("planned", "accumulated")],
        )
        for one in report.dose["structures"]
    ]
