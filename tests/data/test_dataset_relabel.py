"""Labels that are renamed, merged, dropped, split into left and right, and unknown where a scan lacks them."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from anamorph.cli.main import app
from anamorph.data import read_dataset
from anamorph.data.labels import annotated_labels
from anamorph.data.relabel import Target, make_relabelling, on_the_right
from anamorph.errors import UserError
from anamorph.geometry import Grid
from anamorph.image import Image
from anamorph.image.read import read_labels
from small_dataset import write_labels, write_scan

KIDNEYS = {1: "kidney", 2: "tumour"}


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["dataset", *map(str, arguments)])


def kits(folder: Path, cases: int = 4) -> Path:
    """A body with a kidney on either side of it, of which the right one holds a tumour; x rises to the left."""
    for n in range(cases):
        scan = np.full((40, 16, 8), -1000, np.int16)
        scan[4:36, 2:14] = 40
        labels = np.zeros(scan.shape, np.uint8)
        labels[8:12, 5:10, 2:6] = 1
        labels[28:32, 5:10, 2:6] = 1
        labels[9:11, 6:8, 3:5] = 2
        for name, data in (("imaging", scan), ("segmentation", labels)):
            path = folder / f"case_{n:05}/{name}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            nibabel.Nifti1Image(data, np.diag([-4.0, 4, 4, 1])).to_filename(path)
    return folder


@pytest.mark.parametrize(
    ("rules", "labels", "targets", "names"),
    [
        (["kidney=1,tumour=1"], KIDNEYS, {1: Target(1), 2: Target(1)}, {1: "kidney"}),
        (["tumour=kidney"], KIDNEYS, {1: Target(1), 2: Target(1)}, {1: "kidney"}),
        (["1=6", "2=6"], KIDNEYS, {1: Target(6), 2: Target(6)}, {6: "kidney"}),
        (["1=6:organ,2=drop"], KIDNEYS, {1: Target(6), 2: Target(0)}, {6: "organ"}),
        (["kidney=whole kidney"], KIDNEYS, {1: Target(1)}, {1: "whole kidney", 2: "tumour"}),
        (["1=2,2=1"], KIDNEYS, {1: Target(2), 2: Target(1)}, {1: "tumour", 2: "kidney"}),
        (["1=3/4"], KIDNEYS, {1: Target(3, 4)}, {2: "tumour", 3: "left kidney", 4: "right kidney"}),
        (["3=5:liver"], {}, {3: Target(5)}, {5: "liver"}),
    ],
)
def test_what_rules_mean(rules, labels, targets, names):
    found = make_relabelling(rules, labels)
    assert (found.targets, found.labels) == (targets, names)


@pytest.mark.parametrize("name", ["rules.json", "rules.toml"])
def test_rules_may_lie_in_a_file(tmp_path, name):
    text = '{"kidney": 5, "tumour": "5:kidneys"}' if name.endswith("json") else 'kidney = 5\ntumour = "5:kidneys"\n'
    (tmp_path / name).write_text(text)
    found = make_relabelling([str(tmp_path / name)], KIDNEYS)
    assert (found.targets, found.labels) == ({1: Target(5), 2: Target(5)}, {5: "kidneys"})


@pytest.mark.parametrize(
    ("rules", "labels", "message"),
    [
        (["liver"], KIDNEYS, "wants OLD=NEW"),
        (["liver=3"], KIDNEYS, r"no label 'liver'; there are 1 \(kidney\), 2 \(tumour\)"),
        (["9=3"], KIDNEYS, "no label '9'"),
        (["liver=3"], {}, "'liver' is no number; name the labels with --label-names"),
        (["tumour=1"], KIDNEYS, "which is 'kidney' already; to merge them write 2=1,1=1"),
        (["1=3,kidney=4"], KIDNEYS, "twice what becomes of label 1"),
        (["1=-3"], KIDNEYS, "'-3' is no label"),
        (["1=99999999999"], KIDNEYS, "is no label"),
        (["1=3/3"], KIDNEYS, "names no left and right label"),
        (["1=3:a,2=3:b"], KIDNEYS, "both 'a' and 'b'"),
        (["absent.json"], KIDNEYS, "cannot be read"),
    ],
)
def test_rules_that_make_no_sense(rules, labels, message):
    with pytest.raises(UserError, match=message):
        make_relabelling(rules, labels)


@pytest.mark.parametrize("content", ["[" * 100_000, "[1, 2]", "{}", '{"1": null}', '{"1": true}', "\0", "{\n"])
def test_files_that_hold_no_rules_are_refused_in_one_line(tmp_path, content):
    (tmp_path / "rules.json").write_text(content)
    with pytest.raises(UserError, match=r"rules\.json: (cannot be read|is no table)") as caught:
        make_relabelling([str(tmp_path / "rules.json")], KIDNEYS)
    assert "\n" not in str(caught.value)


def test_an_import_merges_and_splits_by_the_side_of_the_body(tmp_path):
    sides = "5:left kidney/6:right kidney"
    rules = f"kidney={sides},tumour={sides}"
    out = tmp_path / "out"
    result = invoke(
        "import", "kits19", kits(tmp_path / "in"), "-o", out, "--relabel", rules, "--validation", 2, "--test", 0
    )
    assert result.exit_code == 0, result.output
    made = read_dataset(out)
    assert made.labels == {5: "left kidney", 6: "right kidney"}
    assert made.extra["relabelled"]["labels_before"] == {"1": "kidney", "2": "tumour"}
    for case in made.cases:
        values = read_labels(case.label).data[0]
        assert (values[8:12, 5:10, 2:6] == 6).all(), "the first voxels are the patient's right; the tumour goes along"
        assert (values[28:32, 5:10, 2:6] == 5).all()
        assert np.count_nonzero(values) == 160
    assert invoke("check", out, "-q").exit_code == 0
    original = read_labels(tmp_path / "in/case_00000/segmentation.nii.gz").present()
    assert original == [1, 2], "the download is as it was"


def test_a_label_that_nobody_named_is_not_merged_into(tmp_path):
    for n in range(4):
        write_scan(tmp_path / f"in/images/p{n}.nii.gz", n)
        write_labels(tmp_path / f"in/labels/p{n}.nii.gz", 1 + n % 2)
    result = invoke("create", tmp_path / "in", "-o", tmp_path / "out", "--relabel", "1=2:liver", "--test", 0)
    assert result.exit_code == 2
    assert "holds label 2, into which --relabel would merge others without a word; add 2=2" in " ".join(
        result.stderr.split()
    )
    assert not (tmp_path / "out").exists()


def test_a_reference_cannot_hold_other_labels(tmp_path):
    result = invoke("import", "kits19", kits(tmp_path / "in"), "-o", tmp_path / "o", "--files", "reference",
                    "--relabel", "tumour=kidney", "--validation", 2, "--test", 0)  # fmt: skip
    assert result.exit_code == 2
    assert "must be written anew; pass --files link or copy" in result.stderr


def body() -> tuple[np.ndarray, Image]:
    """80 mm of a body around x = 0, in air."""
    scan = np.full((40, 16, 8), -1000.0)
    scan[10:30] = 40
    affine = np.diag([4.0, 4, 4, 1])
    affine[0, 3] = -78
    return np.zeros(scan.shape, bool), Image(scan, Grid(scan.shape, affine))


def test_kidneys_that_touch_are_cut_at_the_middle_and_told():
    inside, image = body()
    inside[14:26, 5:9, 2:6] = True
    right, remark = on_the_right(inside, image)
    assert right.any(axis=(1, 2)).nonzero()[0].tolist() == [*range(20, 26)]
    assert "crosses the middle of the body and was cut at x = " in remark


def test_a_lobe_that_reaches_a_little_over_the_middle_is_not_cut():
    inside, image = body()
    inside[12:21, 5:9, 2:6] = True
    inside[20, 5:8] = False
    inside[24:28, 5:9, 2:6] = True
    right, remark = on_the_right(inside, image)
    assert right.any(axis=(1, 2)).nonzero()[0].tolist() == [*range(24, 28)]
    assert remark == ""


def test_a_single_organ_and_two_on_one_side_are_told():
    inside, image = body()
    inside[24:28, 5:9, 2:6] = True
    right, remark = on_the_right(inside, image)
    assert np.array_equal(right, inside)
    assert "everything lies on the right" in remark
    inside[21:23, 5:9, 2:6] = True
    assert "2 large parts all lie on the right" in on_the_right(inside, image)[1]


def test_what_is_to_be_looked_at_is_in_the_manifest(tmp_path):
    folder = kits(tmp_path / "in")
    path = folder / "case_00001/segmentation.nii.gz"
    image = nibabel.load(path)
    data = np.asarray(image.dataobj).copy()
    data[28:32] = 0
    nibabel.Nifti1Image(data, image.affine).to_filename(path)
    result = invoke("import", "kits19", folder, "-o", tmp_path / "out", "--relabel", "kidney=1/3", "--validation", 2,
                    "--test", 0)  # fmt: skip
    assert result.exit_code == 0, result.output
    told = "left kidney/right kidney: everything lies on the right (a single organ?)"
    assert f"case_00001/imaging.nii.gz: {told}" in " ".join(result.stderr.split())
    case = next(case for case in read_dataset(tmp_path / "out").cases if case.subject == "0001")
    assert case.extra["remark"] == told


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eight patients; label 2 in every other one."""
    for n in range(8):
        write_scan(tmp_path / f"in/images/p{n}.nii.gz", n)
        path = write_labels(tmp_path / f"in/labels/p{n}.nii.gz")
        if n % 2:
            image = nibabel.load(path)
            data = np.asarray(image.dataobj).copy()
            data[6, 6, 5] = 2
            nibabel.Nifti1Image(data, image.affine).to_filename(path)
    return tmp_path / "in"


