"""Continuous optimisation of one pair."""
