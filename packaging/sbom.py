"""The list of all that an installation brings (SBOM, CycloneDX): its packages, NiiVue, and the weights of the models.

Usage: python packaging/sbom.py ENVIRONMENT --output anamorph.cdx.json

ENVIRONMENT is a virtual environment in which anamorph was installed from its files. Needs cyclonedx-bom
(release-tools.lock), which also validates the list.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
MODELS = {"anamorph": "src/anamorph/models", "anamorph-models": "packages/anamorph-models/src/anamorph_models"}
"""Folders of the models, by the package that brings them."""


def packages_of(environment: Path) -> dict[str, Any]:
    """What cyclonedx-py finds installed, with licences, as CycloneDX 1.6."""
    program = shutil.which("cyclonedx-py", path=str(Path(sys.executable).parent)) or "cyclonedx-py"
    command = [program, "environment", str(environment), "--pyproject", str(ROOT / "pyproject.toml")]
    command += ["--spec-version", "1.6", "--output-reproducible", "--validate", "--output-file", "-"]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def inside() -> list[dict[str, Any]]:
    """What the packages of anamorph hold that is no package of Python: NiiVue, and the models with their licences."""
    version = re.search(r"^NIIVUE := (\S+)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)[1]
    niivue = {
        "type": "library",
        "bom-ref": f"niivue@{version}",
        "name": "@niivue/niivue",
        "version": version,
        "purl": f"pkg:npm/%40niivue/niivue@{version}",
        "licenses": [{"license": {"id": "BSD-2-Clause"}}],
        "description": "in anamorph/report/viewer; with gl-matrix and fflate (MIT) and structured-clone (ISC)",
    }
    cards = [
        (package, json.loads(path.read_text("utf-8")))
        for package, folder in MODELS.items()
        for path in sorted((ROOT / folder).rglob("model.json"))
    ]
    return [niivue, *(_model(package, card) for package, card in cards)]


def _model(package: str, card: dict[str, Any]) -> dict[str, Any]:
    licence = card["licence"]
    return {
        "type": "machine-learning-model",
        "bom-ref": f"model:{card['name']}",
        "name": card["name"],
        "version": card["anamorph"],
        "description": f"{card['summary']} (in {package})",
        "hashes": [{"alg": "SHA-256", "content": card["sha256"]}],
        "licenses": [{"license": {"name": licence} if " " in licence else {"id": licence}}],
        "copyright": card["attribution"],
        "modelCard": {"considerations": {"technicalLimitations": [f"not for {card['not_for']}"]}},
    }


def complete(bom: dict[str, Any]) -> dict[str, Any]:
    """The list with what is inside the packages, each part as a dependency of the package that brings it."""
    parts = inside()
    root = bom["metadata"]["component"]["bom-ref"]
    owners = {one["name"]: one["bom-ref"] for one in bom["components"] if one["name"] in MODELS}
    bom["components"] = sorted([*bom["components"], *parts], key=lambda one: one["bom-ref"])
    edges = {one["ref"]: set(one.get("dependsOn", ())) for one in bom["dependencies"]}
    for part in parts:
        brought = part.get("description", "").endswith("(in anamorph-models)")
        owner = owners.get("anamorph-models" if brought else "anamorph", root)
        edges.setdefault(owner, set()).add(part["bom-ref"])
        edges.setdefault(part["bom-ref"], set())
    bom["dependencies"] = [
        {"ref": ref} | ({"dependsOn": sorted(below)} if below else {}) for ref, below in sorted(edges.items())
    ]
    return bom


def check(text: str) -> None:
    """See that a list follows the schema of CycloneDX 1.6.

    Raises:
        SystemExit: it does not, with the reason.
    """
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if error is not None:
        raise SystemExit(f"the list is not valid: {error}")


def main() -> None:
    """Write the list."""
    parser = argparse.ArgumentParser(description="Write the list of all that an installation brings.")
    parser.add_argument("environment", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    given = parser.parse_args()
    text = json.dumps(complete(packages_of(given.environment)), indent=2) + "\n"
    check(text)
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text(text, encoding="utf-8")
    print(f"{given.output}: {len(json.loads(text)['components'])} components")


if __name__ == "__main__":
    main()
