"""What comes from files stays data: no markup, no code, no path, no more memory or disk than it may take."""

from __future__ import annotations

import ast
import base64
import gzip
import hashlib
import json
import os
import re
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from PIL import Image as Picture
from typer.testing import CliRunner

import anamorph
from anamorph.batch.store import Kept
from anamorph.cli.console import make_table, progress_bar, show
from anamorph.cli.logs import plain, say
from anamorph.cli.main import app
from anamorph.data import read_dataset
from anamorph.data.importers import find_download
from anamorph.errors import UserError
from anamorph.evaluation import failed
from anamorph.evaluation.predictions import opened
from anamorph.geometry import Grid
from anamorph.image import Image, Labels, bounds
from anamorph.image.read import read_grid, read_image, read_labels, read_mask
from anamorph.report import PairReport
from anamorph.report.cohort import CohortReport, CohortRow
from anamorph.report.cohort.page import render as cohort_page
from anamorph.report.many_scans import (
    LayersReport,
    ScanLine,
    ScanRow,
    Stage,
    TemplateReport,
    layers_page,
    template_page,
)
from anamorph.report.pair import render as pair_page
from anamorph.supervoxels import Layers
from anamorph.supervoxels.files import load_layers
from anamorph.transforms import Affine
from anamorph.transforms.files import read_transform, write_transform
from anamorph.workflows.preprocess.record import targets
from dicom_files import classic_series, ramp
from html_page import Page
from small_dataset import make_learn2reg, write_scan

EVIL = "\"><script>alert(1)</script><img src=x onerror='alert(2)'>{{ 7 * 7 }}</title></style>"
GRID = Grid((9, 8, 7), np.eye(4))


def image(name: str = EVIL) -> Image:
    return Image(np.random.default_rng(0).random(GRID.shape).astype(np.float32), GRID, name)


def labels(name: str = EVIL) -> Labels:
    return Labels((np.indices(GRID.shape)[0] > 4).astype(np.uint8), GRID, name)


def failed_pair() -> str:
    report = PairReport(
        title=EVIL,
        fixed=image(),
        moving=image(),
        verdict=failed(EVIL),
        warnings=[EVIL],
        settings={EVIL: EVIL},
        provenance={EVIL: {EVIL: [EVIL]}},
        fixed_labels=labels(),
    )
    return pair_page(report)


def cohort() -> str:
    row = CohortRow(EVIL, EVIL, "FAIL", metrics={EVIL: 0.5}, per_label={EVIL: {EVIL: 0.5}}, reasons=(EVIL,),
                    report_link=f"scans/{EVIL}")  # fmt: skip
    rows = [row, CohortRow(EVIL + "2", EVIL, error=EVIL)]
    return cohort_page(CohortReport(EVIL, rows, {EVIL: "higher"}, (EVIL,)))


def layers() -> str:
    cut = Layers(labels().data, GRID, {})
    return layers_page(LayersReport(EVIL, image(), cut, ((EVIL, EVIL),), (EVIL,), [ScanRow(EVIL, (EVIL,))], (EVIL,)))


def template() -> str:
    stages = [Stage(EVIL, image(), None, None, None), Stage(EVIL, image(), 0.1, 1.0, 0.2)]
    line = ScanLine(EVIL, EVIL, 0.9, 1.0, ("scans", EVIL, "report.html"))
    return template_page(TemplateReport(EVIL, stages, 0.1, True, 0.1, [line], {EVIL: EVIL}))


@pytest.mark.parametrize("page", [failed_pair, cohort, layers, template], ids=lambda page: page.__name__)
def test_pages_show_hostile_names_as_text(page):
    text = page()
    parsed = Page(text)
    assert EVIL in parsed.text  # as written, not interpreted
    assert parsed.tags.count("script") == text.count("script-src")
    assert not [name for name, _ in parsed.attributes if name.startswith("on")]
    sources = [value for name, value in parsed.attributes if name == "src"]
    assert all(value.startswith("data:image/") for value in sources)
    for name, value in parsed.attributes:
        if name == "href":
            assert re.match(r"(#|scans/)", value), value
            assert "<" not in value
            assert '"' not in value


@pytest.mark.parametrize("page", [failed_pair, cohort, layers, template], ids=lambda page: page.__name__)
def test_pages_forbid_what_they_do_not_hold(page):
    text = page()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "base-uri 'none'; form-action 'none'" in policy
    scripts = re.findall(r"<script>(.*?)</script>", text, re.S)
    allowed = re.findall(r"'sha256-([^']+)'", policy)
    assert [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts] == allowed
    assert "unsafe-inline" not in policy.replace("style-src 'unsafe-inline'", "")


