"""Discrete networks on slices in two dimensions, all trained alike: the ladder of the tutorial, and FlowNet-C.

``anamorph dataset slices --dataset DATASET --reference ID -o SLICES``
``python -m benchmarks.discrete_2d SLICES --steps 300 --seeds 3``

The network of the tutorial (MICCAI 2019) makes features of a quarter of the pixels; 11 x 11 displacements are compared.
Every rung is trained on as many random pairs of the training scans, with one rate, and measured on all ordered pairs of
the validation scans, which choose nothing. The tutorial's own rate is ``--rate 2.5e-4 --accumulate 4``. FlowNet-C
correlates by inner products, and convolutions (three, at the one resolution of the features) read the field from the
costs and 32 channels of the fixed scan; its loss is that of the warped labels with diffusion. Dice in per cent of every
seed, mean and half the 95 % interval by Student's t; then differences of rungs, seed by seed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import anamorph
from anamorph.data import read_dataset
from anamorph.data.dataset import Case
from anamorph.discrete.correlation import correlate, correlate_locally, sample_features
from anamorph.discrete.labels import grid_points, label_probabilities, label_window, soft_argmin
from anamorph.discrete.mean_field import mean_field
from anamorph.image.background import looks_like_ct
from anamorph.image.read import read_image, read_labels
from benchmarks.seeds import half_interval

STRIDE, WINDOW, REACH = 4, (11, 11), 5
LABELS = label_window(WINDOW, (REACH, REACH))
FILTERS = {"label_average": 5, "average": 5, "repeats": 3, "iterations": 1}
CT_WINDOW = (-150.0, 250.0)
RATE, DIFFUSION = 2e-3, 0.02
TEMPERATURE_RATES = 10
"""The temperature learns so many times as fast as the weights."""


class Slice:
    """A scan of one slice: grey values ``(1, I, J)`` in [0, 1] and one-hot labels ``(L + 1, I, J)``."""

    def __init__(self, case: Case, organs: list[int]) -> None:
        self.image, path = read_image(case.image), case.label
        assert path is not None
        values = self.image.data[0, ..., 0].astype(np.float32)
        low, high = CT_WINDOW if looks_like_ct(self.image) else np.percentile(values, (1, 99))
        self.grey = torch.from_numpy(np.clip((values - low) / (high - low), 0, 1))[None]
        labels = read_labels(path).data[0, ..., 0]
        ranks = np.where(np.isin(labels, organs), np.searchsorted(organs, labels) + 1, 0)
        self.labels = nn.functional.one_hot(torch.from_numpy(ranks), len(organs) + 1).permute(2, 0, 1).float()


def block(inputs: int, outputs: int, **options: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(inputs, outputs, **options), nn.BatchNorm2d(outputs), nn.PReLU())  # type: ignore[arg-type]


class Discrete(nn.Module):
    """Features, all displacements compared, neighbours heard, expected displacement."""

    def __init__(self, order: str | None) -> None:
        super().__init__()
        self.order = order
        self.features = nn.Sequential(
            block(1, 32, kernel_size=5, stride=2, padding=4, dilation=2),
            block(32, 32, kernel_size=3, padding=1),
            block(32, 64, kernel_size=3, stride=2, padding=1),
            nn.Conv2d(64, 24, kernel_size=1),
            nn.Sigmoid(),
        )
        self.log_temperature = nn.Parameter(torch.tensor(-4.0))

    def costs(self, fixed: Slice, moving: Slice) -> Tensor:
        """``(P, Q, displacements)``."""
        here, there = self.features(torch.stack([fixed.grey, moving.grey]))
        shape = here.shape[1:]
        costs = correlate(here, there, grid_points(shape, shape), LABELS).reshape(*shape, -1)
        if self.order is None:
            return costs
        return mean_field(costs, (1.0, 1.0), WINDOW, order=self.order, **FILTERS)  # type: ignore[arg-type]

    def field(self, fixed: Slice, moving: Slice) -> Tensor:
        """``(2, P, Q)`` pixels."""
        found = soft_argmin(self.costs(fixed, moving), LABELS, self.log_temperature.exp())
        return STRIDE * found.permute(2, 0, 1)

    def loss(self, fixed: Slice, moving: Slice) -> Tensor:
        """Of the labels to which every likely displacement leads."""
        costs = self.costs(fixed, moving)
        probabilities = label_probabilities(costs.flatten(0, 1), self.log_temperature.exp())
        points = STRIDE * grid_points(costs.shape[:2], costs.shape[:2])
        wanted = sample_features(fixed.labels, points)
        there = sample_features(moving.labels, points[:, None] + STRIDE * LABELS)
        return (wanted - (there * probabilities).sum(dim=-1)).square().sum(dim=0).mean()


class FlowNetC(nn.Module):
    """Inner products of features at all displacements, from which convolutions read the field."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            block(1, 32, kernel_size=5, stride=2, padding=4, dilation=2),
            block(32, 32, kernel_size=3, padding=1),
            block(32, 64, kernel_size=3, stride=2, padding=1),
        )
        self.redirect = block(64, 32, kernel_size=1)
        self.read = nn.Sequential(
            block(len(LABELS) + 32, 64, kernel_size=3, padding=1),
            block(64, 64, kernel_size=3, padding=1),
            block(64, 32, kernel_size=3, padding=1),
            nn.Conv2d(32, 2, kernel_size=3, padding=1),
        )

    def field(self, fixed: Slice, moving: Slice) -> Tensor:
        """``(2, P, Q)`` pixels."""
        here, there = self.features(torch.stack([fixed.grey, moving.grey]))[:, None]
        products = -correlate_locally(here, there, REACH, "dot") / here.shape[1]
        read: Tensor = self.read(torch.cat([products, self.redirect(here)], dim=1))[0]
        return STRIDE * read

    def loss(self, fixed: Slice, moving: Slice) -> Tensor:
        """Of the warped labels, and of uneven displacements."""
        field = self.field(fixed, moving)
        uneven = sum((field.diff(dim=axis) / STRIDE).square().mean() for axis in (1, 2))
        return (fixed.labels - warped(moving.labels, field)).square().sum(dim=0).mean() + DIFFUSION * uneven


