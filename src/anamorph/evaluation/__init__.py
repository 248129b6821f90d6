"""Metrics of a registered pair, and the verdict on it."""

from anamorph.evaluation.gates import Check, Gate
from anamorph.evaluation.measure import RegisteredPair, measure, measure_unregistered
from anamorph.evaluation.measured import Measured
from anamorph.evaluation.metrics import METRICS
from anamorph.evaluation.metrics.dice import dice
from anamorph.evaluation.metrics.hausdorff import hd95_mm
from anamorph.evaluation.metrics.inverse_consistency import inverse_consistency_mm
from anamorph.evaluation.metrics.jacobian import jacobian_summary
from anamorph.evaluation.metrics.landmarks import tre_axes_mm, tre_mm
from anamorph.evaluation.metrics.metric import Metric
from anamorph.evaluation.numbers import Numbers
from anamorph.evaluation.verdict import Accuracy, Verdict, failed, verdict

__all__ = [
    "METRICS",
    "Accuracy",
    "Check",
    "Gate",
    "Measured",
    "Metric",
    "Numbers",
    "RegisteredPair",
    "Verdict",
    "dice",
    "failed",
    "hd95_mm",
    "inverse_consistency_mm",
    "jacobian_summary",
    "measure",
    "measure_unregistered",
    "tre_axes_mm",
    "tre_mm",
    "verdict",
]
