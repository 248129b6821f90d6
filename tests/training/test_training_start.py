"""A training from the command line to its run folder, and everything that is refused before the first step."""

from __future__ import annotations

import json

import pytest
import torch
from typer.testing import CliRunner

import small_dataset
from anamorph.cli.main import app
from anamorph.errors import UserError
from anamorph.networks.model import load_weights
from anamorph.training import TASKS
from anamorph.training.run_folder import load_checkpoint
from anamorph.training.start import start_training
from blobs import make_blobs
from small_dataset import image_of, name_of
from toy_task import ToyTask, needs_fabric

pytestmark = needs_fabric


@pytest.fixture
def data(tmp_path):
    return small_dataset.make_learn2reg(tmp_path / "data", 6, licence="CC0", reference="nobody")


@pytest.fixture
def anamorph(tmp_path, monkeypatch):
    """The command where another package, as far as its metadata go, adds a small task and its network."""
    info = tmp_path / "site" / "toy_tasks-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-tasks\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[anamorph.training_tasks]\ntoy = toy_task:ToyTask\n[anamorph.networks]\ntoy = toy_task:ToyNetwork\n"
    )
    monkeypatch.syspath_prepend(str(info.parent))
    monkeypatch.setenv("ANAMORPH_CACHE", str(tmp_path / "cache"))
    return lambda *arguments: CliRunner().invoke(app, [*map(str, arguments)])


def start(tmp_path, data, **options):
    given = ["epochs=1", "batch_size=2", *options.pop("given", ())]
    options = {"device": "cpu", "cache": tmp_path / "cache", "given": given} | options
    return start_training(ToyTask, [data], tmp_path / "run", **options)


def test_the_command_trains_and_the_folder_tells_everything_to_repeat_it(tmp_path, data, anamorph):
    result = anamorph("train", "toy", "--dataset", data, "-o", tmp_path / "run", "--preset", "fast", "--set", "width=2")
    assert result.exit_code == 0, result.output + result.stderr
    assert "before training  dice" in result.stderr
    assert "epoch 2/2  training loss" in result.stderr
    assert "best validation" in result.stdout
    run = tmp_path / "run"
    record = json.loads((run / "run.json").read_text())
    assert record["config"] == {"rate": 0.1, "width": 2}
    assert record["loop"]["epochs"] == 2
    assert record["loop"]["seed"] == 0
    assert (run / "datasets" / "1-Task_dataset.json").read_text() == data.read_text()
    assert record["data"][0]["scans"] == {"training": 4, "validation": 2, "test": 0}
    assert record["versions"]["torch"] == torch.__version__
    assert record["versions"]["lightning-fabric"]
    assert record["command"][-2:] != []
    assert record["sessions"][0]["ending"] == "finished"
    card, _ = load_weights(run)
    assert (card.licence, card.attribution, card.labels) == ("CC0", "nobody", {1: "liver"})
    assert card.provenance["config"] == {"rate": 0.1, "width": 2}
    assert "sound (toy, " in anamorph("models", "check", run).output, "its network is found by an entry point too"
    assert str(tmp_path) not in (run / "model" / "model.json").read_text(), "a model may be given away"


def test_a_run_goes_on_with_what_its_folder_says(tmp_path, data, anamorph):
    run = tmp_path / "run"
    begun = anamorph("train", "toy", "--dataset", data, "-o", run, "--set", "width=2", "--epochs", "1", "-q")
    assert begun.exit_code == 0, begun.stderr
    again = anamorph("train", "toy", "-o", run, "--resume", "--epochs", "2", "-q")
    assert again.exit_code == 0, again.stderr
    assert load_checkpoint(run / "checkpoints" / "latest.pt")["position"]["epoch"] == 2
    record = json.loads((run / "run.json").read_text())
    assert [one["epoch"] for one in record["sessions"]] == [1, 2]
    other = anamorph("train", "toy", "-o", run, "--resume", "--set", "width=3")
    assert other.exit_code == 2
    assert "the run was begun with width=2, not 3" in other.stderr


def test_a_task_of_another_package_is_found_listed_and_near_its_name(anamorph):
    assert TASKS.find("toy") is ToyTask
    assert [*TASKS][-1] == "toy"
    wrong = anamorph("train", "tyo", "-o", "run")
    assert wrong.exit_code == 2
    assert "there is no training 'tyo' (did you mean 'toy'?); choose one of: symmetric" in wrong.stderr


