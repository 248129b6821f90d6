"""Every reader with a sound input and the damage that fits its format."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import nibabel
import numpy as np
import SimpleITK as sitk

import fuzz_mutations as damage
from anamorph.geometry import Grid
from anamorph.image import Points
from geometries import GRIDS, small_affine, smooth_field

GRID = Grid((9, 8, 7), GRIDS["oblique"].affine)


@dataclass(frozen=True)
class Reader:
    """One format of one reader.

    Args:
        write: puts a sound input into an empty folder and tells what is to be read.
        read: what must give a value, or one line.
        mutate: damages the content of one file.
        files: which files are damaged, as a pattern.
    """

    name: str
    write: Callable[[Path], Path]
    read: Callable[[Path], Any]
    mutate: damage.Mutation
    files: str = "*"

    @property
    def kind(self) -> str:
        """What is read, without the format."""
        return self.name.partition(" ")[0]


@dataclass(frozen=True)
class Seed:
    """A sound input in memory: files by relative path, and which of them is read (the folder, if empty)."""

    files: dict[str, bytes]
    read: str

    def put(self, folder: Path) -> Path:
        for name, content in self.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        return folder / self.read


@cache
def seed_of(name: str) -> Seed:
    with TemporaryDirectory() as place:
        folder = Path(place)
        read = READERS[name].write(folder)
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        return Seed(files, read.relative_to(folder).as_posix())


def damaged(name: str, random: Random) -> Seed:
    """A sound input with one file damaged once or twice; now and then under the suffix of another format."""
    reader, seed = READERS[name], seed_of(name)
    with TemporaryDirectory() as place:  # patterns are those of pathlib
        seed.put(Path(place))
        targets = [path.relative_to(place).as_posix() for path in Path(place).glob(reader.files) if path.is_file()]
    target = random.choice(sorted(targets))
    content = seed.files[target]
    for _ in range(random.choice((1, 1, 1, 2))):
        try:
            content = reader.mutate(content, random)
        except Exception:  # a second damage to what is no longer of the format
            content = damage.any_bytes(content, random)
    files = seed.files | {target: content[: damage.MOST_BYTES]}
    if target == seed.read and random.random() < 0.05:
        other = random.choice([one for one in READERS.values() if one.kind == reader.kind])
        suffix = "".join(Path(seed_of(other.name).read).suffixes)
        renamed = target.split(".")[0] + suffix
        files[renamed] = files.pop(target)
        return Seed(files, renamed)
    return Seed(files, seed.read)


# ---- images ----


def scan() -> np.ndarray:
    return np.random.default_rng(0).integers(-1000, 1000, GRID.shape).astype(np.int16)


def organs() -> np.ndarray:
    return (np.indices(GRID.shape)[0] // 3).astype(np.uint8)


def body() -> np.ndarray:
    return (organs() > 0).astype(np.uint8)


def write_image(name: str, data: Callable[[], np.ndarray] = scan) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = folder / name
        if name.endswith((".nii", ".nii.gz", ".img", ".mgz")):
            kinds = {".img": nibabel.Nifti1Pair, ".mgz": nibabel.MGHImage}
            kinds.get(path.suffix, nibabel.Nifti1Image)(data(), GRID.affine).to_filename(path)
        else:
            flat = name.endswith((".png", ".tif"))
            array = data()[:, :, 0].clip(0).astype(np.uint8) if name.endswith(".png") else data().T
            image = sitk.GetImageFromArray(array)
            if not flat:
                image.SetSpacing((1.5, 2.0, 2.5))
            sitk.WriteImage(image, str(path))
        return path

    return write


def write_seg_nrrd(folder: Path) -> Path:
    head = (
        "NRRD0004\ntype: unsigned char\ndimension: 3\nspace: left-posterior-superior\nsizes: 9 8 7\n"
        "space directions: (1,0,0) (0,1,0) (0,0,1)\nkinds: domain domain domain\nencoding: raw\n"
        "space origin: (0,0,0)\nSegment0_ID:=Segment_1\nSegment0_LabelValue:=1\nSegment0_Layer:=0\n"
        "Segment0_Name:=liver\nSegment1_ID:=Segment_2\nSegment1_LabelValue:=2\nSegment1_Layer:=0\n"
        "Segment1_Name:=spleen\n\n"
    )
    (folder / "s.seg.nrrd").write_bytes(head.encode() + organs().T.tobytes())
    return folder / "s.seg.nrrd"


def write_dicom(folder: Path) -> Path:
    from dicom_files import classic_series

    classic_series(folder)
    return folder


def write_enhanced(folder: Path) -> Path:
    from dicom_files import enhanced_file

    enhanced_file(folder / "e.dcm")
    return folder / "e.dcm"


def write_structure_set(folder: Path) -> Path:
    from radiotherapy_files import ct_series, outlines, sphere, structure_set

    ct_series(folder / "ct", np.arange(6 * 10 * 12).reshape(6, 10, 12))
    scan = read_image(folder / "ct")
    ball = outlines(scan.grid, sphere(scan.grid, scan.grid.centre_mm, 9.0))
    structure_set(folder / "ct" / "rs.dcm", {"a": ball, "b": ball[:3]})
    return folder / "ct"


def write_segmentation(folder: Path) -> Path:
    from radiotherapy_files import ct_series, segmentation

    ct_series(folder / "ct", np.arange(6 * 10 * 12).reshape(6, 10, 12))
    scan = read_image(folder / "ct")
    return segmentation(folder / "seg.dcm", folder / "ct", {"a": scan.data[0] > 300}, "BINARY")


def write_registration(folder: Path) -> Path:
    from anamorph.transforms.files import write_transform
    from radiotherapy_files import ct_series

    ct_series(folder / "ct", np.arange(6 * 10 * 12).reshape(6, 10, 12))
    grid = read_image(folder / "ct").grid
    scans = str(folder / "ct"), str(folder / "ct")
    write_transform(smooth_field(grid), folder / "reg.dcm", "dicom", grid, scans=scans)
    return folder / "reg.dcm"


# ---- points ----

POINTS = Points(GRID.voxel_to_world(np.array([[1.0, 2, 3], [4, 5, 6], [7, 3, 1]])), ("a", "b", "c"))


def write_text(name: str, text: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_text(text, encoding="utf-8")
        return folder / name

    return write


def write_points(name: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        from anamorph.image.point_files import write_points

        write_points(POINTS, folder / name)
        return folder / name

    return write


# ---- transforms ----


def write_transform(name: str, kind: str, dense: bool = True) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        from anamorph.transforms import Composite
        from anamorph.transforms.files import write_transform

        affine = small_affine(GRID)
        grid = Grid((8, 8, 6), GRID.affine) if "2020" in kind else GRID
        transform = Composite.of(affine, smooth_field(grid)) if dense else affine
        write_transform(transform, folder / name, kind, grid, grid)
        return folder / name

    return write


def write_itk_image_field(folder: Path) -> Path:
    field = sitk.GetImageFromArray(np.random.default_rng(0).normal(0, 1, (7, 8, 9, 3)), isVector=True)
    sitk.WriteImage(field, str(folder / "field.nrrd"))
    return folder / "field.nrrd"


def read_transform(path: Path) -> Any:
    from anamorph.transforms.files import read_transform

    grid = Grid((8, 8, 6), GRID.affine) if "2020" in path.name else GRID
    return read_transform(path, grid=grid, moving_grid=grid).map_world(np.zeros((2, 3)))


def write_morph(folder: Path) -> Path:
    """A morph of FreeSurfer, as GCAMwrite stores it."""
    import gzip

    from anamorph.transforms.files import m3z

    header, nodes, geometry = np.zeros(1, m3z.HEADER), np.zeros(GRID.shape, m3z.NODE), np.zeros(2, m3z.GEOMETRY)
    header["version"], header["nodes"], header["spacing"] = 1, GRID.shape, 1
    nodes["start"] = nodes["place"] = np.moveaxis(np.indices(GRID.shape), 0, -1)
    geometry["valid"], geometry["size"], geometry["voxel"] = 1, GRID.shape, GRID.spacing_mm
    geometry["axes"] = GRID.directions.T
    tags = [np.array(n, ">i4").tobytes() for n in (10, 11, m3z.VOXELS)]
    content = header.tobytes() + nodes.tobytes() + tags[0] + geometry.tobytes() + tags[1] + tags[2]
    (folder / "t.m3z").write_bytes(gzip.compress(content, mtime=0))
    return folder / "t.m3z"


# ---- shapes ----


def write_streamlines(name: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        lines = [np.arange(12, dtype=np.float32).reshape(4, 3), np.arange(6, dtype=np.float32).reshape(2, 3)]
        made = nibabel.streamlines.Tractogram(lines, affine_to_rasmm=np.eye(4))
        nibabel.streamlines.save(made, str(folder / name))
        return folder / name

    return write


def write_surface(folder: Path) -> Path:
    arrays = [
        nibabel.gifti.GiftiDataArray(np.arange(12, dtype=np.float32).reshape(4, 3), "NIFTI_INTENT_POINTSET"),
        nibabel.gifti.GiftiDataArray(np.array([[0, 1, 2], [1, 2, 3]], np.int32), "NIFTI_INTENT_TRIANGLE"),
    ]
    nibabel.save(nibabel.GiftiImage(darrays=arrays), folder / "s.surf.gii")
    return folder / "s.surf.gii"


VTK = (
    "# vtk DataFile Version 3.0\nt\nASCII\nDATASET POLYDATA\nPOINTS 3 float\n1 2 3\n4 5 6\n7 8 9\nLINES 1 4\n3 0 1 2\n"
)
STL = "solid t\nfacet normal 0 0 1\nouter loop\nvertex 0 0 0\nvertex 1 0 0\nvertex 0 1 0\nendloop\nendfacet\nendsolid\n"


# ---- models ----


def write_model(kind: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        from anamorph.networks.model import ModelCard, save_model
        from anamorph.networks.preprocessing import Preprocessing
        from anamorph.networks.symmetric_network import SegmentationNetwork, SymmetricNetwork

        own = {"classes": 3} if kind == "segment" else {"deep_supervision": False}
        architecture = {"inputs": 1, "mult": 1, "convolutions": [1, 1, 1], "activation": "leaky", **own}
        network = (SegmentationNetwork if kind == "segment" else SymmetricNetwork)(**architecture)
        preprocessing = Preprocessing(spacing_mm=2.0, shape=(16, 16, 16)).as_json()
        card = ModelCard("m", kind, architecture=architecture, preprocessing=preprocessing, labels={1: "liver"})
        save_model(folder, network.state_dict(), card)
        return folder

    return write


def read_model(folder: Path) -> Any:
    from anamorph.networks.architecture import build_network
    from anamorph.networks.model import load_weights

    # A damaged file of weights has the check sum of a sound one here: what lies behind the check is tried too.
    _renew_sum(folder)
    card, state = load_weights(folder)
    return build_network(card, state)


def _renew_sum(folder: Path) -> None:
    try:
        card = json.loads((folder / "model.json").read_text())
        card["sha256"] = hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest()
        (folder / "model.json").write_text(json.dumps(card))
    except (ValueError, TypeError, RecursionError):
        return


# ---- lists, plans, results ----


def write_dataset(folder: Path) -> Path:
    from small_dataset import make_learn2reg

    return make_learn2reg(folder, subjects=4)


PLAN = """
[[dataset]]
manifest = "Task_dataset.json"
pairs = "val"
labels = [1, 2]
both_directions = true

