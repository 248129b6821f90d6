"""A two-dimensional data set shows the plane of the reference in every scan, and keeps the motion within it."""

from __future__ import annotations

import numpy as np
import pytest
from typer.testing import CliRunner

from anamorph.cli.main import app
from anamorph.data.manifest import read_dataset
from anamorph.errors import UserError
from anamorph.geometry.grid import Grid
from anamorph.image.image import Image, Labels
from anamorph.image.read import read_image, read_labels
from anamorph.methods.base import Outcome
from anamorph.transforms.maps import Affine
from anamorph.workflows.preprocess.slices import SliceSettings, make_slices, slice_grid, surface_of
from small_cohort import ORGANS_MM, write_cohort

TILTED = np.array([[1.1, 0.0, 0.05, 5.0], [0.1, 0.9, 0.0, -3.0], [0.15, -0.1, 1.2, 7.0], [0, 0, 0, 1.0]])


def oblique(shape=(20, 24, 16)):
    affine = np.diag([-2.0, -2.5, 3.0, 1.0])
    affine[:3, 3] = 19.0, 30.0, -20.0
    return Grid(shape, affine)


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_the_surface_is_where_the_map_leads_the_plane_and_is_seen_along_its_normal(plane):
    scan = Image(np.zeros((1, 20, 24, 16), np.float32), oblique(), "scan")
    pixels = slice_grid(scan, None, SliceSettings("0001", plane, at_mm=1.0))
    here = pixels.voxel_to_world(np.argwhere(np.ones(pixels.shape, bool)))
    axis = ("sagittal", "coronal", "axial").index(plane)
    assert abs(here[:, axis] - 1.0).max() < scan.grid.spacing_mm[axis] / 2
    outcome = Outcome(Affine(TILTED), Affine(np.linalg.inv(TILTED)))
    there = surface_of(outcome, pixels).map_world(here)
    # A plane of the reference is a plane in the scan; every place of the slice lies in it,
    back = np.linalg.inv(TILTED)
    assert abs((there @ back[axis, :3] + back[axis, 3]) - here[0, axis]).max() < 0.06
    # and within the plane only the median motion was taken off.
    within = np.delete(there - here, axis, axis=1)
    moved = np.delete(here @ TILTED[:3, :3].T + TILTED[:3, 3] - here, axis, axis=1)
    assert np.abs(within - np.median(moved, axis=0)).max() < 1e-3


def test_the_plane_is_chosen_by_place_label_or_what_most_labels_share():
    grid = oblique()
    labels = np.zeros(grid.shape, np.uint8)
    labels[5:15, 5:15, 2:6] = 1
    labels[8:10, 8:10, 5:9] = 2
    scan, organs = Image(np.zeros((1, *grid.shape), np.float32), grid, "scan"), Labels(labels, grid, "organs")

    def index(**settings):
        return round(
            float(grid.world_to_voxel(slice_grid(scan, organs, SliceSettings("0001", **settings)).affine[:3, 3])[2])
        )

    assert index() == 5
    assert index(label=2) == 5
    assert index(at_mm=4.4) == 8
    assert slice_grid(scan, organs, SliceSettings("0001", spacing_mm=1.0)).shape == (40, 60, 1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"at_mm": 100.0}, "--at 100 is outside the reference, which has -20 to 25 mm"),
        ({"label": 9}, "the reference has no label 9; it has 1"),
        ({"label": 9, "at_mm": 3.0}, "both choose the plane"),
        ({"plane": "oblique"}, "--plane must be one of sagittal, coronal, axial"),
        ({"spacing_mm": -1.0}, "--spacing must be a positive number"),
        ({"method": "magic"}, "magic"),
    ],
)
def test_mistakes(settings, message):
    grid = oblique()
    labels = Labels(np.ones(grid.shape, np.uint8), grid, "organs")
    with pytest.raises(UserError, match=message):
        slice_grid(
            Image(np.zeros((1, *grid.shape), np.float32), grid, "scan"), labels, SliceSettings("0001", **settings)
        )


def test_a_reference_without_labels_needs_a_place():
    scan = Image(np.zeros((1, 20, 24, 16), np.float32), oblique(), "scan")
    with pytest.raises(UserError, match="no labels to choose a plane by; give --at MM"):
        slice_grid(scan, None, SliceSettings("0001"))


def test_slices_of_a_cohort_by_the_command(tmp_path):
    """The second scan lies 3 mm further along every axis: the slices show the same plane of both, in one place."""
    manifest = write_cohort(tmp_path / "raw", count=2, shift_mm=3.0)
    place = float(ORGANS_MM[0, 2] - 1.5)  # of the first of two scans
    command = ["dataset", "slices", "--dataset", str(manifest), "--reference", "0001", "--at", str(place)]
    command += ["--method", "convex", "--workers", "1", "-o", str(tmp_path / "flat")]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    made = read_dataset(tmp_path / "flat")
    assert [case.key for case in made.cases] == ["0001_0000", "0002_0000"]
    assert len(made.listed_pairs["val"]) == len(read_dataset(manifest).listed_pairs["val"])
    assert all(case.landmarks is None for case in made.cases)
    first = read_labels(made.cases[0].label)
    assert first.grid.is_2d
    assert first.data.any()
    source = read_labels(manifest.parent / "labelsTr" / "AbdomenCTCT_0002_0000.nii.gz")
    true = Affine.translation(np.full(3, 3.0)).warp_labels(source, first.grid)
    image, labels = read_image(made.cases[1].image), read_labels(made.cases[1].label)
    assert image.grid == labels.grid == first.grid
    organs = [one.data[0] > 0 for one in (labels, true)]
    assert 2 * (organs[0] & organs[1]).sum() > 0.85 * (organs[0].sum() + organs[1].sum())
    again = CliRunner().invoke(app, [*command, "--overwrite"])
    assert again.exit_code == 0, again.output


def test_an_interrupted_run_goes_on(tmp_path):
    dataset = read_dataset(write_cohort(tmp_path / "raw"))
    (tmp_path / "raw" / "imagesTr" / "AbdomenCTCT_0003_0000.nii.gz").write_bytes(b"nothing")
    failures = []
    settings = SliceSettings("0001", label=1, method="convex")
    made = make_slices(
        dataset, settings, tmp_path / "flat", leave_out_failed=True, on_failure=lambda *one: failures.append(one)
    )
    assert [key for key, _ in failures] == ["0003_0000"]
    assert [*made.records] == ["0001_0000", "0002_0000"]
    assert not (tmp_path / "flat.partial").exists()
