"""Models are found by name in anamorph, among the user's own, and in packages; each says what people must know."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from anamorph.cli.main import app
from anamorph.errors import UserError
from anamorph.methods.symmetric import SymmetricConfig
from anamorph.networks import model_folders
from anamorph.networks.model import NOT_FOR, load_weights, read_card
from anamorph.networks.model_folders import SHIPPED, find_model, known_models, own_folder, places
from anamorph.networks.trained import check_model
from anamorph.registration.provenance import models_of
from tiny_models import save_tiny

ROOT = Path(__file__).parents[2]
OURS = ROOT / "packages" / "anamorph-models" / "src" / "anamorph_models"
FOLDERS = sorted(card.parent for home in (SHIPPED, OURS) for card in home.rglob("model.json"))


@pytest.fixture
def own(tmp_path, monkeypatch):
    folder = tmp_path / "own"
    monkeypatch.setenv("ANAMORPH_MODELS", str(folder))
    return folder


@pytest.fixture
def alone(own, monkeypatch):
    """No package that brings models."""
    monkeypatch.setattr(model_folders, "installed", lambda group: {})


def install(site: Path, monkeypatch, module: str = "more_models", code: str = "raise RuntimeError('imported')") -> Path:
    """A package that brings models, as pip leaves it; its code must not run for that."""
    info = site / f"{module}-2.5.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 2.5\n")
    (info / "entry_points.txt").write_text(f"[anamorph.models]\n{module} = {module}\n")
    (site / module).mkdir()
    (site / module / "__init__.py").write_text(code)
    monkeypatch.syspath_prepend(str(site))
    return site / module


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_models_of_this_repository_are_sound_and_say_what_people_must_know(folder):
    card = check_model(folder)
    home = SHIPPED if folder.is_relative_to(SHIPPED) else OURS
    assert card.name == folder.relative_to(home).as_posix()
    assert card.training_data
    assert card.metrics
    assert "not stated" not in (card.licence, card.attribution, card.measured_on)
    assert card.not_for.startswith("diagnosis")
    assert card.not_for != NOT_FOR, "what this very model is not for"


def test_the_package_is_installed_as_the_repository_says():
    found = find_model("symmetric-hippocampus")
    assert read_card(found) == read_card(OURS / "symmetric-hippocampus"), "pip install -e packages/anamorph-models"
    assert find_model("symmetric-hippocampus/guide") == found / "guide"
    assert known_models()["symmetric-hippocampus"].origin == "anamorph-models 0.1.0"


def test_a_package_brings_models_and_is_not_imported(own, tmp_path, monkeypatch):
    home = install(tmp_path / "site", monkeypatch)
    save_tiny(home / "elbow")
    save_tiny(home / "elbow" / "guide")
    assert find_model("elbow") == home / "elbow"
    assert load_weights("elbow/guide")[0].name == "guide"
    assert known_models()["elbow"].origin == "more_models 2.5"
    assert "more_models" not in sys.modules
    listed = CliRunner().invoke(app, ["models", "list"]).output
    assert "elbow/guide" in listed
    assert "more_models 2.5" in listed


def test_a_package_without_its_folder_is_said_and_hides_no_other(own, tmp_path, monkeypatch, caplog):
    shutil.rmtree(install(tmp_path / "site", monkeypatch))
    save_tiny(own / "mine")
    assert "mine" in known_models()
    assert "more_models 2.5 brings models in 'more_models', which is no package" in caplog.text


def test_the_first_of_two_models_with_one_name_counts(own, tmp_path, monkeypatch):
    shipped, home = tmp_path / "shipped", install(tmp_path / "site", monkeypatch)
    monkeypatch.setattr(model_folders, "SHIPPED", shipped)
    for folder in (home, own, shipped):
        save_tiny(folder / "elbow")
        assert find_model("elbow") == known_models()["elbow"].folder == folder / "elbow"


def test_packages_are_looked_at_only_when_a_model_is_not_found_before(own, monkeypatch):
    save_tiny(own / "mine")
    monkeypatch.setattr(model_folders, "installed", lambda group: pytest.fail("looked for packages"))
    assert find_model("mine") == own / "mine"
    assert next(places()).folder == SHIPPED


def test_half_written_folders_are_no_models(own):
    save_tiny(own / ".tmp-00000000-1-1-00000000-mine")
    assert not [name for name in known_models() if "mine" in name]


def test_the_users_folder_is_the_one_of_the_system(monkeypatch, tmp_path):
    monkeypatch.delenv("ANAMORPH_MODELS", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    if sys.platform == "linux":
        assert own_folder() == tmp_path / "anamorph" / "models"
    assert own_folder().parts[-2:] == ("anamorph", "models")


def test_a_missing_package_is_named_in_one_line(alone):
    line = (
        "the model 'symmetric-hippocampus' is in the package anamorph-models, which is not installed; in a clone of "
        "anamorph: pip install ./packages/anamorph-models"
    )
    with pytest.raises(UserError, match=f"^{line}$"):
        models_of(SymmetricConfig())
    shown = CliRunner().invoke(app, ["models", "show", "symmetric-hippocampus/guide"])
    assert shown.exit_code == 2
    assert shown.stderr == "error: " + line.replace("hippocampus'", "hippocampus/guide'") + "\n"
    for command in (["methods"], ["methods", "symmetric"], ["models", "list"]):
        assert CliRunner().invoke(app, command).exit_code == 0


def test_a_name_within_a_model_that_is_there(alone, own):
    save_tiny(own / "symmetric-hippocampus")
    with pytest.raises(
        UserError, match=r"no model 'symmetric-hippocampus/other'; .* one of these: .*symmetric-hippocampus"
    ):
        find_model("symmetric-hippocampus/other")


def test_a_damaged_model_does_not_hide_the_list(alone, own):
    save_tiny(own / "mine")
    save_tiny(own / "other")
    (own / "other" / "model.json").write_text("{")
    listed = CliRunner().invoke(app, ["models", "list"])
    assert listed.exit_code == 0
    assert "symmetric" in listed.output
    assert "is no model card" in " ".join(listed.output.split())


def test_cards_of_earlier_versions_are_not_for_patients(own):
    save_tiny(own / "mine")
    path = own / "mine" / "model.json"
    content = json.loads(path.read_text())
    del content["not_for"], content["measured_on"]
    path.write_text(json.dumps(content))
    assert read_card(own / "mine").not_for == NOT_FOR
    assert NOT_FOR in " ".join(CliRunner().invoke(app, ["models", "show", "mine"]).output.split())


def test_looking_for_a_model_imports_no_pytorch(own):
    code = (
        "import sys; from anamorph.networks.model_folders import known_models; known_models(); "
        "print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
