"""The page of a classification."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from anamorph.classification.run import Classification, ModelOutcome
from anamorph.classification.validation import THRESHOLD, Share
from anamorph.report.colours import label_colour
from anamorph.report.page import fill, save

SIDE = 220.0
"""Of the box of a ROC curve, in units of the drawing."""
_AFFINE = {
    "apart": "the affine part that the registration kept apart was taken away",
    "fitted": "the affine map closest to the transform was taken away",
    "keep": "the affine part was kept",
}


def write_classification_page(path: str | os.PathLike[str], outcome: Classification) -> None:
    """Write the page as one HTML file that needs nothing else.

    Raises:
        UserError: the file cannot be written.
        RegistrationFailure: the disk is full.
    """
    save(path, render(outcome))


def render(outcome: Classification) -> str:
    """The page as text."""
    return fill(
        "classification.html.j2",
        outcome=outcome,
        negative=outcome.words[0],
        positive=outcome.words[1],
        counts=(int((~outcome.positive).sum()), int(outcome.positive.sum())),
        models=[_model(model, label_colour(rank)) for rank, model in enumerate(outcome.models)],
        patients=_patients(outcome),
        side=SIDE,
        facts=_facts(outcome),
    )


@dataclass(frozen=True)
class _Model:
    """One row of the table, its curve and its confusion matrix."""

    outcome: ModelOutcome
    colour: str
    auc: str
    shares: tuple[tuple[str, str], ...]
    balanced: str
    p_value: str
    path: str

    @property
    def confusion(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Rows: positive, negative; columns: predicted positive, predicted negative."""
        right, rejected = self.outcome.scores.sensitivity, self.outcome.scores.specificity
        return (right.hits, right.of - right.hits), (rejected.of - rejected.hits, rejected.hits)


@dataclass(frozen=True)
class _Chance:
    """A predicted probability, and whether it lies on the wrong side."""

    text: str
    wrong: bool


@dataclass(frozen=True)
class _Patient:
    name: str
    label: str
    registrations: int
    chances: tuple[_Chance, ...]


def _model(model: ModelOutcome, colour: str) -> _Model:
    scores, shuffled = model.scores, model.permutation
    low, high = scores.auc_interval
    return _Model(
        model,
        colour,
        f"{scores.auc:.3f} ({low:.2f} to {high:.2f})",
        tuple((share_text(share), f"{share.hits} of {share.of}") for share in _shares(model)),
        f"{scores.balanced_accuracy:.3f}",
        "" if shuffled is None else f"{shuffled.p_value:.3f}",
        "M" + "L".join(f"{SIDE * false:.1f},{SIDE * (1 - true):.1f}" for false, true in scores.roc),
    )


def _shares(model: ModelOutcome) -> Sequence[Share]:
    return model.scores.accuracy, model.scores.sensitivity, model.scores.specificity


def share_text(share: Share) -> str:
    """A share with its interval."""
    low, high = share.interval
    return f"{share.value:.3f} ({low:.2f} to {high:.2f})"


def _patients(outcome: Classification) -> list[_Patient]:
    """The positive ones first, and those first whom the models doubt most."""
    rows = list(outcome.cohort.rows.patients)
    listed = []
    for n, (name, positive) in enumerate(zip(outcome.patients, outcome.positive, strict=True)):
        chances = [float(model.probabilities[n]) for model in outcome.models]
        shown = tuple(_Chance(f"{chance:.2f}", (chance >= THRESHOLD) != positive) for chance in chances)
        right = sum(chance if positive else 1 - chance for chance in chances)
        listed.append((not positive, right, _Patient(str(name), outcome.words[int(positive)], rows.count(name), shown)))
    return [patient for *_, patient in sorted(listed, key=lambda entry: entry[:2])]


def _facts(outcome: Classification) -> list[str]:
    """How it was done, in sentences."""
    plan, cohort = outcome.plan, outcome.cohort
    shape = " x ".join(map(str, cohort.grid.shape))
    place = "the labels of each fixed scan" if cohort.grid.by_labels else "the field of view of each fixed scan"
    return [
        f"{len(cohort.names)} registrations of {len(outcome.patients)} patients; {_AFFINE[cohort.affine]}.",
        f"Field: {shape} cells of {cohort.grid.spacing_mm:.3g} mm along the axes of the world, centred on {place}; "
        f"{len(cohort.summary_names)} numbers of the deformation beside it.",
        f"{plan.folds} folds of patients, cut {plan.repeats} times with seed {plan.seed}: {plan.folds * plan.repeats} "
        "models of each kind. Each patient is predicted by the models that were fitted without any scan of that "
        "patient, and their probabilities are averaged. Scaling, components and penalties are fitted within the folds.",
        "Intervals of 95 %: Newcombe's for the area under the curve, Wilson's for the others, over patients. They do "
        "not know that the models of different folds share patients.",
        "p: how often the whole procedure, on one cut into folds, gives shuffled labels an area as large.",
        *cohort.notes,
    ]
