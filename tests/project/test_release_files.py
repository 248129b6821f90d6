"""What a release is published with: metadata, citation, licences, cards of models; they say the same."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

import anamorph

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
MODELS = tomllib.loads((ROOT / "packages/anamorph-models/pyproject.toml").read_text(encoding="utf-8"))["project"]
CARDS = sorted(
    path
    for folder in ("src/anamorph/models", "packages/anamorph-models/src/anamorph_models")
    for path in (ROOT / folder).rglob("model.json")
)


def read_citation() -> dict:
    yaml = pytest.importorskip("yaml")
    return yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))


def test_code_package_and_citations_name_one_version_and_one_address():
    citation, zenodo = read_citation(), json.loads((ROOT / ".zenodo.json").read_text(encoding="utf-8"))
    assert {PROJECT["version"], citation["version"], zenodo["version"]} == {anamorph.__version__}
    assert {PROJECT["urls"]["Repository"], MODELS["urls"]["Repository"]} == {citation["repository-code"]}
    assert all(url.startswith(citation["repository-code"]) for url in PROJECT["urls"].values())


def test_the_archive_is_described_as_the_citation_describes_the_software():
    citation, zenodo = read_citation(), json.loads((ROOT / ".zenodo.json").read_text(encoding="utf-8"))
    assert zenodo["title"] == citation["title"]
    assert zenodo["description"] == citation["abstract"]
    assert zenodo["license"] == citation["license"]
    assert zenodo["keywords"] == citation["keywords"] == PROJECT["keywords"]
    assert [one["name"] for one in zenodo["creators"]] == [one["name"] for one in citation["authors"]]
    assert zenodo["upload_type"] == citation["type"] == "software"


def test_the_citation_is_valid():
    program = shutil.which("cffconvert")
    if program is None:
        pytest.skip("cffconvert is not installed")
    subprocess.run([program, "--validate", "-i", str(ROOT / "CITATION.cff")], check=True)


def test_the_page_on_pypi_has_no_link_that_leads_nowhere():
    """The substitutions of pyproject.toml, as the build applies them to README.md."""
    hook = PYPROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]
    assert hook["fragments"] == [{"path": "README.md"}]
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for one in hook["substitutions"]:
        text = re.sub(one["pattern"], one["replacement"], text)
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    assert len(links) > 20
    assert not [link for link in links if not link.startswith(("https://", "#"))]
    base = PROJECT["urls"]["Repository"]
    assert f"]({base}/raw/HEAD/docs/images/demo.png)" in text
    for path in re.findall(rf"\({re.escape(base)}/(?:raw|blob)/HEAD/([^)#]+)", text):
        assert (ROOT / path).exists(), path


def test_the_readme_of_the_models_links_to_no_file():
    text = (ROOT / "packages/anamorph-models/README.md").read_text(encoding="utf-8")
    assert not re.findall(r"\]\((?!https://)[^)]*\)", text)


def test_the_licence_of_the_wheel_names_those_of_all_that_is_in_it():
    spdx = {"public domain": "LicenseRef-Public-Domain"}
    cards = [json.loads(path.read_text(encoding="utf-8")) for path in CARDS if "packages" not in path.parts]
    named = set(PROJECT["license"].split(" AND "))
    assert {spdx.get(card["licence"], card["licence"]) for card in cards} <= named
    viewer = (ROOT / "src/anamorph/report/viewer/niivue-licences.txt").read_text(encoding="utf-8")
    assert {"BSD 2-Clause", "MIT licence", "ISC licence"} == set(
        re.findall("BSD 2-Clause|MIT licence|ISC licence", viewer)
    )
    assert {"Apache-2.0", "BSD-2-Clause", "MIT", "ISC"} <= named
    for path in PROJECT["license-files"]:
        assert (ROOT / path).is_file(), path


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.parent.name)
def test_the_card_of_a_shipped_model_is_complete(path: Path):
    card = json.loads(path.read_text(encoding="utf-8"))
    for key in ("summary", "labels", "metrics", "measured_on", "licence", "attribution", "not_for", "preprocessing"):
        assert card[key], key
        assert card[key] != "not stated", key
    assert "diagnosis" in card["not_for"]
    for one in card["training_data"]:
        assert one["name"]
        assert one["licence"]
        assert len(one["sha256"]) == 64
        assert sum(one["scans"].values()) > 0
    weights = (path.parent / "weights.safetensors").read_bytes()
    assert card["sha256"] == hashlib.sha256(weights).hexdigest()


def test_every_released_page_says_that_this_is_no_medical_device():
    for page in ("README.md", "docs/index.md", "packages/anamorph-models/README.md", ".zenodo.json"):
        assert "not a medical device" in (ROOT / page).read_text(encoding="utf-8"), page
    for page in ("README.md", "docs/index.md"):
        assert "intended-use.md" in (ROOT / page).read_text(encoding="utf-8"), page
