from __future__ import annotations

from pathlib import Path

from anamorph.data.importers import inside, refuse_channel
from anamorph.data.scans import Scan, ScanFolder
from anamorph.errors import UserError

LABELS = {1: "kidney", 2: "tumour"}


def find_kits(folder: Path, channel: str | None = None) -> ScanFolder:
    """Find the scans of KiTS19: ``case_00000/imaging.nii.gz`` and ``segmentation.nii.gz``.

    They lie in the folder or in its ``data``. The cases of the challenge's test set have no segmentation and are used
    for training.

    Source: Heller et al., The KiTS19 Challenge Data, arXiv:1904.00445.

    Raises:
        UserError: there are no such cases, or a channel is asked for.
    """
    refuse_channel("kits19", channel)
    cases = sorted(folder.glob("case_*")) or sorted(folder.glob("data/case_*"))
    images = [case / "imaging.nii.gz" for case in cases if (case / "imaging.nii.gz").is_file()]
    if not images:
        raise UserError(
            f"{folder}: no case_*/imaging.nii.gz; name the folder of KiTS19 after its download script has run"
        )
    scans = []
    for image in images:
        label = image.with_name("segmentation.nii.gz")
        files = {"label": inside(folder, label.absolute())} if label.is_file() else {}
        scans.append(
            Scan(image.parent.name, "CT", inside(folder, image.absolute()), files, f"{image.parent.name}/{image.name}")
        )
    notes = (
        [f"{len(cases) - len(images)} cases have no imaging.nii.gz and are left out"]
        if len(cases) > len(images)
        else []
    )
    return ScanFolder(
        tuple(scans),
        ("CT",),
        notes=tuple(notes),
        labels=LABELS,
        extra={"licence": "CC BY-NC-SA 4.0", "reference": "Heller et al. 2019, arXiv:1904.00445"},
        name="KiTS19",
    )
