"""Thousands of pairs on many machines: the plan, what is on disk, the work on a batch of pairs, and who does it."""
