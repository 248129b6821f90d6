"""One person: organs in the order of painting, and points a radiologist could find again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anamorph.image import Points
from anamorph.phantom import viscera
from anamorph.phantom.bowel import bowel
from anamorph.phantom.shapes import Organ
from anamorph.phantom.skeleton import LEVEL_MM, Spine, skeleton
from anamorph.phantom.torso import Torso, random_torso

# The first nine as in the abdominal scans this project is developed on.
LABEL_NAMES = {
    1: "spleen",
    2: "pancreas",
    3: "left kidney",
    4: "gallbladder",
    5: "oesophagus",
    6: "liver",
    7: "stomach",
    8: "duodenum",
    9: "right kidney",
    10: "aorta",
    11: "inferior vena cava",
    12: "vertebrae",
}
_NUMBER = {name: number for number, name in LABEL_NAMES.items()}
_MOST_FORKS = 12


@dataclass(frozen=True)
class Anatomy:
    """A torso, its organs (later cover earlier ones) and its landmarks; the origin is the first lumbar vertebra."""

    torso: Torso
    organs: list[Organ]
    landmarks: Points


def random_abdomen(rng: np.random.Generator) -> Anatomy:
    """An abdomen of ordinary build from the heart to the pelvis, RAS mm."""
    torso, spine, vary = random_torso(rng), Spine(rng), viscera.Variation(rng)
    liver, portal = viscera.liver(vary, _NUMBER["liver"])
    spleen, splenic = viscera.spleen(vary, _NUMBER["spleen"])
    kidneys = [
        *viscera.kidney(vary, +1, _NUMBER["right kidney"]),
        *viscera.kidney(vary, -1, _NUMBER["left kidney"]),
    ]
    organs = [
        *viscera.heart_and_lungs(vary),
        *bowel(rng),
        *skeleton(rng, torso, spine, _NUMBER["vertebrae"]),
        *spleen,
        *liver,
        *kidneys,
        *viscera.stomach(vary, _NUMBER["stomach"], _NUMBER["duodenum"]),
        viscera.pancreas(_NUMBER["pancreas"]),
        viscera.gallbladder(vary, _NUMBER["gallbladder"]),
        *viscera.great_vessels(spine.at, _NUMBER["aorta"], _NUMBER["inferior vena cava"]),
        viscera.oesophagus(_NUMBER["oesophagus"]),
    ]
    return Anatomy(torso, organs, _landmarks(organs, spine, portal.forks, splenic.forks))


def _landmarks(
    organs: list[Organ], spine: Spine, liver_forks: list[np.ndarray], spleen_forks: list[np.ndarray]
) -> Points:
    """Forks of vessels, vertebrae, and the middle and the poles of organs."""
    named = {f"liver vessel fork {n + 1}": p for n, p in enumerate(_spread(liver_forks))}
    named |= {f"splenic vessel fork {n + 1}": p for n, p in enumerate(spleen_forks[:2])}
    named |= {f"vertebra {n:+d}": np.array(spine.at(n * LEVEL_MM)) for n in range(-4, 5)}
    by_name = {organ.name: organ for organ in organs}
    for name in ("spleen", "gallbladder", "stomach", "left kidney", "right kidney"):
        named[f"{name} centre"] = np.array(by_name[name].solids[0].row()[:3])
    for name in ("left kidney", "right kidney"):
        row = by_name[name].solids[0].row()
        to_pole = row[9:12] * row[14]
        named[f"{name} upper pole"], named[f"{name} lower pole"] = row[:3] + to_pole, row[:3] - to_pole
    fork = next(solid for solid in by_name["aorta"].solids if abs(solid.row()[2] + 120) < 1)
    named["aortic bifurcation"] = fork.row()[:3]
    return Points(np.array(list(named.values())), tuple(named))


def _spread(forks: list[np.ndarray]) -> list[np.ndarray]:
    """The forks that lie apart, the thickest of each neighbourhood."""
    chosen: list[np.ndarray] = []
    for fork in forks:
        if len(chosen) < _MOST_FORKS and all(np.linalg.norm(fork - other) > 18 for other in chosen):
            chosen.append(fork)
    return chosen
