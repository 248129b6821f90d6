"""The network of ``pdd`` at the published size: seconds per step of one direction, and memory.

    python -m benchmarks.pdd_speed [--device cuda] [--search-only]

Scans of 240 x 168 x 288 voxels of noise, 32 x 32 x 32 control points, 15 x 15 x 15 displacements, 16 features: what
is in the scans has no part in the time. Threads are those of OMP_NUM_THREADS. The first round,
which compiles, is not counted. The features take more memory than the search; with --search-only they are noise, so
that the peak is that of the correlation, the mean field and the field.
"""

from __future__ import annotations

import argparse
import resource
import time
from itertools import pairwise

import torch

from anamorph.networks.pdd_network import PddNetwork

SHAPE = (240, 168, 288)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--search-only", action="store_true", help="noise in place of the network's features")
    args = parser.parse_args()
    device = args.device
    torch.manual_seed(0)
    before = 0.0
    network = PddNetwork().to(device).eval()
    fixed, moving = (torch.rand(1, 1, *SHAPE, device=device) for _ in range(2))
    with torch.inference_mode():
        for _ in range(2):
            clock = [_now(device)]
            if args.search_only:
                here, there = torch.rand(2, 1, 16, *(n // 3 for n in SHAPE), device=device)
            else:
                here, there = (network.describe(scan) for scan in (fixed, moving))
            clock.append(_now(device))
            if not before:
                before = _peak_gb()
            found = network.find(here, there, SHAPE)
            clock.append(_now(device))
            found.disp_vox.cpu()
            clock.append(_now(device))
            del found
    features, search, field = (b - a for a, b in pairwise(clock))
    print(f"{torch.get_num_threads()} threads, {device}")
    print(f"features of both scans {features:.2f} s, search and mean field {search:.2f} s, field {field:.2f} s")
    print(f"peak memory of the process {_peak_gb():.2f} GB, {before:.2f} GB before the first search")


def _now(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def _peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    main()
