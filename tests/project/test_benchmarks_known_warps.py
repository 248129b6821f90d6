"""The benchmarks of contrasts and of knowledge: warps are known, splits apart, tables right."""

import sys
from pathlib import Path

import numpy as np
import pytest

from anamorph.geometry import Grid
from anamorph.geometry.sampling import sample
from anamorph.image import Image
from anamorph.image.write import write_image
from anamorph.transforms.maps import Composite

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks import ablation, contrasts  # noqa: E402
from benchmarks.start.tools import Answer  # noqa: E402

GRID = Grid((40, 36, 20), np.array([[-2.0, 0, 0, 130], [0, -2.0, 0, 7], [0, 0, 4.0, -5], [0, 0, 0, 1]]))


def linear_fit(points, targets):
    """What the best affine map leaves."""
    rows = np.column_stack([points, np.ones(len(points))])
    return targets - rows @ np.linalg.lstsq(rows, targets, rcond=None)[0]


def test_warps_bend_as_far_as_asked_and_less_in_a_smaller_scan():
    points = GRID.voxel_to_world(np.stack(np.meshgrid(*map(np.arange, GRID.shape), indexing="ij"), -1)).reshape(-1, 3)
    middle = points.mean(axis=0)
    left = {}
    for share in (1.0, 0.1):
        size = share * contrasts.USUAL_MM / GRID.longest_mm
        grown = Grid(GRID.shape, np.diag([size, size, size, 1.0]) @ GRID.affine)
        warp = contrasts.known_warp(grown, 3, 20.0)
        places = size * points
        assert np.linalg.norm(warp.map_world(size * middle[None]) - size * middle) < 0.15 * grown.longest_mm
        assert warp.jacobian_determinant(grown).min() > 0.2
        left[share] = np.linalg.norm(linear_fit(places, warp.map_world(places)), axis=1).max()
    assert 5 < left[1.0] < 25
    assert left[0.1] == pytest.approx(0.1 * left[1.0], rel=1e-3)


def test_splits_share_neither_scans_nor_warps_and_contrasts_share_a_warp():
    dev, test = (list(contrasts.cases(split)) for split in ("dev", "test"))
    assert not {case.seed for case in dev} & {case.seed for case in test}
    chosen = {scan.file for case in dev for scan in case.pair}
    assert not chosen & {scan.file for case in test if case.group != "two people" for scan in case.pair}
    assert len({case.name for case in dev + test}) == len(dev) + len(test)
    dates = [case for case in test if case.group == "two dates" and case.bent_mm == 10]
    assert [case.moving.contrast for case in dates] == 2 * ["T1W", "T2W", "FLAIR"]
    assert len({case.seed for case in dates}) == 2


def test_the_true_map_leads_to_the_same_tissue_in_the_other_contrast(tmp_path):
    places = GRID.voxel_to_world(np.stack(np.meshgrid(*map(np.arange, GRID.shape), indexing="ij"), -1))
    values = (400 + 150 * np.sin(places / 15).sum(axis=-1)).astype(np.float32)
    (tmp_path / "ct_mr").mkdir()
    for kind, data in (("CT", values), ("MR_T1", 2000 - values)):
        write_image(Image(data, GRID), tmp_path / "ct_mr" / f"STS_001_{kind}_image.nii.gz")
    case = next(c for c in contrasts.cases("dev") if (c.fixed.contrast, c.moving.contrast) == ("CT", "MR_T1"))
    pair = contrasts.warped(case, tmp_path, lambda *_: Answer(None, 0, 0))
    assert len(pair.places_mm) > 1000
    read = [
        sample(scan.data.astype(np.float32), scan.grid.world_to_voxel(at).T[:, :, None, None].astype(np.float32))
        for scan, at in ((pair.fixed, pair.places_mm), (pair.moving, pair.targets_mm))
    ]
    assert np.abs(read[0] + read[1] - 2000).mean() < 10
    assert np.linalg.norm(pair.places_mm - pair.targets_mm, axis=1).mean() > 2
    still = Composite.of(contrasts.known_warp(GRID, case.seed, case.bent_mm))
    np.testing.assert_allclose(pair.targets_mm, still.map_world(pair.places_mm), atol=1e-3)


def test_the_table_of_contrasts_says_how_far_another_contrast_is_beyond_the_same():
    def row(moving, mean):
        return {
            "run": "convex",
            "case": moving,
            "group": "g",
            "fixed": "T1",
            "moving": moving,
            "before_mm": "9",
            "mean_mm": mean,
            "cpu_s": "2",
            "error": "",
        }

    table = contrasts.summary([row("T1", "0.50"), row("T2", "1.20"), row("T2", "1.00")])
    assert "| g | T1 to T2 | 2 | 9.0 | 1.10 | 1.20 | +0.60 | 2.0 |" in table


def test_the_table_of_knowledge_shows_labels_that_were_kept_back():
    rows = [
        {
            "set": "a",
            "variant": "v",
            "pair": str(n),
            "error": "",
            "dice": str(dice),
            "hd95_mm": "2",
            "tre_mm": "",
            "sdlogj": "0.1",
            "folding_percent": "0",
            "processor_s": "3",
            "peak_mb": "100",
            "dice_by_label": f"1:{dice} 4:{dice - 0.2} 7:0.9",
        }
        for n, dice in enumerate((0.6, 0.8))
    ]
    assert "| a | v | 2 | 0.700 | 0.500 | 0.600 | 2.00 |  | 0.100 |" in ablation.summary(rows, {})
    assert "| a | v | 2 | 0.700 | 0.800 |" in ablation.summary(rows, {"a": [1, 7]})
