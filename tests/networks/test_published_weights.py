"""The published weights of PDD-Net on real abdomens: what they reach, and what the fit on the instance adds."""

from __future__ import annotations

from pathlib import Path

import pytest

from anamorph.evaluation import RegisteredPair, measure
from anamorph.image.read import read_image, read_labels
from anamorph.methods import base
from anamorph.networks.published_pdd import import_published
from anamorph.registration.plan import make_plan, run_plan


@pytest.fixture(scope="module")
def model(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    weights = shared_data.parent / "weights" / "pdd_net_two_warps_mind2_epoch2999.pth"
    if not weights.is_file():
        pytest.skip("needs the published weights in ../shared/weights")
    folder = tmp_path_factory.mktemp("published") / "pdd-abdomen"
    import_published(weights, folder)
    return folder


@pytest.mark.parametrize(
    ("iterations", "dice"),
    [pytest.param(0, 0.468, marks=pytest.mark.slow), (50, 0.563)],
    ids=["network alone", "network and fit"],
)
def test_published_weights_register_abdomens(model: Path, shared_data: Path, iterations: int, dice: float):
    fixed, moving = (shared_data / "abdomen_ct" / "images" / f"crlm{n}.nii.gz" for n in (1004, 1006))
    scans = read_image(fixed), read_image(moving)
    labels = [read_labels(shared_data / "abdomen_ct" / "labels" / scan.name) for scan in (fixed, moving)]
    settings = [f"model={model}", "init=affine", "refine=false", f"fit_iterations={iterations}"]
    result = run_plan(make_plan(*scans, method="pdd", settings=settings), base.Pair(*scans), base.Run("cpu"))
    maps = result.fixed_to_moving, result.moving_to_fixed
    measured = measure(RegisteredPair(*scans, *maps, fixed_labels=labels[0], moving_labels=labels[1]))
    assert measured.after.mean("dice") == pytest.approx(dice, abs=0.01)  # the affine start alone: 0.412
