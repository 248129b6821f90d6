"""What packages, containers and the list of a release's content are made from says the same as pyproject.toml."""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

yaml = pytest.importorskip("yaml")
ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
RECIPE = yaml.safe_load((ROOT / "packaging/conda/recipe.yaml").read_text(encoding="utf-8"))
CONTAINER = ROOT / "packaging" / "container"
CONDA_NAMES = {"torch": "pytorch", "isal": "python-isal", "matplotlib": "matplotlib-base"}
"""Packages that conda-forge calls otherwise than PyPI."""


def by_name(requirements: list[str]) -> dict[str, str]:
    """The range of each requirement by its name on conda-forge, without markers."""
    found = {}
    for one in requirements:
        name, limits = re.match(r"([\w.-]+)\s*([^;]*)", one).groups()
        found[CONDA_NAMES.get(name.lower(), name.lower())] = limits.strip()
    return found


def test_the_conda_recipe_asks_for_what_the_package_asks_for():
    assert by_name(RECIPE["requirements"]["run"]) == {"python": ""} | by_name(PROJECT["dependencies"])
    built = by_name(RECIPE["requirements"]["host"])
    assert built == {"python": "", "pip": ""} | by_name(PYPROJECT["build-system"]["requires"])
    assert RECIPE["context"]["version"] == PROJECT["version"]
    about = RECIPE["about"]
    assert (about["summary"], about["license"]) == (PROJECT["description"], PROJECT["license"])
    assert about["license_file"] == PROJECT["license-files"]
    assert {about["homepage"], about["repository"]} == {PROJECT["urls"]["Repository"]}


def test_the_conda_recipe_renders_for_each_python():
    build = pytest.importorskip("rattler_build", reason="py-rattler-build is not installed")
    pythons = ["3.11.* *_cpython", "3.14.* *_cp314"]
    variants = build.VariantConfig(
        {"python": pythons, "c_stdlib": ["sysroot"], "c_stdlib_version": ["2.28"], "cxx_compiler": ["gxx"]}
    )
    rendered = build.Stage0Recipe.from_file(ROOT / "packaging/conda/recipe.yaml").render(variants)
    assert [one.recipe.package.version for one in rendered] == [PROJECT["version"]] * len(pythons)


def steps(text: str) -> list[str]:
    """What a definition of a container runs of install.sh, in its order."""
    return re.findall(r"install\.sh (system|compiler|anamorph /opt/anamorph)", "\n".join(
        line for line in text.splitlines() if not line.lstrip().startswith("#")
    ))  # fmt: skip


def test_both_definitions_of_the_container_run_the_one_script():
    docker, apptainer = ((CONTAINER / name).read_text(encoding="utf-8") for name in ("Dockerfile", "anamorph.def"))
    assert steps(docker) == ["system", "compiler", "anamorph /opt/anamorph", "system"]
    assert steps(apptainer) == ["system", "compiler", "anamorph /opt/anamorph"]
    assert re.findall(r"^RUN (?!/\S+/install\.sh )", docker, re.MULTILINE) == []
    (base,) = re.findall(r"^From: (\S+)$", apptainer, re.MULTILINE)
    assert f"ARG BASE={base}\n" in docker


@pytest.mark.parametrize("name", ["install.sh", "learn2reg.sh", "try.sh"])
def test_the_scripts_of_the_container_can_be_run_and_read(name):
    path = CONTAINER / name
    assert os.access(path, os.X_OK)
    subprocess.run(["bash", "-n", str(path)], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", "--severity", "warning", str(path)], check=True)


def test_the_entry_point_gives_its_folders_and_options_to_submit(tmp_path):
    """The real script with another program of the name `anamorph`, which prints what it is given."""
    fake = tmp_path / "anamorph"
    fake.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    fake.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "ANAMORPH_SUBMIT": "--names short"}
    run = subprocess.run(
        [CONTAINER / "learn2reg.sh", "--split", "val"], env=environment, check=True, capture_output=True, text=True
    )
    expected = "submit --container --dataset /input --out /output --zero-failed --overwrite --names short --split val"
    assert " ".join(run.stdout.split()) == expected


def test_what_the_build_of_the_container_needs_is_not_left_out():
    kept = re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.MULTILINE)
    assert {
        "pyproject.toml",
        "CMakeLists.txt",
        "README.md",
        "src",
        "packages",
        "packaging",
        "requirements.lock",
    } <= set(kept)
    assert set(PROJECT["license-files"][:2]) <= set(kept)
    for name in kept:
        assert (ROOT / name).exists(), name


SBOM = runpy.run_path(str(ROOT / "packaging" / "sbom.py"))


def test_the_list_of_content_names_what_is_inside_the_packages():
    bom = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "application", "bom-ref": "root", "name": "anamorph"}},
        "components": [
            {"type": "library", "bom-ref": "anamorph-models==0.1.0", "name": "anamorph-models", "version": "0.1.0"},
            {"type": "library", "bom-ref": "numpy==2.0", "name": "numpy", "version": "2.0"},
        ],
        "dependencies": [{"ref": "root", "dependsOn": ["numpy==2.0"]}, {"ref": "numpy==2.0"}],
    }
    made = SBOM["complete"](bom)
    parts = {one["bom-ref"]: one for one in made["components"]}
    cards = [*ROOT.glob("src/anamorph/models/**/model.json"), *ROOT.glob("packages/*/src/**/model.json")]
    models = {ref: one for ref, one in parts.items() if one["type"] == "machine-learning-model"}
    expected = {(card := json.loads(path.read_text("utf-8")))["name"]: card["sha256"] for path in cards}
    assert {one["name"]: one["hashes"][0]["content"] for one in models.values()} == expected
    niivue = next(one for one in parts.values() if one["name"] == "@niivue/niivue")
    below = {one["ref"]: one.get("dependsOn", []) for one in made["dependencies"]}
    assert set(below["root"]) >= {"numpy==2.0", niivue["bom-ref"], "model:guide-heart", "model:guide-head-neck"}
    assert "model:symmetric-hippocampus" in below["anamorph-models==0.1.0"]
    assert set(below) >= set(parts)
    pytest.importorskip("cyclonedx.validation.json", reason="cyclonedx-bom is not installed")
    SBOM["check"](json.dumps(made))


WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_use_actions_by_hash_and_say_what_they_may_do(path: Path):
    text = path.read_text(encoding="utf-8")
    content = yaml.safe_load(text)
    uses = re.findall(r"uses: (\S+)(.*)", text)
    assert uses
    for action, comment in uses:
        if not action.startswith("./"):
            assert re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}", action), action
            assert re.fullmatch(r" # v\d+\.\d+\.\d+", comment), action
    assert content["permissions"] in ({}, {"contents": "read"})


def test_a_release_is_tested_listed_and_attested_before_it_is_published():
    jobs = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text(encoding="utf-8"))["jobs"]
    order, job = [], "page"
    while job:
        order.append(job)
        job = jobs[job].get("needs")
    assert order == ["page", "publish", "attest", "sbom", "ci", "check"]
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    assert jobs["publish"]["environment"] == "pypi"
    assert [name for name, one in jobs.items() if "attestations" in one.get("permissions", {})] == ["attest"]
