"""What the page of a template shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anamorph.image.read import read_image
from anamorph.registration.folder import REPORT
from anamorph.report.template_page import (
    ScanLine,
    Stage,
    TemplateReport,
    write_template_page,
)

if TYPE_CHECKING:
    from anamorph.workflows.template.build import Template


def write_page(template: Template) -> None:
    """Write the page: the template round by round, convergence, and a line for each scan."""
    stages = [
        Stage(
            "start" if told.number == 0 else f"iteration {told.number}",
            read_image(told.template),
            told.mean_field_rms_mm,
            told.spread_mm,
            told.change,
        )
        for told in template.iterations
    ]
    lines = [
        ScanLine(
            key,
            told["status"] or "",
            told["dice"],
            told["seconds"],
            ("scans", key, REPORT),
            told.get("headline") or "",
        )
        for key, told in template.scans.items()
    ]
    report = TemplateReport(
        f"Template of {len(lines)} scans",
        stages,
        template.tolerance_mm,
        template.converged,
        template.residual_rms_mm,
        lines,
        template.failed,
    )
    write_template_page(template.page, report)
