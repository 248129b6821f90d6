"""``pdd``: a trained network makes features, all displacements of a window are tried, the mean one is taken.

Heinrich, MICCAI 2019 (PDD-Net), and its later program with two warps.

1. Both scans are read in the frame that the network was trained in, the moving one under a linear start.
2. Features, costs of all displacements at the control points, mean-field smoothing, probabilities; in both directions.
3. Optionally a smooth field is fitted to the probabilities (the instance optimisation of the paper), and the mean
   displacement near this field is taken.
4. With more than one warp, 2 and 3 again between each scan and the other one as warped so far.
5. The field is refined on this pair, as that of ``convex`` is, unless that is not wanted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from anamorph.errors import UserError
from anamorph.methods.base import Pair, Run, setting
from anamorph.methods.learned import NetworkConfig, OnePass, Seen
from anamorph.methods.presets import AS_TRAINED, with_own
from anamorph.networks.pdd_search import Search

if TYPE_CHECKING:
    from torch import Tensor

    from anamorph.networks.pdd_network import Found, PddNetwork
    from anamorph.networks.trained import RegistrationModel

TWO_WARPS: dict[str, Any] = {
    "controls": (29, 39),
    "widths": (11, 11),
    "reaches": (0.25, 0.15),
    "fit_iterations": 50,
    "fit_local_mean": 0.0,
}
"""Of the published program for the abdomen."""


@dataclass(frozen=True)
class PddConfig(NetworkConfig):
    """Settings of ``pdd``: the model, the searches, the fit to their probabilities, and the refinement."""

    controls: tuple[int, ...] = setting((), "control points along each axis, one number per warp; empty: as trained")
    widths: tuple[int, ...] = setting((), "displacements along each axis, one odd number per warp; empty: as trained")
    reaches: tuple[float, ...] = setting((), "largest displacement per warp; empty: as trained", "half extents")
    fit_iterations: int = setting(0, "iterations of the fit to the probabilities, published 50; 0 takes the means")
    fit_diffusion: float = setting(1.5, "weight of the smoothness in this fit")
    fit_rate: float = setting(0.02, "step of this fit", "half extents")
    fit_local_mean: float = setting(
        1.0, "after this fit, the mean displacement within so far of the fitted one; 0: as published", "label distances"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if len({len(self.controls), len(self.widths), len(self.reaches)}) > 1:
            raise ValueError("controls, widths and reaches need one value per warp each")
        if min(self.fit_iterations, self.fit_diffusion, self.fit_local_mean) < 0 or self.fit_rate <= 0:
            raise ValueError(
                "fit_iterations, fit_diffusion and fit_local_mean must not be negative, fit_rate must be above 0"
            )
        self.searches()

    def searches(self) -> list[Search]:
        """One per warp; none if as trained."""
        warps = zip(self.controls, self.widths, self.reaches, strict=True)
        return [Search((control,) * 3, width, reach) for control, width, reach in warps]


class Pdd(OnePass):
    """A trained network, a search over all displacements, and the refinement that all methods share."""

    name = "pdd"
    summary = "a trained network's features, a dense search with mean field, refinement on the pair (PDD-Net)"
    Config = PddConfig
    presets: ClassVar[dict[str, dict[str, Any]]] = with_own(AS_TRAINED) | {"two-warps": TWO_WARPS | {"refine": False}}
    config: PddConfig

    def load(self, pair: Pair, device: Literal["cpu", "cuda"]) -> RegistrationModel:
        for image in (pair.fixed, pair.moving):
            if image.grid.is_2d:
                raise UserError(f"{image.name} has a single slice, and pdd registers volumes; take convex")
        return super().load(pair, device)

    def directions(self, seen: Seen, run: Run) -> tuple[np.ndarray, np.ndarray]:
        import torch

        network: PddNetwork = seen.model.network
        here, there = seen.model.inputs(seen.pair.fixed, seen.pair.moving, seen.frame, seen.start)
        # Not inference_mode: the fit to the probabilities needs gradients.
        with torch.no_grad():
            one, other = ((scan, network.describe(scan)) for scan in (here, there))
            forward = self._direction(network, one, other, "fixed to moving", run)
            backward = self._direction(network, other, one, "moving to fixed", run)
        return forward.cpu().numpy(), backward.cpu().numpy()

    def _direction(
        self, network: PddNetwork, fixed: tuple[Tensor, Tensor], moving: tuple[Tensor, Tensor], title: str, run: Run
    ) -> Tensor:
        """``(3, I, J, K)`` voxels of the frame, from both scans with their features."""
        from anamorph.networks.blocks import warp
        from anamorph.transforms.fields import compose

        (_, here), (scan, there) = fixed, moving
        field = None
        for number, search in enumerate(self.config.searches() or [network.search], 1):
            seen = there if field is None else network.describe(warp(scan, field[None]))
            found = network.find(here, seen, scan.shape[2:], search)
            update = self._fitted(found, search, f"fit {number}, {title}", run)
            field = update if field is None else compose(update, field)
        assert field is not None
        return field

    def _fitted(self, found: Found, search: Search, title: str, run: Run) -> Tensor:
        from anamorph.optimise.probability_fit import fit_to_probabilities, local_means

        if self.config.fit_iterations == 0:
            return found.disp_vox[0]
        unit = found.half.mean()
        volumes = found.probabilities[0].reshape(*search.control, *[search.width] * 3)
        reach = found.labels.amax(dim=0) / unit
        disp, run.trace[title] = fit_to_probabilities(
            volumes, found.control_disp_vox[0] / unit, reach,
            self.config.fit_iterations, self.config.fit_diffusion, self.config.fit_rate,
        )  # fmt: skip
        if self.config.fit_local_mean:
            disp = local_means(volumes, disp, reach, self.config.fit_local_mean)
        return found.between(disp[None] * unit)[0]

    def pass_bytes(self, model: RegistrationModel, voxels: int) -> int:
        network = model.architecture
        trained = Search(tuple(network["control"]), network["width"], network["reach"])
        features = voxels // network["feature_spacing"] ** 3 * 4 * (8 + 4) * network["channels"]
        costs = max(4 * int(np.prod(one.control)) * one.width**3 for one in self.config.searches() or [trained])
        # Costs and messages, whose place probabilities take; beside them a few fields of the frame.
        return int(features + 2 * costs + 4 * 16 * voxels)
