"""The tests need napari and a display, such as Xvfb; where napari is missing they skip."""

from __future__ import annotations

import pytest

pytest.importorskip("napari", reason="pip install 'napari-anamorph[test]'")
pytest.importorskip("pytestqt", reason="pip install 'napari-anamorph[test]'")