def test_a_run_begun_before_there_was_a_choice_of_reading_goes_on_at_points(tmp_path):
    manifest = make_blobs(tmp_path / "data", training=2, validation=1)
    where = {"device": "cpu", "cache": tmp_path / "cache"}
    given = ["mult=1", "convolutions=1", "reading=point", "spacing_mm=4", "validate_first=false"]
    run = tmp_path / "run"
    start_training("segment", [manifest], run, given=[*given, "epochs=1"], **where)
    record = json.loads((run / "run.json").read_text())
    assert record["config"].pop("reading") == "point"
    (run / "run.json").write_text(json.dumps(record))
    assert start_training("segment", [], run, resume=True, given=["epochs=2"], **where).step > 1
    assert "reading" not in load_weights(run)[0].preprocessing
    with pytest.raises(UserError, match="the run was begun with reading=point, not averaged"):
        start_training("segment", [], run, resume=True, given=["reading=averaged"], **where)


def test_a_run_begun_before_there_was_a_setting_goes_on_with_what_it_is_when_nobody_sets_it(tmp_path):
    manifest = make_blobs(tmp_path / "data", training=2, validation=1)
    where = {"device": "cpu", "cache": tmp_path / "cache"}
    run = tmp_path / "run"
    given = ["mult=1", "convolutions=1", "spacing_mm=4", "validate_first=false", "noise=0.1", "epochs=1"]
    start_training("segment", [manifest], run, given=given, **where)
    record = json.loads((run / "run.json").read_text())
    assert (record["config"].pop("bend_vox"), record["config"].pop("leave_out")) == (0.0, [])
    assert record["loop"].pop("seed") == 0
    (run / "run.json").write_text(json.dumps(record))
    assert start_training("segment", [], run, resume=True, given=["epochs=2"], **where).step > 1
    for other in ("bend_vox=1", "seed=1", "noise=0.2"):
        with pytest.raises(UserError, match=f"the run was begun with {other.split('=')[0]}=.*, not"):
            start_training("segment", [], run, resume=True, given=[other], **where)


