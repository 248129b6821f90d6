from __future__ import annotations

import json
from importlib.metadata import EntryPoint
from pathlib import Path

import nibabel
import numpy as np
import pytest
from typer.testing import CliRunner

from anamorph import registry
from anamorph.cli.main import app
from anamorph.data import Case, read_dataset
from anamorph.data.check import check_dataset
from anamorph.data.create import Recipe, _shape, create_dataset
from anamorph.data.importers import IMPORTERS, find_download
from anamorph.data.importers.decathlon import _write_channel
from anamorph.data.importers.pancreas_ct import FLIPS, matching_flip
from anamorph.data.scans import Scan, ScanFolder
from anamorph.errors import UserError
from anamorph.geometry import Grid
from anamorph.image import Image, Labels
from anamorph.image.read import read_image, read_labels
from dicom_files import classic_series
from small_dataset import AFFINE, SHAPE, write_labels, write_scan


def decathlon(folder: Path, modality: dict[str, str]) -> Path:
    shape = SHAPE if len(modality) == 1 else (*SHAPE, len(modality))
    for n in (1, 4, 6, 7):
        write_scan(folder / f"imagesTr/organ_{n:03}.nii.gz", n, shape)
        write_labels(folder / f"labelsTr/organ_{n:03}.nii.gz", 2)
    write_scan(folder / "imagesTs/organ_002.nii.gz", 2, shape)
    content = {
        "name": "Organ",
        "licence": "CC-BY-SA 4.0",
        "modality": modality,
        "labels": {"0": "background", "1": "a", "2": "b"},
        "training": [
            {"image": f"./imagesTr/organ_{n:03}.nii.gz", "label": f"./labelsTr/organ_{n:03}.nii.gz"}
            for n in (1, 4, 6, 7)
        ],
        "test": ["./imagesTs/organ_002.nii.gz"],
    }
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def test_a_decathlon_task_keeps_its_numbers_and_unlabelled_scans_are_for_training(tmp_path: Path):
    found = find_download("decathlon", decathlon(tmp_path / "Task", {"0": "MRI"}))
    made = create_dataset(
        found.scans,
        Recipe("Organ", found.modalities, labels=found.labels, extra=found.extra, validation=2, test=2),
        tmp_path / "out",
    )
    assert [case.subject for case in made.of_split("training")] == ["0002"]
    assert {case.subject for case in made.cases} == {"0001", "0002", "0004", "0006", "0007"}
    assert made.labels == {1: "a", 2: "b"}
    assert made.modalities == {"0000": "MRI"}
    assert made.extra["licence"] == "CC-BY-SA 4.0"
    assert check_dataset(made).problems == ()


def test_one_channel_of_a_decathlon_file_is_cut_out(tmp_path: Path):
    folder = decathlon(tmp_path / "Task", {"0": "T2", "1": "ADC"})
    with pytest.raises(UserError, match="choose one of T2, ADC with --channel"):
        find_download("decathlon", folder)
    with pytest.raises(UserError, match="no channel 'FLAIR'"):
        find_download("decathlon", folder, channel="FLAIR")
    found = find_download("decathlon", folder, channel="adc")
    made = create_dataset(found.scans, Recipe("Organ", found.modalities, validation=2, test=2), tmp_path / "out")
    case = next(case for case in made.cases if case.subject == "0004")
    original = nibabel.load(folder / "imagesTr/organ_004.nii.gz")
    np.testing.assert_array_equal(read_image(case.image).data[0], np.asarray(original.dataobj)[..., 1])
    np.testing.assert_allclose(nibabel.load(case.image).affine, AFFINE)
    with pytest.raises(UserError, match="pass --files link or copy"):
        create_dataset(
            found.scans, Recipe("Organ", found.modalities, files="reference", validation=2, test=2), tmp_path / "json"
        )


def test_kits_cases_become_scans(tmp_path: Path):
    for n in (0, 3, 12, 210):
        write_scan(tmp_path / f"kits19/data/case_{n:05}/imaging.nii.gz", n)
        if n < 210:
            write_labels(tmp_path / f"kits19/data/case_{n:05}/segmentation.nii.gz")
    (tmp_path / "kits19/data/case_00005").mkdir()
    found = find_download("kits19", tmp_path / "kits19")
    assert found.notes == ("1 cases have no imaging.nii.gz and are left out",)
    made = create_dataset(
        found.scans, Recipe("KiTS", found.modalities, labels=found.labels, validation=3, test=0), tmp_path / "out"
    )
    assert [case.subject for case in made.of_split("training")] == ["0210"]
    assert [case.extra["source"] for case in made.of_split("validation")] == [
        f"case_{n:05}/imaging.nii.gz" for n in (0, 3, 12)
    ]
    assert made.labels == {1: "kidney", 2: "tumour"}
    assert check_dataset(made).problems == ()


@pytest.mark.parametrize("axes", FLIPS)
def test_a_label_map_is_turned_the_way_it_outlines_an_organ(axes: tuple[int, ...]):
    scan, organ = abdomen()
    turned = np.flip(organ, axes) if axes else organ
    grid = Grid(scan.shape, AFFINE)
    assert matching_flip(Labels(turned.astype(np.uint8), Grid(scan.shape, np.eye(4))), Image(scan, grid)) == axes


