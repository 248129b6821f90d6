"""Metrics of a registered pair, and the verdict on it."""

from anamorph.evaluation.dice import dice
from anamorph.evaluation.gates import Check
from anamorph.evaluation.hausdorff import hd95_mm
from anamorph.evaluation.inverse_consistency import inverse_consistency_mm
from anamorph.evaluation.jacobian import jacobian_summary
from anamorph.evaluation.pair import Agreement, PairMetrics, evaluate_pair
from anamorph.evaluation.tre import tre_axes_mm, tre_mm
from anamorph.evaluation.verdict import Accuracy, Verdict, failed, verdict

__all__ = [
    "Accuracy",
    "Agreement",
    "Check",
    "PairMetrics",
    "Verdict",
    "dice",
    "evaluate_pair",
    "failed",
    "hd95_mm",
    "inverse_consistency_mm",
    "jacobian_summary",
    "tre_axes_mm",
    "tre_mm",
    "verdict",
]