def test_a_run_is_not_written_over(tmp_path, data):
    start(tmp_path, data)
    with pytest.raises(UserError, match="go on with --resume, replace it with --overwrite"):
        start(tmp_path, data)
    start(tmp_path, data, overwrite=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").touch()
    with pytest.raises(UserError, match="is not empty and holds no training"):
        start_training(ToyTask, [data], tmp_path / "mine", device="cpu", cache=tmp_path / "cache")


def test_data_that_changed_are_no_longer_the_same_run(tmp_path, data):
    start(tmp_path, data)
    small_dataset.write_scan(tmp_path / "data" / image_of(5), seed=77)
    with pytest.raises(UserError, match="its data sets are not those the run was begun with"):
        start(tmp_path, data, resume=True)


def test_resume_begins_a_run_that_is_not_there(tmp_path, data):
    said: list[str] = []
    assert start(tmp_path, data, resume=True, say=said.append).ending == "finished"
    assert said[0].startswith("precision ")
    assert "holds no training yet" in said[1]


def test_a_training_starts_from_the_weights_of_another(tmp_path, data):
    start(tmp_path, data)
    _, weights = load_weights(tmp_path / "run")
    said: list[str] = []
    second = start_training(
        ToyTask,
        [data],
        tmp_path / "second",
        pretrained=tmp_path / "run",
        given=["rate=1e-12", "epochs=1"],
        device="cpu",
        cache=tmp_path / "cache",
        say=said.append,
    )
    _, found = load_weights(second.model)
    for key, value in weights.items():
        torch.testing.assert_close(found[key], value, rtol=0, atol=1e-8)
    assert said[1:] == ["weights loaded"], "after the precision"
    record = json.loads((tmp_path / "second" / "run.json").read_text())
    assert record["pretrained"]["sha256"] == load_weights(tmp_path / "run")[0].sha256


def test_weights_of_another_width_are_told_or_refused(tmp_path, data):
    start(tmp_path, data)
    said: list[str] = []
    options = {"pretrained": tmp_path / "run", "device": "cpu", "cache": tmp_path / "cache", "say": said.append}
    with_other_width = ["width=4", "epochs=1"]
    start_training(ToyTask, [data], tmp_path / "wide", given=with_other_width, **options)
    assert said[1:] == ["3 parameters are not in --pretrained and start fresh"], "the last bias alone fits"

    class Renamed(ToyTask):
        def network(self):
            return torch.nn.Sequential(super().network())

    with pytest.raises(UserError, match="no weight of --pretrained fits this network"):
        start_training(Renamed, [data], tmp_path / "renamed", **options)


def test_a_training_does_not_replace_the_model_that_it_starts_from(tmp_path, data):
    start(tmp_path, data)
    options = {"device": "cpu", "cache": tmp_path / "cache", "overwrite": True}
    with pytest.raises(UserError, match="run, which is read, and is not replaced"):
        start_training(ToyTask, [data], tmp_path / "run", pretrained=tmp_path / "run", **options)
    assert load_weights(tmp_path / "run" / "model")[0].parameters > 0


@pytest.fixture
def slow_reads(monkeypatch):
    """Every scan that is cached takes 10 s on the clock of the time budget."""
    from functools import partial

    from anamorph.image.read import read_image
    from anamorph.training import cache, start
    from anamorph.training.time_budget import TimeBudget

    now = [0.0]

    def read(path):
        now[0] += 10.0
        return read_image(path)

    monkeypatch.setattr(cache, "read_image", read)
    monkeypatch.setattr(start, "TimeBudget", partial(TimeBudget, clock=lambda: now[0]))
    return now


def test_caching_counts_and_goes_on_where_the_time_ended(tmp_path, data, anamorph, slow_reads):
    command = ("train", "toy", "--dataset", data, "-o", tmp_path / "run", "--epochs", "1", "--set", "batch_size=2")
    result = anamorph(*command, "--time-budget", "35s")
    assert result.exit_code == 1
    line = result.stderr.splitlines()[-1]
    assert line.startswith("error: no step was taken within the time budget of 35 s, so there is no model")
    assert "caching the scans 30 s" in line
    assert "caching Task got to 50 %, which is kept" in line
    assert "--resume" in line
    assert not (tmp_path / "run").exists()
    again = anamorph(*command, "--time-budget", "60s", "--resume")
    assert again.exit_code == 0, again.stderr
    assert slow_reads[0] == 60.0, "the other three scans"
    assert load_checkpoint(tmp_path / "run" / "checkpoints" / "latest.pt")["position"]["step"] == 2
    assert [path.name for path in (tmp_path / "cache").glob("**/*.unfinished")] == []


def test_an_interrupted_caching_is_kept(tmp_path, data, anamorph, monkeypatch):
    from anamorph.image.read import read_image
    from anamorph.training import cache

    read: list[str] = []

    def interrupted(path):
        read.append(path.name)
        if len(read) == 5:
            raise KeyboardInterrupt
        return read_image(path)

    monkeypatch.setattr(cache, "read_image", interrupted)
    command = ("train", "toy", "--dataset", data, "-o", tmp_path / "run", "--epochs", "1")
    result = anamorph(*command)
    assert result.exit_code == 130
    assert result.stderr.splitlines()[-1].startswith("interrupted; what was cached is kept")
    assert anamorph(*command, "--resume").exit_code == 0
    assert len(read) == 5 + 2


def test_the_precision_is_what_the_processor_does_fast_and_is_kept(tmp_path, data, anamorph, monkeypatch):
    from anamorph.training import fabric

    info = tmp_path / "cpuinfo"
    monkeypatch.setattr(fabric, "CPU_INFO", info)
    info.write_text("processor : 0\nflags\t\t: fpu sse2 avx2 avx512f\n")
    run = tmp_path / "run"
    command = ("train", "toy", "--dataset", data, "-o", run, "--device", "cpu", "--epochs")
    result = anamorph(*command, "1")
    assert "precision 32-true: the processor has no bfloat16 instructions" in result.stderr
    record = json.loads((run / "run.json").read_text())
    assert record["loop"]["precision"] == "32-true"
    assert load_weights(run)[0].provenance["precision"].startswith("32-true: the processor has no")
    info.write_text("flags : fpu avx512_bf16 amx_bf16\n")
    assert "precision 32-true: that of the run" in anamorph(*command, "2", "--resume").stderr
    result = anamorph(*command, "1", "--overwrite")
    assert "precision bf16-mixed: the processor has amx_bf16, avx512_bf16" in result.stderr
    info.write_text("flags : fpu avx2\n")
    result = anamorph(*command, "2", "--resume")
    assert "precision bf16-mixed: that of the run" in result.stderr
    assert "warning: bf16-mixed is slow here, as the processor has no bfloat16 instructions" in result.stderr
    result = anamorph(*command, "3", "--resume", "--precision", "auto")
    assert "precision 32-true: the processor has no bfloat16 instructions; the run was begun with bf16" in result.stderr


def test_a_run_that_was_begun_on_a_gpu_goes_on_in_single_precision():
    from anamorph.training.fabric import choose_precision

    chosen = choose_precision("16-mixed", "cpu", "16-mixed")
    assert chosen.value == "32-true"
    assert "begun with 16-mixed, which only GPUs compute" in chosen.why


@pytest.mark.parametrize("name", [*TASKS])
def test_no_preset_asks_for_what_a_processor_cannot_do(name, monkeypatch, tmp_path):
    from anamorph.training import fabric
    from anamorph.training.settings import make_settings

    monkeypatch.setattr(fabric, "CPU_INFO", tmp_path / "none")
    task = TASKS.find(name)
    for preset in ("default", *task.presets):
        _, loop = make_settings(task, preset)
        assert fabric.choose_precision(loop.precision, "cpu").value == "32-true", preset


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training": [], "registration_val": []}, "lists no scans for training"),
        ({"registration_val": []}, "no scans for validation"),
        ({"training": [{"image": image_of(n), "label": f"./labelsTr/none{n}.nii.gz"} for n in (1, 2)]}, "not exist"),
        ({"labels": {"2": "spleen"}}, "holds the labels 1, but the manifest names 2"),
    ],
)
def test_bad_data_sets_are_refused_before_anything_is_written(tmp_path, data, anamorph, changes, message):
    content = json.loads(data.read_text()) | changes
    content["test"] = [image_of(1)] if not content["training"] else []
    data.write_text(json.dumps(content))
    result = anamorph("train", "toy", "--dataset", data, "-o", tmp_path / "run")
    assert result.exit_code == 2
    assert message in result.stderr
    lines = [line for line in result.stderr.strip().splitlines() if not line.startswith("[")]
    assert len(lines) == 1, "one line, after the progress of the cache"
    assert not (tmp_path / "run").exists()


