"""The viewer as a part of a page: its data, its scripts, and the hashes by which the page's policy lets them run."""

from __future__ import annotations

import base64
import gzip
import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anamorph.report.page import TEMPLATES
from anamorph.report.viewer.scene import Scene, make_scene

if TYPE_CHECKING:
    from anamorph.report.pair import PairReport

NIIVUE = Path(__file__).parent / "niivue.js.gz"
SCRIPTS = ("tiles.js", "stack.js", "pane.js", "viewer.js")
"""In this order they make one script."""
MOST_VOXELS = 1_000_000
"""Of a volume in a report."""
MOST_BYTES = 4_300_000
"""Of all volumes in a report, so that its page, NiiVue and pictures included, stays below 8 MB."""


def embedded(report: PairReport) -> dict[str, Any]:
    """What the template needs to embed the viewer of a registered pair, with its volumes inside the page."""
    most = MOST_VOXELS
    scene = make_scene(report, most)
    while scene.size > MOST_BYTES:
        most = int(most * min(0.9, MOST_BYTES / scene.size))
        scene = make_scene(report, most)
    return parts(scene)


def parts(scene: Scene) -> dict[str, Any]:
    """What the template needs: the content and the volumes as text, the scripts and their hashes."""
    from markupsafe import Markup

    packed = NIIVUE.read_bytes()
    return {
        "panes": [{**scene.content, "volumes": {name: f"#volume-{name}" for name in scene.volumes}}],
        "volumes": {name: _text(volume) for name, volume in scene.volumes.items()},
        "script": Markup(viewer_script()),
        "niivue": _text(packed),
        "licences": (NIIVUE.parent / "niivue-licences.txt").read_text(encoding="utf-8"),
        "hashes": [script_hash(viewer_script().encode()), niivue_hash()],
    }


@cache
def viewer_script() -> str:
    """The viewer's own script."""
    return "\n".join((TEMPLATES / "viewer" / name).read_text(encoding="utf-8") for name in SCRIPTS)


@cache
def niivue_hash() -> str:
    """The hash of NiiVue."""
    return script_hash(gzip.decompress(NIIVUE.read_bytes()))


def script_hash(script: bytes) -> str:
    """SHA-256 of a script, as a content policy wants it."""
    return base64.b64encode(hashlib.sha256(script).digest()).decode("ascii")


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