def warped(volume: Tensor, field: Tensor) -> Tensor:
    """``(C, I, J)`` read where each pixel finds its tissue."""
    pixels = volume.shape[1:]
    here = grid_points(pixels, pixels)
    return sample_features(volume, here + sample_features(field, here / STRIDE).T).reshape(-1, *pixels)


def trained(
    make: Callable[[], nn.Module], slices: list[Slice], steps: int, seed: int, rate: float = RATE, accumulate: int = 1
) -> nn.Module:
    """A network after so many random pairs, of which ``accumulate`` at a time move the weights by their mean."""
    torch.manual_seed(seed)
    network, chance = make(), np.random.default_rng(seed)
    slow = [value for name, value in network.named_parameters() if name != "log_temperature"]
    fast = [value for name, value in network.named_parameters() if name == "log_temperature"]
    optimiser = torch.optim.Adam([{"params": slow}, {"params": fast, "lr": TEMPERATURE_RATES * rate}], lr=rate)
    if not steps:
        with torch.no_grad():  # normalisation has to have seen slices
            for pair in pairwise(slices):
                network.field(*pair)  # type: ignore[operator]
    for step in range(1, steps + 1):
        fixed, moving = (slices[n] for n in chance.choice(len(slices), 2, replace=False))
        (network.loss(fixed, moving) / accumulate).backward()  # type: ignore[operator]
        if step % accumulate == 0:
            optimiser.step()
            optimiser.zero_grad()
    return network.eval()


def dice(fixed: Tensor, moved: Tensor) -> float:
    """Mean over the organs of the fixed slice, in per cent."""
    here, there = fixed.argmax(dim=0), moved.argmax(dim=0)
    organs = [n for n in range(1, len(fixed)) if (here == n).any()]
    shares = [2 * ((here == n) & (there == n)).sum() / ((here == n).sum() + (there == n).sum()) for n in organs]
    return 100 * float(np.mean(shares))


@torch.no_grad()
def measured(field: Callable[[Slice, Slice], Tensor], slices: list[Slice]) -> float:
    """Mean Dice over all ordered pairs."""
    pairs = [(fixed, moving) for fixed in slices for moving in slices if fixed is not moving]
    return float(np.mean([dice(fixed.labels, warped(moving.labels, field(fixed, moving))) for fixed, moving in pairs]))


def still(fixed: Slice, moving: Slice) -> Tensor:
    return torch.zeros(2, *(-(-n // STRIDE) for n in fixed.grey.shape[1:]))


def registered(fixed: Slice, moving: Slice) -> Tensor:
    """By ``convex``, at the features' pixels."""
    found = anamorph.register(fixed.image, moving.image).fixed_to_moving.displacement_on(fixed.image.grid)
    return torch.from_numpy(found.disp_vox[:2, ::STRIDE, ::STRIDE, 0].copy())


RUNGS: dict[str, Callable[[], nn.Module]] = {
    "each point alone": partial(Discrete, None),
    "mean field, minimum first": partial(Discrete, "minimum first"),
    "mean field, average first": partial(Discrete, "average first"),
    "FlowNet-C": FlowNetC,
}


def over_seeds(scores: Sequence[float] | np.ndarray, sign: str = "") -> str:
    """Two columns: the value of every seed, and their mean with half its interval."""
    each = ", ".join(f"{score:{sign}.1f}" for score in scores)
    return f"{each} | {np.mean(scores):{sign}.1f} +- {half_interval(scores):.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path, help="a data set of slices")
    parser.add_argument("--steps", type=int, default=300, help="pairs that a network is trained on")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rate", type=float, default=RATE)
    parser.add_argument("--accumulate", type=int, default=1, help="pairs of one step of the optimiser")
    given = parser.parse_args()
    dataset = read_dataset(given.dataset)
    organs = sorted(dataset.labels)
    training, held_out = ([Slice(case, organs) for case in dataset.of_split(s)] for s in ("training", "validation"))  # type: ignore[arg-type]
    print(f"{len(training)} slices to train on, {len(held_out)} held out, {given.steps} steps, {given.seeds} seeds")
    before = measured(still, held_out)
    untrained = trained(RUNGS["mean field, minimum first"], training, 0, 0)
    print("| Dice % | each seed | mean |\n|---|---|---|")
    print(f"| before | | {before:.1f} |")
    print(f"| untrained, minimum first | | {measured(untrained.field, held_out):.1f} |", flush=True)  # type: ignore[arg-type]
    scores = {}
    for name, make in RUNGS.items():
        networks = (
            trained(make, training, given.steps, seed, given.rate, given.accumulate) for seed in range(given.seeds)
        )
        scores[name] = [measured(network.field, held_out) for network in networks]  # type: ignore[arg-type]
        print(f"| {name} | {over_seeds(scores[name])} |", flush=True)
    print(f"| `convex`, no training | | {measured(registered, held_out):.1f} |")
    print("\n| difference, points | each seed | mean |\n|---|---|---|")
    for (one, lower), (other, upper) in combinations({"before": given.seeds * [before], **scores}.items(), 2):
        print(f"| {other} less {one} | {over_seeds(np.subtract(upper, lower), '+')} |")


if __name__ == "__main__":
    main()
