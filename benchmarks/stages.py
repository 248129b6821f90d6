"""How far each stage of ``convex`` is from what one core can do: ``python -m benchmarks.stages``.

The limits are measured: bytes per second by adding two arrays that fit no cache, floating-point operations per second
by a product of matrices. What a stage moves and computes at least is counted from its sizes; its *limit* is the longer
of the two times, and the share says how much of the time taken that is. A byte is counted once however often it is
read; what lies in the cache can take less than the limit.
"""

from __future__ import annotations

import argparse
import os

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"))  # before NumPy

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from anamorph.discrete.cost_volume import CostVolume
from anamorph.discrete.coupled_convex import coupled_argmin
from anamorph.features.mind_ssc import mind_ssc
from anamorph.geometry.averaging import box_smooth
from anamorph.geometry.grid import Grid
from anamorph.geometry.sampling import sample
from anamorph.optimise.adam import Adam
from anamorph.optimise.velocity import add_diffusion, data_term
from anamorph.runtime.compiled import variant
from anamorph.transforms.fields import compose, jacobian_determinant, upsample, warp_descriptor
from anamorph.transforms.maps import Displacement
from benchmarks.speed import processor_name

CHANNELS, USED = 16, 15
"""Of a descriptor, and how many of them a CT uses."""
ROUNDS = 3


@dataclass(frozen=True)
class Stage:
    """A stage, and the bytes it moves and the operations it does at least."""

    name: str
    run: Callable[[], Any]
    bytes: float
    flops: float


def main() -> None:
    """Measure the limits and every stage, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stages", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--size", default="80,64,56", help="voxels of the finest descriptors; scans have twice as many")
    size = tuple(int(n) for n in parser.parse_args().size.split(","))
    bandwidth, peak = bytes_per_second(), flops_per_second()
    print(f"{processor_name()}, {variant()}, one thread: {bandwidth / 1e9:.1f} GB/s, {peak / 1e9:.1f} Gflop/s\n")
    print("| stage | ms | MB | Mflop | Gflop/s | limit, ms | by | share of the limit |\n" + "|---" * 8 + "|")
    for stage in stages(size[0], size[1], size[2]):
        seconds = best(stage.run)
        moved, computed = stage.bytes / bandwidth, stage.flops / peak
        limit, by = max((moved, "memory"), (computed, "operations"))
        cells = f"{1e3 * seconds:.2f}", f"{stage.bytes / 1e6:.1f}", f"{stage.flops / 1e6:.0f}"
        rate = f"{stage.flops / seconds / 1e9:.1f}"
        print(
            f"| {stage.name} | " + " | ".join([*cells, rate, f"{1e3 * limit:.2f}", by, f"{limit / seconds:.0%}"]) + " |"
        )


def best(run: Callable[[], Any]) -> float:
    """Processor seconds of the fastest of some runs after a first one."""
    run()
    found = []
    for _ in range(ROUNDS):
        begin = time.process_time()
        run()
        found.append(time.process_time() - begin)
    return max(min(found), 1e-9)


def bytes_per_second() -> float:
    """Of two numbers read and one written, as the Add of STREAM."""
    one, other, out = (np.ones(1 << 24) for _ in range(3))
    return 3 * one.nbytes / best(lambda: np.add(one, other, out=out))


def flops_per_second() -> float:
    """Of a product of float32 matrices."""
    matrix = np.ones((1024, 1024), np.float32)
    return 2 * 1024**3 / best(lambda: matrix @ matrix)


def stages(i: int, j: int, k: int) -> list[Stage]:
    """The stages at a size of the finest descriptors."""
    rng = np.random.default_rng(0)
    shape, voxels = (i, j, k), i * j * k
    scan = rng.random((2 * i, 2 * j, 2 * k), np.float32)
    fixed, moving = (rng.random((*shape, CHANNELS), np.float32) for _ in range(2))
    for one in (fixed, moving):
        one[..., USED:] = 0
    weight = np.ones(shape, np.float32)
    field = box_smooth(rng.normal(0, 2, (3, *shape)).astype(np.float32), passes=3)
    control = box_smooth(rng.normal(0, 2, (3, -(-i // 2), -(-j // 2), -(-k // 2))).astype(np.float32), passes=3)
    cells, labels, single, vector = control[0].size, 5**3, 4, 12
    compared = voxels * labels * USED * 3 + 6 * cells * labels
    costs = CostVolume(fixed, weight, moving, (2, 2, 2), (1, 1, 1), (2, 2, 2), 2**40)
    chunk = next(costs.chunks())[1]
    adam, strength = Adam(control * 1.0), np.ones((3, 3), np.float32)
    native = Grid(scan.shape, np.eye(4))
    deformation = Displacement(control, native.pooled((4, 4, 4)))
    dense = deformation.displacement_on(native).disp_vox
    places = deformation.positions_on(native)
    hounsfield = (1000 * scan).astype(np.int16)[None]
    return [
        Stage("describe a scan", partial(mind_ssc, scan, (1, 1, 1), (2, 2, 2), (2, 2, 2)),
              scan.nbytes * 2 + fixed.nbytes, 310 * scan.size),
        Stage("costs, finest level", partial(costs._rows, 0, costs.cells[0]),
              2 * voxels * USED * single + 7 * cells * labels * single, compared),
        Stage("least costs, one coupling",
              partial(coupled_argmin, chunk, costs.radius, control * 0, 0.1, 0, control * 0),
              cells * labels * single, 11 * cells * labels),
        Stage("warp a descriptor", partial(warp_descriptor, moving, field),
              2 * fixed.nbytes + voxels * vector, voxels * (CHANNELS * 21 + 20)),
        Stage("compose two fields", partial(compose, field, field), 3 * voxels * vector, voxels * 86),
        Stage("smooth a field", partial(box_smooth, field), 6 * voxels * vector, voxels * 27),
        Stage("finer field", partial(upsample, control, (2, 2, 2), shape),
              (cells + voxels) * vector, voxels * 3 * 3 + cells * 4 * 27),
        Stage("data term and its gradient", partial(data_term, fixed, weight, moving, field),
              2 * fixed.nbytes + voxels * (2 * vector + single), voxels * (CHANNELS * 42 + 30)),
        Stage("diffusion and its gradient", partial(add_diffusion, control, strength, control * 0),
              3 * cells * vector, cells * 9 * 6),
        Stage("step of Adam", partial(adam.step, control * 1.0, 0.5), 7 * cells * vector, cells * 3 * 13),
        Stage("places of all voxels", partial(deformation.positions_on, native), scan.size * vector, scan.size * 36),
        Stage("determinants", partial(jacobian_determinant, dense), scan.size * (vector + single), scan.size * 35),
        Stage("read a scan there", partial(sample, hounsfield, places, "linear", 0.0),
              scan.size * (vector + 2 + single), scan.size * 40),
    ]  # fmt: skip


if __name__ == "__main__":
    main()
