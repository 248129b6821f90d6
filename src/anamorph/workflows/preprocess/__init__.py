"""Scans of a data set brought to one spacing, shape, place and range of values, and results brought back."""

from anamorph.workflows.preprocess.record import ScanRecord, map_back, read_record
from anamorph.workflows.preprocess.run import Preprocessed, find_preprocessed, preprocess_dataset
from anamorph.workflows.preprocess.steps import PreprocessSettings

__all__ = [
    "PreprocessSettings",
    "Preprocessed",
    "ScanRecord",
    "find_preprocessed",
    "map_back",
    "preprocess_dataset",
    "read_record",
]
