from __future__ import annotations

import locale
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def kept_locale() -> Iterator[None]:
    """ITK's DICOM writer, which some tests use, sets the locale of the process to C."""
    before = locale.setlocale(locale.LC_ALL)
    yield
    locale.setlocale(locale.LC_ALL, before)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real scans beside the repository; the test is skipped where it is absent."""
    folder = Path(__file__).parents[1].parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs the real scans in ../shared/data")
    return folder
