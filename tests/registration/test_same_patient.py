"""Two dates of one patient: settings, what changed, and files that say so."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import anamorph
from anamorph.cli.main import app
from anamorph.image.header_notes import visit_of
from anamorph.image.image import Image
from anamorph.image.write import write_image
from anamorph.methods import find_method
from anamorph.phantom.ventricle import make_beat
from anamorph.registration.preflight import dates_of_one_patient
from anamorph.settings import make_config
from dicom_files import classic_series

SCANS = make_beat(frames=2, squeeze=0, shortening=0, noise=15.0).series.frames
GRID = SCANS[0].grid
AT = GRID.voxel_to_world(np.moveaxis(np.indices(GRID.shape), 0, -1))
LESION = np.linalg.norm(AT - (45, 10, 5), axis=-1) < 5


@pytest.fixture
def visits(tmp_path: Path) -> tuple[Path, Path]:
    """Files of two sessions by their BIDS names; a lesion appears."""
    places = [tmp_path / "sub-01" / f"ses-{n}" / "anat" / f"sub-01_ses-{n}_T1w.nii.gz" for n in (1, 2)]
    for place, values in zip(places, (SCANS[0].data[0], SCANS[1].data[0] + 250 * LESION), strict=True):
        place.parent.mkdir(parents=True)
        write_image(Image(values.astype(np.float32), GRID), place)
    return places[0], places[1]


def test_the_command_finds_what_changed(visits, tmp_path):
    out = tmp_path / "out"
    result = CliRunner().invoke(app, ["register", *map(str, visits), "--same-patient", "-o", str(out)])
    assert result.exit_code == 0, result.output
    record = json.loads((out / "result.json").read_text())
    (region, *_) = record["change"]["regions"]
    np.testing.assert_allclose(region["middle_ras_mm"], (45, 10, 5), atol=2)
    assert region["chance"] < 1e-6
    settings = record["provenance"]["settings"]
    assert (settings["init"], settings["diffusion"], settings["guide"]) == ("rigid", 1.0, "none")
    change = anamorph.read_image(out / "change.nii.gz")
    assert change.grid.matches(GRID, 1e-3)
    assert np.median(change.data[0][LESION]) > 5
    assert "Change" in (out / "report.html").read_text()
    assert "brighter" in " ".join(result.output.split())


def test_what_the_user_sets_goes_first():
    method = find_method("convex")
    assert make_config(method, "generic-mr", ["diffusion=0.3"], same_patient=True).diffusion == 0.3
    assert make_config(method, "cardiac-mr", None, same_patient=True).diffusion == 1.0
    assert make_config(method, "generic-mr", None).init == "auto"
    assert make_config(find_method("linear"), "default", None, same_patient=True).init == "rigid"


def test_without_the_option_nothing_is_looked_for(visits, tmp_path):
    result = anamorph.register(*visits)
    assert result.change is None
    assert any("one patient on two dates" in note for note in result.plan.notes)
    assert not any("two dates" in note for note in anamorph.register(*visits, same_patient=True).plan.notes)


def test_scans_that_do_not_compare_are_told(visits):
    inverted = Image((SCANS[1].data[0].max() - SCANS[1].data[0]) ** 2, GRID)
    result = anamorph.register(SCANS[0], inverted, same_patient=True)
    assert result.change is None
    assert "do not compare" in result.changes_unseen


def test_dates_by_name_and_by_dicom(visits, tmp_path):
    assert visit_of(visits[0]) == ("01", "1")
    assert dates_of_one_patient(*visits) is not None
    assert dates_of_one_patient(visits[0], visits[0]) is None
    other = visits[0].with_name("sub-02_ses-2_T1w.nii.gz")
    assert dates_of_one_patient(visits[0], other) is None
    assert dates_of_one_patient(visits[0], SCANS[0]) is None
    for name, patient, date in (
        ("a", "P1", "20200101"),
        ("b", "P1", "20210101"),
        ("c", "P2", "20210101"),
        ("d", "P1", ""),
    ):
        classic_series(tmp_path / name, PatientID=patient, StudyDate=date)
    assert dates_of_one_patient(tmp_path / "a", tmp_path / "b") is not None
    for same in ("a", "c", "d"):
        assert dates_of_one_patient(tmp_path / "a", tmp_path / same) is None
    finding = dates_of_one_patient(tmp_path / "a", tmp_path / "b")
    assert "P1" not in finding.message + finding.action


def test_inspect_tells_of_two_dates(visits):
    result = CliRunner().invoke(app, ["inspect", "--no-start", *map(str, visits)])
    assert "--same-patient" in " ".join(result.output.split())
