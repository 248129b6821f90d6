"""The best validation of several runs, one line each.

usage: python ladder.py RUN...
"""

from __future__ import annotations

import sys
from pathlib import Path

from anamorph.networks.model import read_card
from anamorph.networks.model_folders import find_model

COLUMNS = ("dice", "sdlogj_learn2reg", "folding_percent", "inverse_consistency_vox")


def main() -> None:
    """Print the numbers that the model cards keep."""
    print(f"{'run':24}" + "".join(f"{name:>26}" for name in COLUMNS))
    for run in map(Path, sys.argv[1:]):
        metrics = read_card(find_model(run)).metrics
        print(f"{run.name:24}" + "".join(f"{metrics[name]:26.3f}" for name in COLUMNS))


if __name__ == "__main__":
    main()
