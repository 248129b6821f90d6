"""Losses that draw together what is the same in two contrasts of one body, and part what is not."""

from __future__ import annotations

import torch
from torch import Tensor

from anamorph.geometry.sampling import sample_torch


def features_at(features: Tensor, positions: Tensor) -> Tensor:
    """``(B, C, I, J, K)`` of length 1 read at ``(B, 3, ...)`` cells: ``(B, C, ...)``, of length 1 again."""
    pairs = zip(features, positions, strict=True)
    read = [sample_torch(one, where).reshape(len(one), *where.shape[1:]) for one, where in pairs]
    return torch.nn.functional.normalize(torch.stack(read), dim=1)


def place_likelihoods(
    first: Tensor, second: Tensor, labels: Tensor, anchors: Tensor, shift: Tensor, offsets: Tensor
) -> Tensor:
    """How alike places are: ``(B, N, 1 + M)``, cosines of features at the same place, then at others around it.

    Others of the same label are minus infinity: they need not differ, as two bodies do within a structure.

    Args:
        first: features of one contrast, ``(B, C, I, J, K)``.
        second: features of the other one.
        labels: of the cells of the second, ``(B, I, J, K)``.
        anchors: ``(B, 3, N)`` cells of the first.
        shift: ``(B, 3)``, from cells of the first to the same place in the second.
        offsets: ``(B, 3, M)``, from there to other places.
    """
    places = anchors + shift[:, :, None]
    around = torch.cat([torch.zeros_like(offsets[..., :1]), offsets], dim=-1)
    candidates = places[..., None] + around[:, :, None]
    cosines = torch.einsum("bcn,bcnm->bnm", features_at(first, anchors), features_at(second, candidates))
    pairs = zip(labels, candidates, strict=True)
    found = torch.stack([sample_torch(one[None].float(), where, "nearest")[0] for one, where in pairs])
    same = found == found[..., :1]
    same[..., 0] = False
    return cosines.masked_fill(same, float("-inf"))


def place_loss(likelihoods: Tensor, temperature: float) -> Tensor:
    """Minus the mean logarithm of the share of the same place among all (InfoNCE: van den Oord et al. 2018).

    Args:
        likelihoods: as :func:`place_likelihoods` gives them.
        temperature: by which they are divided.
    """
    return -(likelihoods / temperature).log_softmax(dim=-1)[..., 0].mean()


def label_loss(features: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Minus the mean logarithm of the shares of features of the same label (Khosla et al., NeurIPS 2020, L_out).

    Args:
        features: ``(B, C, N)`` of length 1, of both contrasts.
        labels: ``(B, N)``.
        temperature: by which cosines are divided.
    """
    count = features.shape[-1]
    itself = torch.eye(count, dtype=torch.bool, device=features.device)
    logits = torch.einsum("bcn,bcm->bnm", features, features) / temperature
    logs = logits.masked_fill(itself, float("-inf")).log_softmax(dim=-1)
    same = (labels[:, :, None] == labels[:, None]) & ~itself
    number = same.sum(-1)
    own = -torch.where(same, logs, 0.0).sum(-1) / number.clamp_min(1)
    return own[number > 0].mean() if bool((number > 0).any()) else own.sum() * 0
