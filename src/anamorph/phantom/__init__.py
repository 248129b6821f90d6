"""Synthetic patients with a known deformation."""
