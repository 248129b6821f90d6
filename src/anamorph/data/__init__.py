"""Data sets of many scans: the Learn2Reg manifest, its validation, its making, and importers of other layouts."""

from anamorph.data.dataset import Case, Dataset, Pair
from anamorph.data.manifest import read_dataset, write_dataset

__all__ = ["Case", "Dataset", "Pair", "read_dataset", "write_dataset"]
