"""Measurements that are not part of the package: pair lists and runs of other tools."""
