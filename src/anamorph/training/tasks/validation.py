"""Validation of a registration network by what an evaluation would measure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from anamorph.evaluation import dice, jacobian_summary
from anamorph.geometry import Grid
from anamorph.image import Labels
from anamorph.training.tasks.scans import annotated_in_both
from anamorph.transforms import Displacement
from anamorph.transforms.fields import compose

if TYPE_CHECKING:
    from torch import nn

    from anamorph.training.tasks.pair_task import PairTask


def measure_pairs(task: PairTask, network: nn.Module, device: torch.device) -> Mapping[str, float]:
    """The means over the validation pairs.

    Returns:
        ``dice`` of the labels that both scans annotate, one-hot linear as in every evaluation; ``folding_percent`` and
        ``sdlogj_learn2reg`` of the field; ``inverse_consistency_vox`` of the two directions; and the ``loss``.
    """
    found: dict[str, list[float]] = {}
    for n, (cohort, fixed, moving) in enumerate(task.measured, 1):
        images, maps = task.cohorts[cohort].load((fixed, moving), device)
        annotated = annotated_in_both(task.annotated, [(cohort, fixed, moving)])
        batch = {
            "fixed": images[:1],
            "moving": images[1:],
            "fixed_labels": maps[:1],
            "moving_labels": maps[1:],
            "annotated": annotated.to(device),
        }
        there, back = network(images[:1], images[1:])
        fields = [flow.disp_vox[0].cpu().numpy() for flow in (there, back)]
        numbers = _of_field(*fields) | {"loss": float(task.loss(network, batch)["loss"])}
        if annotated.any():
            known = [label for label, both in zip(task.labels, annotated[0].tolist(), strict=True) if both]
            numbers["dice"] = _dice(fields[0], maps[0].cpu().numpy(), maps[1].cpu().numpy(), known)
        for name, value in numbers.items():
            found.setdefault(name, []).append(value)
        task.on_validated(n / len(task.measured))
    return {name: float(np.nanmean(values)) for name, values in found.items()}


def _of_field(forward: np.ndarray, backward: np.ndarray) -> dict[str, float]:
    grid = _grid(forward)
    jacobian = jacobian_summary(Displacement(forward, grid).jacobian_determinant())
    apart = np.linalg.norm(compose(forward, backward), axis=0)
    return {
        "folding_percent": jacobian["folding_percent"],
        "sdlogj_learn2reg": jacobian["sdlogj_learn2reg"],
        "inverse_consistency_vox": float(apart.mean()),
    }


def _dice(forward: np.ndarray, fixed: np.ndarray, moving: np.ndarray, known: Sequence[int]) -> float:
    grid = _grid(forward)
    here, there = Labels(fixed, grid), Labels(moving, grid)
    overlaps = dice(here, Displacement(forward, grid).warp_labels(there, grid))
    values = [overlaps[label] for label in known if label in overlaps]
    return float(np.mean(values)) if values else float("nan")


def _grid(field: np.ndarray) -> Grid:
    return Grid(field.shape[1:], np.eye(4))
