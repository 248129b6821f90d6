"""A plan propagated to a CT and a cone-beam CT: what is written says the truth, and the rest is refused in one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from anamorph.batch.registration import RegistrationSettings
from anamorph.errors import UserError
from anamorph.evaluation.metrics.dice import dice
from anamorph.geometry.grid import Grid
from anamorph.image.image import Image
from anamorph.image.read import read_image, read_labels
from anamorph.phantom import radiotherapy
from anamorph.transforms.files import read_transform
from anamorph.workflows.propagation.dose import dose_numbers
from anamorph.workflows.propagation.plan import field_of_view
from anamorph.workflows.propagation.run import Propagation, propagate
from radiotherapy_files import contradictions, faults

LINEAR = RegistrationSettings("linear")


@pytest.fixture(scope="module")
def treatment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("treatment") / "rt"
    radiotherapy.write_radiotherapy(folder, spacing_mm=(6.0, 6.0, 6.0))
    return folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny") / "rt"
    radiotherapy.write_radiotherapy(folder, spacing_mm=(12.0, 12.0, 12.0))
    return folder


@pytest.fixture(scope="module")
def done(treatment: Path) -> Propagation:
    days = [str(treatment / name) for name in ("day-1", "day-2")]
    marks = [treatment / "day1_points.csv", treatment / "day2_points.csv"]
    plan = str(treatment / "plan")
    return propagate(plan, days, treatment / "out", dose=plan, points=treatment / "plan_points.csv", day_points=marks)


def refused(*given: object, **options: object) -> str:
    with pytest.raises(UserError) as caught:
        propagate(*given, **options)  # type: ignore[arg-type]
    line = str(caught.value)
    assert "\n" not in line
    return line


# ---- numbers ----


def test_landmarks_and_contours_agree_with_the_truth(done: Propagation) -> None:
    first, second = done.record["days"].values()
    for day in (first, second):
        assert day["tg132"]["Target registration error"]["value"] < 2.5
        assert day["tg132"]["Jacobian determinant, smallest"]["value"] > 0
        assert day["tg132"]["Inverse consistency"]["value"] < 0.1
    assert {one["name"]: one["dice"] for one in first["structures"]}.keys() == {
        "liver", "left kidney", "right kidney", "spleen", "GTV", "PTV"}  # fmt: skip
    assert min(one["dice"] for one in first["structures"]) > 0.87
    assert max(one["distance_mm"] for one in first["structures"]) < 1.6
    assert second["tg132"]["Dice similarity coefficient"]["result"] == "not measured"


def test_the_numbers_are_those_of_the_files(treatment: Path, done: Propagation) -> None:
    scan = read_image(treatment / "day-1")
    told = {one["name"]: one for one in done.record["days"]["day-01"]["structures"]}
    for name in ("GTV", "PTV", "spleen"):  # which overlap, and so are read one by one
        drawn, carried = (
            read_labels(f"{path}::roi={name}", scan=scan)
            for path in (treatment / "day-1" / "structures.dcm", done.folder / "day-01" / "dicom" / "structures.dcm")
        )
        same = [type(one)((one.data != 0).astype(np.uint8), one.grid) for one in (drawn, carried)]
        assert dice(*same)[1] == pytest.approx(told[name]["dice"], abs=0.01)
        volume = np.count_nonzero(carried.data) * abs(np.linalg.det(scan.grid.affine[:3, :3])) / 1000
        assert volume == pytest.approx(told[name]["day_ml"], rel=0.08)


def test_the_cone_beam_scan_is_known_by_its_field_of_view(treatment: Path, done: Propagation) -> None:
    first, second = done.record["days"].values()
    assert (first["cone_beam"], second["cone_beam"]) == (False, True)
    view = field_of_view(read_image(treatment / "day-2"))
    assert view is not None
    assert view.data.mean() == pytest.approx(np.pi / 4, rel=0.2)  # less a voxel at the edge
    settings = json.loads((done.folder / "day-02" / "result.json").read_text())["provenance"]["settings"]
    assert settings["intensity_weight"] == 0.5
    assert settings["init"] == "rigid"


def test_a_body_in_air_has_no_round_field_of_view() -> None:
    grid = Grid((40, 40, 6), spacing_mm=4.0)
    i, j = np.meshgrid(*(np.arange(40) - 19.5,) * 2, indexing="ij")
    for body in ((i / 18) ** 2 + (j / 11) ** 2 < 1, i**2 + j**2 < 10**2):
        values = np.where(body[:, :, None], 40, -1024) * np.ones(6, int)
        found = field_of_view(Image(values.astype(np.int16), grid))
        assert found is None or found.data.mean() < 0.3  # a round body in air of one value: only that air is left out


# ---- files ----


def test_objects_are_sound_and_refer_to_their_day(treatment: Path, done: Propagation) -> None:
    assert [done.record["days"][day]["dose"]["computed_on_the_day"] for day in ("day-01", "day-02")] == [False, False]
    for day, name in (("day-01", "day-1"), ("day-02", "day-2")):
        folder = done.folder / day / "dicom"
        own = dcmread(treatment / name / "0001.dcm")
        plan = dcmread(treatment / "plan" / "0001.dcm")
        for file in ("structures.dcm", "dose.dcm", "fixed_to_moving.dcm", "warped/0001.dcm"):
            written = dcmread(folder / file)
            assert written.FrameOfReferenceUID == own.FrameOfReferenceUID, file
            assert written.PatientID == "phantom"
            assert faults(folder / file) == []
        assert dcmread(folder / "moving_to_fixed.dcm").FrameOfReferenceUID == plan.FrameOfReferenceUID
        dose = dcmread(folder / "dose.dcm")
        named = dose.ReferencedSpatialRegistrationSequence[0].ReferencedSOPInstanceUID
        assert named == dcmread(folder / "fixed_to_moving.dcm").SOPInstanceUID
        assert dose.SpatialTransformOfDose == "NON_RIGID"
    assert faults(done.folder / "dicom" / "accumulated_dose.dcm") == []
    scans = [path for name in ("plan", "day-1", "day-2") for path in (treatment / name).glob("*.dcm")]
    assert contradictions([*done.folder.rglob("*.dcm"), *scans]) == []
    assert done.page.is_file()
    page = done.page.read_text("utf-8")
    assert "day-02/report.html" in page
    assert "the same structures drawn on the day" in page


def test_the_planned_dose_lies_where_its_tissue_went(treatment: Path, done: Propagation) -> None:
    planned = read_image(f"{treatment / 'plan'}::RTDOSE")
    for day in ("day-01", "day-02"):
        folder = done.folder / day
        carried = read_image(folder / "dicom" / "dose.dcm")
        there = read_transform(folder / "fixed_to_moving.nii.gz")
        places = np.argwhere(carried.data[0] > 5)[::37]
        origins = planned.grid.world_to_voxel(there.map_world(carried.grid.voxel_to_world(places)))
        from scipy.ndimage import map_coordinates

        expected = map_coordinates(planned.data[0].astype(float), origins.T, order=1)
        assert np.abs(carried.data[0][tuple(places.T)] - expected).max() < 0.05


def test_doses_of_days_are_added_up_on_the_plan(treatment: Path, done: Propagation) -> None:
    parts = [read_image(done.folder / day / "dose_on_plan.nii.gz").data for day in ("day-01", "day-02")]
    total = read_image(done.folder / "dicom" / "accumulated_dose.dcm")
    assert total.frame_uid == read_image(treatment / "plan").frame_uid
    np.testing.assert_allclose(total.data, sum(parts) / 2, atol=1e-4)
    told = {one["name"]: one for one in done.record["dose"]["structures"]}
    assert told["GTV"]["planned"]["mean_gy"] == pytest.approx(48.5, abs=0.6)
    assert told["GTV"]["accumulated"]["mean_gy"] == pytest.approx(told["GTV"]["planned"]["mean_gy"], rel=0.02)
    assert told["PTV"]["accumulated"]["d95_gy"] < told["PTV"]["planned"]["d95_gy"]  # it deformed out of an even dose


def test_the_numbers_of_a_dose() -> None:
    gray, weights = np.arange(1.0, 101.0), np.ones(100)
    assert dose_numbers(gray, weights) == {"mean_gy": 50.5, "d95_gy": 6.0, "d2_gy": 99.0}
    half = np.where(gray > 50, 0.5, 0.0)
    assert dose_numbers(gray, half)["mean_gy"] == 75.5


# ---- going on, and refusing ----


def test_a_finished_day_is_not_done_again_and_a_damaged_one_is(tiny: Path, tmp_path: Path) -> None:
    given = str(tiny / "plan"), [str(tiny / "day-1"), str(tiny / "day-2")], tmp_path / "out"
    gtv = {"structures": f"{tiny / 'plan' / 'structures.dcm'}::roi=GTV", "registration": LINEAR}
    propagate(*given, **gtv)
    assert "pass --resume" in refused(*given, **gtv)
    files = [tmp_path / "out" / day / "dicom" / "structures.dcm" for day in ("day-01", "day-02")]
    before = [path.stat().st_mtime_ns for path in files]
    files[1].unlink()
    found = propagate(*given, **gtv, resume=True)
    assert files[0].stat().st_mtime_ns == before[0]
    assert files[1].stat().st_mtime_ns > before[1]
    assert [one["name"] for one in found.record["days"]["day-01"]["structures"]] == ["GTV"]


def test_a_dose_of_the_day_itself_counts_as_it_is(tiny: Path, tmp_path: Path) -> None:
    day = tmp_path / "day"
    shutil.copytree(tiny / "day-1", day)
    plan, own = str(tiny / "plan"), dcmread(tiny / "plan" / "dose.dcm")
    own.FrameOfReferenceUID = dcmread(day / "0001.dcm").FrameOfReferenceUID
    own.DoseGridScaling = str(float(own.DoseGridScaling) / 2)
    own.save_as(day / "dose.dcm")  # half the plan, where it was planned, whatever the couch did
    found = propagate(plan, [str(day)], tmp_path / "out", dose=plan, conserve_energy=True, registration=LINEAR)
    told = found.record["dose"]
    assert told["days_with_a_dose_of_their_own"] == 1
    assert told["carried_by"] == "energy and mass"
    summed = dcmread(tmp_path / "out" / "dicom" / "accumulated_dose.dcm")
    assert summed.SpatialTransformOfDose == "RIGID"  # by a linear method
    named = summed.ReferencedSpatialRegistrationSequence[0]
    registration = dcmread(tmp_path / "out" / "day-01" / "dicom" / "moving_to_fixed.dcm")
    assert (named.ReferencedSOPClassUID, named.ReferencedSOPInstanceUID) == (
        registration.SOPClassUID, registration.SOPInstanceUID)  # fmt: skip
    assert found.record["days"]["day-01"]["remarks"] == []
    gtv = next(one for one in told["structures"] if one["name"] == "GTV")
    assert gtv["accumulated"]["mean_gy"] == pytest.approx(gtv["planned"]["mean_gy"] / 2, rel=0.1)


def test_contours_of_the_plan_beside_a_day_are_left_out(tiny: Path, tmp_path: Path) -> None:
    day = tmp_path / "day"
    shutil.copytree(tiny / "day-2", day)
    shutil.copy(tiny / "plan" / "structures.dcm", day / "structures.dcm")
    found = propagate(str(tiny / "plan"), [str(day)], tmp_path / "out", registration=LINEAR)
    told = found.record["days"]["day-01"]
    assert "structures of the day are not used" in told["remarks"][0]
    assert told["tg132"]["Dice similarity coefficient"]["result"] == "not measured"
    assert "structures of the day are not used" in found.page.read_text("utf-8")


def test_what_cannot_be_propagated_is_refused_before_anything_is_written(treatment: Path, tmp_path: Path) -> None:
    plan, day, out = str(treatment / "plan"), str(treatment / "day-2"), tmp_path / "out"
    assert "no structure set" in refused(day, [day], out)
    assert "landmarks need those of the plan" in refused(plan, [day], out, points="plan_points.csv")
    assert "no structure 'heart'" in refused(plan, [day], out, structures=f"{plan}/structures.dcm::roi=heart")
    other = tmp_path / "other"
    shutil.copytree(treatment / "plan", other)
    dose = dcmread(other / "dose.dcm")
    dose.FrameOfReferenceUID = "1.2.3"
    dose.save_as(other / "dose.dcm")
    assert "its frame of reference (1.2.3) is not that of" in refused(str(other), [day], out, dose=str(other))
    dose.FrameOfReferenceUID, dose.DoseUnits = dcmread(other / "0001.dcm").FrameOfReferenceUID, "RELATIVE"
    dose.save_as(other / "dose.dcm")
    assert "no dose in Gy (RELATIVE)" in refused(str(other), [day], out, dose=str(other))
    assert not out.exists()