[[method]]
name = "convex"
label = "fast"
preset = "auto"
device = "cpu"
seed = 3

[method.settings]
init = "world"
search_scales = [2]
search_cells = [2]
search_radius_mm = [0.0]
refine_iterations = [2, 2]

[output]
warped = true
metrics = true

[run]
attempts = 2
threads = 1
"""


def write_plan(folder: Path) -> Path:
    write_dataset(folder)
    return write_text("plan.toml", PLAN)(folder)


def write_pairs_table(folder: Path) -> Path:
    text = "id,fixed,moving,fixed_label,moving_label\nA,a.nii,b.nii,la.nii,lb.nii\nB,b.nii,a.nii,,\n"
    return write_text("pairs.csv", text)(folder)


def read_pairs_table(path: Path) -> Any:
    from anamorph.workflows.cohort.pairs import PairsTable, chosen_pairs

    return chosen_pairs(PairsTable(table=path))


def results() -> dict[str, Any]:
    def scores(shift: float) -> dict[str, Any]:
        values = [0.7 + shift, 0.8 + shift]
        return {
            "LogJacDetStd": {"mean": 0.1, "detailed": [0.1]},
            "DSC": {"mean": 0.75 + shift, "detailed": values, "30": 0.7},
            "num_foldings": {"mean": 0.0, "detailed": 0.0},
        }

    keys = ("0001_0000<--0002_0000", "0003_0000<--0004_0000")
    measures = [
        {"name": "LogJacDetStd", "metric": "sdlogj", "labels": [], "dest": ""},
        {"name": "DSC", "metric": "dice", "labels": [1, 2], "dest": ""},
    ]
    cases = {key: scores(0.05 * n) for n, key in enumerate(keys)}
    correct = {"aggregates": {}, "cases": {key: {"folding": {"mean": 0.0, "detailed": [0.0]}} for key in keys}}
    own = {
        "version": "0.1.0",
        "method": "mine",
        "split": "val",
        "masked": False,
        "evaluation_methods": measures,
        "labels": {"1": "liver", "2": "spleen"},
        "pairs": {key: dict(zip(("fixed", "moving"), key.split("<--"), strict=True)) for key in keys},
        "errors": {},
        "verdicts": {key: {"status": "PASS", "reasons": []} for key in keys},
        "correct": correct,
        "baseline": {"aggregates": {}, "cases": {key: scores(-0.3) for key in keys}, "correct": correct},
    }
    aggregates = {"LogJacDetStd": {"mean": 0.1, "std": 0.0, "30": 0.1}, "DSC": {"mean": 0.75, "std": 0.0, "30": 0.7}}
    return {"name": "Task", "aggregates": aggregates, "cases": cases, "eval_version": "2.0", "anamorph": own}


def read_results(path: Path) -> Any:
    from anamorph.evaluation.cohort_files import read_evaluation
    from anamorph.evaluation.ranking import rank

    other = path.with_name("other.json")
    try:
        other.write_text(json.dumps(results() | {"anamorph": results()["anamorph"] | {"method": "theirs"}}))
        return rank([read_evaluation(path), read_evaluation(other)])
    finally:
        other.unlink()


def write_evaluation_config(folder: Path) -> Path:
    write_dataset(folder)
    content = {
        "task_name": "Task",
        "evaluation_methods": [
            {"name": "DSC", "metric": "dice", "labels": [1, 2]},
            {"name": "TRE", "metric": "tre", "dest": "landmarks"},
        ],
        "eval_pairs": [{"fixed": "./imagesTr/Task_0003_0000.nii.gz", "moving": "./imagesTr/Task_0004_0000.nii.gz"}],
        "expected_shape": [8, 9, 7, 3],
        "masked_evaluation": False,
    }
    return write_text("config.json", json.dumps(content))(folder)


def read_evaluation_config(path: Path) -> Any:
    from anamorph.data import read_dataset
    from anamorph.evaluation.learn2reg.config import read_config

    return read_config(path, read_dataset(path.parent / "Task_dataset.json"))


def write_preprocess_record(folder: Path) -> Path:
    from anamorph.transforms import Affine
    from anamorph.workflows.preprocess.record import ScanRecord

    record = ScanRecord("0001_0000", GRID, GRIDS["oblique"], Affine.translation([1.0, 2, 3]))
    return write_text("record.json", json.dumps(record.as_json()))(folder)


def read_preprocess_record(path: Path) -> Any:
    from anamorph.workflows.preprocess.record import read_record

    return read_record(path)


def read_label_table(path: Path) -> Any:
    from anamorph.classification.registrations import read_label_table

    return read_label_table(path)


def write_layers(folder: Path) -> Path:
    from anamorph.supervoxels import Layers
    from anamorph.supervoxels.files import save_layers

    save_layers(Layers(np.stack([organs(), organs()]), GRID, {"method": "slic"}), folder / "layers.npz")
    return folder / "layers.npz"


def read_layers(path: Path) -> Any:
    from anamorph.supervoxels.files import load_layers

    return load_layers(path)


def write_run(folder: Path) -> Path:
    from anamorph.batch.records import Failure, Record, Store

    write_plan(folder)
    store = Store(folder / "run")
    store.begin(folder / "plan.toml", folder)
    key = status_of(store).jobs[0].key
    scores = {"compatible": {"DSC": {"mean": 0.8, "detailed": [0.8]}}, "correct": {}}
    metrics = {
        "measures": [{"name": "DSC", "metric": "dice", "labels": [1], "dest": ""}],
        "scores": scores,
        "baseline": scores,
        "verdict": "PASS",
        "reasons": [],
        "inverse_consistency_mm": {"mean": 0.1},
    }
    result = {"pair": "A", "method": "fast", "files": {}, "warnings": [], "metrics": metrics}
    run = {"seconds": 1.0, "registration_seconds": 1.0, "worker": "", "host": "", "finished": "", "attempt": 1}
    store.keep([Record(key, result, run)])
    store.note(Failure(status_of(store).jobs[1].key, "B", "fast", "memory ran out"))
    (folder / "run" / "inputs.json").unlink()
    return folder / "run"


def status_of(store: Any) -> Any:
    """What is done, the scans looked for beside the folder, wherever the seed was put."""
    from anamorph.workflows.cohort.plan import read_plan
    from anamorph.workflows.cohort.run import find_status

    plan, _ = store.plan()
    return find_status(store, read_plan(plan, store.folder.parent), quick=True)


def any_record(content: bytes, random: Random) -> bytes:
    """The content of a line of records, with its check sum made right again."""
    text = content.partition(b" ")[2].strip()
    if not text or random.random() < 0.2:
        return damage.any_json(content, random) if content.startswith(b"{") else damage.any_text(content, random)
    text = damage.any_json(text, random).replace(b"\n", b" ")
    return hashlib.sha256(text).hexdigest().encode() + b" " + text + b"\n"


def read_run(folder: Path) -> Any:
    from anamorph.batch.records import Store
    from anamorph.workflows.cohort.report import evaluations_of, rows_of

    try:
        status = status_of(Store(folder))
        return evaluations_of(status), status.as_dict(), rows_of(status)
    finally:  # hashes are kept on purpose
        (folder / "inputs.json").unlink(missing_ok=True)


def write_zip(folder: Path) -> Path:
    write_transform("disp_0003_0004.nii.gz", "learn2reg")(folder)
    with zipfile.ZipFile(folder / "fields.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(folder / "disp_0003_0004.nii.gz", "submission/disp_0003_0004.nii.gz")
    (folder / "disp_0003_0004.nii.gz").unlink()
    return folder / "fields.zip"


def read_zip(path: Path) -> Any:
    from anamorph.evaluation.predictions import opened

    with opened(path) as folder:
        return sorted(entry.name for entry in folder.rglob("*"))


def read_with(module: str, function: str, **given: Any) -> Callable[[Path], Any]:
    def read(path: Path) -> Any:
        from importlib import import_module

        return getattr(import_module(f"anamorph.{module}"), function)(path, **given)

    return read


read_image = read_with("image.read", "read_image")
read_labels = read_with("image.read", "read_labels")
read_shape = read_with("image.shape_files", "read_shape")
read_points = read_with("image.read", "read_points", grid=GRID)

MARKUPS = {
    "@schema": "markups",
    "markups": [
        {
            "type": "Fiducial",
            "coordinateSystem": "LPS",
            "controlPoints": [
                {"id": str(n), "label": f"p{n}", "position": [1.0 * n, 2.0, 3.0], "positionStatus": "defined"}
                for n in range(3)
            ],
        }
    ],
}

_ALL = (
    Reader("image .nii", write_image("scan.nii"), read_image, damage.NIFTI),
    Reader("image .nii.gz", write_image("scan.nii.gz"), read_image, damage.packed(damage.NIFTI)),
    Reader("image .img", write_image("scan.img"), read_image, damage.NIFTI, "*.hdr"),
    Reader("image .mgz", write_image("scan.mgz"), read_image, damage.packed(damage.any_bytes)),
    Reader("image .nrrd", write_image("scan.nrrd"), read_image, damage.headed),
    Reader("image .mha", write_image("scan.mha"), read_image, damage.headed),
    Reader("image .mhd", write_image("scan.mhd"), read_image, damage.any_text, "*.mhd"),
    Reader("image .tif", write_image("scan.tif"), read_image, damage.any_bytes),
    Reader("image .png", write_image("scan.png"), read_image, damage.any_bytes),
    Reader("image DICOM series", write_dicom, read_image, damage.dicom),
    Reader("image DICOM enhanced", write_enhanced, read_image, damage.dicom),
    Reader("grid .nii", write_image("scan.nii"), read_with("image.read", "read_grid"), damage.NIFTI),
    Reader("labels .nii.gz", write_image("l.nii.gz", organs), read_labels, damage.packed(damage.NIFTI)),
    Reader("labels .seg.nrrd", write_seg_nrrd, read_labels, damage.headed),
    Reader("labels RTSTRUCT", write_structure_set, read_labels, damage.dicom, "ct/rs.dcm"),
    Reader("labels SEG", write_segmentation, read_labels, damage.dicom, "seg.dcm"),
    Reader("mask .nii", write_image("m.nii", body), read_with("image.read", "read_mask"), damage.NIFTI),
    Reader("points .csv", write_points("p.csv"), read_points, damage.any_text),
    Reader("points .csv, voxels", write_text("p.csv", "1,2,3\n4,5,6\n"), read_points, damage.any_text),
    Reader("points .csv, ANTs", write_text("p.csv", "x,y,z,t,label\n1,2,3,0,a\n4,5,6,0,b\n"), read_points,
           damage.any_text),
    Reader("points .fcsv", write_points("p.fcsv"), read_points, damage.any_text),
    Reader("points .mrk.json", write_text("p.mrk.json", json.dumps(MARKUPS)), read_points, damage.any_json),
    Reader("points .pts", write_text("p.pts", "point\n3\n1 2 3\n4 5 6\n7 8 9\n"), read_points, damage.any_text),
    Reader("points .nii.gz", write_image("p.nii.gz", organs), read_points, damage.packed(damage.NIFTI)),
    Reader("transform .nii.gz, ITK", write_transform("t.nii.gz", "itk"), read_transform, damage.packed(damage.NIFTI)),
    Reader("transform .nii, Learn2Reg", write_transform("t.nii", "learn2reg"), read_transform, damage.NIFTI),
    Reader("transform .nrrd", write_itk_image_field, read_transform, damage.headed),
    Reader("transform .h5", write_transform("t.h5", "itk-h5"), read_transform, damage.hdf5),
    Reader("transform .dcm", write_registration, read_transform, damage.dicom, "reg.dcm"),
    Reader("transform .tfm", write_transform("t.tfm", "itk-tfm", dense=False), read_transform, damage.any_text),
    Reader("transform .mat", write_transform("t.mat", "itk-mat", dense=False), read_transform, damage.any_bytes),
    Reader("transform .npz", write_transform("t.npz", "learn2reg-npz"), read_transform, damage.npz),
    Reader("transform .npz, 2020", write_transform("2020.npz", "learn2reg-2020-npz"), read_transform, damage.npz),
    Reader("transform deeds field", write_transform("t_displacements.dat", "deeds"), read_transform, damage.any_bytes,
           "*.dat"),
    Reader("transform deeds matrix", write_transform("t_displacements.dat", "deeds"), read_transform, damage.any_text,
           "*.txt"),
    Reader("transform FSL matrix", write_transform("t.mat", "fsl", dense=False), read_transform, damage.any_text),
    Reader("transform FSL warp", write_transform("t.nii", "fsl-warp"), read_transform, damage.NIFTI),
    Reader("transform .lta", write_transform("t.lta", "freesurfer", dense=False), read_transform, damage.any_text),
    Reader("transform .m3z", write_morph, read_transform, damage.packed(damage.any_bytes)),
    Reader("transform AFNI matrix", write_transform("t.1D", "afni", dense=False), read_transform, damage.any_text),
    Reader("transform NiftyReg", write_transform("t.nii", "niftyreg"), read_transform, damage.NIFTI),
    Reader("transform .x5", write_transform("t.x5", "x5"), read_transform, damage.hdf5),
    Reader("transform elastix", write_transform("t.txt", "elastix"), read_transform, damage.any_text),
    Reader("shape .vtk", write_text("s.vtk", VTK), read_shape, damage.any_bytes),
    Reader("shape .stl", write_text("s.stl", STL), read_shape, damage.any_bytes),
    Reader("shape .tck", write_streamlines("s.tck"), read_shape, damage.any_bytes),
    Reader("shape .trk", write_streamlines("s.trk"), read_shape, damage.any_bytes),
    Reader("shape .surf.gii", write_surface, read_shape, damage.any_text),
    Reader("model card", write_model("symmetric"), read_model, damage.any_json, "model.json"),
    Reader("model card, segmentation", write_model("segment"), read_model, damage.any_json, "model.json"),
    Reader("model weights", write_model("symmetric"), read_model, damage.safetensors, "weights.safetensors"),
    Reader("manifest JSON", write_dataset, read_with("data", "read_dataset"), damage.any_json, "*.json"),
    Reader("plan TOML", write_plan, read_with("workflows.cohort.plan", "read_plan"), damage.any_text, "plan.toml"),
    Reader("pairs CSV", write_pairs_table, read_pairs_table, damage.any_text),
    Reader("results JSON", write_text("results.json", json.dumps(results())), read_results, damage.any_json),
    Reader("configuration JSON", write_evaluation_config, read_evaluation_config, damage.any_json, "config.json"),
    Reader("record JSON", write_preprocess_record, read_preprocess_record, damage.any_json),
    Reader("table CSV", write_text("t.csv", "subject,label\na,sick\nb,well\nc,sick\n"), read_label_table,
           damage.any_text),
    Reader("layers .npz", write_layers, read_layers, damage.npz),
    Reader("cohort records", write_run, read_run, any_record, "run/records/*/*.jsonl"),
    Reader("cohort marker", write_run, read_run, damage.any_json, "run/cohort.json"),
    Reader("cohort failures", write_run, read_run, damage.any_json, "run/failures/*/*.json"),
    Reader("archive .zip", write_zip, read_zip, damage.any_bytes),
)  # fmt: skip
READERS = {reader.name: reader for reader in _ALL}
