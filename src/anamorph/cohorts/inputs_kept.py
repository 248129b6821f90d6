"""Scans and label maps that a worker has read, kept for the next pairs; a file that changed is reported, not used."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

from anamorph.batch.key import MISSING
from anamorph.errors import UserError
from anamorph.evaluation.case import LabelMaps
from anamorph.image import Image
from anamorph.image.read import read_image
from anamorph.image.write import world_code
from anamorph.registration.provenance import file_hash

KEPT_BYTES = 200_000_000
LABEL_MAPS_KEPT = 64


class KeptInputs:
    """The inputs of the pairs that one process works on, one after the other.

    Args:
        most_bytes: of voxels; at least the scans of one pair are kept.
    """

    def __init__(self, most_bytes: int = KEPT_BYTES) -> None:
        self.most_bytes = most_bytes
        self._hashes: dict[Path, str] = {}
        self._images: OrderedDict[Path, Image] = OrderedDict()
        self._worlds: dict[Path, int] = {}
        self.label_maps = LabelMaps(LABEL_MAPS_KEPT)

    def check(self, hashes: dict[Path, str]) -> None:
        """See that files are those that the key of the result speaks of; each is looked at once.

        Raises:
            UserError: one is missing, or was changed since the run began.
        """
        for path, wanted in hashes.items():
            if self._hashes.get(path) == wanted:
                continue
            if wanted == MISSING or not path.is_file():
                raise UserError(f"{path}: no such file; check the data set with `anamorph dataset check`")
            if file_hash(path) != wanted:
                raise UserError(f"{path}: was changed since the run began; run again")
            if path in self._hashes:  # what was read from it before is of another file
                self._images.pop(path, None)
                self.label_maps = LabelMaps(LABEL_MAPS_KEPT)
            self._hashes[path] = wanted

    def image(self, path: Path) -> Image:
        """A scan.

        Raises:
            UserError: it cannot be read.
        """
        if path not in self._images:
            self._images[path] = read_image(path)
            self._worlds[path] = world_code(path)
        self._images.move_to_end(path)
        while len(self._images) > 2 and sum(image.data.nbytes for image in self._images.values()) > self.most_bytes:
            self._images.popitem(last=False)
        return self._images[path]

    def world(self, path: Path) -> int:
        """NIfTI's code of the world of a scan that was read."""
        return self._worlds[path]
