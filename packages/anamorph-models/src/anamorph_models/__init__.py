"""Folders with trained networks, which anamorph finds by name."""
