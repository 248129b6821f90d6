"""Search over discrete sets of displacements."""