def test_every_template_is_filled_with_escaping_on():
    folder = Path(anamorph.__file__).parent
    for path in (folder / "report" / "templates").glob("*.j2"):
        source = path.read_text(encoding="utf-8")
        assert "|safe" not in source.replace(" ", ""), path.name
        assert "autoescape" not in source, path.name
        assert not re.search(r"=\{\{", source), f"{path.name}: an attribute without quotes"
    makers = [path for path in folder.rglob("*.py") if re.search(r"\bEnvironment\(", path.read_text(encoding="utf-8"))]
    assert [path.name for path in makers] == ["page.py"]


def test_no_code_is_loaded_from_files():
    """Pickles run code when they are read: nothing here reads them."""
    for path in Path(anamorph.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {getattr(node, "module", None), *(alias.name for alias in node.names)}
                assert not names & {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "yaml"}, path
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            given = {word.arg: ast.unparse(word.value) for word in node.keywords}
            assert called not in ("eval", "exec", "os.system"), path
            assert given.get("shell") != "True", path
            assert given.get("allow_pickle", "False") == "False", path
            if called == "torch.load":
                assert given.get("weights_only") == "True", path


# ---- names that become paths ----


def test_subjects_of_a_manifest_are_no_paths(tmp_path):
    path = make_learn2reg(tmp_path, subjects=4)
    content = json.loads(path.read_text())
    for subject in ("../../evil", "/etc/evil", "a\\b", "new\nline", "\x1b[2J"):
        content["training"][0]["subject"] = subject
        path.write_text(json.dumps(content))
        with pytest.raises(UserError, match="control character"):
            read_dataset(path)


def test_the_name_of_a_manifest_is_no_path(tmp_path):
    path = make_learn2reg(tmp_path, name="../../up/L2R \x1b[2J")
    assert read_dataset(path).name == "-..-up-L2R -[2J"
    assert read_dataset(make_learn2reg(tmp_path, name="..")).name == "dataset"
    named = make_learn2reg(tmp_path, labels={"1": "liver\x1b]0;"})
    assert read_dataset(named).labels == {1: "liver ]0;"}


def test_preprocessed_scans_stay_in_their_folder(tmp_path):
    path = make_learn2reg(tmp_path / "set")
    write_scan(tmp_path / "beyond" / "scan.nii.gz")
    content = json.loads(path.read_text())
    content["training"][0] = {"image": "./../beyond/scan.nii.gz"}
    path.write_text(json.dumps(content))
    dataset = read_dataset(path)
    places = [target.path for case in dataset.cases for target in targets(case, dataset.root)]
    assert Path("imagesTr/scan.nii.gz") in places
    assert not [place for place in places if place.is_absolute() or ".." in place.parts]


def test_the_list_of_a_download_does_not_reach_beyond_it(tmp_path):
    for image_path, label in (("../../secret.nii.gz", None), ("/secret.nii.gz", None), ("a.nii.gz", "../b.nii.gz")):
        entry = {"image": image_path} | ({"label": label} if label else {})
        listed = {"modality": {"0": "CT"}, "labels": {"0": "background"}, "training": [entry], "test": []}
        (tmp_path / "dataset.json").write_text(json.dumps(listed))
        with pytest.raises(UserError, match="outside of the download"):
            find_download("decathlon", tmp_path)


def test_links_of_a_download_do_not_lead_out_of_it(tmp_path):
    write_scan(tmp_path / "elsewhere" / "imaging.nii.gz")
    write_scan(tmp_path / "kits" / "store" / "imaging.nii.gz")
    case = tmp_path / "kits" / "case_00000"
    case.mkdir()
    (case / "imaging.nii.gz").symlink_to(tmp_path / "kits" / "store" / "imaging.nii.gz")
    assert len(find_download("kits19", tmp_path / "kits").scans) == 1
    (case / "segmentation.nii.gz").symlink_to(tmp_path / "elsewhere" / "imaging.nii.gz")
    with pytest.raises(UserError, match="outside of the download"):
        find_download("kits19", tmp_path / "kits")
    patient = tmp_path / "pancreas" / "PANCREAS_0001"
    patient.mkdir(parents=True)
    classic_series(tmp_path / "elsewhere" / "series", ramp(3))
    (patient / "series").symlink_to(tmp_path / "elsewhere" / "series")
    with pytest.raises(UserError, match=r"outside of the download|0 folders with DICOM"):  # by version of Python
        find_download("pancreas-ct", tmp_path / "pancreas")


def test_records_cannot_vouch_for_files_elsewhere(tmp_path):
    (tmp_path / "run").mkdir()
    secret = tmp_path / "secret"
    secret.write_bytes(b"x")
    told = {"bytes": 1, "sha256": hashlib.sha256(b"x").hexdigest()}
    record, run = tmp_path / "record.json", tmp_path / "run"
    for files in ({"../secret": told}, {str(secret): told}, {}, [], {"a": 1}, {"": told}, {".": told}):
        record.write_text(json.dumps({"origin": {}, "files": files}))
        assert Kept(record, run, {}).find() is None
    record.write_text(json.dumps({"origin": {}, "files": {"secret": told}}))
    assert Kept(record, tmp_path, {}).find() is not None


# ---- archives, headers and folders ----


def test_archives_unpack_nowhere_else(tmp_path):
    path = tmp_path / "fields.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../escaped.txt", "out")
        archive.writestr("/rooted.txt", "out")
        link = zipfile.ZipInfo("link")
        link.create_system, link.external_attr = 3, 0o120777 << 16
        archive.writestr(link, str(tmp_path))
    with opened(path) as folder:
        found = sorted(entry.relative_to(folder).as_posix() for entry in folder.rglob("*"))
        assert found == ["escaped.txt", "link", "rooted.txt"]
        assert not (folder / "link").is_symlink()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["fields.zip"]


