"""The viewer as a part of a page: its data, its scripts, and the hashes by which the page's policy lets them run."""

from __future__ import annotations

import base64
import gzip
import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anamorph.image.gzip_stream import gzipped
from anamorph.report.page import TEMPLATES
from anamorph.report.viewer.scene import make_scene

if TYPE_CHECKING:
    from anamorph.report.pair import PairReport

NIIVUE = Path(__file__).parent / "niivue.js.gz"
SCRIPTS = ("tiles.js", "contours.js", "stack.js", "pane.js", "viewer.js")
"""In this order they make one script."""
MOST_VOXELS = 1_000_000
"""Of a volume in a report."""
MOST_CHARACTERS = 5_700_000
"""Of all volumes as text in a report, so that its page, NiiVue and pictures included, stays below 8 MB."""


def embedded(report: PairReport, painted: Mapping[int, str]) -> dict[str, Any]:
    """What the template needs to embed the viewer of a registered pair, its volumes inside the page.

    Args:
        report: what is known of the pair.
        painted: the CSS colour of each label of the fixed scan.
    """
    most = MOST_VOXELS
    while True:
        scene = make_scene(report, painted, most, most)
        packed = {name: _text(gzipped(volume)) for name, volume in scene.files().items()}
        size = sum(map(len, packed.values()))
        if size <= MOST_CHARACTERS:
            break
        most = int(most * min(0.9, MOST_CHARACTERS / size))
    pane = {**scene.described(), "volumes": {name: f"#volume-{name}" for name in packed}}
    niivue = _text(NIIVUE.read_bytes())
    inside = {f"volume-{name}": text for name, text in packed.items()} | {"niivue": niivue}
    return parts([pane]) | {"source": "#niivue", "inside": inside, "at_once": False}


def parts(panes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the template needs in any case: what panes show, the scripts, and the hashes by which they may run."""
    from markupsafe import Markup

    return {
        "panes": panes,
        "script": Markup(viewer_script()),
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
    return script_hash(niivue_script())


def niivue_script() -> bytes:
    """NiiVue as npm has it."""
    return gzip.decompress(NIIVUE.read_bytes())


def script_hash(script: bytes) -> str:
    """SHA-256 of a script, as a content policy wants it."""
    return base64.b64encode(hashlib.sha256(script).digest()).decode("ascii")


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
