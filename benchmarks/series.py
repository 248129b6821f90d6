"""Series of real hearts: end-diastole carried to end-systole, and beats and breaths whose motion is known.

    python -m benchmarks.series hearts DATA_ROOT -o OUT
    python -m benchmarks.series walls DATA_ROOT -o OUT
    python -m benchmarks.series known DATA_ROOT -o OUT
    python -m benchmarks.series phantom DATA_ROOT -o OUT

``hearts`` takes both phases of every patient of ``cardiac_mr`` as a series of two frames. The cavity of end-diastole is
carried to end-systole and compared with the manual label there; a shell around it, mostly muscle, gives strain.
``walls`` does the same while that shell keeps its volume.
``known`` moves a real scan by a multiple of the motion found between two of its phases, with noise of its own in every
frame, so that the right map of every frame is known. ``phantom`` registers a made ventricle whose strain is known in
closed form; it needs no data.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
from scipy.ndimage import binary_dilation

import anamorph
from anamorph.evaluation.metrics.dice import dice
from anamorph.evaluation.strain import StrainMeter
from anamorph.image.pieces import pieces_of
from anamorph.image.series import ImageSeries
from anamorph.phantom.ventricle import WALL, make_beat
from anamorph.transforms.fields import exponential, logarithm
from anamorph.transforms.files.itk_field import delivered
from anamorph.transforms.maps import Displacement
from anamorph.transforms.piece_change import volume_change_percent
from anamorph.workflows.series.results import DIRECTIONS

FRAMES, NOISE = 12, 0.04
"""Of a made series; the noise as a share of the 99th percentile."""
BEATS = ("SC-HF-I-04", "SC-HF-NI-14", "SC-HYP-03", "SC-N-09")
SHELL_PIXELS = 5


def walls(data: Path, out: Path) -> list[dict[str, object]]:
    return hearts(data, out / "walls", keeps_walls=True)


def hearts(data: Path, out: Path, keeps_walls: bool = False) -> list[dict[str, object]]:
    rows = []
    for label in sorted((data / "cardiac_mr" / "labels").glob("*_ED.nii.gz")):
        name = label.name.removesuffix("_ED.nii.gz")
        scans = [data / "cardiac_mr" / "images" / f"{name}_{phase}.nii.gz" for phase in ("ED", "ES")]
        settings = anamorph.SeriesSettings(reference=0, smoothing=0.0)
        begin = anamorph.read_labels(label)
        shell = anamorph.Labels(_shell(begin.data[0] > 0), begin.grid)
        kept = shell if keeps_walls else None
        done = anamorph.register_series(
            scans, out / name, labels=label, keep_volume=kept, settings=settings, resume=True
        )
        end = anamorph.read_labels(label.with_name(f"{name}_ES.nii.gz"))
        carried = anamorph.Labels(anamorph.read_series(done.labels).frames[1].data, begin.grid)
        volumes = [frame.volume_ml[1] for frame in done.frames]
        counts = [np.count_nonzero(one.data) for one in (begin, end)]
        strain = StrainMeter(shell).measure(done.fixed_to_moving(1))[1]
        changes = [volume_change_percent(piece, done.fixed_to_moving(1)) for piece in pieces_of(shell)[0]]
        rows.append(
            {
                "patient": name,
                "dice_before": dice(begin, end)[1],
                "dice_after": dice(carried, end)[1],
                "ef_manual": 100 * (1 - counts[1] / counts[0]),
                "ef_carried": 100 * (1 - volumes[1] / volumes[0]),
                "circumferential": 100 * (strain.circumferential or 0),
                "radial": 100 * (strain.radial or 0),
                "shell_volume_percent": max(changes, key=abs),
                "folding": done.frames[1].folding_percent,
            }
        )
        print(*(f"{value:.3f}" if isinstance(value, float) else value for value in rows[-1].values()), flush=True)
    return rows


def _shell(cavity: np.ndarray) -> np.ndarray:
    """What lies within some pixels of the cavity, slice by slice."""
    disk = np.hypot(*np.mgrid[-SHELL_PIXELS : SHELL_PIXELS + 1, -SHELL_PIXELS : SHELL_PIXELS + 1]) <= SHELL_PIXELS
    return (binary_dilation(cavity, disk[:, :, None]) & ~cavity).astype(np.uint8)


def known(data: Path, out: Path) -> list[dict[str, object]]:
    rows = []
    folder = data / "cardiac_mr"
    for name in BEATS:
        scans = [anamorph.read_image(folder / "images" / f"{name}_{phase}.nii.gz") for phase in ("ED", "ES")]
        cavity = anamorph.read_labels(folder / "labels" / f"{name}_ED.nii.gz")
        near = binary_dilation(cavity.data[0] > 0, iterations=12)
        rows += _measured(name, scans[0], scans[1], near, cavity, out)
    lung = [anamorph.read_image(data / "lung_ct" / f"{name}.mha") for name in ("baseline", "followup")]
    mask = anamorph.read_mask(data / "lung_ct" / "baseline_mask.mha")
    rows += _measured("lung_ct", lung[0], lung[1], mask.data[0] > 0, None, out)
    return rows


def _measured(
    name: str,
    rest: anamorph.Image,
    moved: anamorph.Image,
    inside: np.ndarray,
    labels: anamorph.Labels | None,
    out: Path,
) -> list[dict[str, object]]:
    """Make a series of a scan and register it with and without smoothing."""
    whole = delivered(anamorph.register(rest, moved, settings=["guide=none"]).fixed_to_moving, rest.grid)
    velocity = logarithm(whole.disp_vox)
    shares = np.sin(np.pi * np.arange(FRAMES) / FRAMES) ** 2
    rng = np.random.default_rng(0)
    sigma = NOISE * np.ptp(np.percentile(rest.data, (1, 99)))
    truth = [Displacement(exponential(velocity * np.float32(share)), whole.grid) for share in shares]
    frames = []
    for share in shares:
        back = Displacement(exponential(velocity * np.float32(-share)), whole.grid)
        values = back.warp_image(rest, rest.grid).data + sigma * rng.standard_normal(rest.data.shape)
        low, high = float(rest.data.min()), float(rest.data.max())
        frames.append(anamorph.Image(np.clip(np.rint(values), low, high).astype(np.int16), rest.grid, name))
    series = ImageSeries(tuple(frames), 1 / FRAMES, name)
    places = rest.grid.voxel_to_world(np.argwhere(inside)[::7])
    rows = []
    for smoothing in (0.0, "auto"):
        settings = anamorph.SeriesSettings(reference=0, cyclic=True, smoothing=smoothing)  # type: ignore[arg-type]
        done = anamorph.register_series(series, out / f"known_{name}", labels=labels, settings=settings, resume=True)
        errors, before, course = [], [], []
        for number, right in enumerate(truth):
            found = done.fixed_to_moving(number).map_world(places)
            errors.append(np.linalg.norm(found - right.map_world(places), axis=1))
            before.append(np.linalg.norm(places - right.map_world(places), axis=1))
            course.append(found - right.map_world(places))
        jitter = np.linalg.norm(np.diff(course, 2, axis=0), axis=2).mean()
        row: dict[str, object] = {
            "series": name,
            "smoothing": done.smoothing,
            "before_mm": float(np.mean(before)),
            "error_mm": float(np.mean(errors)),
            "p95_mm": float(np.percentile(errors, 95)),
            "jitter_mm": float(jitter),
            "peak_error_mm": float(errors[FRAMES // 2].mean()),
        }
        if labels is not None:
            growth = truth[FRAMES // 2].jacobian_determinant(rest.grid)[labels.data[0] > 0].mean()
            row |= {"ef_true": 100 * (1 - float(growth))}
            row |= {"ef_found": done.summary["volume_ml"][1]["ejection_fraction_percent"]}
        rows.append(row)
        print(*(f"{value:.3f}" if isinstance(value, float) else value for value in row.values()), flush=True)
    return rows


def phantom(data: Path, out: Path) -> list[dict[str, object]]:
    beat = make_beat()
    grid, labels = beat.series.grid, beat.labels[0]
    places = grid.voxel_to_world(np.argwhere(labels.data[0] == WALL))
    peak = len(beat.motions) // 2
    truth = {name: beat.mean_strain(peak, axis) for axis, name in enumerate(DIRECTIONS)}
    rows: list[dict[str, object]] = [{"series": "truth"} | truth]
    wall = anamorph.Labels((labels.data[0] == WALL).astype(np.uint8), grid, "wall")
    for smoothing, kept in ((0.0, None), ("auto", None), ("auto", wall)):
        settings = anamorph.SeriesSettings(reference=0, cyclic=True, smoothing=smoothing)  # type: ignore[arg-type]
        done = anamorph.register_series(
            beat.series, out / "phantom", labels=labels, keep_volume=kept, settings=settings, resume=True
        )
        errors = [
            np.linalg.norm(done.fixed_to_moving(number).map_world(places) - right.map_world(places), axis=1).mean()
            for number, right in enumerate(beat.motions)
        ]
        strain = done.frames[peak].strain[WALL]
        found = {name: float(getattr(strain, name)) for name in DIRECTIONS}
        about = {"series": "found" if kept is None else "wall kept", "smoothing": done.smoothing}
        rows.append(about | {"error_mm": float(np.mean(errors))} | found)
    for row in rows:
        print(*(f"{name} {value:.3f}" if isinstance(value, float) else value for name, value in row.items()))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("hearts", "walls", "known", "phantom"))
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    args = parser.parse_args()
    rows = {"hearts": hearts, "walls": walls, "known": known, "phantom": phantom}[args.what](args.data, args.out)
    names = list(dict.fromkeys(name for row in rows for name in row))
    with (args.out / f"{args.what}.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, names)
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
