"""Landmarks and outlines that say where one scan belongs in another, and the smooth correction that they ask for.

What is left between the two sides is smoothed by Gaussian process regression (Rasmussen and Williams, 2006). It
predicts each landmark from all others in closed form (their section 5.4.2): one far from its prediction is wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from anamorph.geometry.grid import Grid
from anamorph.transforms.maps import Affine, Displacement

if TYPE_CHECKING:
    from anamorph.transforms.affine import LinearModel

REACH = 0.1
"""Distance over which landmarks predict each other, as a share of the field of view's diagonal."""
DOUBT = 0.02
"""How far off a registration may be anywhere, as a share of the diagonal."""
CONTRADICTION = 4.0
"""A landmark so many standard deviations from what all others say is wrong."""
FEWEST_JUDGED = 4
"""Of fewer landmarks none can be called the wrong one."""
FAR = 0.05
"""A start that leaves half of what is marked farther off than this share of the diagonal is replaced by theirs."""
FEWEST_RIGID, FEWEST_AFFINE, FEWEST_TRIMMED = 3, 8, 6
MOST_LINKS = 400
"""More tell nothing new of a smooth correction."""
SOURCES = 600
"""Points of each side of an outline that look for the other."""
LATTICE = 32
"""Points of a correction along the longest side."""
ROUNDS = 4
"""Corrections by outlines, which find their nearest points anew after each."""
LINEAR_ROUNDS = 30
"""Likewise of linear maps by outlines, which begin farther away."""
ODD = 3.0
"""Links of an outline count less from so many times their usual distance on: one side may show more."""

Mapping = Callable[[np.ndarray], np.ndarray]
"""Of points ``(N, 3)`` in RAS mm."""


@dataclass(frozen=True, eq=False)
class Links:
    """Points of one scan, where each belongs in another, and how exactly that is known.

    Args:
        here: ``(N, 3)`` RAS mm.
        there: ``(N, 3)`` RAS mm.
        sigma_mm: ``(N,)`` standard deviations.
    """

    here: np.ndarray
    there: np.ndarray
    sigma_mm: np.ndarray

    @classmethod
    def none(cls) -> Links:
        """No links at all."""
        return cls(np.empty((0, 3)), np.empty((0, 3)), np.empty(0))

    def __len__(self) -> int:
        return len(self.here)

    def only(self, chosen: np.ndarray) -> Links:
        """Those of an index or a mask."""
        return Links(self.here[chosen], self.there[chosen], self.sigma_mm[chosen])


