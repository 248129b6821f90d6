"""The published weights of PDD-Net as a model folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anamorph.errors import UserError
from anamorph.networks.model import ModelCard, save_model
from anamorph.networks.obelisk import Convention
from anamorph.networks.preprocessing import Preprocessing

if TYPE_CHECKING:
    from torch import Tensor

TWO_WARPS_ALPHAS = (1.1337, 0.0761, 1.0533, -0.7469, 0.0728, 1.1337)
"""Written into the published program with two warps; its file of weights holds the features alone."""
PARTS = {
    "layer0": "first", "batch0": "first_norm", "layer1": "mix.0", "batch1": "mix.1", "layer2": "mix.3",
    "batch2": "mix.4", "layer3": "mix.6",
}  # fmt: skip


def import_published(
    weights: str | Path,
    folder: str | Path,
    *,
    alphas: Sequence[float] = TWO_WARPS_ALPHAS,
    sampling: Convention = "two-warps",
    spacing_mm: float = 2.0,
    shape: tuple[int, int, int] = (192, 160, 256),
    control: int = 29,
    width: int = 11,
    reach: float = 0.25,
) -> ModelCard:
    """Write a model folder that ``--set model=FOLDER`` takes, from a ``*_feat_*.pth`` of ``pdd_net`` (Apache-2.0).

    Args:
        weights: the file of the features; nothing in it is executed.
        folder: of the model.
        alphas: the six numbers of the mean field.
        sampling: of the program that the weights were trained with.
        spacing_mm: of the scans that they were trained on.
        shape: of these scans, voxels.
        control: points of a search along each axis.
        width: displacements along each axis.
        reach: the largest of them, half extents.

    Raises:
        UserError: the file does not hold such features, or there are not six alphas.
    """
    import torch

    if len(alphas) != 6:
        raise UserError(f"the mean field has 6 alphas, not {len(alphas)}; files with 4 are of an older program")
    try:
        features = torch.load(weights, map_location="cpu", weights_only=True)
        state = {f"features.{name}": value for name, value in _renamed(features).items()}
        channels = state["features.offsets"].shape[1] // 2
        architecture: dict[str, Any] = {
            "inputs": 1, "channels": channels, "control": [control] * 3, "width": width, "reach": reach,
            "mean_field": True, "feature_spacing": 3, "pooled": True, "sampling": sampling, "divisor": 500.0,
        }  # fmt: skip
        state["alphas"] = torch.tensor([*alphas], dtype=torch.float32)
        _check(architecture, state)
    except (OSError, RuntimeError, KeyError, ValueError, AttributeError, EOFError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(
            f"{weights}: holds no features of PDD-Net as its programs build them ({reason}); take another *_feat_*.pth"
        ) from error
    preprocessing = Preprocessing(spacing_mm, shape, "none")
    card = ModelCard(
        Path(folder).name,
        "pdd",
        summary=f"published features of PDD-Net, {channels} channels",
        architecture=architecture,
        preprocessing=preprocessing.as_json(),
        licence="Apache-2.0",
        attribution="M. P. Heinrich, Closing the Gap between Deep and Conventional Image Registration, MICCAI 2019",
    )
    return save_model(Path(folder), state, card)


def _renamed(features: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights under the names they have here; offsets from (x, y, z) order to (i, j, k)."""
    found = {"offsets": features["offsets"].flip(-1)}
    for name, value in features.items():
        if name != "offsets":
            part, _, rest = name.partition(".")
            found[f"{PARTS[part]}.{rest}"] = value
    return found


def _check(architecture: dict[str, Any], state: dict[str, Tensor]) -> None:
    from anamorph.networks.pdd_network import PddNetwork

    PddNetwork(**architecture).load_state_dict(state)