def test_archives_that_swell_are_not_unpacked(tmp_path, monkeypatch):
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(4_000_000))
    monkeypatch.setattr(bounds, "HARMLESS_BYTES", 1_000_000)
    with pytest.raises(UserError, match="would unpack to"), opened(path):
        pass
    monkeypatch.setattr(bounds, "MOST_MEMBERS", 0)
    with pytest.raises(UserError, match="1 files"), opened(path):
        pass


def test_arrays_that_swell_are_not_unpacked(tmp_path):
    path = tmp_path / "disp.npz"
    np.savez_compressed(path, np.zeros((3, 100, 100, 100)))
    with pytest.raises(UserError, match="unpacks to 24 MB"):
        read_transform(path, grid=GRID)
    np.savez_compressed(path, np.array([{"a": 1}], dtype=object))
    with pytest.raises(UserError, match="allow_pickle=False"):
        read_transform(path, grid=GRID)


def test_layers_that_swell_are_not_unpacked(tmp_path, monkeypatch):
    path = tmp_path / "layers.npz"
    np.savez_compressed(path, labels=np.zeros((1, 90, 100, 100), np.uint8), affine=np.eye(4), about="{}")
    monkeypatch.setattr(bounds, "HARMLESS_VALUES", 500_000)
    with pytest.raises(UserError, match="unpacks to 1 MB, more than the 0 MB it can hold"):
        load_layers(path)


@pytest.fixture
def secret(tmp_path) -> Path:
    path = tmp_path / "secret.raw"
    path.write_bytes(bytes(range(27)))
    return path


@pytest.mark.parametrize("where", ["../secret.raw", "{secret}", "LIST\n../secret.raw", "link.raw"])
def test_headers_name_no_voxels_elsewhere(tmp_path, secret, where):
    folder = tmp_path / "scan"
    folder.mkdir()
    (folder / "link.raw").symlink_to(secret)
    where = where.format(secret=secret)
    path = folder / "scan.mhd"
    path.write_text(
        f"ObjectType = Image\nNDims = 3\nDimSize = 3 3 3\nElementType = MET_UCHAR\nElementDataFile = {where}\n"
    )
    with pytest.raises(UserError, match="side by side"):
        read_image(path)
    nrrd = folder / "scan.nhdr"
    head = "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 3 3 3\nencoding: raw"
    nrrd.write_text(f"{head}\ndata file: {where.replace('LIST', 'LIST ')}\n")
    with pytest.raises(UserError, match="side by side"):
        read_image(nrrd)
    with pytest.raises(UserError, match="side by side"):
        read_transform(path)


def test_headers_may_name_voxels_beside_them(tmp_path):
    scan = sitk.GetImageFromArray(np.arange(27, dtype=np.uint8).reshape(3, 3, 3))
    for name in ("scan.mhd", "scan.mha", "scan.nhdr", "scan.nrrd"):
        sitk.WriteImage(scan, str(tmp_path / name))
        assert read_image(tmp_path / name).data.max() == 26


