"""What was made with a model is used again only as long as the model is the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from anamorph.batch.registration import RegistrationSettings
from anamorph.batch.store import Contents
from anamorph.data import Case, read_dataset
from anamorph.errors import UserError
from anamorph.image.read import read_grid
from anamorph.transforms import Affine
from anamorph.workflows.cohort.job import jobs_of
from anamorph.workflows.cohort.plan import PlannedMethod, read_plan
from anamorph.workflows.submission.fields import FieldJob as PairJob
from anamorph.workflows.submission.run import field_jobs
from anamorph.workflows.supervoxels.registration import registration_jobs
from anamorph.workflows.template.iteration import FieldJob
from small_dataset import make_learn2reg, write_scan
from tiny_models import save_tiny


def settings(model: Path, *more: str) -> RegistrationSettings:
    return RegistrationSettings("symmetric", "default", (f"model={model}", *more), "cpu")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    save_tiny(tmp_path / "model")
    return tmp_path / "model"


def test_weights_card_and_guide_are_part_of_what_is_described(model: Path):
    wanted = settings(model)
    first = wanted.described()
    assert wanted.described() == first
    save_tiny(model, bend=0.1)
    weights = wanted.described()
    card = json.loads((model / "model.json").read_text())
    (model / "model.json").write_text(json.dumps(card | {"summary": "other"}))
    described = wanted.described()
    save_tiny(model / "guide")
    guided = wanted.described()
    save_tiny(model / "guide", bend=0.1)
    seen = [json.dumps(one, sort_keys=True) for one in (first, weights, described, guided, wanted.described())]
    assert len(set(seen)) == 5
    assert PlannedMethod("tiny", wanted).described["models"] == wanted.described()["models"]


def test_a_named_guide_counts_for_methods_without_a_network(model: Path):
    wanted = RegistrationSettings("convex", "default", (f"guide={model}",), "cpu")
    first = wanted.described()["models"]
    save_tiny(model, bend=0.1)
    assert wanted.described()["models"] != first
    assert RegistrationSettings("convex", "default", (), "cpu").described()["models"] == {}


def test_guides_of_presets_count_where_the_preset_is_chosen_for_each_pair():
    described = RegistrationSettings("convex", "auto", (), "cpu").described()["models"]
    assert set(described) == {"guide-head-neck", "guide-heart", "symmetric-hippocampus/guide"}
    assert RegistrationSettings("convex", "auto", ("guide=none",), "cpu").described()["models"] == {}


def test_a_model_without_weights_is_told(model: Path):
    (model / "weights.safetensors").unlink()
    with pytest.raises(UserError, match="is no whole model"):
        settings(model).described()


def test_pairs_of_a_submission_and_of_a_cohort_are_other_pairs_after_retraining(model: Path, tmp_path: Path):
    make_learn2reg(tmp_path / "raw")
    pairs = read_dataset(tmp_path / "raw").pairs("val")
    (tmp_path / "plan.toml").write_text(
        f'[[dataset]]\nmanifest = "raw"\n[[method]]\nname = "symmetric"\nsettings = {{model = "{model}"}}\n'
    )

    def submitted() -> PairJob:
        return field_jobs(pairs, settings(model), tmp_path / "work")[0]

    def planned() -> str:
        plan, contents = read_plan(tmp_path / "plan.toml"), Contents()
        return jobs_of(plan, contents, tmp_path)[0].key

    grid = read_grid(pairs[0].fixed.image)
    key = planned()
    submitted().keep(Affine.identity(), grid, grid, {"seconds": 1.0})
    assert submitted().find()["run"] == {"seconds": 1.0}
    assert planned() == key
    save_tiny(model, bend=0.1)
    assert submitted().find() is None
    assert planned() != key


def test_prepared_scans_are_registered_again_after_retraining(model: Path, tmp_path: Path):
    cases = [Case(f"{n:04d}", "0000", write_scan(tmp_path / f"{n}.nii.gz", n)) for n in (1, 2)]

    def job():
        (one,) = registration_jobs(cases, cases[0], settings(model), {}, None, tmp_path)
        return one

    before = job()
    before.transform.parent.mkdir()
    before.transform.write_text("a transform")
    before._kept().keep([before.transform], {"scan": {"how": "symmetric"}})
    assert job().find() == {"how": "symmetric"}
    save_tiny(model, bend=0.1)
    assert job().find() is None


def test_fields_of_a_template_are_made_again_after_retraining(model: Path, tmp_path: Path):
    def job() -> FieldJob:
        case = Case("0001", "0000", tmp_path / "scan.nii.gz")
        return FieldJob(case, tmp_path, None, settings(model), tmp_path, {"how": settings(model).described()})

    before = job()
    before.field.write_text("a field")
    before._kept().keep([before.field], {})
    assert job().find() is not None
    save_tiny(model, bend=0.1)
    assert job().find() is None
