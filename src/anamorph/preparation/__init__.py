"""A data set prepared for ``slicreg``: scans registered to a template, whose layers of supervoxels they then carry."""

from anamorph.preparation.run import Preparation, prepare_dataset
from anamorph.preparation.settings import LayerSettings

__all__ = ["LayerSettings", "Preparation", "prepare_dataset"]
