"""Calibration: one line in the log-odds, against scikit-learn and against what was put in."""

import numpy as np
import pandas as pd
import pytest
from scipy import special
from sklearn import metrics as sklearn_metrics
from sklearn.linear_model import LogisticRegression

from cxr import calibration, metrics


def drawn(by=1.0, images=20_000, seed=0):
    """Labels drawn from probabilities, and those probabilities with their log-odds multiplied by `by`."""
    rng = np.random.default_rng(seed)
    truth = special.expit(rng.normal(0.5, 1.5, images))
    return (rng.random(images) < truth).astype(int), calibration.scale(truth, 1 / by)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_line_is_that_of_scikit_learn(weighted):
    label, score = drawn(2.0, 800)
    weight = np.random.default_rng(1).integers(0, 4, 800).astype(float) if weighted else np.ones(800)
    used = weight > 0
    model = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000)
    model.fit(calibration.logit(score)[used, None], label[used], sample_weight=weight[used])
    intercept, slope = calibration.fit_line(label, score, weight)
    assert (intercept, slope) == pytest.approx((model.intercept_[0], model.coef_[0, 0]), abs=1e-5)
    fixed, _ = calibration.fit_line(label, score, weight, slope=1.0)
    assert weight @ (special.expit(fixed + calibration.logit(score)) - label) == pytest.approx(0, abs=1e-6)


def test_certain_or_perfect_answers_stay_finite():
    label, score = np.array([0, 1, 1, 0]), np.array([0.0, 1.0, 0.0, 1.0])
    assert np.isfinite([*calibration.measure(label, score).values()]).all()
    assert calibration.scale(0.8, 2.0) == pytest.approx(2 / 3), "odds of 4 become odds of 2"


def test_figures_say_how_and_how_far_it_is_wrong():
    label, score = drawn(3.0, 2000)
    found = calibration.measure(label, score)
    assert found["slope"] == pytest.approx(1 / 3, abs=0.05)
    assert found["brier"] == pytest.approx(sklearn_metrics.brier_score_loss(label, score))
    times = metrics.resample(pd.DataFrame({"label": label, "patient": np.arange(2000)}), 60)
    for name, (low, high) in calibration.measure(label, score, times)["intervals_95"].items():
        assert low < found[name] < high, name
    by_hand = (3 * abs(0.44 / 3 - 1 / 3) + 3 * abs(2.85 / 3 - 2 / 3)) / 6
    assert calibration.measure([0, 0, 1, 1, 1, 0], [0.12, 0.18, 0.14, 0.91, 0.95, 0.99])["ece"] == pytest.approx(
        by_hand
    )


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("images", [1, 4, 300])
def test_reliability_counts_every_image_and_no_error_bar_is_negative(label, images):
    """Rounding once put the bound beyond the share itself, and Matplotlib refused to draw it."""
    labels = np.append(np.full(images, label), 1 - label)
    table = calibration.reliability(labels, np.append(np.full(images, 0.55), 1.0))
    assert table.images.sum() == images + 1
    assert (table.found - table.low >= 0).all() and (table.high - table.found >= 0).all()
