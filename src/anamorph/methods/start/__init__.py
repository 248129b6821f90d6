"""The search for a linear start."""