def test_scans_without_labels_are_refused_by_a_task_that_needs_them(tmp_path, data):
    (tmp_path / "data" / "labelsTr" / f"{name_of(2)}.nii.gz").unlink()
    content = json.loads(data.read_text())
    content["training"] = [{"image": image_of(n)} for n in range(1, 7)]
    data.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"1 scans have no label map \(0002_0000\)"):
        start(tmp_path, data)


def test_cohorts_that_differ_in_their_channels_are_refused(tmp_path, data):
    import nibabel
    import numpy as np

    other = small_dataset.make_learn2reg(tmp_path / "other", 5)
    for n in range(1, 6):
        values = np.random.default_rng(n).random((*small_dataset.SHAPE, 1, 2)).astype(np.float32)
        nibabel.Nifti1Image(values, small_dataset.AFFINE).to_filename(tmp_path / "other" / image_of(n))
    with pytest.raises(UserError, match="the cohorts differ in their number of channels"):
        start_training(ToyTask, [data, other], tmp_path / "run", device="cpu", cache=tmp_path / "cache")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "nothing", "-o", "run"), "there is no training 'nothing'"),
        (("train", "toy", "-o", "run"), "name at least one --dataset"),
        (("train", "toy"), "name the folder of the run"),
        (("train", "toy", "-o", "run", "--time-budget", "soon"), "--time-budget wants a duration"),
        (("train", "toy", "-o", "run", "--preset", "slow"), "'toy' has no preset 'slow'"),
        (("train", "toy", "-o", "run", "--set", "widht=1"), "did you mean 'width'"),
        (("train", "toy", "-o", "run", "--pretrained", "none", "--dataset", "DATA"), "there is no model 'none'"),
        (("train", "toy", "-o", "run", "--precision", "16-mixed", "--device", "cpu", "--dataset", "DATA"), "a GPU"),
        (("train", "toy", "-o", "run", "--processes", "0", "--dataset", "DATA"), "at least 1"),
    ],
)
def test_options_that_make_no_sense(data, anamorph, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    result = anamorph(*(data if one == "DATA" else one for one in arguments))
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "run").exists()


def test_settings_are_listed(anamorph):
    result = anamorph("train", "toy", "--settings")
    assert result.exit_code == 0
    for text in ("rate", "0.01", "checkpoint_every_s", "plateau_patience", "rate=0.1, epochs=2"):
        assert text in result.stdout


@pytest.mark.parametrize("name", [*TASKS])
def test_every_task_keeps_the_contract(name):
    task = TASKS.find(name)
    assert task.name == name
    assert task.summary
    assert task.score[1] in ("max", "min")
    from anamorph.training.settings import make_settings

    for preset in ("default", *task.presets):
        config, _ = make_settings(task, preset)
        task.preprocessing(config)


def test_another_split_of_the_same_scans_is_another_run(tmp_path, data):
    start(tmp_path, data)
    content = json.loads(data.read_text())
    content["registration_val"] = [{"fixed": image_of(3), "moving": image_of(5)}]
    data.write_text(json.dumps(content))
    with pytest.raises(UserError, match="its data sets are not those the run was begun with"):
        start(tmp_path, data, resume=True)
