"""A template cut into layers of supervoxels, and the layers brought to the scans."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from anamorph.batch.store import Contents, origin_of
from anamorph.data.dataset import Case
from anamorph.errors import UserError
from anamorph.image.image import Image, Mask
from anamorph.image.read import read_grid, read_image, read_labels
from anamorph.registration.request import mask_on
from anamorph.supervoxels.files import TEMPLATE_LAYERS, layers_path, load_layers, save_layers, transform_path
from anamorph.supervoxels.layers import COMPACTNESS, Layers, layer_grid, make_layers, warp_layers
from anamorph.supervoxels.mask import near_organs
from anamorph.transforms.files import read_transform
from anamorph.types import Progress

MASKS = ("body", "organs", "given")


@dataclass(frozen=True)
class LayerSettings:
    """How a template is cut; the defaults are those of the publication, save for the mask.

    Args:
        layers: how many.
        supervoxels: of each.
        spacing_mm: voxel size of the layers; twice that of the scan by default.
        mask: where the scan is cut: ``body``, found in the scan; ``organs``, within 60 mm of a labelled one, as
            published; ``given``, the mask of the data set.
        seed: of the layers.
        compactness: larger is rounder.

    Raises:
        UserError: there is no such mask.
    """

    layers: int = 16
    supervoxels: int = 127
    spacing_mm: float | None = None
    mask: str = "body"
    seed: int = 0
    compactness: float = COMPACTNESS

    def __post_init__(self) -> None:
        if self.mask not in MASKS:
            raise UserError(f"--mask must be one of {', '.join(MASKS)}, not '{self.mask}'")

    def check(self, template: Case) -> None:
        """See that the template has what the mask is made of.

        Raises:
            UserError: it has not.
        """
        if self.mask == "organs" and template.label is None:
            raise UserError(f"the template {template.key} has no labels, which --mask organs needs; take --mask body")
        if self.mask == "given" and template.mask is None:
            raise UserError(f"the template {template.key} has no mask in the data set; take --mask body")

    def mask_of(self, template: Case, image: Image) -> Mask | None:
        """The mask of a template; None leaves it to the cutting to find the body.

        Raises:
            UserError: it cannot be read or is empty.
        """
        if self.mask == "organs" and template.label is not None:
            return near_organs(read_labels(template.label))
        return mask_on(image, template.mask) if self.mask == "given" else None

    def cut(self, image: Image, mask: Mask | None, progress: Progress | None = None) -> Layers:
        """Cut a scan inside a mask, or where its body is.

        Raises:
            UserError: it cannot be cut into so many supervoxels.
        """
        return make_layers(
            image,
            layers=self.layers,
            supervoxels=self.supervoxels,
            spacing_mm=self.spacing_mm,
            mask=mask,
            seed=self.seed,
            compactness=self.compactness,
            progress=progress,
        )


def cut_template(template: Case, cutting: LayerSettings, folder: Path, progress: Progress) -> Layers:
    """The layers of the template, read if an earlier run made them of the same files in the same way.

    Raises:
        UserError: the template cannot be read or cut.
    """
    path = folder / TEMPLATE_LAYERS
    source = {"body": None, "organs": template.label, "given": template.mask}[cutting.mask]
    files = Contents().of({"image": template.image, "mask": source})
    origin = origin_of(**dataclasses.asdict(cutting), files=files)
    earlier = _readable(path)
    if earlier is not None and earlier.provenance.get("origin") == origin:
        return earlier
    image = read_image(template.image)
    made = cutting.cut(image, cutting.mask_of(template, image), progress)
    layers = dataclasses.replace(made, provenance={**made.provenance, "origin": origin})
    save_layers(layers, path)
    return layers


def warp_to_scans(
    layers: Layers, cases: Sequence[Case], template: Case, spacing_mm: float | None, folder: Path, progress: Progress
) -> None:
    """Write the layers of every scan, by the transforms that are in the folder."""
    for number, case in enumerate(cases):
        progress(f"layers of scan {number + 1} of {len(cases)}", number / len(cases))
        if case.key == template.key:
            warped = layers
        else:
            transform = read_transform(folder / transform_path(case.key))
            warped = warp_layers(layers, transform, layer_grid(read_grid(case.image), spacing_mm))
        save_layers(warped, folder / layers_path(case.key))


def _readable(path: Path) -> Layers | None:
    try:
        return load_layers(path)
    except UserError:
        return None
