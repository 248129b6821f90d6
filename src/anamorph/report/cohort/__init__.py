"""The page of a whole evaluation."""

from anamorph.report.cohort.model import CohortReport, CohortRow
from anamorph.report.cohort.page import write_cohort_report
from anamorph.report.cohort.thumbnail import thumbnail, write_thumbnail

__all__ = ["CohortReport", "CohortRow", "thumbnail", "write_cohort_report", "write_thumbnail"]
