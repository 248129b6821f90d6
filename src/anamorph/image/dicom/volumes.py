"""Which frames of a DICOM series make one volume, and what to say when there are several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path

import numpy as np

from anamorph.errors import UserError
from anamorph.geometry.frames import flip_affine_ras_lps
from anamorph.geometry.grid import Grid
from anamorph.image.dicom.frames import TRAITS, Frame
from anamorph.image.dicom.headers import SEPARATOR

REGIONS = "roi"
"""Key of the structures that are meant, by name."""
KEYS = (*TRAITS, "volume", REGIONS)


@dataclass(frozen=True)
class Choice:
    """What is behind the path in ``PATH::SERIES_UID::echo=2``.

    Args:
        series: UID, number, modality or description of the series.
        traits: value by key.
    """

    series: str | None = None
    traits: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        parts = [self.series] if self.series else []
        return SEPARATOR.join(parts + [f"{key}={value}" for key, value in self.traits.items()])

    def __bool__(self) -> bool:
        return bool(self.series or self.traits)


def split_choice(source: str) -> tuple[Path, Choice]:
    """``PATH::SERIES_UID::echo=2`` as path and choice; the path is the longest part that exists.

    Raises:
        UserError: a key is unknown, or a series or key is given twice.
    """
    parts = source.split(SEPARATOR)
    for n in range(len(parts), 0, -1):
        if (path := Path(SEPARATOR.join(parts[:n]))).exists():
            return path, _choice(source, parts[n:])
    return Path(source), Choice()


def _choice(source: str, parts: list[str]) -> Choice:
    series, traits = None, {}
    for part in parts:
        key, equals, value = part.partition("=")
        if not equals and series is None:
            series = part
        elif equals and key in KEYS and key not in traits and value:
            traits[key] = value
        else:
            raise UserError(
                f"{source}: '{part}' chooses nothing; write PATH::SERIES_UID, or a key and its value as in "
                f"PATH::echo=2 (keys: {', '.join(KEYS)})"
            )
    return Choice(series, traits)


# A stack is the scan where no other has more than this share of its slices.
_STRAY = 1 / 3
_MOST_LISTED = 8
_WORDS = ("no", "one", "two", "three", "four", "five", "six")
Group = tuple[Choice, list[Frame]]


def choose_volume(frames: Sequence[Frame], source: str, choice: Choice) -> tuple[list[Frame], list[Frame]]:
    """The frames of one volume, in the order of their places, and those of its series that are left out.

    Args:
        frames: of one series.
        source: path, as the user would write it.
        choice: series and traits.

    Raises:
        UserError: there are several volumes, none that fits the choice, or slices that are missing or at one place.
    """
    frames = _with_echoes(_with_stacks(frames))
    rank = choice.traits.get("volume")
    chosen = list(frames)
    for key, value in choice.traits.items():
        if key != "volume":
            chosen = _matching(chosen, key, value, source)
    scan = _main_stack(chosen, source, choice)
    if len(scan) > 1:
        refuse_nowhere(scan)
    stray = [frame for frame in chosen if not _among(frame, scan)]
    if rank is not None:
        together = places(scan)
        most = max(map(len, together))
        if not rank.isdecimal() or not 1 <= int(rank) <= most:
            raise UserError(f"{source}: volume={rank} is not there; there are 1 to {most}")
        scan = [members[int(rank) - 1] for members in together if len(members) >= int(rank)]
    fault = flaw(scan) if len(scan) > 1 else None
    if fault is not None:
        if groups := _told_apart(scan):
            raise UserError(_listing(source, choice, groups, "volumes"))
        raise UserError(f"{source}: {fault}")
    return [frame for together in places(scan) for frame in together], stray


def _among(frame: Frame, frames: Sequence[Frame]) -> bool:
    return any(frame is other for other in frames)


def _matching(frames: Sequence[Frame], key: str, value: str, source: str) -> list[Frame]:
    exact = [frame for frame in frames if frame.traits.get(key) == value]
    # A part of an image type will do: `image=M` for ORIGINAL/PRIMARY/M/ND.
    parts = set(value.split("/"))
    found = exact or [frame for frame in frames if parts <= set(frame.traits.get(key, "").split("/"))]
    if not found:
        there = sorted({frame.traits[key] for frame in frames if key in frame.traits}, key=_order)
        said = "there is " + ", ".join(there[:_MOST_LISTED]) if there else f"the header has no {key}"
        raise UserError(f"{source}: no slices with {key}={value}; {said}")
    return found


def _with_stacks(frames: Sequence[Frame]) -> list[Frame]:
    """Number the sets of parallel slices of one size; stacks that the header names apart keep their names."""
    sets: list[list[Frame]] = []
    for frame in frames:
        for one in sets:
            if one[0].traits.get("stack") == frame.traits.get("stack") and same_plane(one[0], frame):
                one.append(frame)
                break
        else:
            sets.append([frame])
    names = [one[0].traits.get("stack", "") for one in sets]
    if len(set(names)) < len(names) or "" in names:
        sets.sort(key=lambda one: min(frame.instance for frame in one))
        names = [str(n + 1) for n in range(len(sets))]
    return [frame.with_traits(stack=name) for name, one in zip(names, sets, strict=True) for frame in one]


def _with_echoes(frames: Sequence[Frame]) -> list[Frame]:
    """Number the echoes by their times where the header numbers none, or all alike."""
    times = sorted({frame.echo_ms for frame in frames if frame.echo_ms is not None})
    if len(times) < 2 or len({frame.traits.get("echo") for frame in frames}) > 1:
        return list(frames)
    return [f if f.echo_ms is None else f.with_traits(echo=str(times.index(f.echo_ms) + 1)) for f in frames]


def _main_stack(frames: Sequence[Frame], source: str, choice: Choice) -> list[Frame]:
    """The stack of the scan, without scouts of another direction, size or kind.

    Raises:
        UserError: there are several stacks of similar size.
    """
    scan = [frame for frame in frames if "LOCALIZER" not in frame.traits.get("image", "").upper().split("/")]
    groups = _split(scan if len(scan) > 1 else frames, ("stack",))
    groups.sort(key=lambda group: -len(group[1]))
    if len(groups) > 1 and len(groups[1][1]) > _STRAY * len(groups[0][1]):
        groups.sort(key=lambda group: _order(group[0].traits["stack"]))
        raise UserError(_listing(source, choice, groups, "stacks"))
    return groups[0][1]


def _told_apart(frames: Sequence[Frame]) -> list[Group]:
    """The volumes among frames, by the fewest traits that make each of them an even stack; else by their order."""
    most = max(map(len, places(frames)))
    differing = [key for key in TRAITS if len({frame.traits.get(key) for frame in frames}) > 1]
    for count in (1, 2, 3):
        for keys in combinations(differing, count):
            groups = _split(frames, keys)
            sizes = [len(members) for _, members in groups]
            if len(groups) < max(2, most) or 2 * len(groups) > len(frames) or min(sizes) < 2:
                continue
            if all(flaw(members) is None for _, members in groups):
                return groups
    return _by_order(frames, most) if most > 1 else []


def _by_order(frames: Sequence[Frame], most: int) -> list[Group]:
    """Volumes that only the numbers of their files tell apart: the first slice at each place, the second, and so on."""
    together = places(frames)
    if any(len(members) != most for members in together) or len(together) < 2:
        return []
    return [(Choice(traits={"volume": str(n + 1)}), [members[n] for members in together]) for n in range(most)]


def _split(frames: Sequence[Frame], keys: Sequence[str]) -> list[Group]:
    found: dict[tuple[str, ...], list[Frame]] = {}
    for frame in frames:
        found.setdefault(tuple(frame.traits.get(key, "none") for key in keys), []).append(frame)
    ordered = sorted(found.items(), key=lambda one: [_order(value) for value in one[0]])
    return [(Choice(traits=dict(zip(keys, values, strict=True))), members) for values, members in ordered]


def _order(value: str) -> tuple[int, float, str]:
    """Numbers by size, before text."""
    try:
        return 0, float(value), value
    except ValueError:
        return 1, 0.0, value


def _listing(source: str, choice: Choice, groups: Sequence[Group], what: str) -> str:
    count = _WORDS[len(groups)] if len(groups) < len(_WORDS) else str(len(groups))
    listed = [_described(*group, what) for group in groups[:_MOST_LISTED]]
    if len(groups) > _MOST_LISTED:
        listed.append(f"and {len(groups) - _MOST_LISTED} more")
    remedy = replace(choice, traits=choice.traits | groups[0][0].traits)
    unnamed = "volume" in groups[0][0].traits
    return (
        f"{source}: {count} {what} ({'; '.join(listed)})"
        + (", which the headers do not name: only the numbers of their files differ" if unnamed else "")
        + f"; choose one with '{source}{SEPARATOR}{remedy}'"
    )


def _described(choice: Choice, frames: Sequence[Frame], what: str) -> str:
    first = frames[0]
    words = []
    for key, value in choice.traits.items():
        word = f"{key} {value} {TRAITS[key][1]}".strip() if key in TRAITS else f"{key} {value}"
        if key == "echo" and first.echo_ms is not None:
            word += f": {first.echo_ms:g} ms"
        words.append(word)
    if what == "stacks":
        words.append(f"{first.storage.columns} x {first.storage.rows} voxels")
    if "volume" in choice.traits:
        words.append(f"from instance {min(frame.instance for frame in frames):g}")
    return ", ".join([*words, f"{len(frames)} slice{'s' if len(frames) > 1 else ''}"])


# A step may differ by this share of the mean step before slices count as missing.
_UNEVEN = 0.1
_SAME_PLACE_MM = 1e-3
_SAME_PLANE = 1e-3  # of direction cosines, and relative of voxel sizes


def same_plane(one: Frame, other: Frame) -> bool:
    """Whether two frames are parallel and have the same voxels, so that they can lie in one stack."""
    sizes = [(f.storage.rows, f.storage.columns) for f in (one, other)]
    return (
        sizes[0] == sizes[1]
        and all(
            (a is None) == (b is None)
            and (a is None or b is None or np.allclose(a, b, rtol=_SAME_PLANE, atol=tolerance))
            for a, b, tolerance in (
                (one.orientation, other.orientation, _SAME_PLANE),
                (one.spacing_mm, other.spacing_mm, 0.0),
            )
        )
        and (one.position is None) == (other.position is None)
    )


def places(frames: Sequence[Frame]) -> list[list[Frame]]:
    """The frames at each place along the normal of their planes, ascending; frames at one place by their number."""
    if any(frame.position is None or frame.orientation is None for frame in frames):
        return [list(frames)]
    along = np.array([frame.position for frame in frames]) @ _axes(frames[0])[2]
    found: list[list[Frame]] = []
    last = -np.inf
    for n in np.argsort(along, kind="stable"):
        if along[n] - last > _SAME_PLACE_MM:
            found.append([])
        last = along[n]
        found[-1].append(frames[n])
    return [sorted(together, key=lambda frame: (frame.instance, frame.index)) for together in found]


def refuse_nowhere(frames: Sequence[Frame]) -> None:
    """See that slices say where they lie.

    Raises:
        UserError: they do not; the message names the element.
    """
    for element, missing in (
        ("PixelSpacing (0028,0030)", frames[0].spacing_mm is None),
        ("ImagePositionPatient (0020,0032)", frames[0].position is None),
        ("ImageOrientationPatient (0020,0037)", frames[0].orientation is None),
    ):
        if missing:
            raise UserError(
                f"{frames[0].storage.path}: {element} is missing, without which slices make no volume; export it again "
                "with its geometry"
            )


def flaw(frames: Sequence[Frame]) -> str | None:
    """What keeps frames from being one stack, with the remedy; None if nothing does."""
    together = places(frames)
    if len(together) < len(frames):
        return "several slices at one position that nothing tells apart; leave one image per position"
    if len(frames) < 3:
        return None
    steps = np.diff(np.array([frame.position for (frame,) in together], float), axis=0)
    step, gaps = steps.mean(axis=0), np.linalg.norm(steps, axis=1)
    if np.linalg.norm(steps - step, axis=1).max() > _UNEVEN * float(np.linalg.norm(step)):
        return (
            f"slices are missing or unevenly spaced ({gaps.min():.3g} to {gaps.max():.3g} mm); "
            "export the complete series"
        )
    return None


def grid_of(frames: Sequence[Frame]) -> Grid:
    """The grid of frames that have no :func:`flaw`, in the order of :func:`places`; a tilted gantry shears it."""
    first = frames[0]
    rows, columns, normal = _axes(first)
    spacing = first.spacing_mm or (1.0, 1.0)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = rows * spacing[0], columns * spacing[1]
    affine[:3, 2] = normal * abs(first.depth_mm or 1.0)
    if len(frames) > 1:
        affine[:3, 2] = _way(frames) / (len(frames) - 1)
    affine[:3, 3] = first.position or (0.0, 0.0, 0.0)
    return Grid((first.storage.columns, first.storage.rows, len(frames)), flip_affine_ras_lps(affine))


def tilt_degrees(frames: Sequence[Frame]) -> float:
    """Angle between the normal of the planes and the way from slice to slice."""
    if len(frames) < 2:
        return 0.0
    step = _way(frames)
    cosine = abs(float(step @ _axes(frames[0])[2])) / float(np.linalg.norm(step))
    return float(np.degrees(np.arccos(min(cosine, 1.0))))


def _way(frames: Sequence[Frame]) -> np.ndarray:
    return np.array(frames[-1].position, float) - np.array(frames[0].position, float)


def _axes(frame: Frame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit vectors (LPS) from column to column, from row to row, and their normal, at exact right angles."""
    rows, columns = np.reshape(frame.orientation or (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), (2, 3))
    rows = rows / np.linalg.norm(rows)
    columns = columns - (rows @ columns) * rows
    columns /= np.linalg.norm(columns)
    return rows, columns, np.cross(rows, columns)
