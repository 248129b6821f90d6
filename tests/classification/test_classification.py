"""Whether a planted effect is found, an absent one is not, and nothing leaks between folds."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from anamorph.classification.features import Features, Rows
from anamorph.classification.models import FieldClassifier, LogisticBaseline
from anamorph.classification.run import Plan
from anamorph.classification.validation import (
    Share,
    auc,
    auc_interval,
    cross_validate,
    patient_folds,
    permutation_test,
    score,
)
from anamorph.errors import UserError
from planted_cohort import planted_fields, rows_of

pytest.importorskip("sklearn")
SUMMARIES, FIELD, NETWORK = LogisticBaseline("summaries"), LogisticBaseline("field"), FieldClassifier(epochs=12)
EVERY = pytest.mark.parametrize("classifier", [SUMMARIES, FIELD, NETWORK], ids=lambda one: one.name)


class Spy:
    """A model that knows who it has seen, and how often."""

    name, summary = "spy", ""

    def __init__(self) -> None:
        self.seen: list[tuple[set[str], set[str]]] = []

    def fit(self, rows, seed):
        fitted = set(rows.features.summaries[:, 0])

        def predict(features):
            self.seen.append((fitted, set(features.summaries[:, 0])))
            return np.full(len(features), 0.5)

        return predict


def noisy_rows(features: np.ndarray, positive: np.ndarray, patients: np.ndarray) -> Rows:
    fields = np.zeros((len(features), 3, 1, 1, 1), np.float32)
    return Rows(Features(fields, features), patients, positive)


@EVERY
def test_a_planted_effect_is_found(classifier):
    rows = rows_of(*planted_fields(18, size_mm=8.0))
    scores = score(cross_validate(classifier, rows, folds=3, repeats=1, seed=0), rows.positive)
    assert scores.auc > 0.9
    assert scores.beyond_chance


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("classifier", [SUMMARIES, FIELD], ids=lambda one: one.name)
def test_labels_that_mean_nothing_are_not_told(classifier, seed):
    fields, positive = planted_fields(24, size_mm=0.0, seed=seed)
    rows = rows_of(fields, positive)
    low, high = score(cross_validate(classifier, rows, 4, 1, seed), positive).auc_interval
    assert low < 0.5 < high


@pytest.mark.parametrize("seed", range(3))
def test_shuffled_labels_of_a_planted_effect_are_not_told(seed):
    """Far below 0.5 is no discovery either: where halves differ much, chance turns round between training and test."""
    fields, positive = planted_fields(18, size_mm=8.0)
    shuffled = np.random.default_rng(seed).permutation(positive)
    for classifier in (SUMMARIES, FIELD, NETWORK):
        assert not score(cross_validate(classifier, rows_of(fields, shuffled), 3, 1, seed), shuffled).beyond_chance


def test_a_network_reads_the_pattern_and_leaves_the_size_to_the_simple_models():
    rows = rows_of(*planted_fields(12, size_mm=6.0))
    predict = NETWORK.fit(rows, seed=0)
    larger = Features(3 * rows.features.fields, rows.features.summaries)
    np.testing.assert_array_equal(predict(larger) > 0.5, predict(rows.features) > 0.5)
    fields, positive = planted_fields(18, size_mm=0.0)
    fields[positive] *= 2.5
    assert auc(cross_validate(SUMMARIES, rows_of(fields, positive), 3, 1, 0), positive) > 0.9


def test_the_rate_is_that_of_the_plan_and_halved_every_fifty_epochs(monkeypatch):
    rates = []

    class Recorded(torch.optim.Adam):
        def step(self, *arguments):
            rates.append(self.param_groups[0]["lr"])
            return super().step(*arguments)

    monkeypatch.setattr(torch.optim, "Adam", Recorded)
    (classifier,) = Plan(("cnn",), epochs=101, rate=1e-4, device="cpu").classifiers()
    fields, positive = planted_fields(4, size_mm=4.0)
    classifier.fit(rows_of(fields[:, :, ::2, ::2, ::2], positive), seed=0)
    assert rates == pytest.approx([1e-4] * 50 + [5e-5] * 50 + [2.5e-5])


def test_features_that_identify_a_patient_do_not_help():
    """Four rows of each patient are nearly the same: whoever has seen one knows the label of the others."""
    rng = np.random.default_rng(1)
    patients = np.repeat([f"P{n:02d}" for n in range(24)], 4)
    positive = np.repeat(rng.permutation(24) % 2 == 0, 4)
    features = np.repeat(rng.standard_normal((24, 30)), 4, axis=0) + 0.01 * rng.standard_normal((96, 30))
    _, first = np.unique(patients, return_index=True)
    honest = cross_validate(SUMMARIES, noisy_rows(features, positive, patients), 4, 1, 0)
    low, high = score(honest, positive[first]).auc_interval
    assert low < 0.5 < high
    # The same features where every row passes for a patient of its own: this is what the leak would look like.
    rows_apart = np.array([f"{name}-{n}" for n, name in enumerate(patients)])
    leaking = cross_validate(SUMMARIES, noisy_rows(features, positive, rows_apart), 4, 1, 0)
    assert auc(leaking, positive[np.unique(rows_apart, return_index=True)[1]]) > 0.99


def test_fitting_never_sees_a_row_that_is_predicted():
    patients = np.repeat(np.arange(12), 3).astype(str)
    features = np.repeat(np.arange(12.0), 3)[:, None]
    spy = Spy()
    cross_validate(spy, noisy_rows(features, np.repeat(np.arange(12) % 3 == 0, 3), patients), 4, 2, 0)
    assert len(spy.seen) == 8
    assert all(not fitted & predicted for fitted, predicted in spy.seen)
    assert all(fitted | predicted == set(range(12)) for fitted, predicted in spy.seen)
    for repeat in (spy.seen[:4], spy.seen[4:]):
        assert sorted(patient for _, predicted in repeat for patient in predicted) == list(range(12))


@EVERY
def test_a_row_is_predicted_by_itself(classifier):
    """Scaling or statistics taken from the predicted rows would let them know of each other."""
    fields, positive = planted_fields(12, size_mm=4.0)
    rows = rows_of(fields, positive)
    predict = classifier.fit(rows.take(np.arange(8)), seed=0)
    together = predict(rows.features.take(np.arange(8, 12)))
    outlier = Features(
        rows.features.fields[8:] * np.array([1, 100, 100, 100], np.float32).reshape(4, 1, 1, 1, 1),
        np.diag([1.0, 100, 100, 100]) @ rows.features.summaries[8:],
    )
    assert predict(outlier)[0] == pytest.approx(together[0], abs=1e-6)
    assert np.ptp(together) > 0


@EVERY
def test_a_seed_gives_the_same_numbers(classifier):
    rows = rows_of(*planted_fields(12, size_mm=4.0))
    first, second, other = (cross_validate(classifier, rows, 2, 1, seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)


def test_folds_hold_both_labels_in_equal_shares():
    patients = np.repeat(np.arange(23), 2).astype(str)
    positive = np.repeat(np.arange(23) < 8, 2)
    folds = patient_folds(patients, positive, 4, seed=0)
    counts = [(np.unique(patients[f.test][positive[f.test]]).size, np.unique(patients[f.test]).size) for f in folds]
    assert [count for count, _ in counts] == [2, 2, 2, 2]
    assert sorted(count for _, count in counts) == [5, 6, 6, 6]
    assert sorted(np.concatenate([fold.test for fold in folds])) == list(range(46))


def test_more_folds_than_patients_of_a_label_are_refused():
    with pytest.raises(UserError, match="rarer label has 3"):
        patient_folds(np.arange(10).astype(str), np.arange(10) < 3, 4, 0)


def test_patients_weigh_alike_however_many_rows_they_have():
    patients = np.array(["a", "a", "a", "b", "c", "d", "d"])
    rows = noisy_rows(np.zeros((7, 1)), np.array([1, 1, 1, 0, 0, 0, 0], bool), patients)
    weights = rows.weights()
    assert weights.mean() == pytest.approx(1)
    assert weights[:3].sum() == pytest.approx(weights[3:].sum())
    assert weights[3] == pytest.approx(weights[4]) == pytest.approx(weights[5:].sum())


def test_permutation_finds_the_effect_and_not_its_absence():
    fields, positive = planted_fields(16, size_mm=6.0)
    found = permutation_test(SUMMARIES, rows_of(fields, positive), folds=2, count=19, seed=0)
    assert found.p_value == 0.05
    assert found.auc > 0.9
    assert 0.3 < found.shuffled_mean < 0.65
    nothing, positive = planted_fields(16, size_mm=0.0)
    assert permutation_test(SUMMARIES, rows_of(nothing, positive), folds=2, count=19, seed=0).p_value > 0.1


def test_scores_of_known_probabilities():
    scores = score(np.array([0.9, 0.8, 0.4, 0.6, 0.3, 0.1, 0.2]), np.array([1, 1, 1, 0, 0, 0, 0], bool))
    assert (scores.sensitivity.hits, scores.sensitivity.of) == (2, 3)
    assert (scores.specificity.hits, scores.specificity.of) == (3, 4)
    assert scores.accuracy.value == pytest.approx(5 / 7)
    assert scores.balanced_accuracy == pytest.approx((2 / 3 + 3 / 4) / 2)
    assert scores.auc == pytest.approx(11 / 12)  # one of the twelve pairs is in the wrong order
    assert scores.roc == ((0, 0), (0, 1 / 3), (0, 2 / 3), (0.25, 2 / 3), (0.25, 1), (0.5, 1), (0.75, 1), (1, 1))
    assert np.trapezoid([y for _, y in scores.roc], [x for x, _ in scores.roc]) == pytest.approx(scores.auc)
    assert auc(np.array([0.5, 0.5, 0.5]), np.array([True, False, False])) == 0.5


def test_intervals():
    assert Share(81, 263).interval == pytest.approx((0.2553, 0.3662), abs=1e-4)  # Newcombe 1998, table I, method 3
    assert Share(10, 10).interval[0] == pytest.approx(0.7225, abs=1e-4)
    low, high = auc_interval(1.0, 10, 10)
    assert 0.75 < low < 0.85
    assert high == 1.0
    assert auc_interval(0.3, 12, 20) == pytest.approx(tuple(1 - end for end in auc_interval(0.7, 12, 20)[::-1]))


def test_the_interval_of_the_area_covers_the_truth():
    rng = np.random.default_rng(0)
    positive = np.arange(30) < 15
    truth = 0.8555  # of two normal distributions 1.5 standard deviations apart
    values = rng.standard_normal((400, 30)) + 1.5 * positive
    intervals = [auc_interval(auc(row, positive), 15, 15) for row in values]
    assert 0.92 < np.mean([low < truth < high for low, high in intervals]) < 0.99
