"""The page of a classification."""

from anamorph.report.classification.write import render, write_classification_page

__all__ = ["render", "write_classification_page"]
