import numpy as np
import pandas as pd
import pytest
from sklearn import metrics

from cxr import evaluate
from cxr.project import Problem


@pytest.fixture
def scored():
    """200 images with overlapping scores, some of them tied."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 200)
    return label, (0.3 * label + 0.7 * rng.random(200)).round(2)


def test_measures_equal_scikit_learn(scored):
    label, probability = scored
    found = evaluate.measure(label, probability, 0.55)
    decision = probability >= 0.55
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(label, decision), abs=1e-12)
    assert found["auc"] == pytest.approx(metrics.roc_auc_score(label, probability), abs=1e-12)
    assert found["sensitivity"] == pytest.approx(metrics.recall_score(label, decision), abs=1e-12)
    assert found["specificity"] == pytest.approx(metrics.recall_score(label, decision, pos_label=0), abs=1e-12)
    assert found["precision"] == pytest.approx(metrics.precision_score(label, decision), abs=1e-12)
    assert found["f1"] == pytest.approx(metrics.f1_score(label, decision), abs=1e-12)


def test_youden_threshold_is_the_best_of_all_thresholds(scored):
    label, probability = scored

    def j(threshold):
        found = evaluate.measure(label, probability, threshold)
        return found["sensitivity"] + found["specificity"] - 1

    best = max(j(t) for t in np.linspace(-0.005, 1.005, 102))
    chosen = evaluate.youden_threshold(label, probability)
    assert j(chosen) == pytest.approx(best)
    assert chosen not in probability, "a threshold on a score hangs on the rounding of that score"


@pytest.mark.parametrize("probability, said", [
    ([0.1, np.nan, 0.8, 0.9], "not numbers"),
    ([0.5, 0.5, 0.5, 0.5], "same|learned nothing"),
])
def test_useless_probabilities_are_named(probability, said):
    with pytest.raises(Problem, match=said) as problem:
        evaluate.youden_threshold([0, 0, 1, 1], probability)
    assert "04_train.ipynb" in str(problem.value)


def test_one_class_is_named():
    with pytest.raises(Problem, match="02_split.csv"):
        evaluate.measure([1, 1, 1], [0.2, 0.5, 0.9], 0.5)


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    """Simulated studies with a known accuracy and two films a patient that agree with each other."""
    truth, covered, studies = 0.8, 0, 200
    for study in range(studies):
        rng = np.random.default_rng(study)
        patients = pd.DataFrame({"label": np.tile([0, 1], 60), "right": rng.random(120) < truth})
        films = patients.loc[patients.index.repeat(2)].assign(patient=lambda t: t.index)
        films["probability"] = np.where(films.right, films.label, 1 - films.label) * 0.8 + 0.1
        low, high = evaluate.intervals(films, 0.5, resamples=200, seed=study)["accuracy"]
        covered += low <= truth <= high
    assert 0.91 <= covered / studies <= 0.985


def test_intervals_by_patient_are_wider_than_by_image():
    rng = np.random.default_rng(1)
    patients = pd.DataFrame({"label": np.tile([0, 1], 30), "probability": rng.random(60)})
    films = patients.loc[patients.index.repeat(6)]
    by_patient = evaluate.intervals(films.assign(patient=films.index), 0.5, 300)["accuracy"]
    by_image = evaluate.intervals(films.assign(patient=range(len(films))), 0.5, 300)["accuracy"]
    assert np.ptp(by_patient) > 1.8 * np.ptp(by_image)


def test_intervals_hold_the_estimate_of_every_measure(scored):
    label, probability = scored
    table = pd.DataFrame({"label": label, "probability": probability, "patient": np.arange(200) // 2})
    table["patient"] = table.patient.astype(str) + table.label.astype(str)
    found, intervals = evaluate.measure(label, probability, 0.55), evaluate.intervals(table, 0.55, 400)
    for name in evaluate.NAMES:
        low, high = intervals[name]
        assert low < found[name] < high and high - low < 0.3, name


def test_intervals_of_auc_are_those_of_scikit_learn(scored):
    """Scores are rounded, so that ties are in it."""
    label, probability = scored
    probability = probability.round(1)
    table = pd.DataFrame({"label": label, "probability": probability, "patient": np.arange(200)})
    rng, drawn = np.random.default_rng(7), []
    for _ in range(300):
        rows = np.concatenate([rng.choice(np.flatnonzero(label == c), (label == c).sum()) for c in (0, 1)])
        drawn.append(metrics.roc_auc_score(label[rows], probability[rows]))
    expected = np.percentile(drawn, [2.5, 97.5])
    np.testing.assert_allclose(evaluate.intervals(table, 0.5, 3000)["auc"], expected, atol=0.015)


def test_report_has_a_row_for_each_class(scored):
    label, probability = scored
    rows = evaluate.report(label, probability, 0.5, ("normal", "diseased")).set_index("class")
    assert list(rows.index[:2]) == ["normal", "diseased"]
    assert rows.loc["diseased", "recall"] == pytest.approx(evaluate.measure(label, probability, 0.5)["sensitivity"])
    assert rows.loc["accuracy", "support"] == len(label)
