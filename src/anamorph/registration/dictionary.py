"""A registration as a transform of dictionaries, as the pipelines of MONAI chain them; MONAI itself is not needed."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from anamorph.image.types import Tensor
from anamorph.registration.run import register


class Registerd:
    """Registers one scan of a dictionary to another, and brings it and what belongs to it onto the grid of the other.

    Tensors with an ``affine``, as MONAI's ``LoadImaged`` makes them, come back as tensors of the same class; everything
    else that :func:`anamorph.register` takes comes back as :class:`Image` or :class:`Labels`.

    Args:
        fixed: key of the scan that stays.
        moving: key of the scan that is registered and warped.
        images: keys of more images of the moving scan, which are warped.
        labels: keys of label maps of the moving scan, which are warped.
        keys: options of :func:`anamorph.register` that are in the dictionary, such as masks and landmarks, by their
            keys: ``{"keep_rigid": "bones"}``. An item that is None is not given.
        result: key under which the :class:`Result` is added; None leaves it out.
        options: of :func:`anamorph.register`, the same for every dictionary.
    """

    def __init__(
        self,
        fixed: Hashable = "fixed",
        moving: Hashable = "moving",
        *,
        images: Sequence[Hashable] = (),
        labels: Sequence[Hashable] = (),
        keys: Mapping[str, Hashable] | None = None,
        result: Hashable | None = "registration",
        **options: Any,
    ) -> None:
        self.fixed, self.moving, self.images, self.labels = fixed, moving, tuple(images), tuple(labels)
        self.keys, self.result, self.options = dict(keys or {}), result, options

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """A copy of the dictionary with the warped scans.

        Raises:
            KeyError: one of the keys is missing.
            UserError: a scan or a setting is wrong.
            RegistrationFailure: the run failed, or memory does not suffice.
        """
        own = {name: data[key] for name, key in self.keys.items()}
        found = register(data[self.fixed], data[self.moving], **self.options, **own)
        out = dict(data)
        out[self.moving] = _like(data[self.moving], found.warped)
        for key in self.images:
            out[key] = _like(data[key], found.warp(data[key], kind="image"))
        for key in self.labels:
            out[key] = _like(data[key], found.warp(data[key], kind="labels"))
        if self.result is not None:
            out[self.result] = found
        return out


def _like(given: Any, warped: Any) -> Any:
    """An image as the class of tensors that it was given as, on its new grid."""
    if not isinstance(given, Tensor):
        return warped
    import torch

    kind, device = type(given), given.device  # type: ignore[attr-defined]
    return kind(warped.to_tensor().to(device), affine=torch.tensor(warped.grid.affine))  # type: ignore[call-arg]
