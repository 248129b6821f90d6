"""Scans of a data set brought to one spacing, shape, place and range of values, and results brought back."""

from anamorph.preprocess.record import ScanRecord, map_back, read_record
from anamorph.preprocess.run import Preprocessed, find_preprocessed, preprocess_dataset
from anamorph.preprocess.settings import PreprocessSettings

__all__ = [
    "PreprocessSettings",
    "Preprocessed",
    "ScanRecord",
    "find_preprocessed",
    "map_back",
    "preprocess_dataset",
    "read_record",
]
