"""The scans and networks that are measured: phantoms, and networks of the published sizes that were never trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch

from anamorph.data import Case, Dataset, write_dataset
from anamorph.geometry import Grid
from anamorph.image.write import write_image
from anamorph.networks.architecture import architecture_of
from anamorph.networks.lindef_network import LindefNetwork
from anamorph.networks.model import ModelCard, save_model
from anamorph.networks.pdd_network import PddNetwork
from anamorph.networks.preprocessing import Preprocessing
from anamorph.networks.pwc_network import PwcNetwork
from anamorph.networks.supervoxel_network import CoordinateNetwork, SupervoxelNetwork
from anamorph.networks.symmetric_network import SymmetricNetwork
from anamorph.networks.trained import Kind
from anamorph.phantom import make_pair
from benchmarks.gpu.session import Session
from benchmarks.speed import PHANTOMS
from template_cohort import write_template_cohort
from voronoi_layers import voronoi_layers

NETWORKS: dict[str, Any] = {
    "symmetric": SymmetricNetwork,
    "pdd": PddNetwork,
    "lindef": LindefNetwork,
    "pwc": PwcNetwork,
    "slicreg": SupervoxelNetwork,
    "regression": CoordinateNetwork,
}
NARROW: dict[str, dict[str, Any]] = {
    "symmetric": {"mult": 1},
    "pdd": {"channels": 4, "control": [8, 8, 8], "width": 5},
    "lindef": {"width": 2},
    "pwc": {"mult": 1, "width": 4, "radius": 1},
    "slicreg": {"features": "unet", "layers": 2, "classes": 20},
    "regression": {"features": "unet"},
}
"""Of a rehearsal."""
FRAME = Grid((128, 104, 112), np.diag([3.0, 3.0, 3.0, 1.0]))
NARROW_FRAME = Grid((32, 28, 32), np.diag([12.0, 12.0, 12.0, 1.0]))
Shape = tuple[int, int, int]


def sizes(tiny: bool) -> Sequence[Shape]:
    """Of the pairs that are registered."""
    return ((28, 24, 26),) if tiny else tuple(PHANTOMS.values())[1:]


def pair_files(session: Session, shape: Shape) -> tuple[Path, Path]:
    """The fixed and the moving scan of a size."""
    name = "x".join(map(str, shape))
    return session.work / f"{name}-fixed.nii", session.work / f"{name}-moving.nii"


def model_folder(session: Session, method: str) -> Path:
    """Of a method that has a network."""
    return session.work / "models" / method


def data_sets(session: Session) -> dict[str, Path]:
    """What tasks with a template are trained on, and what all others are."""
    return {"pairs": session.work / "phantoms" / "Phantoms_dataset.json", "template": session.work / "template"}


def make(session: Session) -> None:
    """Write everything; the slices are made first, as they need fewer voxels."""
    _write_phantoms(data_sets(session)["pairs"], (28, 24, 26) if session.tiny else (96, 80, 88))
    write_template_cohort(data_sets(session)["template"], training=4, validation=1)
    for name in NETWORKS:
        _save_untrained(model_folder(session, name), name, session.tiny)
    for shape in sizes(session.tiny):
        pair = make_pair(shape, seed=1)
        for image, file in zip((pair.fixed, pair.moving), pair_files(session, shape), strict=True):
            write_image(image, file)


def _write_phantoms(path: Path, shape: Shape, pairs: int = 3) -> None:
    """Two scans of each of three bodies, with their organs; those of the last are for validation."""
    cases = []
    labels: set[int] = set()
    for seed in range(pairs):
        pair = make_pair(shape, seed=seed)
        for n, (image, organs) in enumerate(((pair.fixed, pair.fixed_labels), (pair.moving, pair.moving_labels))):
            subject = f"{seed + 1:04d}{n}"
            files = [path.parent / kind / f"Phantoms_{subject}_0000.nii.gz" for kind in ("imagesTr", "labelsTr")]
            for content, file in zip((image, organs), files, strict=True):
                write_image(content, file)
            labels |= set(organs.present())
            split = "validation" if seed + 1 == pairs else "training"
            cases.append(Case(subject, "0000", *files, split=split))  # type: ignore[arg-type]
    names = {value: str(value) for value in sorted(labels)}
    write_dataset(Dataset(path, path.parent, "Phantoms", {"0000": "CT"}, names, tuple(cases)), path)


def _save_untrained(folder: Path, kind: str, tiny: bool) -> None:
    torch.manual_seed(0)
    frame = NARROW_FRAME if tiny else FRAME
    given: dict[str, Any] = dict(NARROW[kind]) if tiny else {}
    reading, more = Preprocessing(), {}
    if of_template := kind in get_args(Kind):
        given["template"] = list(frame.shape)
        more = {"divisor": 500.0, "centre": "middle", "ct": True, "template": "0001_0000"}
        reading = Preprocessing(spacing_mm=float(frame.spacing_mm[0]), shape=frame.shape, normalise="none")
    architecture = {"network": given, **more} if of_template else given
    card = ModelCard(kind, kind, architecture=architecture, preprocessing=reading.as_json())
    network = NETWORKS[kind](**architecture_of(card))
    if kind == "slicreg":
        layers = voronoi_layers(frame, network.layers, network.classes - 1)
        network.template.copy_(torch.from_numpy(layers))
    if kind == "regression":
        network.template.fill_(1)
    save_model(folder, network.state_dict(), card)