@dataclass(frozen=True, eq=False)
class OutlinePair:
    """One curve or surface in two scans, whose points have no partners.

    Args:
        here: ``(N, 3)`` points of one, in RAS mm.
        there: ``(M, 3)`` points of the other.
        sigma_mm: how exactly both are known.
    """

    here: np.ndarray
    there: np.ndarray
    sigma_mm: float

    def links(self, mapped: np.ndarray) -> Links:
        """Some points of both sides, each with the nearest one of the other under a map.

        Args:
            mapped: ``(N, 3)`` where the points of this scan go.
        """
        from scipy.spatial import cKDTree

        ours, theirs = (slice(None, None, max(len(side) // SOURCES, 1)) for side in (self.here, self.there))
        onward, there = cKDTree(self.there).query(mapped[ours])
        back, here = cKDTree(mapped).query(self.there[theirs])
        apart = np.concatenate([onward, back])
        usual = max(ODD * np.median(apart), ODD * self.sigma_mm)
        sigma_mm = self.sigma_mm * (1 + (apart / usual) ** 2)
        return Links(
            np.concatenate([self.here[ours], self.here[here]]),
            np.concatenate([self.there[there], self.there[theirs]]),
            sigma_mm,
        )


@dataclass(frozen=True, eq=False)
class Marks:
    """Landmarks and outlines that two scans have in common.

    Args:
        landmarks: their places in both.
        names: of the landmarks.
        outlines: curves and surfaces.
    """

    landmarks: Links
    names: tuple[str, ...] = ()
    outlines: tuple[OutlinePair, ...] = ()

    def exchanged(self) -> Marks:
        """The same with the roles of the scans exchanged."""
        marks = self.landmarks
        outlines = tuple(OutlinePair(one.there, one.here, one.sigma_mm) for one in self.outlines)
        return Marks(Links(marks.there, marks.here, marks.sigma_mm), self.names, outlines)

    def brought(self, mapping: Mapping) -> Marks:
        """The same with the places of the other scan moved by a map."""
        landmarks = replace(self.landmarks, there=mapping(self.landmarks.there))
        outlines = tuple(replace(one, there=mapping(one.there)) for one in self.outlines)
        return Marks(landmarks, self.names, outlines)

    def links(self, mapping: Mapping) -> Links:
        """Landmarks, and outlines by their nearest points under a map."""
        parts = [self.landmarks, *(one.links(mapping(one.here)) for one in self.outlines)]
        return Links(
            *(np.concatenate([getattr(part, name) for part in parts]) for name in ("here", "there", "sigma_mm"))
        )

    def start(self, start: Affine, frame: Grid, model: LinearModel) -> Affine | None:
        """A linear map by the landmarks, by the outlines where they are too few, or None.

        There is none where a start leaves them near enough, or nearer.

        Args:
            start: from this scan to the other.
            frame: the field of view of this scan.
            model: which maps are allowed; few landmarks allow less.
        """
        from anamorph.transforms.affine import is_plausible

        by_landmarks = len(self.landmarks) >= FEWEST_RIGID
        told = self if by_landmarks else replace(self, landmarks=Links.none())
        if not (by_landmarks or self.outlines) or told._left_mm(start) <= FAR * _diagonal(frame):
            return None
        matrix = told._by_landmarks(model) if by_landmarks else told._by_outlines(model)
        if not is_plausible(matrix):
            return None
        found = Affine(matrix)
        return found if told._left_mm(found) < told._left_mm(start) else None

    def _left_mm(self, start: Affine) -> float:
        """Median distance of the landmarks, or else of the outlines, under a map."""
        links = self.landmarks if len(self.landmarks) else self.links(start.map_world)
        return float(np.median(np.linalg.norm(start.map_world(links.here) - links.there, axis=1)))

    def _by_landmarks(self, model: LinearModel) -> np.ndarray:
        from anamorph.transforms.affine import fit_least_trimmed_squares, fit_linear

        marks = self.landmarks
        allowed = "rigid" if model == "affine" and len(marks) < FEWEST_AFFINE else model
        if len(marks) < FEWEST_TRIMMED:
            return fit_linear(marks.here, marks.there, allowed)
        return fit_least_trimmed_squares(marks.here, marks.there, allowed, trim=0.7)

    def _by_outlines(self, model: LinearModel) -> np.ndarray:
        """Middles upon each other, then nearest points upon each other (Besl and McKay, PAMI 1992)."""
        from anamorph.transforms.affine import fit_linear

        sides = [(one.here.mean(axis=0), one.there.mean(axis=0)) for one in self.outlines]
        here, there = np.array(sides).transpose(1, 0, 2)
        matrix = fit_linear(here, there, "translation" if len(here) < FEWEST_RIGID else "rigid")
        for _ in range(LINEAR_ROUNDS):
            links = self.links(Affine(matrix).map_world)
            matrix = fit_linear(links.here, links.there, model)
        return matrix

    def believed(self, frame: Grid) -> tuple[Marks, list[str]]:
        """The marks without landmarks that contradict all others, and a line for each of these.

        Args:
            frame: the field of view; the places of the other scan are already brought to it.
        """
        kept = np.arange(len(self.landmarks))
        told = []
        while len(kept) >= FEWEST_JUDGED:
            links = self.landmarks.only(kept)
            field = _Regression(links, links.there - links.here, _diagonal(frame))
            missed, sd = field.left_out()
            strange = missed / sd
            worst = int(strange.argmax())
            if strange[worst] <= CONTRADICTION:
                break
            name = self.names[kept[worst]] if self.names else str(kept[worst] + 1)
            told.append(f"landmark {name} lies {missed[worst]:.0f} mm from where all others place it, and was left out")
            kept = np.delete(kept, worst)
        names = tuple(self.names[n] for n in kept) if self.names else ()
        return Marks(self.landmarks.only(kept), names, self.outlines), told

    def corrected(self, known: Displacement, by_outlines: bool) -> Displacement:
        """A field changed as the marks ask: smoothly, and as far as they are exact.

        Args:
            known: from this scan to where the marks are brought.
            by_outlines: whether outlines have a say too.
        """
        for _ in range(ROUNDS if self.outlines and by_outlines else 1):
            links = self.links(known.map_world) if by_outlines else self.landmarks
            if not len(links):
                break
            links = links.only(np.linspace(0, len(links) - 1, min(len(links), MOST_LINKS)).astype(int))
            field = _Regression(links, links.there - known.map_world(links.here), _diagonal(known.grid))
            known = Displacement(known.disp_vox + field.on(known.grid), known.grid)
        return known


class _Regression:
    """Displacements of places ``(N, 3)`` in mm as a smooth field with a constant part, by a Gaussian process.

    Covariances are those of Matern 3/2, so that landmarks close to each other may differ.
    """

    def __init__(self, links: Links, moves_mm: np.ndarray, diagonal_mm: float) -> None:
        self.places = links.here
        self.reach_mm = REACH * diagonal_mm
        spread = np.linalg.norm(moves_mm - np.median(moves_mm, axis=0), axis=1)
        self.variance = max(DOUBT * diagonal_mm, float(np.median(spread))) ** 2
        self.constant = (REACH * diagonal_mm) ** 2 + float(np.square(np.median(moves_mm, axis=0)).sum())
        system = self._covariance(self.places) + np.diag(np.maximum(links.sigma_mm, 1e-3 * self.reach_mm) ** 2)
        self.inverse = np.linalg.inv(system)
        self.weights = self.inverse @ moves_mm

    def _covariance(self, places: np.ndarray) -> np.ndarray:
        from scipy.spatial.distance import cdist

        near = np.sqrt(3) * cdist(places, self.places) / self.reach_mm
        return self.variance * (1 + near) * np.exp(-near) + self.constant

    def left_out(self) -> tuple[np.ndarray, np.ndarray]:
        """By how many mm each is missed by all others, and the standard deviation of that along an axis."""
        precision = np.diag(self.inverse)
        return np.linalg.norm(self.weights / precision[:, None], axis=1), 1 / np.sqrt(precision)

    def on(self, grid: Grid) -> np.ndarray:
        """``(3, I, J, K)`` float32 voxels of a grid."""
        coarse = grid.resampled(np.maximum(grid.spacing_mm, np.max(grid.shape * grid.spacing_mm) / LATTICE))
        at = np.stack(np.meshgrid(*map(np.arange, coarse.shape), indexing="ij"), axis=-1).reshape(-1, 3)
        moves = self._covariance(coarse.voxel_to_world(at)) @ self.weights
        disp_vox = (moves @ np.linalg.inv(coarse.affine[:3, :3]).T).T.reshape(3, *coarse.shape)
        return Displacement(disp_vox.astype(np.float32), coarse).displacement_on(grid).disp_vox


def _diagonal(grid: Grid) -> float:
    return float(np.linalg.norm(np.array(grid.shape) * grid.spacing_mm))
