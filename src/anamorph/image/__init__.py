"""Images, label maps and landmarks: data with a place in the world, and their files."""

from anamorph.image.image import Image, Labels, Mask
from anamorph.image.points import Points

__all__ = ["Image", "Labels", "Mask", "Points"]
