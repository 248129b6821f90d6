"""A data set prepared for ``slicreg``: scans registered to a template, whose layers of supervoxels they then carry."""