def test_a_label_map_that_outlines_nothing_is_refused():
    scan, _ = abdomen()
    anywhere = np.zeros(scan.shape, np.uint8)
    anywhere[14:18, 13:17, 9:11] = 1
    with pytest.raises(UserError, match="fits its scan in no way clearly"):
        matching_flip(Labels(anywhere, Grid(scan.shape, np.eye(4))), Image(scan, Grid(scan.shape, AFFINE)))


def test_pancreas_ct_is_converted_and_its_labels_are_turned(tmp_path: Path):
    scan, organ = abdomen()
    for n in (1, 2):
        write_dicom(tmp_path / f"in/Pancreas-CT/PANCREAS_{n:04}/study/series", scan)
        nothing_known = nibabel.Nifti1Image(np.flip(organ, 1).astype(np.uint8), np.diag([0.7, 0.7, 1, 1]))
        path = tmp_path / f"in/TCIA_pancreas_labels-02-05-2017/label{n:04}.nii.gz"
        path.parent.mkdir(exist_ok=True)
        nothing_known.to_filename(path)
    write_dicom(tmp_path / "in/Pancreas-CT/PANCREAS_0003/study/series", scan)
    found = find_download("pancreas-ct", tmp_path / "in")
    assert found.notes == ("1 scans have no label map: 0003",)
    made = create_dataset(
        found.scans, Recipe("P", found.modalities, labels=found.labels, validation=2, test=0), tmp_path / "out"
    )
    assert [case.subject for case in made.of_split("training")] == ["0003"]
    assert check_dataset(made).errors == ()
    for case in made.of_split("validation"):
        np.testing.assert_array_equal(read_image(case.image).data[0], scan)
        np.testing.assert_array_equal(read_labels(case.label).data[0], organ)
        assert read_image(case.image).grid.orientation == "LPS"


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ("decathlon", "dataset.json: is not a dataset.json of the Decathlon .no such file"),
        ("kits19", "no case_"),
        ("pancreas-ct", "no folders PANCREAS_"),
        ("oasis", "no importer 'oasis'; choose one of: decathlon, kits19, pancreas-ct"),
    ],
)
def test_other_folders_are_refused(tmp_path: Path, layout: str, message: str):
    with pytest.raises(UserError, match=message):
        find_download(layout, tmp_path)


def abdomen() -> tuple[np.ndarray, np.ndarray]:
    """Fat, noise, a large organ, and a small one whose mirror images lie in fat or inside the large one."""
    scan = np.random.default_rng(0).normal(-90, 15, (30, 30, 20))
    scan[4:26, 16:28, 2:18] += 140
    organ = np.zeros(scan.shape, bool)
    organ[8:20, 4:9, 4:8] = True
    scan[organ] += 170
    return scan.astype(np.int16), organ


def write_dicom(folder: Path, array: np.ndarray) -> None:
    """One file per slice, as a scanner would."""
    positions = [(-10.0, -20.0, 1.5 * k) for k in range(array.shape[2])]
    classic_series(folder, array.transpose(2, 1, 0), positions=positions, spacing_mm=(0.7, 0.7, 1.5))


def find_toy(folder: Path, channel: str | None = None) -> ScanFolder:
    """The importer of another package: every NIfTI file is a patient, of the channel that is asked for."""
    scans = [Scan(path.name.split(".")[0], channel or "CT", path, {}, path.name) for path in sorted(folder.iterdir())]
    return ScanFolder(tuple(scans), (channel or "CT",), name="Toy")


def test_an_importer_of_another_package_is_found_by_python_and_by_the_command(monkeypatch, tmp_path: Path):
    point = EntryPoint("toy", "test_dataset_importers:find_toy", "anamorph.importers")
    monkeypatch.setattr(registry, "_entry_points", lambda group, path: {"toy": point} if group == point.group else {})
    for n in (1, 2, 3, 4):
        write_scan(tmp_path / "down" / f"patient{n}.nii.gz", n)
    assert [*IMPORTERS] == ["decathlon", "kits19", "pancreas-ct", "toy"]
    assert find_download("toy", tmp_path / "down", channel="T2").modalities == ("T2",)
    words = ["dataset", "import", "toy", str(tmp_path / "down"), "-o", str(tmp_path / "out"), "--channel", "PET"]
    result = CliRunner().invoke(app, [*words, "--validation", "0", "--test", "0"])
    assert result.exit_code == 0, result.output
    made = read_dataset(tmp_path / "out")
    assert (made.name, len(made.cases), made.modalities) == ("Toy", 4, {"0000": "PET"})
    with pytest.raises(UserError, match=r"no importer 'toi' \(did you mean 'toy'"):
        find_download("toi", tmp_path / "down")


@pytest.mark.parametrize("what", ["channel", "shape"])
def test_headers_that_ask_for_more_than_their_file_holds_are_refused(tmp_path: Path, what: str):
    """Four channels of 30000 x 30000 x 30000 voxels in a file of some bytes."""
    path = tmp_path / "trap.nii"
    header = nibabel.Nifti1Header()
    header.set_data_shape((30000, 30000, 30000, 4)[: 4 if what == "channel" else 3])
    header["magic"], header["vox_offset"] = b"n+1", 352
    path.write_bytes(header.binaryblock + bytes(100))
    with pytest.raises(UserError, match=r"trap\.nii"):
        if what == "channel":
            _write_channel(path, 1, tmp_path / "out.nii.gz", path)
        else:
            _shape(Case("0001", "0000", path))
