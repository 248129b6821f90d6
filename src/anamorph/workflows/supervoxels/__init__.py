"""A data set prepared for ``slicreg``: scans registered to a template, whose layers of supervoxels they then carry."""

from anamorph.workflows.supervoxels.layers import LayerSettings
from anamorph.workflows.supervoxels.run import Preparation, prepare_dataset

__all__ = ["LayerSettings", "Preparation", "prepare_dataset"]
