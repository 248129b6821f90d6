"""Which labels a scan shows completely; all others are unknown there, and no background."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anamorph.data.dataset import Case, Dataset
from anamorph.data.findings import some
from anamorph.errors import UserError

ANNOTATED = "annotated_labels"
"""The key of a manifest, and of the entry of a scan."""


def annotated_labels(dataset: Dataset, case: Case | None = None) -> tuple[int, ...]:
    """The labels that a data set, or one of its scans, shows completely.

    ``annotated_labels`` of the entry of the scan goes before that of the manifest, and this before all that the
    manifest names.

    Raises:
        UserError: what is written there is no list of labels that the manifest names.
    """
    name = dataset.path.name
    if case is not None and case.extra.get(ANNOTATED) is not None:
        return _listed(case.extra, dataset.labels, f"{name}: {ANNOTATED} of {case.key}")
    if dataset.extra.get(ANNOTATED) is not None:
        return _listed(dataset.extra, dataset.labels, f"{name}: {ANNOTATED}")
    return tuple(sorted(dataset.labels))


def _listed(content: Mapping[str, Any], labels: Mapping[int, str], where: str) -> tuple[int, ...]:
    given = content[ANNOTATED]
    if not isinstance(given, list) or not all(isinstance(one, int) and not isinstance(one, bool) for one in given):
        raise UserError(f"{where} must be a list of label values such as [1, 2], not {str(given)[:80]!r}")
    unknown = sorted(set(given) - set(labels))
    if unknown:
        raise UserError(f"{where} holds {some(map(str, unknown))}, which labels does not name")
    return tuple(sorted(set(given)))
