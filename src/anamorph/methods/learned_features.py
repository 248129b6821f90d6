"""Features that a network sees in both scans, compared beside their descriptors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from anamorph.features.intensity import CT_CEILING_HU, CT_WINDOWS_HU
from anamorph.features.mind_ssc import LANES
from anamorph.geometry.grid import Grid
from anamorph.image.background import CT_AIR_HU, looks_like_ct
from anamorph.methods.guide import NONE, lane_bytes
from anamorph.methods.working_frame import Scan
from anamorph.networks.model_folders import is_model
from anamorph.networks.trained import FEATURES, FeatureModel
from anamorph.transforms.maps import Transform

Device = Literal["cpu", "cuda"]
SOFT_TISSUE = (0.2, 0.8)
"""Where the ends of the window of soft tissue lie, between the air and the metal of a CT."""


@dataclass(frozen=True)
class LearnedFeatures:
    """A network whose features do not depend on the contrast of a scan (anatomix: Dey et al., ICLR 2025)."""

    model: FeatureModel

    @classmethod
    def of(cls, name: str, device: Device) -> LearnedFeatures | None:
        """The network of a name, as :func:`named_model` takes it.

        Raises:
            UserError: there is no such model.
        """
        found = named_model(name)
        return None if found is None else cls(FeatureModel.load(found, FEATURES, device))

    def lanes(self, scan: Scan, base: Grid, start: Transform | None = None) -> np.ndarray:
        """The features ``(I, J, K, C)`` of a scan on a grid; those of several channels one after the other.

        Args:
            scan: prepared.
            base: whose voxels are the cells of the network.
            start: from points of the grid to those of the scan.
        """
        # Cells are the voxels of the grid: whatever its spacing, the network sees what descriptors are compared on.
        cells = base.resampled(base.spacing_mm / self.model.stem)
        is_ct = looks_like_ct(scan.image)
        seen = (self.model.features(shown(channel, is_ct)) for channel in scan.onto(cells, start).channels)
        return np.concatenate([*seen], axis=-1)


def shown(channel: np.ndarray, is_ct: bool) -> np.ndarray:
    """A prepared channel in [0, 1] as the network sees it."""
    if not is_ct:
        return np.clip(channel, 0, 1)
    low, high = CT_WINDOWS_HU[0]
    values: np.ndarray = np.interp(channel, (CT_AIR_HU, low, high, CT_CEILING_HU), (0.0, *SOFT_TISSUE, 1.0))
    return values.astype(np.float32)


def named_model(name: str) -> str | None:
    """The model that a setting names; None for ``none``, and where one that need not be installed is not.

    Args:
        name: of a model or its folder, ``none``, or both with a comma between them: then it need not be installed.
    """
    first, *others = (one.strip() for one in name.split(","))
    if first == NONE or (others and not is_model(first)):
        return None
    return first


def feature_bytes(name: str, base: Grid) -> int:
    """Peak memory that features add to a registration of scans of one channel.

    Args:
        name: as :func:`named_model` takes it.
        base: grid of the descriptors.

    Raises:
        UserError: there is no such model.
    """
    found = named_model(name)
    if found is None:
        return 0
    model = FeatureModel.describe(found, FEATURES)
    blocks = -(-model.classes // LANES)
    return model.peak_memory_bytes(base) + lane_bytes(base, blocks)
