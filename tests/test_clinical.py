import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sklearn_metrics

from cxr import calibration, metrics
from cxr.paths import Problem


def sure(by, images=20_000, seed=0):
    """Labels drawn from probabilities, and those probabilities with their log-odds multiplied by `by`."""
    rng = np.random.default_rng(seed)
    truth = 1 / (1 + np.exp(-rng.normal(0.5, 1.5, images)))
    label = (rng.random(images) < truth).astype(int)
    return label, calibration.TemperatureScaling(1 / by).transform(truth)


@pytest.mark.parametrize("by", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_overconfidence(by):
    label, probability = sure(by)
    scaling = calibration.TemperatureScaling()
    assert scaling.fit(label, probability) is scaling and scaling.temperature_ == pytest.approx(by, rel=0.05)
    scaled = scaling.transform(probability)
    before, after = (sklearn_metrics.log_loss(label, p) for p in (probability, scaled))
    assert after <= before + 1e-9
    assert calibration.measure(label, scaled)["slope"] == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("by, shift", [(0.5, 0.0), (1.0, -1.0), (3.0, 1.5)])
def test_a_line_in_the_log_odds_mends_intercept_and_slope(by, shift):
    label, truth = sure(1.0, 60_000)
    balanced = calibration.logit(truth) - calibration.logit(label.mean())  # what it should say at even odds
    said = 1 / (1 + np.exp(-(by * balanced + shift)))
    line = calibration.LogisticCalibration()
    assert line.fit(label, said) is line and line.slope_ == pytest.approx(1 / by, rel=0.05)
    assert line.intercept_ == pytest.approx(-shift / by, abs=0.06)
    mended = calibration.adjust_to_prevalence(line.transform(said), label.mean())
    found = calibration.measure(label, mended)
    assert found["slope"] == pytest.approx(1, abs=0.05) and found["intercept"] == pytest.approx(0, abs=0.05)
    assert metrics.auc(label, mended) == pytest.approx(metrics.auc(label, said))


def test_a_line_exists_even_where_no_answer_is_wrong():
    line = calibration.LogisticCalibration().fit([0, 0, 0, 1, 1], [0.1, 0.2, 0.3, 0.7, 0.8])
    assert 0 < line.slope_ < 20 and np.isfinite(line.intercept_)
    assert calibration.LogisticCalibration().transform(np.array([0.2, 0.9])) == pytest.approx([0.2, 0.9])


def test_a_temperature_of_one_changes_nothing():
    probability = np.array([0.2, 0.5, 0.9])
    assert calibration.TemperatureScaling().transform(probability) == pytest.approx(probability)
    assert calibration.TemperatureScaling(2.0).transform(0.8) == pytest.approx(2 / 3), "odds of 4 become odds of 2"


def test_a_temperature_changes_no_order():
    label, probability = sure(1.0, 300)
    for by in (0.3, 4.0):
        scaled = calibration.TemperatureScaling(by).transform(probability)
        assert metrics.auc(label, scaled) == pytest.approx(metrics.auc(label, probability))


def test_calibration_of_a_network_that_tells_the_truth():
    label, probability = sure(1.0)
    found = calibration.measure(label, probability)
    assert found["slope"] == pytest.approx(1, abs=0.05) and found["intercept"] == pytest.approx(0, abs=0.05)
    assert found["ece"] < 0.015 and found["brier"] == pytest.approx(
        sklearn_metrics.brier_score_loss(label, probability)
    )


def test_calibration_says_in_which_direction_it_is_wrong():
    label, probability = sure(3.0)
    assert calibration.measure(label, probability)["slope"] == pytest.approx(1 / 3, abs=0.03)
    low = 1 / (1 + np.exp(-(calibration.logit(sure(1.0)[1]) - 1)))  # all too low by 1 in log-odds
    assert calibration.measure(label, low)["intercept"] == pytest.approx(1, abs=0.05)


def test_ece_by_hand():
    label = np.array([0, 0, 1, 1, 1, 0])
    probability = np.array([0.12, 0.18, 0.14, 0.91, 0.95, 0.99])
    expected = (3 * abs(0.44 / 3 - 1 / 3) + 3 * abs(2.85 / 3 - 2 / 3)) / 6
    assert calibration.measure(label, probability)["ece"] == pytest.approx(expected)


def test_calibration_intervals_hold_the_estimate():
    label, probability = sure(1.5, 400)
    times = metrics.resample(pd.DataFrame({"label": label, "patient": np.arange(400)}), 100)
    found = calibration.measure(label, probability, times)
    for name, (low, high) in found["intervals_95"].items():
        assert low < high and low - 0.02 <= found[name] <= high + 0.02, name


def test_certain_answers_stay_finite():
    label, probability = np.array([0, 1, 1, 0]), np.array([0.0, 1.0, 0.0, 1.0])
    assert np.isfinite(calibration.logit(probability)).all()
    assert np.isfinite(calibration.TemperatureScaling().fit(label, probability).temperature_)
    assert np.isfinite(list(calibration.measure(label, probability).values())).all()


def test_reliability_counts_every_image_once():
    label, probability = sure(1.0, 500)
    table = calibration.reliability(label, np.append(probability[:-1], 1.0))
    assert table.images.sum() == 500 and ((table.low <= table.found) & (table.found <= table.high)).all()
    assert table.foretold.is_monotonic_increasing


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("images", [1, 3, 4, 17, 300])
def test_a_pure_group_has_no_negative_error_bar(label, images):
    """Rounding once put the bound beyond the share itself, and Matplotlib refused to draw it."""
    labels = np.append(np.full(images, label), 1 - label)
    table = calibration.reliability(labels, np.append(np.full(images, 0.55), 0.05))
    assert (table.found - table.low >= 0).all() and (table.high - table.found >= 0).all()


def test_predictive_values_by_hand_and_at_the_own_prevalence():
    ppv, npv = calibration.predictive_values(0.9, 0.8, 0.1)  # of 1000: 90 true, 180 false alarms, 720 and 10 sent home
    assert ppv == pytest.approx(90 / 270) and npv == pytest.approx(720 / 730)
    label, probability = sure(1.0, 600)
    own = metrics.measure(label, probability, 0.6)
    ppv, npv = calibration.predictive_values(own["sensitivity"], own["specificity"], label.mean())
    assert ppv == pytest.approx(own["ppv"]) and npv == pytest.approx(own["npv"])
    assert calibration.predictive_values(0.0, 1.0, 0.3) == (0.0, pytest.approx(0.7))


def test_predictive_values_have_a_row_for_each_use_and_prevalence():
    label, probability = sure(1.0, 300)
    times = metrics.resample(pd.DataFrame({"label": label, "patient": np.arange(300)}), 100)
    table = calibration.predictive_values_by_prevalence(
        label, probability, {"balanced": 0.5, "screening": 0.2}, [0.05, 0.5], times
    )
    assert list(table.use) == ["balanced", "balanced", "screening", "screening"]
    assert ((table.ppv_low <= table.ppv) & (table.ppv <= table.ppv_high)).all()
    assert table.ppv[0] < table.ppv[1] and table.npv[0] > table.npv[1], "a rare illness: more false alarms"


def test_net_benefit_by_hand_and_at_its_ends():
    label, probability = np.array([1, 1, 0, 0, 0]), np.array([0.9, 0.3, 0.6, 0.1, 0.2])
    table = calibration.net_benefit(label, probability, at=[0.05, 0.5, 0.95]).set_index("at")
    assert table.network[0.5] == pytest.approx(1 / 5 - 1 / 5)  # one found, one false alarm at equal price
    assert table.network[0.05] == pytest.approx(table.treat_all[0.05])  # all are treated
    assert table.network[0.95] == 0 == table.treat_none[0.95]
    rare = calibration.net_benefit(label, probability, at=[0.5], prevalence=0.1)
    assert rare.network[0] == pytest.approx(0.1 * 1 / 2 - 0.9 * 1 / 3) and rare.treat_all[0] == pytest.approx(-0.8)


def test_the_band_of_net_benefit_holds_the_curve():
    label, probability = sure(1.0, 400)
    times = metrics.resample(pd.DataFrame({"label": label, "patient": np.arange(400)}), 200)
    for prevalence in (None, 0.1):
        table = calibration.net_benefit(label, probability, times, prevalence=prevalence)
        assert ((table.low <= table.network + 1e-9) & (table.network <= table.high + 1e-9)).mean() > 0.95


def test_a_shift_to_another_prevalence_calibrates_a_network_trained_on_balanced_classes():
    label, probability = sure(1.0, 60_000)
    odds = label.mean() / (1 - label.mean())
    balanced = probability / (probability + (1 - probability) * odds)  # what it would say at even odds
    assert calibration.adjust_to_prevalence(balanced, label.mean()) == pytest.approx(probability, abs=1e-9)


@pytest.mark.parametrize(
    "function",
    [
        calibration.TemperatureScaling().fit,
        calibration.LogisticCalibration().fit,
        calibration.measure,
        calibration.reliability,
        calibration.net_benefit,
    ],
)
def test_useless_input_is_named(function):
    with pytest.raises(Problem, match="1 of 3 probabilities are not numbers.*learning rate"):
        function([0, 1, 1], [0.1, np.nan, 0.9])
    with pytest.raises(Problem, match="02_split.csv"):
        function([1, 1, 1], [0.1, 0.5, 0.9])
