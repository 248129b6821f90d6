"""The notebooks of the documentation run, and show what their cells give."""

from __future__ import annotations

import json
import re
import runpy
from base64 import b64decode
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture

DOCS = Path(__file__).parents[2] / "docs"
NOTEBOOKS = {path.stem: path for path in sorted((DOCS / "notebooks").glob("*.ipynb"))}
QUICK = {"directions", "first-pair"}
"""Notebooks that take less than 20 s on one core."""
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
EMBEDDED = re.compile(r"data:image/[a-z]+;base64,[A-Za-z0-9+/=]+")
SECONDS = re.compile(r"\d+\.\d s\b")
CLOSE = {"rtol": 0.1, "atol": 0.25}
"""Numbers of a training, or of another processor, are the same to a tenth."""


def stored(name: str) -> list[Any]:
    return json.loads(NOTEBOOKS[name].read_text("utf-8"))["cells"]


def texts(output: Any) -> list[str]:
    """What is written in an output, without pictures and seconds."""
    data = output.get("data", {})
    parts = [output.get("text", ""), data.get("text/html", ""), data.get("text/plain", "")]
    return [SECONDS.sub("s", EMBEDDED.sub("picture", "".join(part))) for part in parts]


def picture(output: Any) -> np.ndarray | None:
    encoded = output.get("data", {}).get("image/png")
    if encoded is None:
        return None
    with Picture.open(BytesIO(b64decode("".join(encoded)))) as image:
        return np.asarray(image.convert("L"), float)


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in NOTEBOOKS]
)
def test_a_notebook_runs_and_gives_what_it_shows(name: str):
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    executed = runpy.run_path(str(DOCS / "make_notebooks.py"))["executed"]
    fresh = executed(NOTEBOOKS[name])
    for number, (here, there) in enumerate(zip(stored(name), fresh.cells, strict=True)):
        if here["cell_type"] != "code":
            continue
        assert [one["output_type"] for one in here["outputs"]] == [one["output_type"] for one in there["outputs"]]
        for shown, given in zip(here["outputs"], there["outputs"], strict=True):
            where = f"cell {number} of {name}; run: python docs/make_notebooks.py {name}"
            for old, new in zip(texts(shown), texts(given), strict=True):
                assert NUMBER.sub("#", old) == NUMBER.sub("#", new), where
                pairs = [[float(one) for one in NUMBER.findall(text)] for text in (old, new)]
                np.testing.assert_allclose(*pairs, err_msg=where, **CLOSE)
            old_picture, new_picture = picture(shown), picture(given)
            if old_picture is not None:
                assert new_picture is not None
                assert np.abs(np.subtract(old_picture.shape, new_picture.shape)).max() <= 3, where
                assert abs(old_picture.mean() - new_picture.mean()) < 5, where


def test_what_is_stored_is_complete_and_small():
    assert len(NOTEBOOKS) == 8
    for name, path in NOTEBOOKS.items():
        text = path.read_text("utf-8")
        assert len(text) < 400_000, name
        assert "/tmp" not in text
        cells = [cell for cell in stored(name) if cell["cell_type"] == "code"]
        assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1)), name
        kinds = {output["output_type"] for cell in cells for output in cell["outputs"]}
        assert kinds <= {"stream", "display_data", "execute_result"}, name
        assert not any(output.get("name") == "stderr" for cell in cells for output in cell["outputs"]), name
        assert any("image/png" in output.get("data", {}) for cell in cells for output in cell["outputs"]), name


def test_every_notebook_is_in_the_navigation_and_its_links_lead_somewhere():
    listed = re.findall(r": notebooks/(\S+)\.ipynb", (DOCS.parent / "mkdocs.yml").read_text("utf-8"))
    assert sorted(listed) == sorted(NOTEBOOKS)
    for name, path in NOTEBOOKS.items():
        for cell in stored(name):
            for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", "".join(cell["source"])):
                assert (path.parent / target).exists(), f"{name}: {target}"
