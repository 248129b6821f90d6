"""Whether the residual deformation of registrations tells a binary label of patients, without leaks between folds."""

from anamorph.classification.features import Cohort, Features, FeatureSettings, Rows, read_cohort
from anamorph.classification.registrations import LabelTable, Registration, find_fields, find_results, read_label_table
from anamorph.classification.run import Classification, Plan, classify

__all__ = [
    "Classification",
    "Cohort",
    "FeatureSettings",
    "Features",
    "LabelTable",
    "Plan",
    "Registration",
    "Rows",
    "classify",
    "find_fields",
    "find_results",
    "read_cohort",
    "read_label_table",
]
