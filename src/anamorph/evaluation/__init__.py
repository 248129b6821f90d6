"""Metrics and verdicts."""
