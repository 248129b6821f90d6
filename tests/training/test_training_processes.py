from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import small_dataset
from anamorph.training.run_folder import RunFolder, load_checkpoint
from anamorph.training.start import start_training
from toy_task import ToyTask, needs_fabric

pytestmark = needs_fabric
SCRIPT = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parents[1] / "helpers")!r})
from toy_task import ToyTask
from anamorph.training.start import start_training

if __name__ == "__main__":
    data, run, cache, *given = sys.argv[1:]
    start_training(ToyTask, [data], run, given=given, device="cpu", processes=2, cache=Path(cache))
"""


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="needs torch.distributed")
def test_two_processes_make_the_step_that_one_makes_with_the_joint_batch(tmp_path):
    """Six scans: three in each of two processes, in three passes each, or all in one."""
    manifest = small_dataset.make_learn2reg(tmp_path / "data", 8)
    script = tmp_path / "two.py"
    script.write_text(SCRIPT)
    given = ["epochs=1", "batch_size=6", "average_decay=0.5"]
    command = [sys.executable, str(script), str(manifest), str(tmp_path / "two"), str(tmp_path / "cache"), *given]
    together = subprocess.run(
        [*command, "accumulate=3"],
        env=os.environ | {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert together.returncode == 0, together.stderr[-2000:]
    start_training(ToyTask, [manifest], tmp_path / "one", given=given, device="cpu", cache=tmp_path / "cache")
    two, one = (load_checkpoint(RunFolder(tmp_path / name).latest) for name in ("two", "one"))
    assert two["position"]["step"] == one["position"]["step"] == 1
    start = ToyTask.Config()
    torch.manual_seed(0)
    fresh = ToyTask(start, []).network().state_dict()
    for key, value in one["network"].items():
        assert (value - fresh[key]).abs().max() > 5e-3, "Adam's first step is as long as the rate of 0.01"
        torch.testing.assert_close(two["network"][key], value, rtol=1e-4, atol=1e-5)
    losses = [next(csv.DictReader((tmp_path / name / "training.csv").open()))["loss"] for name in ("two", "one")]
    assert float(losses[0]) == pytest.approx(float(losses[1]), rel=1e-5)
    assert len(RunFolder(tmp_path / "two").record()["sessions"]) == 1, "the first process alone writes"