@pytest.mark.parametrize("kind", ["external link", "soft link", "external storage"])
def test_hdf5_files_bring_their_values_along(tmp_path, kind):
    path, other = tmp_path / "t.h5", tmp_path / "other.h5"
    for file in (path, other):
        write_transform(Affine.translation([1, 2, 3]), file, "itk-h5", GRID)
    assert np.allclose(read_transform(path).map_world(np.zeros((1, 3))), [[1, 2, 3]])
    with h5py.File(path, "r+") as file:
        place = "TransformGroup/1/TransformParameters"
        del file[place]
        if kind == "external link":
            file[place] = h5py.ExternalLink("other.h5", place)
        elif kind == "soft link":
            file[place] = h5py.SoftLink("/ITKVersion")
        else:
            file.create_dataset(place, (12,), np.float64, external=[(str(other), 0, 96)])
    with pytest.raises(UserError, match="in one file"):
        read_transform(path)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_headers_that_lie_about_their_size_ask_for_no_memory(tmp_path, suffix):
    path = tmp_path / f"scan{suffix}"
    scan = nibabel.Nifti1Image(np.zeros((2, 2, 2), np.float32), np.eye(4))
    content = bytearray(scan.to_bytes())
    content[42:48] = np.full(3, 32767, "<i2").tobytes()
    path.write_bytes(gzip.compress(bytes(content)) if suffix == ".nii.gz" else bytes(content))
    with pytest.raises(UserError, match="do not hold the 140724603846652 bytes"):
        read_image(path)
    with pytest.raises(UserError, match="do not hold"):
        read_transform(path, grid=GRID)


def swelling(folder: Path) -> dict[str, Path]:
    """A file of each kind whose few bytes tell of 8 MB of zeros."""
    zeros, size = bytes(8_000_000), (200, 200, 200)
    nifti = nibabel.Nifti1Image(np.zeros(size, np.uint8), np.eye(4)).to_bytes()
    mgh = nibabel.MGHImage(np.zeros(size, np.uint8), np.eye(4)).to_bytes()
    deflated = zlib.compress(zeros)
    meta = (
        "ObjectType = Image\nNDims = 3\nBinaryData = True\nCompressedData = True\nCompressedDataSize = {size}\n"
        "DimSize = {}\nElementType = MET_UCHAR\n"
    )
    files = {
        "scan.nii.gz": gzip.compress(nifti),
        "scan.mgz": gzip.compress(mgh),
        "scan.nrrd": b"NRRD0004\ntype: uchar\ndimension: 3\nsizes: 200 200 200\nencoding: gzip\n\n"
        + gzip.compress(zeros),
        "scan.mha": (meta.format("200 200 200", size=len(deflated)) + "ElementDataFile = LOCAL\n").encode() + deflated,
        "hidden.mha": (meta.format("5 5 5", size=len(deflated)) + "ElementDataFile = LOCAL\n").encode() + deflated,
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    tifffile.imwrite(folder / "scan.tif", np.zeros((2800, 2800), np.uint8), compression="zlib")
    Picture.fromarray(np.zeros((2800, 2800), np.uint8)).save(folder / "scan.png")
    with h5py.File(folder / "scan.h5", "w") as file:
        file.create_dataset("ITKImage/0/VoxelData", size, np.uint8, chunks=(10, 200, 200), compression="gzip")
    return {name: folder / name for name in (*files, "scan.tif", "scan.png", "scan.h5")}


def test_scans_that_swell_are_not_read(tmp_path, monkeypatch):
    files = swelling(tmp_path)
    for name in ("scan.nii.gz", "scan.mgz", "scan.nrrd", "scan.mha", "scan.tif", "scan.png"):
        with pytest.raises(UserError, match="every voxel has the value 0"):
            read_image(files[name])
    monkeypatch.setattr(bounds, "HARMLESS_VALUES", 1_000_000)
    for path in files.values():
        with pytest.raises(UserError, match=r"would unpack to .* genuine"):
            read_image(path)


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("a.mha", "ObjectType = Image\nNDims = 200\nDimSize = {}\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n"),
        (
            "b.mha",
            "ObjectType = Image\nNDims = 3\nDimSize = -3 3 3\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n",
        ),
        ("c.mha", "ObjectType = Image\nNDims = 3\nDimSize = 0 3 3\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n"),
        ("d.mha", "ObjectType = Image\nNDims = 3\nDimSize = 3 3 3\nElementType = MET_UCHAR\n"),
        ("e.nrrd", "NRRD0004\ntype: uchar\ndimension: 200\nsizes: {}\nencoding: raw\n\n"),
        ("f.nrrd", "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 3 99999999999 3\nencoding: raw\n\n"),
        ("g.nrrd", "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 3 3 3\nencoding: raw\n"),
    ],
)
def test_headers_of_impossible_axes_are_refused(tmp_path, name, head):
    (tmp_path / name).write_bytes(head.format("2 " * 200).encode() + bytes(range(27)))
    with pytest.raises(UserError, match=r"its header (announces|has no end)|odd"):
        read_image(tmp_path / name)


