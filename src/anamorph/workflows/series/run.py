"""From the frames of a series to one 4D result, the maps of all frames and the numbers of the motion, resumable.

1. Every frame is registered to the reference, or to the mean of all frames, which rounds of
   :mod:`anamorph.workflows.template.iteration` find.
2. The velocities of all maps are smoothed over time, and what must not deform is given its motion again.
3. Frames are warped, labels carried to every frame, and the motion is measured.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from anamorph.batch.registration import RegistrationSettings, register_scans, roles_of
from anamorph.batch.run import part, run_jobs
from anamorph.batch.store import Contents, Kept, check_sums, origin_of
from anamorph.data.dataset import Case
from anamorph.errors import UserError
from anamorph.evaluation.numbers import plain
from anamorph.image.atomic import write_text
from anamorph.image.image import Image, Labels
from anamorph.image.read import read_grid, read_image, read_labels, read_series
from anamorph.image.series import ImageSeries
from anamorph.image.types import ImageLike, SeriesLike
from anamorph.image.write import world_code, write_image
from anamorph.methods.base import Outcome, Pair, Run
from anamorph.methods.tissue import Tissue
from anamorph.registration.folder import FIXED_TO_MOVING, MOVING_TO_FIXED
from anamorph.registration.grids import check_grid
from anamorph.registration.lungs import is_lungs
from anamorph.registration.provenance import input_hash
from anamorph.registration.request import Request, mask_on
from anamorph.registration.tissue import KeepLike, given_as, keep, sources_of
from anamorph.report.page import drawn
from anamorph.transforms.files import read_transform, write_transform
from anamorph.transforms.files.itk_field import delivered, on_own_grid
from anamorph.transforms.maps import Affine, Displacement, Transform
from anamorph.types import Progress
from anamorph.workflows.series.motion import Maps, smooth_motion
from anamorph.workflows.series.results import FIELDS, FRAMES, RECORD, SeriesResult, deliver, number_name, write_page
from anamorph.workflows.series.settings import SeriesSettings, find_reference, within_a_series
from anamorph.workflows.template.iteration import SUPPORT, ScanJob, iterate, start_template
from anamorph.workflows.template.scans import TemplateSettings

REGISTERED, ROUNDS = "registered", "iterations"
REMEDY = "the others are kept: mend it and pass --resume"
TOLERANCE = 0.1
"""Of the spread of the frames: a mean field this small ends the rounds."""
PREPARED, DONE = 0.05, 0.85
"""Shares of a run that are done when the frames are there, and when they are registered."""


@dataclass(frozen=True)
class FrameJob(ScanJob):
    """The maps of a frame in both directions, as the registration gives them.

    Args:
        known: files of what is known of the target, as arguments of a request.
    """

    known: Mapping[str, Any] = field(default_factory=dict)

    @property
    def result(self) -> Path:
        """The folder."""
        return self.folder / self.case.modality

    def peak_bytes(self) -> int:
        """Predicted memory."""
        return self.wanted.peak_bytes(read_grid(self.template), read_grid(self.case.image), "sliding" in self.known)

    def find(self) -> dict[str, Any] | None:
        """The record of maps of the same files and settings."""
        return self._kept().find()

    def do(self, progress: Progress | None = None) -> dict[str, Any]:
        """Write both maps, and last the record."""
        target, frame = read_image(self.template), read_image(self.case.image)
        support = mask_on(target, self.support)
        found = register_scans(self.wanted, target, frame, fixed_mask=support, progress=progress, **self.known)
        _write_maps((found.fixed_to_moving, found.moving_to_fixed), target, self.result)
        paths = [self.result / name for name in (FIXED_TO_MOVING, MOVING_TO_FIXED)]
        return self._kept().keep(paths, {"warnings": found.warnings})

    def _kept(self) -> Kept:
        return Kept(self.result / "frame.json", self.result, self.origin)


def register_series(
    source: SeriesLike,
    out: Path | str,
    *,
    labels: ImageLike | None = None,
    keep_rigid: KeepLike | None = None,
    keep_volume: KeepLike | None = None,
    stiffness: ImageLike | None = None,
    sliding: ImageLike | None = None,
    no_partner: ImageLike | None = None,
    settings: SeriesSettings | None = None,
    registration: RegistrationSettings | None = None,
    frame_s: float | None = None,
    workers: int | str = 1,
    resume: bool = False,
    progress: Progress | None = None,
    on_failure: Callable[[str, str], None] | None = None,
) -> SeriesResult:
    """Register every frame of a series to one of them or to their mean, smooth in time.

    Args:
        source: a 4D file or image, or the frames in the order of time, see :func:`~anamorph.image.read.read_series`.
        out: folder to write.
        labels: label map of the reference, carried to every frame and measured there.
        keep_rigid: masks of the reference whose connected pieces move rigidly in every frame: one or several, each
            alone (exactly) or as a pair with a weight (about so).
        keep_volume: masks of the reference whose connected pieces keep their volume in every frame.
        stiffness: factors of the smoothness of the deformation on the grid of the frames, 1 for ordinary tissue.
        sliding: mask of the reference of what slides along what is around it, or ``lungs``, found in CT; nothing is
            smoothed over time then.
        no_partner: mask of what the reference alone shows.
        settings: reference, target and smoothing.
        registration: method and settings of every registration. Frames are compared where their headers place them
            and without a guide, unless the settings say otherwise.
        frame_s: seconds between frames; by default what the header says.
        workers: processes, or where else the work is done, see :func:`~anamorph.batch.run.run_jobs`.
        resume: go on in ``out``; frames that are registered are not registered again.
        progress: called with the stage and the fraction done.
        on_failure: called with the name of each frame that fails, and the reason.

    Raises:
        UserError: settings or scans that cannot work, or ``out`` holds something and ``resume`` is off.
        RegistrationFailure: frames failed; the others are kept.
    """
    settings, out = settings or SeriesSettings(), Path(out)
    wanted = within_a_series(registration or RegistrationSettings())
    described = wanted.described()
    tell = part(progress, 0.0, 1.0)
    tell("reading", 0.0)
    series = read_series(source, frame_s=frame_s)
    given: dict[str, Any] = {
        "keep_rigid": keep_rigid,
        "keep_volume": keep_volume,
        "stiffness": stiffness,
        "sliding": sliding,
        "no_partner": no_partner,
    }
    given = {name: value for name, value in given.items() if value is not None}
    reference = find_reference(series, settings, labels is not None or bool(given))
    settings = _fitting(settings, given)
    drawn_on = None if labels is None else _labels_on(series.frames[reference], labels)
    tissue = Request(series.frames[reference], series.frames[reference], **given).read().pair.fixed_tissue
    _check_out(out, resume)
    _write_record(out, {"status": "unfinished"})
    cases = [_kept_frame(frame, number, out / FRAMES) for number, frame in enumerate(series.frames)]
    known = _kept_masks(given, out / FRAMES)
    contents = Contents()
    files = {case.key: contents.of({"image": case.image}) for case in cases}
    target, support, begun = cases[reference].image, None, PREPARED
    still = reference if settings.to == "reference" else None
    if still is None:
        begun = (PREPARED + DONE) / 2
        rounds = part(progress, PREPARED, begun)
        target = _mean_of(cases, cases[reference], files, wanted, settings, out, workers, rounds, on_failure)
        support = target.with_name(SUPPORT)
    found = {name: value for name, value in known.items() if is_lungs(value)}
    masks = contents.of(roles_of({name: value for name, value in known.items() if name not in found})) | found
    about = origin_of(target=contents.of({"image": target, "support": support}), how=described, **masks)
    jobs = [
        FrameJob(case, target, support, wanted, out / REGISTERED, about | {"frame": files[case.key]}, known)
        for number, case in enumerate(cases)
        if number != still
    ]
    ran = run_jobs(jobs, workers, noun="frame", progress=part(progress, begun, DONE), on_failure=on_failure)
    ran.check("frames", REMEDY)
    tell("smoothing over time", DONE)
    maps, strength = smooth_motion(_maps(jobs, series, still), series, still, settings)
    if strength > 0 and (tissue.rigid or tissue.volume):
        maps = [both if n == still else _kept_again(both, tissue, series, n) for n, both in enumerate(maps)]
    for number, both in enumerate(maps):
        _write_maps(both, series.frames[0], out / FIELDS / number_name(number))
    if drawn_on is not None and still is None:
        drawn_on = maps[reference][0].warp_labels(drawn_on, series.grid)
    world = world_code(source[0] if isinstance(source, Sequence) else source)
    done = deliver(out, series, maps, drawn_on, still, settings, part(progress, 0.88, 0.97), world)
    result = SeriesResult(out, reference, strength, *done, warnings=_warnings(jobs, ran.records))
    tell("report", 0.97)
    draw = drawn(result.page, lambda: write_page(result, series, settings))
    result = replace(result, page_failure=draw)
    _write_record(out, _record(result, series, settings, described, files | masks))
    return result


def _warnings(jobs: Sequence[FrameJob], records: Mapping[str, dict[str, Any]]) -> dict[str, list[int]]:
    """Each warning of the registrations with the numbers of its frames."""
    found: dict[str, list[int]] = {}
    for job in jobs:
        for warning in records[job.name]["warnings"]:
            found.setdefault(warning, []).append(int(job.case.modality))
    return found


def _labels_on(frame: Image, source: ImageLike) -> Labels:
    labels = read_labels(source)
    check_grid(labels, frame, False, "labels")
    return Labels(labels.data, frame.grid, labels.name)


def _check_out(out: Path, resume: bool) -> None:
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; name a folder for the output")
    if not out.exists() or not any(out.iterdir()):
        return
    if not (out / RECORD).is_file():
        raise UserError(f"{out} holds files but no {RECORD}; choose another output folder")
    if not resume:
        raise UserError(f"{out} holds a series already; pass --resume to go on there, or choose another folder")


def _fitting(settings: SeriesSettings, given: Mapping[str, Any]) -> SeriesSettings:
    """The settings, as far as they go with what is known of the reference.

    Raises:
        UserError: they do not.
    """
    if given and settings.to == "mean":
        raise UserError("masks of the reference do not fit the mean; drop --to mean, or the masks")
    if "sliding" not in given:
        return settings
    if settings.smoothing not in ("auto", 0):
        raise UserError("--smooth would blur what slides over its surface; drop --smooth, or --sliding")
    return replace(settings, smoothing=0.0)


def _kept_frame(frame: Image, number: int, folder: Path) -> Case:
    """A frame as a file of its own."""
    return Case("frame", number_name(number), _kept_image(frame, number_name(number), folder))


def _kept_image(image: Image, name: str, folder: Path) -> Path:
    """A file of an image, written unless an earlier run did."""
    path = folder / f"{name}.nii.gz"
    kept = Kept(path.with_name(f"{name}.json"), folder, origin_of(frame=input_hash(image)))
    if kept.find() is None:
        write_image(image, path)
        kept.keep([path], {})
    return path.absolute()


def _kept_masks(given: Mapping[str, KeepLike], folder: Path) -> dict[str, KeepLike]:
    """The same masks as files that every worker can read."""
    known: dict[str, KeepLike] = {}
    for name, masks in given.items():
        if is_lungs(masks):  # each worker finds them
            known[name] = masks
            continue
        read = read_labels if name.startswith("keep") or name == "sliding" else read_image
        known[name] = given_as(
            [(_kept_image(read(one), f"{name}{n or ''}", folder), w) for n, (one, w) in enumerate(sources_of(masks))]
        )
    return known


def _kept_again(maps: Maps, tissue: Tissue, series: ImageSeries, number: int) -> Maps:
    """The maps of a frame with the exact properties of tissue, which smoothing over time has blurred."""
    pair = Pair(series.frames[number], series.frames[number], fixed_tissue=Tissue(tissue.rigid, tissue.volume))
    found = keep(Outcome(*maps), pair, Run("cpu"))
    return delivered(found.fixed_to_moving, series.grid), delivered(found.moving_to_fixed, series.grid)


def _mean_of(
    cases: Sequence[Case],
    reference: Case,
    files: dict[str, Any],
    wanted: RegistrationSettings,
    settings: SeriesSettings,
    out: Path,
    workers: int | str,
    progress: Progress,
    on_failure: Callable[[str, str], None] | None,
) -> Path:
    """The mean of all frames on their mean shape, in the place of the reference."""
    how = TemplateSettings(reference.key, settings.iterations)
    told = start_template(cases, reference, out / ROUNDS / "00", files, how)
    for number in range(1, settings.iterations + 1):
        share = part(progress, (number - 1) / settings.iterations, number / settings.iterations, f"round {number}")
        folder = out / ROUNDS / f"{number:02d}"
        told = iterate(told, cases, files, folder, wanted, how, workers, share, on_failure, REMEDY)
        if (told.mean_field_rms_mm or 0.0) <= TOLERANCE * (told.spread_mm or 0.0):
            break
    return told.template.absolute()


def _maps(jobs: Sequence[FrameJob], series: ImageSeries, still: int | None) -> list[Maps]:
    """The maps of every frame as the registrations gave them; those of the reference are the identity."""
    at_rest = delivered(Affine.identity(), series.grid)
    maps = [(_read_map(job.result / FIXED_TO_MOVING), _read_map(job.result / MOVING_TO_FIXED)) for job in jobs]
    if still is not None:
        maps.insert(still, (at_rest, at_rest))
    return maps


def _read_map(path: Path) -> Displacement:
    read = read_transform(path)
    assert isinstance(read, Displacement)
    return read


def _write_maps(maps: tuple[Transform, Transform], scan: Image, folder: Path) -> None:
    """Both directions as ``anamorph register`` names them."""
    for transform, name, roles in zip(
        maps, (FIXED_TO_MOVING, MOVING_TO_FIXED), (("fixed", "moving"), ("moving", "fixed")), strict=True
    ):
        field = on_own_grid(transform.between(*roles), scan.grid)  # type: ignore[arg-type]
        write_transform(field, folder / name, "itk", field.grid)


def _record(
    result: SeriesResult,
    series: ImageSeries,
    settings: SeriesSettings,
    described: Mapping[str, Any],
    files: Mapping[str, Any],
) -> dict[str, Any]:
    return {
        "status": "finished",
        "reference": result.reference,
        "frame_s": series.frame_s,
        "smoothing": result.smoothing,
        "summary": result.summary,
        "warnings": result.warnings,
        "frames": [asdict(frame) for frame in result.frames],
        "settings": asdict(settings),
        "registration": dict(described),
        "inputs": dict(files),
        "files": check_sums(result.folder, [path for path in result.files if path.is_file()]),
    }


def _write_record(out: Path, content: dict[str, Any]) -> None:
    write_text(out / RECORD, json.dumps(plain(content), indent=2, ensure_ascii=False) + "\n")
