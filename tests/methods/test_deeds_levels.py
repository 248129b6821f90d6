from __future__ import annotations

import numpy as np
import pytest

from anamorph.geometry import Grid
from anamorph.methods.deeds import DeedsConfig
from anamorph.methods.pyramid import FEW_SLICES
from geometries import affine_of, isotropic


def test_published_levels_are_those_of_the_lists():
    levels = DeedsConfig(compatible=True).levels(isotropic((161, 130, 112), 2.0))
    assert [level.cell for level in levels] == [(g,) * 3 for g in (8, 7, 6, 5, 4)]
    assert [level.cells for level in levels] == [(20, 16, 14), (23, 18, 16), (26, 21, 18), (32, 26, 22), (40, 32, 28)]
    assert [level.labels for level in levels] == [(n,) * 3 for n in (17, 15, 13, 11, 9)]
    assert [level.step for level in levels] == [(q,) * 3 for q in (5, 4, 3, 2, 1)]
    assert [level.stride for level in levels] == [(1, 2, 2)] * 4 + [(1, 1, 1)]
    assert [level.mind_step for level in levels] == [(q,) * 3 for q in (3, 3, 2, 2, 1)]
    np.testing.assert_array_equal([level.unit_vox for level in levels], np.repeat([[5], [4], [3], [2], [1]], 3, axis=1))
    # The first samples coincide, as in the files.
    np.testing.assert_allclose(levels[0].control.affine[:3, 3], 0)
    np.testing.assert_allclose(levels[0].control.spacing_mm, [2 * 161 / 20, 2 * 130 / 16, 16])


def test_our_levels_cover_the_scan_and_have_their_samples_in_the_middle():
    working = isotropic((161, 130, 112), 2.0)
    levels = DeedsConfig().levels(working)
    assert levels[0].cells == (21, 17, 14)
    assert levels[0].stride == (2, 2, 2)
    assert levels[-1].stride == (1, 1, 1)
    assert [level.mind_step for level in levels] == [(q,) * 3 for q in (3, 3, 2, 2, 1)]
    assert [level.labels for level in levels] == [(n,) * 3 for n in (17, 15, 13, 11, 9)]
    np.testing.assert_allclose(levels[0].control.affine[:3, 3], 2 * 3.5)
    np.testing.assert_allclose(levels[0].control.spacing_mm, 16)


def test_thick_slices_have_fewer_voxels_per_cell_and_step():
    working = Grid((120, 100, 24), affine_of(np.diag([-1.0, -1, 1]), (0.8, 0.8, 5), (0, 0, 0)))
    coarse, *_, fine = DeedsConfig().levels(working)
    assert coarse.cell == (8, 8, 1)
    assert coarse.step == (5, 5, 1)
    assert coarse.radius == (8, 8, 6)  # 40 voxels of 0.8 mm are six of 5 mm
    assert coarse.mind_step == (3, 3, 1)
    assert coarse.stride == (2, 2, 1)
    np.testing.assert_allclose(coarse.unit_vox, [5, 5, 0.8])
    assert fine.cell == (4, 4, 1)
    assert fine.radius == (4, 4, 1)
    assert fine.step == (1, 1, 1)
    np.testing.assert_allclose(fine.unit_vox, [1, 1, 0.16])


@pytest.mark.parametrize("compatible", [False, True])
@pytest.mark.parametrize("thickness", [7.0, 0.01])
def test_two_dimensions_are_searched_in_two(thickness, compatible):
    working = Grid((96, 80, 1), np.diag([1.5, 1.5, thickness, 1]))
    for level in DeedsConfig(compatible=compatible).levels(working):
        assert level.labels[2] == level.cells[2] == level.cell[2] == 1
        assert level.mind_step[2] == 0
        assert level.cell[:2] == (level.spacing,) * 2
        assert np.isfinite(np.array(level.step) / level.unit_vox).all()


@pytest.mark.parametrize("compatible", [False, True])
@pytest.mark.parametrize("shape", [(5, 4, 3), (1, 1, 1), (2, 40, 7)])
def test_cells_are_never_larger_than_the_scan(shape, compatible):
    for level in DeedsConfig(compatible=compatible).levels(isotropic(shape)):
        assert all(1 <= c <= n for c, n in zip(level.cell, shape, strict=True))
        assert all(m >= 1 and m * c <= n + c - 1 for m, c, n in zip(level.cells, level.cell, shape, strict=True))
        # Through a slab of a few slices only the published program searches.
        fewest = 1 if compatible else FEW_SLICES
        assert all((r > 0) == (n > fewest) for r, n in zip(level.radius, shape, strict=True))
