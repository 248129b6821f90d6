"""Series of scans: read from one 4D file or from many, refused in one line where they are none, written with times."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from anamorph import Image, ImageSeries, UserError, read_image, read_series, write_series
from anamorph.geometry import Grid
from anamorph.image.write import write_image

GRID = Grid((5, 4, 3), spacing_mm=(2, 2, 3), origin_mm=(7, -3, 1))


def frames(count: int = 3, grid: Grid = GRID, dtype: type = np.int16) -> list[Image]:
    values = np.arange(np.prod(grid.shape)).reshape(grid.shape)
    return [Image((values + 100 * n).astype(dtype), grid, f"frame {n}") for n in range(count)]


def test_a_4d_file_is_written_and_read_with_its_time(tmp_path):
    write_series(ImageSeries(tuple(frames()), 0.04), tmp_path / "film.nii.gz")
    header = nibabel.load(tmp_path / "film.nii.gz").header
    assert header.get_zooms() == pytest.approx((2, 2, 3, 0.04))
    assert header.get_xyzt_units() == ("mm", "sec")
    read = read_series(tmp_path / "film.nii.gz")
    assert read.frame_s == pytest.approx(0.04)
    assert read.times_s == pytest.approx([0, 0.04, 0.08])
    assert read.grid.matches(GRID)
    for one, other in zip(read.frames, frames(), strict=True):
        assert np.array_equal(one.data, other.data)
        assert one.data.dtype == np.int16


def test_channels_of_a_series_stay_apart(tmp_path):
    two = tuple(Image(np.stack([one.data[0], -one.data[0]]), GRID) for one in frames())
    write_series(ImageSeries(two), tmp_path / "film.nii")
    read = read_series(tmp_path / "film.nii")
    assert read.frame_s is None
    assert np.array_equal(read.frames[2].data, two[2].data)


@pytest.mark.parametrize(("unit", "seconds"), [("sec", 2.0), ("msec", 0.002), ("usec", 2e-6), ("unknown", None)])
def test_the_unit_of_time_counts(unit, seconds):
    film = nibabel.Nifti1Image(np.stack([one.data[0] for one in frames()], -1), GRID.affine)
    film.header.set_zooms((2, 2, 3, 2.0))
    film.header.set_xyzt_units("mm", unit)
    assert read_series(film).frame_s == (None if seconds is None else pytest.approx(seconds))
    assert read_series(film, frame_s=0.5).frame_s == 0.5


def test_a_scale_in_the_header_holds_for_every_frame(tmp_path):
    film = nibabel.Nifti1Image(np.stack([one.data[0] for one in frames()], -1), GRID.affine)
    film.header.set_slope_inter(0.5, -1000)
    film.to_filename(tmp_path / "scaled.nii")
    stored = nibabel.load(tmp_path / "scaled.nii")
    for n, frame in enumerate(read_series(tmp_path / "scaled.nii").frames):
        assert np.allclose(frame.data[0], np.asarray(stored.dataobj)[..., n], atol=0.3)
        assert frame.data.dtype == np.float32


def test_files_of_simpleitk_with_four_axes(tmp_path):
    film = sitk.JoinSeries([sitk.GetImageFromArray(one.data[0].T.copy()) for one in frames()])
    sitk.WriteImage(film, str(tmp_path / "film.nrrd"))
    read = read_series(tmp_path / "film.nrrd")
    assert len(read) == 3
    assert np.array_equal(read.frames[1].data, frames()[1].data)


def test_frames_one_by_one(tmp_path):
    paths = [tmp_path / f"{n}.nii.gz" for n in range(3)]
    for path, frame in zip(paths, frames(), strict=True):
        write_image(frame, path)
    read = read_series(paths, frame_s=1.5)
    assert read.times_s == [0, 1.5, 3.0]
    assert np.array_equal(read.frames[2].data, frames()[2].data)
    assert read.frames[2].name == "2.nii.gz"


OTHERS = {
    "shape": (frames(1, Grid((5, 4, 2), spacing_mm=2))[0], "frame 1 .* has shape 5 x 4 x 2, not 5 x 4 x 3"),
    "place": (frames(1, Grid(GRID.shape, spacing_mm=(2, 2, 3)))[0], "frame 1 .* lies 7.68 mm away"),
    "type": (frames(1, dtype=np.float32)[0], "voxels of type float32, not int16"),
    "channels": (Image(np.repeat(frames(1)[0].data, 2, axis=0), GRID), "has 2 channels, not 1"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_frames_that_differ_are_refused(name):
    other, message = OTHERS[name]
    with pytest.raises(UserError, match=message):
        read_series([*frames(1), other])


def test_one_frame_is_no_series(tmp_path):
    write_image(frames()[0], tmp_path / "one.nii.gz")
    for source in (tmp_path / "one.nii.gz", [tmp_path / "one.nii.gz"]):
        with pytest.raises(UserError, match=r"one\.nii\.gz holds 1 frame; a series has at least 2"):
            read_series(source)


def test_a_frame_without_content_is_refused():
    empty = Image(np.zeros(GRID.shape, np.int16), GRID, "empty")
    with pytest.raises(UserError, match="empty: every voxel has the value 0"):
        read_series([*frames(1), empty])


def test_a_series_is_no_scan(tmp_path):
    write_series(ImageSeries(tuple(frames())), tmp_path / "film.nii.gz")
    with pytest.raises(UserError, match=r"4D: 3 volumes; .*anamorph series"):
        read_image(tmp_path / "film.nii.gz")
