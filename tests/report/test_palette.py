"""The colours of all pages: read by everybody, in light and dark, and written in one place."""

from __future__ import annotations

import re

import numpy as np
import pytest

from anamorph.report.colours import FOLD_COLOUR, ColourScale, label_colour
from anamorph.report.page import TEMPLATES

TEXT, LARGE = 4.5, 3.0  # WCAG 2.1, level AA: 1.4.3 for text, 1.4.11 for what is to be seen
DEUTERANOPIA = np.array(
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]]
)
PROTANOPIA = np.array(
    [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
)
"""Machado et al., IEEE TVCG 2009, severity 1."""
LABELS = 10


def palettes() -> dict[str, dict[str, str]]:
    """The variables of each scheme; what the dark one does not set is as in the light one."""
    text = (TEMPLATES / "page.css").read_text(encoding="utf-8")
    roots = re.findall(r":root \{(.*?)\}", text, re.DOTALL)[:2]
    light, dark = (dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", root)) for root in roots)
    return {"light": light, "dark": light | dark}


def linear(colour: str) -> np.ndarray:
    values = np.array([int(colour[n : n + 2], 16) for n in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    dark, bright = sorted(float(linear(colour) @ (0.2126, 0.7152, 0.0722)) for colour in (one, other))
    return (bright + 0.05) / (dark + 0.05)


def lab(light: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of linear light."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = np.clip(light, 0, 1) @ to_xyz.T / (0.9505, 1, 1.089)
    x, y, z = np.moveaxis(np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116), -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def nearest(light: np.ndarray) -> float:
    """The least distance between two of several colours in L*a*b*."""
    places = lab(light)
    apart = np.linalg.norm(places[:, None] - places[None], axis=-1)
    return float(apart[~np.eye(len(light), dtype=bool)].min())


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_the_contrast_that_wcag_asks_for(scheme):
    colours = palettes()[scheme]
    for ground in ("paper", "card"):
        for text in ("ink", "soft", "accent", "pass", "warn", "fail"):
            assert contrast(colours[text], colours[ground]) >= TEXT, (text, ground)
    for state in ("pass", "warn", "fail", "ink", "soft"):  # badges and pressed buttons
        assert contrast(colours["card"], colours[state]) >= TEXT, state
    assert contrast(colours["on-picture"], colours["picture"]) >= TEXT
    for line in ("grid", "edge", "mask", "mark", "fixed", "moving", "both"):
        assert contrast(colours[line], colours["picture"]) >= LARGE, line


def test_colours_are_written_in_one_place():
    for path in sorted([*TEMPLATES.rglob("*.css"), *TEMPLATES.rglob("*.j2")]):
        text = path.read_text(encoding="utf-8")
        if path.name == "page.css":
            text = re.sub(r":root \{.*?\}", "", text, flags=re.DOTALL)
        assert not re.findall(r"[:\s(]#[0-9a-fA-F]{3,8}\b|\brgba?\(|\bhsla?\(", text), path.name


def test_paper_is_light_even_for_those_who_read_in_the_dark():
    text = (TEMPLATES / "page.css").read_text(encoding="utf-8")
    assert re.findall(r"@media ([^{]*)prefers-color-scheme", text) == ["screen and ("]


@pytest.mark.parametrize("sees", [np.eye(3), DEUTERANOPIA, PROTANOPIA])
def test_labels_are_told_apart_by_the_colour_blind(sees):
    light = np.array([linear(label_colour(rank)) for rank in range(LABELS)]) @ sees.T
    assert nearest(light) > 20
    assert min(contrast(label_colour(rank), "#000000") for rank in range(LABELS)) > LARGE
    assert label_colour(LABELS) == label_colour(0)


@pytest.mark.parametrize("sees", [np.eye(3), DEUTERANOPIA, PROTANOPIA])
def test_folds_stand_out_from_every_change_of_volume(sees):
    shown = [f"#{bytes(colour).hex()}" for colour in ColourScale("RdBu_r", 0.5, 2.0, logarithmic=True).table()]
    light = np.array([linear(colour) for colour in [f"#{bytes(FOLD_COLOUR).hex()}", *shown]]) @ sees.T
    places = lab(light)
    assert np.linalg.norm(places[1:] - places[0], axis=-1).min() > 30
