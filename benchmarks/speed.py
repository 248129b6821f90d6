"""Time `convex` and the whole command on phantoms of three sizes: `python -m benchmarks.speed`.

Prints a Markdown table: the first registration of a process (kernels come from the disk cache), the best of two more,
the whole command with start-up, reading, report and writing, and the peak memory of the command.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

SIZES = (((64, 64, 64), "auto"), ((160, 128, 112), "abdomen-ct"), ((192, 160, 256), "abdomen-ct"))


def main() -> None:
    """Measure every size in a process of its own and print the table."""
    print("| size | preset | first, s | next, s | command, s | peak MB |")
    print("|---|---|---|---|---|---|")
    for shape, preset in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            row = subprocess.run(
                [sys.executable, __file__, folder, preset, *map(str, shape)], check=True, capture_output=True, text=True
            )
        print(row.stdout.strip(), flush=True)


def measure(folder: Path, preset: str, shape: tuple[int, int, int]) -> str:
    """One row of the table."""
    import anamorph
    from anamorph.image.write import write_image
    from anamorph.phantom import make_pair

    pair = make_pair(shape, seed=1)
    files = [folder / "fixed.nii.gz", folder / "moving.nii.gz"]
    for image, file in zip((pair.fixed, pair.moving), files, strict=True):
        write_image(image, file)
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        anamorph.register(pair.fixed, pair.moving, preset=preset, device="cpu")
        seconds.append(time.perf_counter() - start)
    command = ["register", *map(str, files), "-o", str(folder / "out"), "--preset", preset, "--quiet"]
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "anamorph", *command], check=True, stdout=subprocess.DEVNULL)
    whole = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
    size = " x ".join(map(str, shape))
    return f"| {size} | {preset} | {seconds[0]:.2f} | {min(seconds[1:]):.2f} | {whole:.1f} | {peak} |"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(measure(Path(sys.argv[1]), sys.argv[2], (int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))))
    else:
        main()
