"""A registration in a chain of transforms of dictionaries, with tensors that know their place as MONAI's do."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
import torch

import anamorph
from anamorph.image import Image, Labels
from anamorph.image.write import write_image
from anamorph.methods.base import Pair
from anamorph.methods.tissue import NOTHING_KNOWN
from anamorph.registration.dictionary import Registerd
from stub_method import Stub

SHIFT_MM = np.array([6.0, -4.0, 2.0])


class MetaTensor(torch.Tensor):
    """A stand-in: a tensor that is made from values and an ``affine``, which it keeps."""

    def __new__(cls, values, affine=None):
        made = torch.as_tensor(values).as_subclass(cls)
        made.affine = affine
        return made


def scans(kind):
    values = np.zeros((1, 20, 18, 16), np.float32)
    values[0, 6:12, 5:11, 4:10] = 100
    here = np.diag([2.0, 2.0, 2.0, 1.0])
    there = here.copy()
    there[:3, 3] = SHIFT_MM
    return {
        "fixed": kind(values, here),
        "moving": kind(values, there),
        "moving_label": kind((values > 0).astype(np.uint8), there),
        "name": "somebody",
    }


def test_tensors_come_back_on_the_grid_of_the_fixed_scan_as_the_class_they_were():
    data = scans(lambda values, affine: MetaTensor(values, torch.from_numpy(affine)))
    chain = Registerd(labels=["moving_label"], images=["moving_copy"], method=Stub)
    out = chain({**data, "moving_copy": data["moving"]})
    assert data["moving"].affine[0, 3] == SHIFT_MM[0]
    for key in ("moving", "moving_label", "moving_copy"):
        assert type(out[key]) is MetaTensor
        assert out[key].affine.tolist() == data["fixed"].affine.tolist()
        assert out[key].dtype == data.get(key, data["moving"]).dtype
        np.testing.assert_array_equal(np.asarray(out[key]), np.asarray(data.get(key, data["moving"])))
    assert out["name"] == "somebody"
    np.testing.assert_allclose(out["registration"].fixed_to_moving.matrix[:3, 3], SHIFT_MM)


def test_other_images_come_back_as_ours_and_keys_are_free():
    data = scans(lambda values, affine: Image.from_array(values[0], affine=affine))
    data = {"t0": data["fixed"], "t1": data["moving"], "organs": data["moving_label"]}
    out = Registerd("t0", "t1", labels=["organs"], result=None, method=Stub, settings={"gain": 0.0})(data)
    assert set(out) == set(data)
    assert isinstance(out["organs"], Labels)
    assert out["t1"].grid == data["t0"].grid
    assert out["t1"].data[0, 6, 7, 5] == 0  # nothing was moved, so that the body lies elsewhere
    with pytest.raises(anamorph.UserError, match="gain"):
        Registerd("t0", "t1", method=Stub, settings={"gain": 2.0})(data)


def test_in_a_chain_of_monai_scans_are_read_registered_and_written(tmp_path):
    transforms = pytest.importorskip("monai.transforms")
    meta_tensor = pytest.importorskip("monai.data").MetaTensor
    data = scans(lambda values, affine: Image.from_array(values[0], affine=affine))
    files = {}
    for key in ("fixed", "moving", "moving_label"):
        files[key] = str(tmp_path / f"{key}.nii.gz")
        write_image(data[key], files[key])
    chain = transforms.Compose([
        transforms.LoadImaged(keys=[*files], image_only=True, ensure_channel_first=True),
        Registerd(labels=["moving_label"], method=Stub),
        transforms.ScaleIntensityd(keys=["moving"]),
    ])  # fmt: skip
    out = chain(files)
    for key in ("moving", "moving_label"):
        assert type(out[key]) is meta_tensor
        assert tuple(out[key].shape) == (1, 20, 18, 16)
        np.testing.assert_allclose(out[key].affine.numpy(), out["fixed"].affine.numpy())
    np.testing.assert_array_equal(out["moving"].numpy(), out["fixed"].numpy() / 100)
    np.testing.assert_array_equal(out["moving_label"].numpy() > 0, out["fixed"].numpy() > 0)


class Told(Stub):
    """Keeps what it was told of each pair."""

    pairs: ClassVar[list[Pair]] = []

    def __call__(self, pair, run):
        self.pairs.append(pair)
        return super().__call__(pair, run)


def test_masks_and_landmarks_differ_from_item_to_item():
    """Tensors of masks and tables of points go to the registration of their own item."""
    keys = {"fixed_mask": "body", "keep_rigid": "bones", "fixed_points": "here", "moving_points": "there"}
    chain = Registerd(keys=keys, method=Told, use_points=2.0)
    Told.pairs.clear()
    for number in (1, 2):
        data = scans(lambda values, affine: MetaTensor(values, torch.from_numpy(affine)))
        body = torch.ones((1, 20, 18, 16))
        body[0, 0] = 0
        bones = np.zeros((1, 20, 18, 16), np.uint8)
        bones[0, 6 : 8 + number, 6:9, 5:8] = 1
        place = np.array([[14.0, 14.0, 12.0], [16.0, 14.0, 12.0], [18.0, 14.0, 12.0]]) + number
        own = {"body": MetaTensor(body, data["fixed"].affine), "bones": MetaTensor(bones, data["fixed"].affine)}
        out = chain(data | own | {"here": place, "there": place + SHIFT_MM})
        assert torch.equal(out["body"], own["body"])  # what belongs to the fixed scan stays
        pair = Told.pairs[-1]
        assert pair.fixed_mask.data[0, 0].max() == 0 < pair.fixed_mask.data[0, 1].min()
        assert len(pair.fixed_tissue.rigid[0].pieces[0].centres_mm) == (2 + number) * 9
        np.testing.assert_array_equal(pair.marks.landmarks.here, place)
    with pytest.raises(KeyError, match="body"):
        chain(data)


def test_an_item_that_lacks_something_says_so_by_none():
    data = scans(lambda values, affine: Image.from_array(values[0], affine=affine))
    Told.pairs.clear()
    Registerd(keys={"keep_rigid": "bones", "moving_mask": "seen"}, method=Told)(data | {"bones": None, "seen": None})
    assert Told.pairs[0].fixed_tissue == NOTHING_KNOWN
    assert Told.pairs[0].moving_mask is None


def test_it_stands_in_a_chain_of_monai():
    monai = pytest.importorskip("monai.transforms")
    data = scans(lambda values, affine: MetaTensor(values, torch.from_numpy(affine)))
    out = monai.Compose([Registerd(method=Stub)])(data)
    assert out["moving"].shape == data["fixed"].shape
