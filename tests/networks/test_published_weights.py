"""The published weights of PDD-Net on real abdomens: what they reach, and what the fit on the instance adds."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from anamorph.evaluation import RegisteredPair, measure
from anamorph.image.read import read_image, read_labels
from anamorph.methods import base
from anamorph.networks.published_pdd import import_published
from anamorph.registration.plan import make_plan, run_plan

PATIENTS = ("crlm1004", "crlm1006", "ts")


@pytest.fixture(scope="module")
def model(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    weights = shared_data.parent / "weights" / "pdd_net_two_warps_mind2_epoch2999.pth"
    if not weights.is_file():
        pytest.skip("needs the published weights in ../shared/weights")
    folder = tmp_path_factory.mktemp("published") / "pdd-abdomen"
    import_published(weights, folder)
    return folder


def dice(shared_data: Path, fixed: str, moving: str, method: str, *settings: str) -> float:
    scans, labels = (
        [read(shared_data / "abdomen_ct" / folder / f"{n}.nii.gz") for n in (fixed, moving)]
        for read, folder in ((read_image, "images"), (read_labels, "labels"))
    )
    result = run_plan(make_plan(*scans, method=method, settings=settings), base.Pair(*scans), base.Run("cpu"))
    maps = result.fixed_to_moving, result.moving_to_fixed
    return measure(RegisteredPair(*scans, *maps, fixed_labels=labels[0], moving_labels=labels[1])).after.mean("dice")


def network(model: Path, fit_iterations: int, *more: str) -> tuple[str, ...]:
    return ("pdd", f"model={model}", "init=affine", "refine=false", f"fit_iterations={fit_iterations}", *more)


@pytest.mark.parametrize(
    ("iterations", "reached"),
    [pytest.param(0, 0.468, marks=pytest.mark.slow), (50, 0.563)],
    ids=["network alone", "network and fit"],
)
def test_published_weights_register_abdomens(model: Path, shared_data: Path, iterations: int, reached: float):
    found = dice(shared_data, *PATIENTS[:2], *network(model, iterations))
    assert found == pytest.approx(reached, abs=0.01)  # the affine start alone: 0.412


def test_convex_is_above_the_published_weights_on_the_same_abdomens(shared_data: Path):
    assert dice(shared_data, *PATIENTS[:2], "convex", "guide=none") == pytest.approx(0.742, abs=0.005)


@pytest.mark.slow
def test_published_weights_over_all_pairs_of_three_abdomens(model: Path, shared_data: Path):
    """The rows of the page of results: affine start, network alone, fit as published, and `convex`."""
    rows = {
        "affine": (0.396, ("affine",)),
        "network": (0.395, network(model, 0)),
        "fit": (0.468, network(model, 50, "fit_local_mean=0")),
        "convex": (0.665, ("convex", "guide=none")),
    }
    pairs = [*permutations(PATIENTS, 2)]
    found = {name: np.mean([dice(shared_data, *pair, *row) for pair in pairs]) for name, (_, row) in rows.items()}
    assert found == pytest.approx({name: reached for name, (reached, _) in rows.items()}, abs=0.01)