@pytest.mark.parametrize(
    "head",
    [
        "\n\nElementDataFile = {}\n",
        "Comment = " + "x" * 100_000 + "\nElementDataFile = {}\n",
        "ElementDataFile\n = {}\nElementDataFile = LOCAL\n",
        "Comment = x\rElementDataFile = {}\nElementDataFile = LOCAL\n",
        "elementdatafile = LOCAL\nElementDataFile = {}\n",
        "ElementDataFile = ../secret%d.raw 1 3 1\n",
    ],
)
def test_no_form_of_a_header_leads_elsewhere(tmp_path, secret, head):
    folder = tmp_path / "scan"
    folder.mkdir()
    path = folder / "scan.mhd"
    start = "ObjectType = Image\nNDims = 3\nDimSize = 3 3 3\nElementType = MET_UCHAR\n"
    path.write_bytes((start + head.format("../secret.raw")).encode())
    with pytest.raises(UserError, match=r"side by side|odd ElementDataFile"):
        read_image(path)


@pytest.mark.posix
@pytest.mark.parametrize("name", ["p.nrrd", "p.mha", "p.nii", "p.nii.gz", "p.mgz", "p.tif", "p.png", "p.h5", "p.xyz"])
def test_pipes_are_not_waited_for(tmp_path, name):
    os.mkfifo(tmp_path / name)
    for read in (read_image, read_labels, read_mask, read_grid):
        with pytest.raises(UserError, match="pipe, socket or device"):
            read(tmp_path / name)


@pytest.mark.posix
def test_pipes_beside_a_header_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "scan.raw")
    (tmp_path / "scan.mhd").write_text(
        "ObjectType = Image\nNDims = 3\nDimSize = 3 3 3\nElementType = MET_UCHAR\nElementDataFile = scan.raw\n"
    )
    nibabel.Nifti1Pair(np.zeros((3, 3, 3), np.uint8), np.eye(4)).to_filename(tmp_path / "pair.hdr")
    (tmp_path / "pair.img").unlink()
    os.mkfifo(tmp_path / "pair.img")
    for name in ("scan.mhd", "pair.hdr"):
        with pytest.raises(UserError, match="pipe, socket or device"):
            read_image(tmp_path / name)


def test_damaged_files_leave_one_line_on_stderr(tmp_path):
    """What C libraries write reaches the terminal only in a process of its own."""
    scan = sitk.GetImageFromArray(np.arange(27_000, dtype=np.uint16).reshape(30, 30, 30))
    names = ["scan.mha", "scan.nrrd", "scan.tif", "scan.h5"]
    for name in names:
        sitk.WriteImage(scan, str(tmp_path / name))
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) // 2])
    (tmp_path / "text.nii").write_text("no image " * 100)
    code = (
        "import sys\nfrom anamorph.cli.main import app\n"
        "for name in sys.argv[1:]:\n"
        "    try: app(['inspect', name])\n"
        "    except SystemExit as end: assert end.code == 2\n"
    )
    paths = [str(tmp_path / name) for name in (*names, "text.nii")]
    done = subprocess.run(
        [sys.executable, "-c", code, *paths], capture_output=True, text=True, timeout=100, check=False
    )
    lines = done.stderr.splitlines()
    assert len(lines) == len(paths), done.stderr
    assert all(line.startswith("error: ") and Path(p).name in line for line, p in zip(lines, paths, strict=True))


# ---- the terminal ----


def test_names_do_not_steer_the_terminal(capsys, tmp_path):
    name = "\x1b[2J\x07[/bold]:smile:"
    assert plain(f"a\tb\n{name}") == "a\tb\n?[2J?[/bold]:smile:"
    say(name)
    table = make_table("scan", title="[/x] title")
    table.add_row("[/bold] :smile:")
    show(table, name)
    with progress_bar(quiet=False) as tell:
        tell("pair [/bold]", 0.5)
    printed = capsys.readouterr()
    assert "\x1b" not in printed.out + printed.err
    assert "[/bold] :smile:" in printed.out
    done = CliRunner().invoke(app, ["inspect", str(tmp_path / "\x1b[2J.nii.gz")])
    assert done.exit_code == 2
    assert "\x1b" not in done.stderr
