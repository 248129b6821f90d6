"""What a model card says of a network that was trained on labelled scans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anamorph.networks.preprocessing import Preprocessing
    from anamorph.training.cache import Cohort


def describe_model(
    kind: str,
    what: str,
    architecture: Mapping[str, Any],
    preprocessing: Preprocessing,
    cohorts: Sequence[Cohort],
    labels: Sequence[int],
) -> dict[str, Any]:
    """The fields of the card that a task knows.

    Args:
        kind: of the model.
        what: it does.
        architecture: what the network is built from.
        preprocessing: as asked for; the card gets the shape that the scans had, so that those in use get no less room.
        cohorts: trained on.
        labels: the network knows.
    """
    names = {value: name for cohort in reversed(cohorts) for value, name in cohort.names.items()}
    shape = tuple(int(max(sizes)) for sizes in zip(*(cohort.shape for cohort in cohorts), strict=True))
    return {
        "kind": kind,
        "summary": f"{what} of {', '.join(cohort.dataset.name for cohort in cohorts)}",
        "architecture": dict(architecture),
        "preprocessing": replace(preprocessing, shape=shape).as_json(),  # type: ignore[arg-type]
        "labels": {label: names.get(label, str(label)) for label in labels},
    }
