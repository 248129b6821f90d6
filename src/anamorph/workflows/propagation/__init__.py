"""Contours and doses carried from a treatment plan to the scans of days."""
