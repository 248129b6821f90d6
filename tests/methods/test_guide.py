from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from anamorph.errors import UserError
from anamorph.evaluation import dice
from anamorph.geometry import Grid
from anamorph.image import Image, Labels, Mask
from anamorph.image.read import read_image, read_labels
from anamorph.methods import METHODS
from anamorph.methods.affine import Linear
from anamorph.methods.descriptors import DescribedPair
from anamorph.methods.guide import (
    Guide,
    _doubts,
    cut_labels,
    guide_bytes,
    guide_models,
    sureness,
    trust_of,
    turned_frame,
)
from anamorph.methods.guided_start import SEEN_BY_GUIDE
from anamorph.methods.recipe import prepared_bytes
from anamorph.methods.start.settings import StartConfig
from anamorph.methods.working_frame import Scan
from anamorph.networks.model import ModelCard, save_model
from anamorph.networks.preprocessing import Preprocessing
from anamorph.networks.symmetric_network import SegmentationNetwork
from anamorph.networks.trained import SegmentationModel
from anamorph.registration.run import register
from anamorph.settings import make_config
from anamorph.transforms import Affine
from tiny_models import save_tiny

GRID = Grid((24, 26, 22), np.diag([1.5, 1.0, 2.0, 1.0]))


def noise(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(seed).random(shape, np.float32)


def ball(centre: tuple[float, float, float], radius: float = 6.0) -> np.ndarray:
    squared = sum((axis - c) ** 2 for axis, c in zip(np.indices(GRID.shape), centre, strict=True))
    return (squared < radius**2).astype(np.float32)


VOLUMES_ML = {1: [2.0, 4.0]}
"""A ball has 2.7."""
HERE, THERE = ball((11, 13, 11)), ball((14, 11, 10))


def scans() -> tuple[Image, Image]:
    """Noise that has nothing in common; what a network knows of it is all there is to register."""
    return tuple(Image(noise(n, GRID.shape), GRID, name) for n, name in enumerate(("fixed", "moving")))  # type: ignore[return-value]


@pytest.fixture
def oracle(monkeypatch, tmp_path):
    """Folder of a segmentation network that knows where the balls are."""
    save_segmenter(tmp_path / "oracle")

    def seen(image: Image, frame: Grid) -> Image:
        inside = HERE if image.name == "fixed" else THERE
        return Image(np.stack([1 - inside, inside]), GRID)

    card = ModelCard("oracle", "segment", volumes_ml=VOLUMES_ML, labels={1: "ball"})
    model = SimpleNamespace(identity={"name": "oracle", "sha256": "0"}, labels=[1], seen=seen, card=card)
    model.can_turn, model.frame = False, lambda grid: grid
    monkeypatch.setattr(SegmentationModel, "load", lambda name, kind, device: model)
    return tmp_path / "oracle"


def overlap(result) -> float:
    warped = result.fixed_to_moving.warp_labels(Labels(THERE.astype(np.uint8), GRID), GRID)
    return dice(Labels(HERE.astype(np.uint8), GRID), warped)[1]


@pytest.mark.parametrize("method", ["convex", "deeds"])
def test_a_guide_leads_where_descriptors_find_nothing(oracle, method):
    by_noise = {"init": "world", "guide": "none", "keep_doubtful": True}
    alone = register(*scans(), method=method, settings=by_noise, device="cpu")
    settings = {"init": "world", "guide": str(oracle), "guide_weight": 20.0}
    led = register(*scans(), method=method, settings=settings, device="cpu")
    assert overlap(alone) < 0.72
    assert overlap(led) > 0.85
    assert led.provenance["guide"] == {"name": "oracle", "sha256": "0", "trust": {"ball": 1.0}, "sure": {"ball": 1.0}}
    assert "guide" not in alone.provenance


@pytest.mark.parametrize("method", ["convex", "deeds"])
def test_a_guide_is_no_witness_of_how_certain_a_place_is(oracle, method):
    settings = {"init": "world", "guide": str(oracle), "guide_weight": 64.0, "keep_doubtful": True}
    guided, alone = (
        register(*scans(), method=method, settings=settings | more, device="cpu") for more in ({}, {"guide": "none"})
    )
    radii = [np.nanpercentile(one.uncertainty_mm.data, 2) for one in (guided, alone)]
    assert radii[0] == pytest.approx(radii[1], rel=0.1)


def test_what_a_guide_sees_is_compared_and_shown(oracle, tmp_path):
    fixed, moving = scans()
    settings = {"init": "world", "guide": str(oracle), "guide_weight": 20.0}
    result = register(fixed, moving, settings=settings, device="cpu")
    maps = [Labels(one.astype(np.uint8), GRID) for one in (HERE, THERE)]
    (row,) = result.seen.rows
    assert (row.name, row.trust, row.sure) == ("ball", 1.0, 1.0)
    assert row.before == pytest.approx(dice(*maps)[1], abs=1e-4)
    assert row.after == pytest.approx(overlap(result), abs=1e-4)
    folder = result.save(tmp_path / "led").folder
    record, page = folder / "result.json", folder / "report.html"
    told = json.loads(record.read_text(encoding="utf-8"))["seen_by_guide"]
    assert told == {"model": "oracle", "labels": [vars(row)]}
    assert "The views go through ball, which agrees least" in page.read_text(encoding="utf-8")
    exchanged = register(moving, fixed, settings=settings, device="cpu")
    assert np.array_equal(exchanged.seen.fixed.data[0], THERE)


def test_without_a_guide_nothing_is_said_to_be_seen(tmp_path):
    result = register(*scans(), settings={"init": "world", "guide": "none"}, device="cpu")
    folder = result.save(tmp_path / "out").folder
    record, page = folder / "result.json", folder / "report.html"
    assert result.seen is None
    assert json.loads(record.read_text(encoding="utf-8"))["seen_by_guide"] == "no guide was used"
    assert "What the guide sees" not in page.read_text(encoding="utf-8")


def test_a_guide_that_pulls_hard_may_pull_on_a_stiffer_field(oracle):
    settings = {"init": "world", "guide": str(oracle), "guide_weight": 20.0}
    overlaps = [overlap(register(*scans(), settings=settings | {"guide_diffusion": d}, device="cpu")) for d in (0, 50)]
    assert overlaps[0] > overlaps[1] + 0.01
    by_noise = {"init": "world", "guide": "none", "keep_doubtful": True}
    alone = [register(*scans(), settings=by_noise | {"guide_diffusion": d}, device="cpu") for d in (0, 50)]
    assert not isinstance(alone[0].fixed_to_moving, Affine)
    assert overlap(alone[0]) == overlap(alone[1])


@pytest.mark.parametrize("init", ["world", Affine.identity(), "auto"])
def test_scans_that_explain_much_of_each_other_need_no_guide(oracle, init):
    fixed = scans()[0]
    alike = Image(fixed.data + 0.05 * noise(2, (1, *GRID.shape)), GRID, "moving")
    settings = {"guide": str(oracle), "guide_weight": 20.0}
    assert "guide" not in register(fixed, alike, init=init, settings=settings, device="cpu").provenance
    other = scans()[1]
    assert "guide" in register(fixed, other, init=init, settings=settings, device="cpu").provenance


def test_a_guide_leads_in_the_middle_of_a_linear_start(oracle):
    """What is predicted on the moving scan's own grid is read under the start."""
    fixed, moving = scans()
    shift = np.eye(4)
    shift[:3, 3] = np.array([3, -2, -1]) * GRID.spacing_mm
    settings = {"guide": str(oracle), "guide_weight": 20.0}
    led = register(fixed, moving, method="convex", settings=settings, init=Affine(shift), device="cpu")
    assert overlap(led) > 0.95


@pytest.mark.parametrize("method", ["linear", "affine"])
def test_a_guide_corrects_the_start_alone_as_that_of_a_deformation(oracle, method):
    guided, by_images = {"guide": str(oracle)}, {"guide": "none"}
    init = {"linear": "rigid", "affine": "auto"}[method]
    alone = register(*scans(), method=method, settings=guided, init=init, device="cpu")
    deformed = register(*scans(), method="convex", settings=guided, init=init, device="cpu")
    np.testing.assert_allclose(alone.fixed_to_moving.matrix, deformed.outcome.start.matrix, atol=1e-9)
    assert overlap(alone) > 0.9 > 0.6 > overlap(register(*scans(), method=method, settings=by_images, device="cpu"))
    assert alone.provenance["start"][0] == deformed.provenance["start"][0] == SEEN_BY_GUIDE
    assert alone.provenance["guide"] == deformed.provenance["guide"]
    np.testing.assert_array_equal(alone.seen.fixed.data[0], HERE)
    for asked_for in (Affine.translation([1.0, 0.0, 0.0]), "world", "centres"):
        result = register(*scans(), method=method, settings=guided, init=asked_for, device="cpu")
        assert "guide" not in result.provenance
    np.testing.assert_array_equal(result.fixed_to_moving.matrix, np.eye(4))
    by_name = register(*scans(), method="convex", settings=guided, init="world", device="cpu")
    assert by_name.provenance["start"][0] == SEEN_BY_GUIDE  # where the scans are to be deformed it may move


@pytest.mark.parametrize(("volumes_ml", "is_used"), [([2.0, 4.0], True), ([6.0, 9.0], False), ([0.5, 1.0], False)])
def test_a_label_of_a_strange_volume_is_not_compared(oracle, monkeypatch, volumes_ml, is_used):
    monkeypatch.setitem(VOLUMES_ML, 1, volumes_ml)
    found = Guide.of(str(oracle), *scans(), "cpu")
    assert (found is not None) == is_used


def test_a_guide_of_a_preset_does_not_refuse_scans_of_other_channels(tmp_path):
    save_segmenter(tmp_path / "guide")
    two = [Image(np.stack([one.data[0]] * 2), GRID, one.name) for one in scans()]
    with pytest.raises(UserError, match="2 channels"):
        Guide.of(str(tmp_path / "guide"), *two, "cpu")
    assert Guide.of(f"{tmp_path / 'guide'},none", *two, "cpu") is None


def test_what_is_masked_is_not_shown_to_a_guide(oracle, monkeypatch):
    seen = []
    model = SegmentationModel.load(str(oracle), "segment", "cpu")
    known = model.seen
    monkeypatch.setattr(model, "seen", lambda image, frame: (seen.append(image), known(image, frame))[1])
    fixed, moving = scans()
    mask = np.ones(GRID.shape, np.float32)
    mask[:8] = 0
    fixed.data[:, :8] = 50.0
    settings = {"init": "world", "guide": str(oracle), "refine_iterations": (1, 1)}
    register(fixed, moving, fixed_mask=Mask(mask, GRID), settings=settings, device="cpu")
    assert len(seen) == 2
    assert max(image.data.max() for image in seen) < 2


def test_a_guide_that_was_asked_for_and_is_left_out_is_told(oracle, monkeypatch):
    monkeypatch.setitem(VOLUMES_ML, 1, [6.0, 9.0])
    settings = {"init": "world", "guide": str(oracle), "refine_iterations": (1, 1)}
    assert any("left out" in line for line in register(*scans(), settings=settings, device="cpu").warnings)
    settings["guide"] = f"{oracle},none"
    found = register(*scans(), settings=settings, device="cpu")
    assert not any("left out" in line for line in found.warnings)
    assert any("left out" in line for line in found.provenance["start"])


@pytest.mark.parametrize(
    ("low", "trust"), [({}, [1, 1, 0.4, 0]), ({1: 0.95, 2: 0.9, 3: 0.68, 4: 0.3}, [1, 0.5, 0.1, 0])]
)
def test_a_label_counts_by_how_sure_it_is_beside_what_nine_of_ten_scans_reach(low, trust):
    """0.65 is what they are taken to reach where a card says less or nothing."""
    half = np.where(np.indices(GRID.shape)[1] < 13, 1.0, 0.4).astype(np.float32) * HERE
    expected = [1, float(np.square(half).sum() / half.sum()), 0.54, 0.3]
    assert expected[1] == pytest.approx(0.8, abs=0.05)
    low = low and low | {2: expected[1] + 0.1}
    model = SimpleNamespace(labels=[1, 2, 3, 4], card=SimpleNamespace(volumes_ml={}, low_sureness=low))
    seen = Scan(np.stack([HERE, half, 0.54 * HERE, 0.3 * HERE]), np.ones(GRID.shape, np.float32), GRID)
    np.testing.assert_allclose(sureness(seen.channels), expected, rtol=1e-5)
    np.testing.assert_allclose(trust_of(model, seen), trust, atol=1e-5)


def test_a_guide_that_is_unsure_is_named_by_the_verdict(oracle, monkeypatch):
    model = SegmentationModel.load(str(oracle), "segment", "cpu")
    settings = {"init": "world", "guide": f"{oracle},none", "refine_iterations": (1, 1)}
    known = model.seen
    for sure, told in ((0.7, True), (0.8, False)):
        monkeypatch.setattr(model, "seen", lambda image, frame, sure=sure: Image(sure * known(image, frame).data, GRID))
        result = register(*scans(), settings=settings, device="cpu")
        lines = [line for line in result.verdict.reasons if "oracle is unsure of ball" in line]
        assert [("0.70" in line and "guide=none" in line) for line in lines] == [True] * told
        assert not told or result.verdict.status != "PASS"


@pytest.mark.parametrize(("usual", "told"), [(0.5, False), (0.75, False), (0.81, True)])
def test_a_guide_is_unsure_beside_how_sure_it_usually_is(oracle, monkeypatch, usual, told):
    """The network expects 0.7 of its label: for one that has no more where it is right that is no doubt."""
    model = SegmentationModel.load(str(oracle), "segment", "cpu")
    known = model.seen
    monkeypatch.setattr(model, "seen", lambda image, frame: Image(0.7 * known(image, frame).data, GRID))
    model.card.metrics["sure_1"] = usual
    guide = Guide.of(str(oracle), *scans(), "cpu")
    assert guide is not None
    assert [f"ball (0.70; {usual - 0.08:.2f} and more" in line for line in guide.doubts] == [True] * told


def test_a_pair_is_doubted_where_half_of_what_is_compared_is():
    usual = {f"sure_{label}": 0.8 for label in (1, 2, 3)}
    card = ModelCard("three", "segment", labels={1: "a", 2: "b", 3: "c"}, metrics=usual)
    model = SimpleNamespace(labels=[1, 2, 3], card=card, identity={"name": "three"})
    sure = np.array([0.7, 0.8, 0.8])
    assert not _doubts(model, np.ones(3), sure)
    (line,) = _doubts(model, np.array([1.0, 1.0, 0.0]), sure)
    assert "three is unsure of a (0.70; 0.72 and more" in line
    assert not _doubts(model, np.array([0.0, 1.0, 1.0]), sure)
    assert not _doubts(model, np.zeros(3), np.zeros(3))


@pytest.mark.parametrize("upright", ["fixed", "moving"])
@pytest.mark.parametrize("turn_deg", [10, 40, 90])
def test_a_turned_scan_is_seen_as_the_other_one_lies(oracle, monkeypatch, upright, turn_deg):
    """A network that knows the ball in upright scans alone; what a scan shows is turned, not its header."""
    turn = Rotation.from_euler("z", turn_deg, degrees=True).as_matrix()
    start = np.eye(4)
    start[:3, :3] = turn
    lies = {"fixed": np.eye(3), "moving": turn} if upright == "fixed" else {"fixed": turn.T, "moving": np.eye(3)}
    seen_on: dict[str, list[np.ndarray]] = {"fixed": [], "moving": []}

    def seen(image: Image, frame: Grid | None) -> Image:
        frame = image.grid if frame is None else frame
        seen_on[image.name].append(frame.directions)
        is_upright = np.allclose(frame.directions, lies[image.name], atol=1e-6)
        inside = np.full(frame.shape, 0.9 if is_upright else 0.2, np.float32)
        return Image(np.stack([1 - inside, inside]), frame)

    monkeypatch.setitem(VOLUMES_ML, 1, [1.0, 1e3])
    model = SegmentationModel.load(str(oracle), "segment", "cpu")
    model.can_turn, model.seen, model.preprocessing = True, seen, Preprocessing(shape=(30, 30, 50))
    guide = Guide.of(str(oracle), *scans(), "cpu", Affine(start))
    if turn_deg < 12:
        assert guide is None
        assert len(seen_on["fixed"]) == len(seen_on["moving"]) == 1
        return
    assert guide is not None
    np.testing.assert_allclose(guide.fixed.grid.directions, lies["fixed"], atol=1e-6)
    np.testing.assert_allclose(guide.moving.grid.directions, lies["moving"], atol=1e-6)


def test_a_turned_frame_holds_what_the_scan_shows_as_in_the_training():
    """A scan of 12 x 16 x 8 mm that was turned by 45 degrees and resampled on a grid of 40^3 is turned back."""
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("z", 45, degrees=True).as_matrix()
    own = Grid((12, 16, 8), turn @ np.array([[1, 0, 0, -5.5], [0, 1, 0, -7.5], [0, 0, 1, -3.5], [0, 0, 0, 1]]))
    around = np.eye(4)
    around[:3, 3] = -20
    turned = Affine.identity().warp_image(Image(1 + noise(1, own.shape), own), Grid((40, 40, 40), around), background=0)
    model = SimpleNamespace(frame=lambda grid: grid, preprocessing=Preprocessing(shape=(10, 30, 10)))
    frame = turned_frame(model, turned, turn[:3, :3])
    assert frame.shape[1:] == (30, 10)  # at least that of the training
    assert 12 <= frame.shape[0] <= 14
    np.testing.assert_allclose(frame.centre_mm, 0, atol=0.6)
    np.testing.assert_allclose(frame.directions, turn[:3, :3], atol=1e-6)


def test_middles_of_labels_correct_a_start_that_is_clearly_wrong():
    there = np.zeros(GRID.shape, np.float32)
    there[4:16, 3:15, 4:12] = 1  # 12 x 12 x 8 voxels
    here = np.roll(there, (6, 8, 5), (0, 1, 2))
    scan = [Scan(one[None], np.ones(GRID.shape, np.float32), GRID) for one in (here, there)]
    guide = Guide(*scan, np.ones(1), {}, np.zeros(1, bool))
    assert guide.agreement(Affine.identity()) < 0.2
    moved = guide.moved(Affine.identity(), may_scale=True)
    np.testing.assert_allclose(moved.matrix[:3, 3], -np.array([6, 8, 5]) * GRID.spacing_mm, atol=1e-6)
    assert guide.agreement(moved) > 0.99
    near = Affine.translation(-np.array([6, 8, 4.8]) * GRID.spacing_mm)
    assert guide.moved(near, may_scale=True) is near


@pytest.mark.parametrize("may_scale", [True, False])
def test_sizes_of_labels_correct_a_start_too(may_scale):
    """A cube of 16 mm about one place, and one of 24 mm about another."""
    small, large = np.zeros((2, 40, 40, 40), np.float32)
    small[4:20, 6:22, 10:26], large[12:36, 10:34, 8:32] = 1, 1
    grid = Grid(small.shape, np.eye(4))
    scans = (Scan(one[None], np.ones(grid.shape, np.float32), grid) for one in (small, large))
    guide = Guide(*scans, np.ones(1), {}, np.zeros(1, bool))
    moved = guide.moved(Affine.identity(), may_scale)
    middles = np.array([11.5, 13.5, 17.5]), np.array([23.5, 21.5, 19.5])
    np.testing.assert_allclose(moved.map_world(middles[0][None])[0], middles[1], atol=1e-5)
    factor = 1.5 if may_scale else 1.0
    np.testing.assert_allclose(moved.matrix[:3, :3], factor * np.eye(3), atol=1e-6)
    assert guide.agreement(moved) > (0.95 if may_scale else 0.5)


@pytest.mark.parametrize(("thickness", "cut"), [(1.0, [False, True]), (3.0, [False, False])])
def test_labels_that_a_field_of_view_cuts_move_no_start(thickness, cut):
    """One label ends 2 voxels before the last slice that is seen, the other one in it."""
    labels, seen = np.zeros((2, 30, 30, 30), np.float32), np.zeros((30, 30, 30), np.float32)
    labels[0, 4:16, 4:16, 6:18], labels[1, 18:28, 4:16, 6:20], seen[..., :20] = 1, 1, 1
    grid = Grid(seen.shape, np.diag([1, 1, thickness, 1]))
    scan = Scan(labels, seen, grid)
    assert cut_labels(scan).tolist() == cut
    away = Scan(np.roll(labels, 10, axis=2), np.ones_like(seen), grid)
    guide = Guide(scan, away, np.array([0.0, 1.0]), {}, cut_labels(scan))
    offset = guide.moved(Affine.identity(), may_scale=True).matrix[:3, 3]
    np.testing.assert_allclose(offset, [0, 0 if cut[1] else 10, 0], atol=1e-6)


def test_models_are_taken_in_order_and_those_that_may_lack_are_passed_over(tmp_path):
    for name in ("a", "b"):
        save_segmenter(tmp_path / name)
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    assert guide_models(f"{a},{b},none") == [a, b]
    assert guide_models(f"missing,{b},none") == [b]
    assert guide_models("missing,none") == guide_models("none") == []
    assert guide_models("missing") == ["missing"]  # an error as soon as it is read


@pytest.mark.parametrize(
    ("guide", "remark"),
    [
        ("none", "^$"),
        ("GUIDE", "^$"),
        ("GUIDE,none", "guided by what .*guide sees; --set guide=none leaves it out"),
        ("missing,GUIDE,none", "guided by what .*guide sees"),
        ("missing,none", "missing, which would guide such scans, is not installed: pip install"),
    ],
)
def test_what_guides_without_being_asked_is_said(tmp_path, guide, remark):
    save_segmenter(tmp_path / "guide")
    config = make_config(METHODS.find("convex"), "default", {"guide": guide.replace("GUIDE", str(tmp_path / "guide"))})
    assert re.search(remark, config.remark)


def test_added_lanes_fill_the_empty_ones_first():
    pair = DescribedPair(*(noise(n, (4, 6, 4, 16)[: 4 - n % 2]) for n in range(4)), used=13)
    for count, lanes in ((2, 16), (3, 16), (5, 32)):
        added = noise(5, (count, 4, 6, 4))
        joined = pair.with_lanes(added, added, 4.0, (1, 1, 1))
        assert joined.fixed.shape[-1] == joined.moving.shape[-1] == lanes
        assert np.array_equal(joined.fixed[..., :13], pair.fixed[..., :13])
        np.testing.assert_allclose(joined.fixed[..., 13 : 13 + count], 2 * np.moveaxis(added, 0, -1))
        assert not joined.fixed[..., 13 + count :].any()
        assert joined.used == (None if 13 + count == lanes else 13 + count)


def test_added_lanes_are_weighted_and_padded():
    pair = DescribedPair(*(noise(n, (4, 6, 4, 16)[: 4 - n % 2]) for n in range(4)))
    fixed, moving = noise(5, (3, 8, 6, 8)), noise(6, (3, 8, 6, 8))
    joined = pair.with_lanes(fixed, moving, 4.0, (2, 1, 2))
    assert joined.fixed.shape == (4, 6, 4, 32)
    assert np.array_equal(joined.fixed[..., :16], pair.fixed)
    pooled = fixed.reshape(3, 4, 2, 6, 4, 2).mean(axis=(2, 5))
    np.testing.assert_allclose(joined.fixed[..., 16:19], 2 * np.moveaxis(pooled, 0, -1), rtol=1e-5, atol=1e-6)
    assert not joined.moving[..., 19:].any()


def save_segmenter(folder: Path) -> None:
    torch.manual_seed(0)
    architecture = {"inputs": 1, "classes": 2, "mult": 1, "convolutions": [1, 1], "activation": "leaky"}
    card = ModelCard(
        "segmenter", "segment", architecture=architecture, preprocessing=Preprocessing().as_json(), labels={1: "ball"}
    )
    network = SegmentationNetwork(**architecture)
    with torch.no_grad():  # sure of its label everywhere
        network.decoder.last.weight.zero_()
        network.decoder.last.bias.copy_(torch.tensor([0.0, 5.0]))
    save_model(folder, network.state_dict(), card)


def test_a_network_brings_its_own_guide(tmp_path):
    model = save_tiny(tmp_path / "tiny")
    fixed, moving = scans()
    settings = {"model": model, "refine_scales": (1,), "refine_iterations": (2,)}
    assert "guide" not in register(fixed, moving, method="symmetric", settings=settings, device="cpu").provenance
    save_segmenter(tmp_path / "tiny" / "guide")
    assert guide_models("auto", model) == [str(tmp_path / "tiny" / "guide")]
    found = register(fixed, moving, method="symmetric", settings=settings, device="cpu").provenance["guide"]
    assert found["name"] == "segmenter"
    off = settings | {"guide": "none"}
    assert "guide" not in register(fixed, moving, method="symmetric", settings=off, device="cpu").provenance


@pytest.mark.parametrize("method", ["convex", "deeds", "symmetric"])
def test_the_memory_of_a_guide_is_foreseen(tmp_path, method):
    """The network on each scan, its probabilities on both, and 16 more lanes for each descriptor."""
    save_segmenter(tmp_path / "guide")
    own = {"model": save_tiny(tmp_path / "tiny")} if method == "symmetric" else {}
    large = Grid((96, 96, 96), np.eye(4))

    def foreseen(guide: str) -> int:
        return METHODS.find(method)(
            make_config(METHODS.find(method), "default", own | {"guide": guide})
        ).peak_memory_bytes(large, large)

    more = foreseen(str(tmp_path / "guide")) - foreseen("none")
    assert more >= 96**3 * 4 * (2 * 2 + 5 * 16)


def test_the_memory_of_a_guide_of_the_start_alone_is_that_of_its_network(tmp_path):
    save_segmenter(tmp_path / "guide")
    large = Grid((160, 160, 160), np.eye(4))  # of which the network takes more than the search
    guide = str(tmp_path / "guide")
    alone = Linear(StartConfig(guide=guide)).peak_memory_bytes(large, large)
    assert alone == prepared_bytes(large, large) + guide_bytes(guide, large, large)
    assert guide_bytes(guide, large, large, large) - guide_bytes(guide, large, large) == 160**3 * 4 * 5 * 16


def test_a_model_of_another_kind_cannot_guide(tmp_path):
    with pytest.raises(UserError, match="is a model of 'symmetric', not of 'segment'"):
        register(*scans(), settings={"guide": save_tiny(tmp_path / "tiny")}, device="cpu")


def test_compatible_deeds_has_no_guide():
    with pytest.raises(UserError, match="knows no guide"):
        register(*scans(), method="deeds", settings={"compatible": True, "guide": str(oracle)}, device="cpu")


def test_the_guide_of_the_head_and_neck_knows_organs_of_a_patient_it_has_not_seen(shared_data):
    folder = shared_data / "head_neck_ct"
    scan = read_image(folder / "images" / "pt_100.nii.gz")
    drawn = read_labels(folder / "labels" / "pt_100.nii.gz")
    model = SegmentationModel.load("guide-head-neck", "segment", "cpu")
    seen = model.seen(scan, None)
    found = Labels(seen.data.argmax(axis=0).astype(np.uint8), seen.grid)
    named = Affine.identity().warp_labels(found, drawn.grid)
    agreed = dice(drawn, named)
    assert {agreed[label] > 0.6 for label in (1, 2, 3, 4, 7)} == {True}, agreed
