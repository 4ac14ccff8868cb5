"""Figures of merit and their intervals, against scikit-learn and against loops written out."""

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sklearn_metrics

from contract import by_scikit_learn
from cxr import metrics
from cxr.paths import Problem


@pytest.fixture
def scored():
    """200 images with overlapping scores, some of them tied."""
    rng = np.random.default_rng(0)
    return (label := rng.integers(0, 2, 200)), (0.3 * label + 0.7 * rng.random(200)).round(2)


def own_patients(label, films_each=1):
    return pd.DataFrame({"label": label, "patient": np.arange(len(label)) // films_each})


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.55, 1.01])
def test_measures_and_the_resampled_ones_equal_scikit_learn(scored, threshold):
    found = metrics.measure(*scored, threshold)
    each_once = metrics.spread(*scored, threshold, np.ones((1, 200)))
    for name, value in by_scikit_learn(*scored, threshold).items():
        assert found[name] == pytest.approx(value, abs=1e-12), name
        assert each_once[name][0] == pytest.approx(value, abs=1e-12), name


def test_youden_threshold_is_the_best_of_all_thresholds(scored):
    def j(threshold):
        found = metrics.measure(*scored, threshold)
        return found["sensitivity"] + found["specificity"] - 1

    chosen = metrics.youden_threshold(*scored)
    assert j(chosen) == pytest.approx(max(j(t) for t in np.linspace(-0.005, 1.005, 102)))
    assert chosen not in scored[1], "a threshold on a score hangs on the rounding of that score"


@pytest.mark.parametrize(
    "label, score, words",
    [
        ([0, 0, 1, 1], [0.1, np.nan, 0.8, 0.9], "1 of 4 probabilities are not numbers.*learning rate.*tenth"),
        ([0, 0, 1, 1], [0.5, 0.5, 0.5, 0.5], "learned nothing.*learning rate"),
        ([1, 1, 1], [0.2, 0.5, 0.9], "Of 2 classes, 1 have images.*02_split.csv"),
        ([0, 1, 1], np.eye(3), "Of 3 classes, 2 have images.*02_split.csv"),
    ],
)
def test_what_has_no_figures_is_named(label, score, words):
    with pytest.raises(Problem, match=words):
        metrics.youden_threshold(label, score) if np.ndim(score) == 1 else metrics.checked(label, score)


def test_a_resample_draws_whole_patients_and_keeps_every_class():
    table = pd.DataFrame({"label": [0, 0, 0, 1, 1, 1, 1, 2, 2], "patient": list("aabcccdef")})
    times = metrics.resample(table, 500, seed=1)
    for films in ([0, 1], [3, 4, 5]):
        assert (times[:, films] == times[:, films[:1]]).all()
    assert all((times[:, table.label == k].sum(axis=1) > 0).all() for k in range(3))
    np.testing.assert_allclose(times.mean(axis=0), 1, atol=0.15)


def test_intervals_are_those_of_a_plain_loop_by_patient(scored):
    label, score = scored[0][::2].repeat(2), scored[1].round(1)  # two films a patient, ties among the scores
    rng, drawn = np.random.default_rng(7), []
    for _ in range(300):
        people = np.concatenate([rng.choice(np.flatnonzero(label[::2] == c), (label[::2] == c).sum()) for c in (0, 1)])
        rows = np.concatenate([2 * people, 2 * people + 1])
        sensitivity = (score[rows] >= 0.55)[label[rows] == 1].mean()
        drawn.append((sensitivity, sklearn_metrics.roc_auc_score(label[rows], score[rows])))
    found = metrics.intervals(label, score, 0.55, metrics.resample(own_patients(label, 2), 3000))
    expected = np.percentile(drawn, [2.5, 97.5], axis=0).T
    np.testing.assert_allclose([found["sensitivity"], found["auc"]], expected, atol=0.03)


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    """Simulated studies with a known accuracy and two films a patient that agree with each other."""
    truth, covered, studies = 0.8, 0, 150
    for study in range(studies):
        right = np.random.default_rng(study).random(120) < truth
        label = np.tile([0, 1], 60).repeat(2)
        score = np.where(right.repeat(2), label, 1 - label) * 0.8 + 0.1
        times = metrics.resample(own_patients(label, 2), 200, study)
        low, high = metrics.intervals(label, score, 0.5, times)["accuracy"]
        covered += low <= truth <= high
    assert 0.9 <= covered / studies <= 0.99


def test_bands_hold_the_curves_of_scikit_learn(scored):
    bands = metrics.bands(*scored, metrics.resample(own_patients(scored[0]), 300))
    false, true, _ = sklearn_metrics.roc_curve(*scored, drop_intermediate=False)
    precision, recall, _ = sklearn_metrics.precision_recall_curve(*scored)
    for row in bands.itertuples():
        assert row.sensitivity == pytest.approx(true[false <= row.at + 1e-12].max())
        assert row.sensitivity_low <= row.sensitivity <= row.sensitivity_high
        if row.at > 0:
            assert row.precision == pytest.approx(precision[:-1][recall[:-1] >= row.at - 1e-12][-1])


def test_seeds_are_drawn_as_well_as_patients(scored):
    label, score = scored
    rng, times = np.random.default_rng(0), metrics.resample(own_patients(label), 400)
    good = [(score + rng.normal(0, 0.02, 200), 0.55) for _ in range(4)]
    worse = [(score + rng.normal(0, noise, 200), 0.55) for noise in (0.2, 0.6, 1.2)]
    found = metrics.compare_seeds(label, good, worse, times)["auc"]
    value = np.mean([metrics.auc(label, p) for p, _ in good]) - np.mean([metrics.auc(label, p) for p, _ in worse])
    assert found["value"] == pytest.approx(value) and found["interval"][0] < value < found["interval"][1]
    pair = metrics.compare_seeds(label, good[:1], worse[1:2], times)["auc"]["interval"]
    expected = metrics.spread(label, *good[0], times)["auc"] - metrics.spread(label, *worse[1], times)["auc"]
    assert pair == metrics.interval(expected), "one seed each: the paired bootstrap"
    assert np.ptp(found["interval"]) > np.ptp(pair), "the seeds differ, which one pair does not show"
    same = metrics.compare_seeds(label, good[:1], good[:1], times)
    assert all(row == {"value": 0, "interval": [0, 0]} for row in same.values())


def test_a_group_of_one_class_is_held_against_all_of_the_other(scored):
    label, score = scored
    table = own_patients(label).assign(probability=score)
    ill = table.index[table.label == 1][:20]
    groups = {"all": table.label >= 0, "some ill": table.index.isin(ill), "none": table.label > 5}
    parts = metrics.subgroups(table, groups, 0.55, 100).set_index("group")
    assert list(parts.index) == ["all", "some ill"], "an empty group is left out"
    own = table.loc[[*ill, *table.index[table.label == 0]]]
    assert parts.auc["some ill"] == pytest.approx(sklearn_metrics.roc_auc_score(own.label, own.probability))
    assert parts.sensitivity["some ill"] == pytest.approx((score[ill] >= 0.55).mean())
    assert np.isnan(parts.specificity["some ill"]) and parts.images["some ill"] == 20
    perfect = table.assign(probability=table.label, patient=np.arange(200) // 2 * 2 + table.label)
    row, people = metrics.subgroups(perfect, groups, 0.5, 50).iloc[0], perfect[label == 1].patient.nunique()
    assert row.sensitivity == 1 and row.sensitivity_low == pytest.approx(0.025 ** (1 / people)), "no error: some width"
