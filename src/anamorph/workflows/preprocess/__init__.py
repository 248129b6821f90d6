"""Scans of a data set brought to one spacing, shape, place and range of values, and results brought back."""
