"""What a segmentation network sees in both scans, or labels say, to be compared beside their descriptors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from anamorph.errors import UserError
from anamorph.features.mind_ssc import LANES
from anamorph.geometry.grid import Grid
from anamorph.image.background import content_box
from anamorph.image.image import Image, Labels
from anamorph.methods.pyramid import THICK
from anamorph.methods.working_frame import Scan, covering_grid
from anamorph.networks.model_folders import find_model, is_model
from anamorph.transforms.affine import AffineParts
from anamorph.transforms.maps import Affine, Composite, Reading, Transform

if TYPE_CHECKING:
    from anamorph.networks.trained import SegmentationModel

Device = Literal["cpu", "cuda"]
LEFT_OUT = "the guide is sure of none of its labels in both scans, and was left out"
CLEARLY_BETTER = 0.1
"""Agreement that middles of labels must gain over a start by the images, and their sizes over that."""
MOST_SCALED = 1.6
"""Largest factor by which sizes of labels change that of a scan."""
LEAST_SURE = 0.65
"""Expected probability of a label's voxels that nine of ten scans are taken to reach where a card says less or nothing:
networks that are hardly ever sure are no guides."""
SURE_TO, UNSURE_FROM = 0.05, 0.15
"""So much below what nine of ten scans reach a label counts fully, and from so much on not at all: the network sees
something else, such as another contrast."""
LESS_SURE = 0.08
"""A network so much less sure of a label than usual is often wrong, though right enough to gain by on average."""
USUAL = 0.83
"""How sure a network is whose card does not say it; hearts are usually seen so."""
DOUBT = (
    "{model} is unsure of {labels} in one of the scans: what it gets wrong the result gets wrong; "
    "compare with guide=none"
)
TURNED_DEG = 12.0
"""Networks are trained on scans that are turned this little."""
STRANGE = 2.0
"""A label this many times smaller or larger than any of the training is none."""
CUT = 0.1
"""Voxels of a label at the end of a field of view, as a share of its volume in voxels to the power of 2/3, from which
on it is cut: whole hippocampi have up to 0.07, cut ones up to 1."""
OWN = "guide"
"""Folder of the segmentation network inside the model folder of a registration network."""
NONE, AUTO = "none", "auto"


@dataclass(frozen=True)
class Guide:
    """The probability of every label, ``(L, I, J, K)``, where a network sees each scan, and how far each is trusted.

    Labels that a network predicts tell apart what looks alike to a descriptor; learned features of this kind led the
    abdominal tasks of Learn2Reg 2021 (Hering et al., IEEE TMI 2023).

    Args:
        fixed: probabilities in the fixed scan.
        moving: probabilities in the moving scan.
        trust: ``(L,)`` in [0, 1].
        model: its name and hash, and by the names of the labels the trust and how sure the network is.
        cut: ``(L,)``, true where a field of view ends within a label, whose middle and size then say nothing.
        doubts: a line about labels that are compared though the network is unsure of them, where many are.
    """

    fixed: Scan
    moving: Scan
    trust: np.ndarray
    model: dict[str, Any]
    cut: np.ndarray
    doubts: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        name: str,
        fixed: Image,
        moving: Image,
        device: Device,
        start: Transform | None = None,
        beside: str | None = None,
    ) -> Guide | None:
        """Segment both scans by the first model that was made for scans like these; None where there is none.

        Args:
            name: of models, as :func:`guide_models` takes it.
            fixed: the fixed scan.
            moving: the moving scan.
            device: ``cpu`` or ``cuda``.
            start: of fixed to moving points; where it turns, one scan is seen turned as the other one lies.
            beside: the registration network.

        Raises:
            UserError: there is no such model, or it takes scans of other channels; where the name ends with ``none``
                such a model is passed over.
        """
        named = guide_models(name, beside)
        for one in named:
            try:
                found = cls._by(one, fixed, moving, device, start, is_only=len(named) == 1)
            except UserError:
                if not name.endswith(NONE):
                    raise
                continue
            if found is not None:
                return found
        return None

    @classmethod
    def _by(
        cls, name: str, fixed: Image, moving: Image, device: Device, start: Transform | None, is_only: bool
    ) -> Guide | None:
        """Segment both scans by one model; among several it must have been trained on scans of their size."""
        from anamorph.networks.trained import SEGMENT, SegmentationModel

        described = SegmentationModel.describe(name, SEGMENT)
        if not described.labels:
            raise UserError(f"{name} knows no labels; train one with `anamorph train segment`")
        if not (is_only or (described.is_sized_for(fixed.grid) and described.is_sized_for(moving.grid))):
            return None
        model = SegmentationModel.load(name, SEGMENT, device)
        here, there, trust = max(_views(model, fixed, moving, start), key=lambda view: float(view[2].sum()))
        if not trust.any():
            return None
        sure = np.minimum(sureness(here.channels), sureness(there.channels))
        told = model.identity | {
            what: {model.card.labels[one]: round(float(value), 3) for one, value in zip(model.labels, of, strict=True)}
            for what, of in (("trust", trust), ("sure", sure))
        }
        cut = cut_labels(here) | cut_labels(there)
        return cls(here, there, trust, told, cut, _doubts(model, trust, sure))

    @classmethod
    def of_labels(cls, fixed: Labels, moving: Labels, values: Sequence[int], spacing_mm: float) -> Guide:
        """The shares of voxels, no smaller than a spacing, that labels of two maps fill."""
        here, there = (_shares(labels, values, spacing_mm) for labels in (fixed, moving))
        cut = cut_labels(here) | cut_labels(there)
        return cls(here, there, np.ones(len(values)), {"labels": list(values)}, cut)

    def onto(self, grid: Grid, start: Transform | None) -> tuple[np.ndarray, np.ndarray]:
        """Trusted labels on one grid, the moving ones under the linear start, scaled by the root of the trust."""
        trusted = self.trust > 0
        scale = np.sqrt(self.trust[trusted]).astype(np.float32)[:, None, None, None]
        chosen = slice(None) if trusted.all() else trusted  # a slice copies nothing
        here, there = (
            scale * scan.onto(grid, by).channels[chosen] for scan, by in ((self.fixed, None), (self.moving, start))
        )
        return here, there

    def label_maps(self) -> tuple[Labels, Labels]:
        """The most probable label of every voxel of both scans where it is trusted, numbered from 1 in their order."""
        here, there = (Labels(self._most_probable(scan.channels), scan.grid) for scan in (self.fixed, self.moving))
        return here, there

    def _most_probable(self, channels: np.ndarray) -> np.ndarray:
        numbers = np.where(self.trust > 0, np.arange(1, len(channels) + 1), 0).astype(np.uint8)
        background = 1 - channels.sum(axis=0)
        return np.where(channels.max(axis=0) > background, numbers[channels.argmax(axis=0)], 0).astype(np.uint8)

    def agreement(self, transform: Transform) -> float:
        """The correlation of probabilities about 0 under a map, mean over the labels by their trust.

        Unlike an overlap it does not fall with the difference of two sizes alone.
        """
        here, there = self.onto(self.fixed.grid, transform)
        shared, *own = (np.einsum("lijk,lijk->l", a, b) for a, b in ((here, there), (here, here), (there, there)))
        alike = shared / np.maximum(np.sqrt(own[0] * own[1]), 1e-9)
        return float(np.average(alike, weights=self.trust[self.trust > 0]))

    def moved(self, start: Affine, may_scale: bool) -> Affine:
        """The start, or one by the middles of the labels, or also by their sizes.

        They are taken where they bring the labels clearly better upon each other. Only whole labels have them.

        Args:
            start: by the images.
            may_scale: whether sizes may change.
        """
        trusted = (self.trust > 0) & ~self.cut
        if not trusted.any():
            return start
        weights = self.trust[trusted] / self.trust[trusted].sum()
        here, there = (_middles_mm(scan)[trusted] for scan in (self.fixed, self.moving))
        shifted = Composite.of(start, Affine.translation(weights @ (there - start.map_world(here))))
        assert isinstance(shifted, Affine)
        volumes = [_volumes_ml(scan)[trusted] for scan in (self.fixed, self.moving)]
        larger = weights @ np.log(volumes[1] / volumes[0]) - np.linalg.slogdet(start.matrix[:3, :3])[1]
        factor = float(np.clip(np.exp(larger / 3), 1 / MOST_SCALED, MOST_SCALED))
        scaled = Composite.of(shifted, Affine.about(factor * np.eye(3), weights @ there))
        assert isinstance(scaled, Affine)
        best, agreed = start, self.agreement(start)
        for other in (shifted, scaled)[: 1 + may_scale]:
            agreement = self.agreement(other)
            if agreement > agreed + CLEARLY_BETTER:
                best, agreed = other, agreement
        return best


def _doubts(model: SegmentationModel, trust: np.ndarray, sure: np.ndarray) -> tuple[str, ...]:
    """A line about the labels of which the network is less sure than usual, if half of those compared or more are."""
    usual = model.card.usual_sureness
    least = np.array([usual.get(label, USUAL) for label in model.labels]) - LESS_SURE
    compared = trust > 0
    doubted = np.flatnonzero(compared & (sure < least))
    if 2 * len(doubted) < max(1, int(compared.sum())):
        return ()
    labels = ", ".join(
        f"{model.card.labels[model.labels[n]]} ({sure[n]:.2f}; {least[n]:.2f} and more where it is right)"
        for n in doubted
    )
    return (DOUBT.format(model=model.identity["name"], labels=labels),)


def _shares(labels: Labels, values: Sequence[int], spacing_mm: float) -> Scan:
    grid = labels.grid.resampled(np.maximum(labels.grid.spacing_mm, spacing_mm))
    reading = Reading.of(labels.grid, grid, None)
    channels = [reading.read((labels.data == value).astype(np.float32), fill=0.0)[0] for value in values]
    return Scan(np.stack(channels), np.ones(grid.shape, np.float32), grid)


def _views(
    model: SegmentationModel, fixed: Image, moving: Image, start: Transform | None
) -> Iterator[tuple[Scan, Scan, np.ndarray]]:
    """What the network sees in both scans, and its trust; of turned scans once as each of them lies."""
    ways: list[tuple[np.ndarray | None, np.ndarray | None]] = [(None, None)]
    if isinstance(start, Affine) and model.can_turn:
        parts = AffineParts.of(start, fixed.grid.centre_mm)
        if parts.turn_deg > TURNED_DEG:
            from scipy.spatial.transform import Rotation

            turn = Rotation.from_rotvec(np.deg2rad(parts.turn_deg) * np.array(parts.turn_axis)).as_matrix()
            axes = [model.frame(image.grid).directions for image in (fixed, moving)]
            ways = [(None, turn @ axes[0]), (turn.T @ axes[1], None)]
    for mine, other in ways:
        here, there = _seen(model, fixed, mine), _seen(model, moving, other)
        yield here, there, np.minimum(trust_of(model, here), trust_of(model, there))


def _seen(model: SegmentationModel, image: Image, directions: np.ndarray | None) -> Scan:
    """The probabilities of the labels where the network sees a scan without its margins of padding; weight within it.

    Args:
        model: the network.
        image: a scan.
        directions: axes of the frame; None for those of the scan.
    """
    box = content_box(image)
    shown = image if box is None else image.cropped(box)
    seen = model.seen(shown, None if directions is None else turned_frame(model, shown, directions))
    view = Reading.of(shown.grid, seen.grid, None).read(np.ones((1, *shown.grid.shape), np.float32), 0.0)[0]
    return Scan(seen.data[1:], view, seen.grid)


def turned_frame(model: SegmentationModel, image: Image, directions: np.ndarray) -> Grid:
    """The frame along other axes in which the network sees no more of the outside than in its training.

    Around what the scan shows, which is less than its field of view where it was turned and resampled before.
    """
    cover = covering_grid(image.grid, directions, model.frame(image.grid).finest_mm)
    shown = np.argwhere(model.preprocessing.channels(image, cover).any(axis=0))
    first, last = shown.min(axis=0), shown.max(axis=0)
    shape = np.maximum(last - first + 1, model.preprocessing.shape or (1, 1, 1))
    affine = cover.affine.copy()
    affine[:3, 3] = cover.voxel_to_world((first + last) / 2 - (shape - 1) / 2)
    return Grid(tuple(shape.tolist()), affine)


def trust_of(model: SegmentationModel, scan: Scan) -> np.ndarray:
    """``(L,)``: how sure the network is of the voxels of each label, beside how sure it is of scans of its kind.

    Volumes that no scan of its training had are trusted with 0.
    """
    known = model.card.low_sureness
    least = np.array([max(known.get(label, 0), LEAST_SURE) for label in model.labels]) - UNSURE_FROM
    trust: np.ndarray = np.clip((sureness(scan.channels) - least) / (UNSURE_FROM - SURE_TO), 0, 1)
    volumes_ml = _volumes_ml(scan)
    for channel, label in enumerate(model.labels):
        low, high = model.card.volumes_ml.get(label, (0.0, np.inf))
        if not low / STRANGE < volumes_ml[channel] < high * STRANGE:
            trust[channel] = 0
    return trust


def sureness(channels: np.ndarray) -> np.ndarray:
    """``(L,)``: the expected probability of the voxels of each label of ``(L, I, J, K)``.

    sum(p^2) / sum(p) is 1 where every voxel is clear.
    """
    total, squared = channels.sum(axis=(1, 2, 3), dtype=np.float64), np.square(channels).sum(axis=(1, 2, 3))
    found: np.ndarray = squared / np.maximum(total, 1e-9)
    return found


def cut_labels(scan: Scan) -> np.ndarray:
    """``(L,)``: whether the field of view, where there is weight, ends within each label.

    By how many voxels of a label lie at its end, beside those that a section through its middle has. Thick slices say
    nothing about that: the ends of a stack lie within what it shows.
    """
    from scipy.ndimage import binary_erosion

    spacing, inside = scan.grid.spacing_mm, scan.weight > 0
    around = np.zeros((3, 3, 3), bool)
    around[1, 1, 1] = True
    for axis in np.flatnonzero(spacing < THICK * spacing.min()):
        np.moveaxis(around, axis, 0)[:, 1, 1] = True
    end = inside & ~binary_erosion(inside, around)
    at_end, total = scan.channels[:, end].sum(axis=1), scan.channels.sum(axis=(1, 2, 3))
    cut: np.ndarray = at_end > CUT * np.maximum(total, 1e-9) ** (2 / 3)
    return cut


def _volumes_ml(scan: Scan) -> np.ndarray:
    """``(L,)``: the volume of each channel."""
    return scan.channels.sum(axis=(1, 2, 3), dtype=np.float64) * scan.grid.voxel_mm**3 / 1000


def _middles_mm(scan: Scan) -> np.ndarray:
    """``(L, 3)``: the centre of mass of each channel."""
    sums = [np.moveaxis(scan.channels, 1 + axis, 1).sum(axis=(2, 3), dtype=np.float64) for axis in range(3)]
    total = np.maximum(sums[0].sum(axis=1), 1e-9)
    middles = np.stack([one @ np.arange(one.shape[1]) / total for one in sums], axis=1)
    return scan.grid.voxel_to_world(middles)


def guide_models(name: str, beside: str | None = None) -> list[str]:
    """The models that may guide, in order.

    Args:
        name: of a model or its folder; ``none``; ``auto`` for the one that came with a registration network, if one
            did; or several of these, separated by commas, the first fitting one of which is taken. After others
            ``none`` says that they need not be installed.
        beside: the registration network.

    Raises:
        UserError: a model that has to be there is not.
    """
    *others, last = (one.strip() for one in name.split(","))
    found = [one for one in others if is_model(one)]
    if last == AUTO:
        own = find_model(beside) / OWN if beside else None
        return found + ([str(own)] if own is not None and own.is_dir() else [])
    return found if last == NONE else [*found, last]


def guide_bytes(name: str, fixed: Grid, moving: Grid, described: Grid | None = None, beside: str | None = None) -> int:
    """Peak memory that a guide adds to a registration.

    Args:
        name: of models, as :func:`guide_models` takes it.
        fixed: grid of the fixed scan.
        moving: grid of the moving scan.
        described: grid of the descriptors; None where the guide corrects the start alone.
        beside: the registration network.
    """
    from anamorph.networks.trained import SEGMENT, SegmentationModel

    most = 0
    for one in guide_models(name, beside):
        model = SegmentationModel.describe(one, SEGMENT)
        lanes = 0 if described is None else lane_bytes(described, -(-len(model.labels) // LANES))
        most = max(most, model.peak_memory_bytes(fixed) + model.peak_memory_bytes(moving) + lanes)
    return most


def lane_bytes(described: Grid, blocks: int) -> int:
    """Memory of more blocks of lanes: two descriptors, one warped and two planar, as in the pyramid's own count."""
    return 4 * int(np.prod(described.shape)) * 5 * LANES * blocks


def label_bytes(count: int, fixed: Grid, moving: Grid, working: Grid, described: Grid | None = None) -> int:
    """Peak memory that labels which pull add to a registration.

    Args:
        count: of the labels.
        fixed: grid of the fixed scan.
        moving: grid of the moving scan.
        working: grid on which the scans are described.
        described: grid of the descriptors; None where labels correct the start alone.
    """
    grids = (scan.resampled(np.maximum(scan.spacing_mm, working.finest_mm)) for scan in (fixed, moving))
    voxels = [int(np.prod(grid.shape)) for grid in grids]
    # The shares of both scans, and beside them on one grid: those of one scan, and of the other twice.
    lanes = 0 if described is None else lane_bytes(described, -(-count // LANES))
    return 4 * count * (sum(voxels) + 3 * max(voxels)) + lanes
