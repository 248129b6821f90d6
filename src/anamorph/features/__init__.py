"""Descriptors of images."""
