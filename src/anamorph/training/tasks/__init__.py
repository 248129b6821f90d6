"""One file per training task."""