@pytest.mark.parametrize("which", ["oesophagus", "2", "all"])
def test_a_label_may_be_unknown_where_a_scan_lacks_it(folder, tmp_path, which):
    names = ("--label-names", "1=brainstem,2=oesophagus")
    result = invoke("create", folder, "-o", tmp_path / "out", *names, "--unknown-if-absent", which)
    assert result.exit_code == 0, result.output
    made = read_dataset(tmp_path / "out")
    assert len(made.cases) == 8
    for case in made.cases:
        holds = int(case.extra["source"][1]) % 2
        assert annotated_labels(made, case) == ((1, 2) if holds else (1,))
    assert "counts as background" not in invoke("check", tmp_path / "out").stdout


def test_a_label_that_is_background_where_it_lacks_is_told(folder, tmp_path):
    assert invoke("create", folder, "-o", tmp_path / "out", "--label-names", "1=a,2=oesophagus").exit_code == 0
    made = read_dataset(tmp_path / "out")
    assert {annotated_labels(made, case) for case in made.cases} == {(1, 2)}
    told = " ".join(invoke("check", tmp_path / "out").stdout.split())
    assert "oesophagus (2) counts as background in 4 of 8 label maps" in told
    wrong = invoke("create", folder, "-o", tmp_path / "o", "--label-names", "1=a,2=b", "--unknown-if-absent", "liver")
    assert wrong.exit_code == 2
    assert "there is no label 'liver'; there are 1 (a), 2 (b), or write all" in " ".join(wrong.stderr.split())
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(("given", "message"), [([7], "holds 7, which labels does not name"), ("b", "must be a list")])
def test_a_list_of_a_scan_that_makes_no_sense_is_found(folder, tmp_path, given, message):
    invoke("create", folder, "-o", tmp_path / "out", "--name", "T", "--label-names", "1=a,2=b")
    path = tmp_path / "out/T_dataset.json"
    content = json.loads(path.read_text())
    content["training"][0]["annotated_labels"] = given
    path.write_text(json.dumps(content))
    found = invoke("check", tmp_path / "out", "--json")
    assert found.exit_code == 2
    assert [
        message in one["message"] for one in json.loads(found.stdout)["problems"] if one["severity"] == "error"
    ] == [True]
