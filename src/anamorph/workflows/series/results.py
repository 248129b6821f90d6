"""The files of a registered series: warped frames, labels carried to every frame, tables and the page."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from anamorph.geometry.lengths import length_text
from anamorph.image.atomic import atomic_text
from anamorph.image.image import Image, Labels
from anamorph.image.read import read_series
from anamorph.image.series import ImageSeries
from anamorph.image.write import write_image, write_series
from anamorph.registration.folder import FIXED_TO_MOVING, MOVING_TO_FIXED, REPORT, WARPED
from anamorph.report.charts import Chart, Curve
from anamorph.report.series import SeriesReport, write_series_page
from anamorph.transforms.files import read_transform
from anamorph.transforms.maps import Transform
from anamorph.types import Progress
from anamorph.workflows.series.motion import STRAINS, FrameMotion, Maps, MotionMeter, summary
from anamorph.workflows.series.settings import SeriesSettings

RECORD, MEAN, LABELS, TABLE, FRAMES, FIELDS = (
    "series.json",
    "mean.nii.gz",
    "labels.nii.gz",
    "motion.csv",
    "frames",
    "fields",
)
DIRECTIONS = STRAINS[:3]


def number_name(frame: int) -> str:
    """How files and folders of a frame are called."""
    return f"{frame:04d}"


@dataclass(frozen=True)
class SeriesResult:
    """What came out.

    Args:
        folder: with the warped series, the maps of all frames, the table, the page and the record.
        reference: number of the frame that the others were brought to, or that has the place of the mean.
        smoothing: strength over time.
        frames: the numbers of each frame.
        summary: extremes over time.
        page_failure: why the page could not be drawn, if so.
        warnings: of the registrations, each with the numbers of its frames.
    """

    folder: Path
    reference: int
    smoothing: float
    frames: tuple[FrameMotion, ...]
    summary: dict[str, Any]
    page_failure: str | None = None
    warnings: dict[str, list[int]] = field(default_factory=dict)

    @property
    def warped(self) -> Path:
        """The warped frames as one 4D file."""
        return self.folder / WARPED

    @property
    def labels(self) -> Path:
        """The labels carried to every frame as one 4D file, if labels were given."""
        return self.folder / LABELS

    @property
    def page(self) -> Path:
        """The page a person looks at."""
        return self.folder / REPORT

    @property
    def warning_lines(self) -> list[str]:
        """Each warning with its frames, as text."""
        return [f"{_frames(numbers)}: {warning}" for warning, numbers in self.warnings.items()]

    @property
    def files(self) -> tuple[Path, ...]:
        """What was computed, without the maps; not all of them are there for every series."""
        return tuple(self.folder / name for name in (WARPED, MEAN, LABELS, TABLE))

    def fixed_to_moving(self, frame: int) -> Transform:
        """The map of points of the target to those of a frame, from its file."""
        return read_transform(self.folder / FIELDS / number_name(frame) / FIXED_TO_MOVING)

    def moving_to_fixed(self, frame: int) -> Transform:
        """The map of points of a frame to those of the target, from its file."""
        return read_transform(self.folder / FIELDS / number_name(frame) / MOVING_TO_FIXED)


def _frames(numbers: Sequence[int]) -> str:
    """``frame 3``, or ``frames 3, 5 to 8``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    shown = [f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs]
    return f"frame{'s' if len(numbers) > 1 else ''} {', '.join(shown)}"


def deliver(
    out: Path,
    series: ImageSeries,
    maps: Sequence[Maps],
    labels: Labels | None,
    still: int | None,
    settings: SeriesSettings,
    progress: Progress,
    world: int,
) -> tuple[tuple[FrameMotion, ...], dict[str, Any]]:
    """Write everything but the page, and measure the motion.

    Args:
        out: folder.
        series: the frames.
        maps: of every frame.
        labels: in the place of the target.
        still: number of the reference; None for a mean.
        settings: of the series.
        progress: called with the stage and the fraction done.
        world: NIfTI's code of the world of the frames.

    Returns:
        the numbers of every frame, and their extremes.
    """
    grid = series.grid
    warped = [
        frame if number == still else forward.warp_image(frame, grid)
        for number, (frame, (forward, _)) in enumerate(zip(series.frames, maps, strict=True))
    ]
    everywhere = Image(np.ones(grid.shape, np.uint8), grid)
    seen = [forward.warp_image(everywhere, grid, 0, "nearest").data[0] > 0 for forward, _ in maps]
    mean = _mean(warped, seen)
    write_series(ImageSeries(tuple(warped), series.frame_s, series.name), out / WARPED, world)
    write_image(mean, out / MEAN, world)
    if labels is not None:
        carried = [
            labels if number == still else backward.warp_labels(labels, grid)
            for number, (_, backward) in enumerate(maps)
        ]
        write_series(ImageSeries(tuple(carried), series.frame_s, labels.name), out / LABELS, world)
    before = _mean(series.frames, [everywhere.data[0] > 0] * len(series)) if still is None else series.frames[still]
    after = mean if still is None else before
    meter = MotionMeter(series, before, after, labels, settings.axis)
    frames = []
    for number, (forward, _) in enumerate(maps):
        progress(f"measuring frame {number + 1} of {len(maps)}", number / len(maps))
        frames.append(meter.measure(number, forward, warped[number], seen[number]))
    _write_table(frames, out / TABLE)
    return tuple(frames), summary(frames)


