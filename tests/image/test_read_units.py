"""Voxel sizes in every unit and format, what pictures and stacks become, and what is told of assumptions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as Picture

from anamorph.errors import UserError
from anamorph.image.header_notes import header_notes
from anamorph.image.read import read_image, read_labels

STACK = np.random.default_rng(0).integers(0, 250, (3, 5, 6)).astype(np.uint8)  # z, y, x
BASE = "NRRD0005\ntype: uchar\ndimension: 3\nsizes: 6 5 3\nencoding: raw\n"
SPACE = "space: left-posterior-superior\nspace directions: (2,0,0) (0,2,0) (0,0,4)\nspace origin: (10,20,30)\n"


def nrrd(path: Path, more: str, base: str = BASE, data: np.ndarray = STACK) -> Path:
    path.write_bytes((base + more + "\n").encode() + data.tobytes())
    return path


@pytest.mark.parametrize(
    ("unit", "mm"), [("mm", 1), ("cm", 10), ("m", 1000), ("um", 1e-3), ("µm", 1e-3), ("micron", 1e-3), ("nm", 1e-6)]
)
def test_nrrd_units(tmp_path: Path, unit: str, mm: float) -> None:
    path = nrrd(tmp_path / "a.nrrd", SPACE + f'space units: "{unit}" "{unit}" "{unit}"\n')
    grid = read_image(path).grid
    np.testing.assert_allclose(grid.spacing_mm, np.multiply([2, 2, 4], mm))
    np.testing.assert_allclose(grid.origin_mm, np.multiply([-10, -20, 30], mm))
    assert any("converted to mm" in note for note in header_notes(path)) == (unit != "mm")


def test_nrrd_units_may_differ_between_axes_or_be_unknown(tmp_path: Path) -> None:
    mixed = nrrd(tmp_path / "mixed.nrrd", SPACE + 'space units: "um" "mm" "cm"\n')
    np.testing.assert_allclose(read_image(mixed).grid.spacing_mm, [2e-3, 2, 40])
    spacings = nrrd(tmp_path / "spacings.nrrd", 'spacings: 2 2 4\nunits: "um" "um" "um"\n')
    np.testing.assert_allclose(read_image(spacings).grid.spacing_mm, [2e-3, 2e-3, 4e-3])
    assert any("orientation are guesses" in note for note in header_notes(spacings))
    odd = nrrd(tmp_path / "odd.nrrd", SPACE + 'space units: "foo" "foo" "foo"\n')
    np.testing.assert_allclose(read_image(odd).grid.spacing_mm, [2, 2, 4])
    assert "no known unit: mm are assumed" in header_notes(odd)[0]
    assert "1 mm are assumed" in header_notes(nrrd(tmp_path / "none.nrrd", ""))[0]
    assert header_notes(nrrd(tmp_path / "sound.nrrd", SPACE)) == []


def test_imagej_stack(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, STACK, imagej=True, resolution=(1 / 0.65, 1 / 0.5), metadata={"spacing": 2.0, "unit": "um", "axes": "ZYX"}
    )
    image = read_image(path)
    np.testing.assert_array_equal(image.data[0], STACK.transpose(2, 1, 0))
    np.testing.assert_allclose(image.grid.spacing_mm, [0.65e-3, 0.5e-3, 2e-3], rtol=1e-4)
    assert image.grid.orientation == "LPS"
    assert "ImageJ tags, in um" in header_notes(path)[0]


@pytest.mark.parametrize("unit", [None, "nm", "mm"])
def test_ome_stack(tmp_path: Path, unit: str | None) -> None:
    path = tmp_path / "a.ome.tif"
    told = {f"PhysicalSize{axis}": size for axis, size in zip("XYZ", (3.0, 2.0, 5.0), strict=True)}
    units = {f"PhysicalSize{axis}Unit": unit for axis in "XYZ"} if unit else {}
    tifffile.imwrite(path, STACK.astype(np.uint16), ome=True, metadata={"axes": "ZYX", **told, **units})
    mm = {None: 1e-3, "nm": 1e-6, "mm": 1.0}[unit]
    np.testing.assert_allclose(read_image(path).grid.spacing_mm, np.multiply([3, 2, 5], mm))
    assert "OME tags" in header_notes(path)[0]


def test_resolution_tags_count_unless_they_are_those_of_prints(tmp_path: Path) -> None:
    print_, slide, plain = tmp_path / "print.tif", tmp_path / "slide.tif", tmp_path / "plain.tif"
    tifffile.imwrite(
        print_, STACK, resolution=(300, 300), resolutionunit="INCH", metadata=None, photometric="minisblack"
    )
    tifffile.imwrite(
        slide, STACK, resolution=(20000, 20000), resolutionunit="CENTIMETER", metadata=None, photometric="minisblack"
    )
    tifffile.imwrite(plain, STACK, metadata=None, photometric="minisblack")
    np.testing.assert_allclose(read_image(print_).grid.spacing_mm, 1)
    assert "300 dpi" in header_notes(print_)[0]
    np.testing.assert_allclose(read_image(slide).grid.spacing_mm, 5e-4)
    assert "along z: 0.0005 mm is assumed" in header_notes(slide)[1]
    assert "1 mm are assumed" in header_notes(plain)[0]


@pytest.mark.parametrize("how", [{"compression": "zlib"}, {"tile": (16, 16), "compression": "zlib"}, {"bigtiff": True}])
def test_tiff_variants(tmp_path: Path, how: dict) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, STACK.astype(np.float32), metadata={"axes": "ZYX"}, photometric="minisblack", **how)
    np.testing.assert_array_equal(read_image(path).data[0], STACK.transpose(2, 1, 0))
    Picture.fromarray(STACK[0]).save(tmp_path / "lzw.tif", compression="tiff_lzw")
    np.testing.assert_array_equal(read_image(tmp_path / "lzw.tif").data[0, :, :, 0], STACK[0].T)


@pytest.mark.parametrize("suffix", ["tif", "png"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_colour_is_refused(tmp_path: Path, suffix: str, mode: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Picture.fromarray(STACK.transpose(1, 2, 0).copy()).convert(mode).save(path)
    with pytest.raises(UserError, match=r"colour voxels .* grey"):
        read_image(path)


def test_colour_of_16_bit_and_of_prints_is_refused(tmp_path: Path) -> None:
    deep, ink = tmp_path / "deep.tif", tmp_path / "ink.tif"
    tifffile.imwrite(deep, np.zeros((5, 6, 3), np.uint16), photometric="rgb")
    Picture.new("CMYK", (6, 5)).save(ink)
    for path, what in ((deep, "RGB, 16 bit"), (ink, "CMYK")):
        with pytest.raises(UserError, match=what):
            read_image(path)


@pytest.mark.parametrize("suffix", ["tif", "png"])
def test_alpha_that_says_nothing_is_dropped(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    grey = Picture.fromarray(STACK[0])
    grey.putalpha(255)
    grey.save(path)
    np.testing.assert_array_equal(read_image(path).data[0, :, :, 0], STACK[0].T)
    assert any("alpha" in note for note in header_notes(path))
    grey.putalpha(Picture.fromarray(STACK[1]))
    grey.save(path)
    with pytest.raises(UserError, match="alpha channel that varies"):
        read_image(path)


def test_pictures_have_pixels_of_1_mm(tmp_path: Path) -> None:
    for suffix in ("png", "jpg"):
        path = tmp_path / f"a.{suffix}"
        Picture.fromarray(STACK[0]).save(path, dpi=(300, 300))
        image = read_image(path)
        np.testing.assert_allclose(image.grid.spacing_mm, 1)
        assert "1 mm are assumed" in header_notes(path)[0]
    deep = tmp_path / "deep.png"
    Picture.fromarray(STACK[0].astype(np.uint16) * 200).save(deep)
    np.testing.assert_array_equal(read_image(deep).data[0, :, :, 0], STACK[0].T.astype(np.uint16) * 200)


def layers(path: Path, values: tuple[int, int], overlap: bool = False) -> Path:
    data = np.zeros((3, 5, 6, 2), np.uint8)
    data[0, ..., 0] = values[0]
    data[0 if overlap else 2, ..., 1] = values[1]
    told = "".join(
        f"Segment{n}_Layer:={n}\nSegment{n}_LabelValue:={values[n]}\nSegment{n}_Name:={name}\n"
        for n, name in enumerate(("liver", "spleen"))
    )
    head = (
        "NRRD0005\ntype: uchar\ndimension: 4\nspace: left-posterior-superior\nsizes: 2 6 5 3\nkinds: list domain domain"
        " domain\nspace directions: none (2,0,0) (0,2,0) (0,0,4)\nspace origin: (0,0,0)\nencoding: raw\n"
    )
    return nrrd(path, told, head, data)


def test_layers_of_segments_become_one_label_map(tmp_path: Path) -> None:
    labels = read_labels(layers(tmp_path / "a.seg.nrrd", (4, 7)))
    assert labels.present() == [4, 7]
    assert (labels.data[0, :, :, 0] == 4).all()
    assert (labels.data[0, :, :, 2] == 7).all()
    same = layers(tmp_path / "same.seg.nrrd", (1, 1))
    assert read_labels(same).present() == [1, 2]
    assert "1 liver, 2 spleen" in header_notes(same)[-1]
    with pytest.raises(UserError, match="'liver' and 'spleen' overlap"):
        read_labels(layers(tmp_path / "both.seg.nrrd", (1, 1), overlap=True))
    with pytest.raises(UserError, match="2 layers, neither scan nor mask"):
        read_image(same)


def test_notes_of_shared_cases(shared_data: Path) -> None:
    folder = shared_data.parent / "cases" / "inputs"
    if not folder.is_dir():
        pytest.skip("no cases")
    np.testing.assert_allclose(read_image(folder / "pictures/f_imagej.tif").grid.spacing_mm, [6.5e-4, 6.5e-4, 2e-3])
    for name in ("f_none", "f_s2_q1_differ"):
        assert "ITK, ANTs and 3D Slicer place this scan elsewhere" in json.dumps(
            header_notes(folder / f"header/{name}.nii.gz")
        )
