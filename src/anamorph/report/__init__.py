"""The page a person looks at."""

from anamorph.report.pair import PairReport, write_report

__all__ = ["PairReport", "write_report"]
