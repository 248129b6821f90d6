"""The page a person looks at."""

from anamorph.report.pair_report import PairReport
from anamorph.report.write import write_report

__all__ = ["PairReport", "write_report"]
