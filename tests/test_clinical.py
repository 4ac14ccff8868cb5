import numpy as np
import pandas as pd
import pytest
from sklearn import metrics

from cxr import clinical, evaluate
from cxr.project import Problem


def sure(by, images=20_000, seed=0):
    """Labels drawn from probabilities, and those probabilities with their log-odds multiplied by `by`."""
    rng = np.random.default_rng(seed)
    truth = 1 / (1 + np.exp(-rng.normal(0.5, 1.5, images)))
    label = (rng.random(images) < truth).astype(int)
    return label, clinical.tempered(truth, 1 / by)


@pytest.mark.parametrize("by", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_overconfidence(by):
    label, probability = sure(by)
    found = clinical.temperature(label, probability)
    assert found == pytest.approx(by, rel=0.05)
    before, after = (metrics.log_loss(label, p) for p in (probability, clinical.tempered(probability, found)))
    assert after <= before + 1e-9
    assert clinical.calibration(label, clinical.tempered(probability, found))["slope"] == pytest.approx(1, abs=0.05)


def test_a_temperature_changes_no_order():
    label, probability = sure(1.0, 300)
    for by in (0.3, 4.0):
        assert metrics.roc_auc_score(label, clinical.tempered(probability, by)) == pytest.approx(
            metrics.roc_auc_score(label, probability))


def test_calibration_of_a_network_that_tells_the_truth():
    label, probability = sure(1.0)
    found = clinical.calibration(label, probability)
    assert found["slope"] == pytest.approx(1, abs=0.05) and found["intercept"] == pytest.approx(0, abs=0.05)
    assert found["ece"] < 0.015 and found["brier"] == pytest.approx(metrics.brier_score_loss(label, probability))


def test_calibration_says_in_which_direction_it_is_wrong():
    label, probability = sure(3.0)
    assert clinical.calibration(label, probability)["slope"] == pytest.approx(1 / 3, abs=0.03)
    low = 1 / (1 + np.exp(-(clinical.logit(sure(1.0)[1]) - 1)))  # all too low by 1 in log-odds
    assert clinical.calibration(label, low)["intercept"] == pytest.approx(1, abs=0.05)


def test_ece_by_hand():
    label = np.array([0, 0, 1, 1, 1, 0])
    probability = np.array([0.12, 0.18, 0.14, 0.91, 0.95, 0.99])
    expected = (3 * abs(0.44 / 3 - 1 / 3) + 3 * abs(2.85 / 3 - 2 / 3)) / 6
    assert clinical.calibration(label, probability)["ece"] == pytest.approx(expected)


def test_calibration_intervals_hold_the_estimate():
    label, probability = sure(1.5, 400)
    times = evaluate.resample(pd.DataFrame({"label": label, "patient": np.arange(400)}), 100)
    found = clinical.calibration(label, probability, times)
    for name, (low, high) in found["intervals_95"].items():
        assert low < high and low - 0.02 <= found[name] <= high + 0.02, name


def test_certain_answers_stay_finite():
    label, probability = np.array([0, 1, 1, 0]), np.array([0.0, 1.0, 0.0, 1.0])
    assert np.isfinite(clinical.logit(probability)).all()
    assert np.isfinite(clinical.temperature(label, probability))
    assert np.isfinite(list(clinical.calibration(label, probability).values())).all()


def test_reliability_counts_every_image_once():
    label, probability = sure(1.0, 500)
    table = clinical.reliability(label, np.append(probability[:-1], 1.0))
    assert table.images.sum() == 500 and ((table.low <= table.found) & (table.found <= table.high)).all()
    assert table.foretold.is_monotonic_increasing


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("images", [1, 3, 4, 17, 300])
def test_a_pure_group_has_no_negative_error_bar(label, images):
    """Rounding once put the bound beyond the share itself, and Matplotlib refused to draw it."""
    labels = np.append(np.full(images, label), 1 - label)
    table = clinical.reliability(labels, np.append(np.full(images, 0.55), 0.05))
    assert (table.found - table.low >= 0).all() and (table.high - table.found >= 0).all()


def test_predictive_values_by_hand_and_at_the_own_prevalence():
    ppv, npv = clinical.predictive_values(0.9, 0.8, 0.1)  # of 1000: 90 true, 180 false alarms, 720 and 10 sent home
    assert ppv == pytest.approx(90 / 270) and npv == pytest.approx(720 / 730)
    label, probability = sure(1.0, 600)
    own = evaluate.measure(label, probability, 0.6)
    ppv, npv = clinical.predictive_values(own["sensitivity"], own["specificity"], label.mean())
    assert ppv == pytest.approx(own["ppv"]) and npv == pytest.approx(own["npv"])
    assert clinical.predictive_values(0.0, 1.0, 0.3) == (0.0, pytest.approx(0.7))


def test_bedside_has_a_row_for_each_use_and_prevalence():
    label, probability = sure(1.0, 300)
    times = evaluate.resample(pd.DataFrame({"label": label, "patient": np.arange(300)}), 100)
    table = clinical.at_bedside(label, probability, {"balanced": 0.5, "screening": 0.2}, [0.05, 0.5], times)
    assert list(table.use) == ["balanced", "balanced", "screening", "screening"]
    assert ((table.ppv_low <= table.ppv) & (table.ppv <= table.ppv_high)).all()
    assert table.ppv[0] < table.ppv[1] and table.npv[0] > table.npv[1], "a rare illness: more false alarms"


def test_net_benefit_by_hand_and_at_its_ends():
    label, probability = np.array([1, 1, 0, 0, 0]), np.array([0.9, 0.3, 0.6, 0.1, 0.2])
    table = clinical.net_benefit(label, probability, at=[0.05, 0.5, 0.95]).set_index("at")
    assert table.network[0.5] == pytest.approx(1 / 5 - 1 / 5)  # one found, one false alarm at equal price
    assert table.network[0.05] == pytest.approx(table.treat_all[0.05])  # all are treated
    assert table.network[0.95] == 0 == table.treat_none[0.95]
    rare = clinical.net_benefit(label, probability, at=[0.5], prevalence=0.1)
    assert rare.network[0] == pytest.approx(0.1 * 1 / 2 - 0.9 * 1 / 3) and rare.treat_all[0] == pytest.approx(-0.8)


def test_the_band_of_net_benefit_holds_the_curve():
    label, probability = sure(1.0, 400)
    times = evaluate.resample(pd.DataFrame({"label": label, "patient": np.arange(400)}), 200)
    for prevalence in (None, 0.1):
        table = clinical.net_benefit(label, probability, times, prevalence=prevalence)
        assert ((table.low <= table.network + 1e-9) & (table.network <= table.high + 1e-9)).mean() > 0.95


def test_a_shift_to_another_prevalence_calibrates_a_network_trained_on_balanced_classes():
    label, probability = sure(1.0, 60_000)
    odds = label.mean() / (1 - label.mean())
    balanced = probability / (probability + (1 - probability) * odds)  # what it would say at even odds
    assert clinical.at_prevalence(balanced, label.mean()) == pytest.approx(probability, abs=1e-9)


@pytest.mark.parametrize("function", [clinical.temperature, clinical.calibration, clinical.reliability,
                                      clinical.net_benefit])
def test_useless_input_is_named(function):
    with pytest.raises(Problem, match="not numbers.*04_train.ipynb"):
        function([0, 1, 1], [0.1, np.nan, 0.9])
    with pytest.raises(Problem, match="02_split.csv"):
        function([1, 1, 1], [0.1, 0.5, 0.9])
