"""Synthetic patients with a known deformation."""

from anamorph.phantom.anatomy import LABEL_NAMES
from anamorph.phantom.pair import PhantomPair, make_pair

__all__ = ["LABEL_NAMES", "PhantomPair", "make_pair"]
