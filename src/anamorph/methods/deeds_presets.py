"""Settings of ``deeds`` per kind of scan, chosen on the scans measured in docs/results.md."""

from __future__ import annotations

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    "generic-ct": {},
    "generic-mr": {},
}
