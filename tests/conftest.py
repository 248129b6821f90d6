from __future__ import annotations

import locale
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from anamorph.runtime.threads import limit_threads

if workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0")):
    limit_threads(max((os.cpu_count() or 1) // workers, 1))  # before PyTorch is imported


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.name.startswith("test_a_gpu_"):
            item.add_marker("gpu")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if os.name != "posix" and item.get_closest_marker("posix"):
        pytest.skip("needs pipes or signals of POSIX systems")


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