def _mean(frames: Sequence[Image], seen: Sequence[np.ndarray]) -> Image:
    """The mean of the frames that show a voxel; where none does, of all as they are."""
    total, count = np.zeros(frames[0].data.shape, np.float64), np.zeros(frames[0].grid.shape)
    for frame, shown in zip(frames, seen, strict=True):
        total += np.where(shown, frame.data, 0)
        count += shown
    total[:, count == 0] = sum(frame.data[:, count == 0].astype(np.float64) for frame in frames) / len(frames)
    return Image((total / np.maximum(count, 1)).astype(np.float32), frames[0].grid, "mean of the frames")


def _write_table(frames: Sequence[FrameMotion], path: Path) -> None:
    """A row for the body and for each label of every frame; what is not measured is an empty cell."""
    rows = [row for frame in frames for row in _rows(frame)]
    with atomic_text(path) as stream:
        writer = csv.DictWriter(stream, [*rows[0]], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _rows(frame: FrameMotion) -> Iterator[dict[str, Any]]:
    for place, length in frame.displacement_mm.items():
        label = None if place == "body" else int(place)
        strain = None if label is None else frame.strain.get(label)
        numbers = {
            "displacement_mm": length,
            "displacement_p95_mm": frame.displacement_p95_mm[place],
            "volume_ml": None if label is None else frame.volume_ml[label],
            **{f"{name}_strain": getattr(strain, name, None) for name in STRAINS},
            "folding_percent": frame.folding_percent if label is None else None,
            "residual_before": frame.residual_before if label is None else None,
            "residual_after": frame.residual_after if label is None else None,
        }
        told = {name: "" if value is None else f"{value:.6g}" for name, value in numbers.items()}
        yield {"frame": frame.frame, "time_s": f"{frame.time_s:.6g}", "place": place, **told}


def write_page(result: SeriesResult, series: ImageSeries, settings: SeriesSettings) -> None:
    """Draw the page of a result whose other files are written."""
    frames = result.frames
    labels: tuple[Labels, ...] = ()
    if result.labels.is_file():
        labels = tuple(Labels(one.data, one.grid, one.name) for one in read_series(result.labels).frames)
    known = [*frames[0].volume_ml]
    charts = [
        Chart("Displacement", "mm", [c for place in frames[0].displacement_mm for c in _lengths(frames, place)]),
        Chart(
            "Difference from the target",
            "share of its standard deviation",
            [
                Curve("before", [one.residual_before for one in frames]),
                Curve("after", [one.residual_after for one in frames]),
            ],
        ),
        *(
            Chart(f"Volume of label {label}", "ml", [Curve(f"label {label}", [f.volume_ml[label] for f in frames])])
            for label in known
        ),
        *(chart for label in known if (chart := _strain_chart(frames, label)) is not None),
    ]
    report = SeriesReport(
        f"{series.name}: {len(series)} frames",
        _facts(result, series, settings),
        series.times_s,
        "frame" if series.frame_s is None else "time, s",
        charts,
        series,
        read_series(result.warped),
        labels,
        _extremes(result, known),
    )
    write_series_page(result.page, report)


def _lengths(frames: Sequence[FrameMotion], place: str) -> list[Curve]:
    name = place if place == "body" else f"label {place}"
    return [
        Curve(f"{name}, mean", [one.displacement_mm[place] for one in frames]),
        Curve(f"{name}, 95 %", [one.displacement_p95_mm[place] for one in frames], dashed=True),
    ]


def _strain_chart(frames: Sequence[FrameMotion], label: int) -> Chart | None:
    known = [name for name in DIRECTIONS if getattr(frames[0].strain[label], name) is not None] or STRAINS[3:]
    curves = [Curve(name, [100 * getattr(one.strain[label], name) for one in frames]) for name in known]
    return Chart(f"Green-Lagrange strain of label {label}", "%", curves)


def _facts(result: SeriesResult, series: ImageSeries, settings: SeriesSettings) -> list[str]:
    """What was done and found, in sentences."""
    told, course = result.summary, "a cycle" if settings.cyclic else "an open course"
    target = f"frame {result.reference}" if settings.to == "reference" else "the mean of all frames"
    smooth = (
        f"Velocities were smoothed over time as {course}, with strength {result.smoothing:.3g}"
        + (", which cross-validation chose." if settings.smoothing == "auto" else ".")
        if result.smoothing > 0
        else "Nothing was smoothed over time."
    )
    return [
        f"{len(series)} frames of {series.grid.description}, brought to {target}. {smooth}",
        f"The body moves by up to {length_text(told['displacement_mm'], 2)} (mean of a frame). Frames differ from the "
        f"target by {told['residual_before']:.3f} of its standard deviation before and {told['residual_after']:.3f} "
        "after, on average.",
        f"At most {max(frame.folding_percent for frame in result.frames):.3g} % of the voxels of a frame are folded.",
        *(f"Warning: {line}" for line in result.warning_lines),
    ]


def _extremes(result: SeriesResult, labels: Sequence[int]) -> tuple[list[str], list[list[str]]]:
    peaks = (f"peak {name} strain, %" for name in DIRECTIONS)
    head = ["label", "largest, ml", "smallest, ml", "ejection fraction, %", *peaks]
    rows = []
    for label in labels:
        volume, peak = result.summary["volume_ml"][label], result.summary["peak_strain"][label]
        strains = [
            f"{100 * peak[name]['strain']:.1f} (frame {peak[name]['frame']})" if name in peak else ""
            for name in DIRECTIONS
        ]
        numbers = [volume[key] for key in ("largest", "smallest", "ejection_fraction_percent")]
        rows.append([str(label), *(f"{number:.1f}" for number in numbers), *strains])
    return head, rows
