"""A pair of scans on disk and two results of it, made by a method that takes no time."""

from __future__ import annotations

from pathlib import Path

import anamorph
from anamorph.image.write import write_image, write_points
from anamorph.methods import METHODS
from anamorph.testing.pairs import smooth_pair

ROLES = ("fixed", "moving", "fixed_labels", "moving_labels")


def write_results(folder: Path, monkeypatch, name: str = "liver") -> tuple[Path, Path]:
    """Write scans to ``folder/scans`` and results to ``folder/whole`` and ``folder/half``, which goes half as far."""
    monkeypatch.setitem(METHODS.own, "stub", "stub_method:Stub")
    pair, scans = smooth_pair(), folder / "scans"
    scans.mkdir()
    files = {role: scans / f"{role}.nii.gz" for role in ROLES}
    for role, file in files.items():
        write_image(getattr(pair, role), file)
    files |= {role: scans / f"{role}.csv" for role in ("fixed_points", "moving_points")}
    for role in ("fixed_points", "moving_points"):
        write_points(getattr(pair, role), files[role])
    made = []
    for out, gain in (("whole", 1.0), ("half", 0.5)):
        result = anamorph.register(**files, method="stub", settings={"gain": gain}, label_names={6: name})
        made.append(result.save(folder / out).folder)
    return made[0], made[1]
