"""Thousands of pairs on many machines: the plan, one pair by one method, the run, and the report."""
