"""The tutorial in two dimensions runs from its first cell to its last, on synthetic slices and with little training."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib
import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "examples" / "discrete_2d"
SMALL = {"PATIENTS": 6, "STEPS": 2}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory):
    """What the cells of the notebook have left behind."""
    notebook = json.loads((FOLDER / "discrete_2d.ipynb").read_text("utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    found: dict[str, object] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        patch.chdir(tmp_path_factory.mktemp("notebook"))
        matplotlib.use("Agg")
        import slices

        patch.setattr(slices, "SCANS", Path("absent"))
        for number, cell in enumerate(code):
            exec(compile("".join(cell["source"]), f"code cell {number} of the tutorial", "exec"), found)
            if "parameters" in cell["metadata"].get("tags", []):
                assert found.keys() >= SMALL.keys()
                found |= SMALL
        import matplotlib.pyplot as plt

        plt.close("all")
    return found


def test_the_tutorial_scores_what_it_shows(names):
    assert len(names["losses"]) == 2
    assert np.isfinite(names["losses"]).all()
    scores = names["scores"]
    assert scores["before"] == pytest.approx(18.0, abs=0.5)
    assert scores["trained"] != scores["before"]
    assert scores["anamorph.register, convex, no training"] > 80


def test_the_field_of_the_tutorial_points_to_the_tissue(names):
    """An image matched with itself, three features further along the second axis, moves by three features."""
    import torch

    labels = names["labels"]
    with torch.no_grad():
        features = names["network"](names["slices"].grey(0)[None])[0]
        moved = torch.roll(features, 3, dims=2)
        costs = names["correlate"](features, moved, names["points"], labels)
    best = labels[costs.argmin(dim=1)].reshape(*names["coarse"], 2)
    middle = best[8:-8, 8:-8].reshape(-1, 2)
    assert (middle == torch.tensor([0.0, 3.0])).all(dim=1).float().mean() > 0.9
