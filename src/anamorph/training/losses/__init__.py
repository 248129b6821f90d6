"""Losses of the learned methods, one per file."""
