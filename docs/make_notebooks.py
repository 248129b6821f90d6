"""Runs the notebooks of docs/notebooks and of examples and stores what their cells print and draw.

Usage: python docs/make_notebooks.py [NAME ...]

Edit a notebook in Jupyter or as text, then run this. Every notebook of docs/notebooks runs in an empty folder of its
own, an example in a copy of its folder.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "notebooks"
EXAMPLES = Path(__file__).parents[1] / "examples"
MOST_BYTES = 400_000


def main(names: list[str]) -> None:
    """Run some or all notebooks and write them back."""
    import nbformat

    for path in sorted([*FOLDER.glob("*.ipynb"), *EXAMPLES.glob("*/*.ipynb")]):
        if names and path.stem not in names:
            continue
        nbformat.write(executed(path, timeout_s=3600), path)
        size = path.stat().st_size
        print(f"{path.name}: {size / 1000:.0f} kB")
        if size > MOST_BYTES:
            raise SystemExit(f"{path.name} is larger than {MOST_BYTES / 1000:.0f} kB; draw less")


def executed(path: Path, timeout_s: int = 600) -> Any:
    """A notebook with fresh outputs, and nothing in them that changes without the code having changed.

    Raises:
        CellExecutionError: a cell failed.
    """
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        cell.metadata.clear()
    # Commands of the notebook are those of this Python, on one thread so that numbers are the same everywhere.
    environment = os.environ | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "OMP_NUM_THREADS": "1",
        "PYTHONWARNINGS": "ignore",
    }
    with tempfile.TemporaryDirectory() as folder:
        if path.is_relative_to(EXAMPLES):
            shutil.copytree(path.parent, folder, dirs_exist_ok=True)
        environment |= {"ANAMORPH_CACHE": str(Path(folder, ".cache")), "ANAMORPH_MODELS": str(Path(folder, ".models"))}
        NotebookClient(
            notebook,
            timeout=timeout_s,
            resources={"metadata": {"path": folder}},
            store_widget_state=False,
            coalesce_streams=True,
            extra_arguments=["--log-level=ERROR"],
        ).execute(env=environment)
    notebook.metadata = {"kernelspec": notebook.metadata["kernelspec"], "language_info": {"name": "python"}}
    for cell in notebook.cells:
        cell.metadata.clear()
        for output in cell.get("outputs", []):
            output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
    return notebook


if __name__ == "__main__":
    main(sys.argv[1:])
