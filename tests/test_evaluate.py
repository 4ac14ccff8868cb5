import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sklearn_metrics

from cxr import metrics
from cxr.paths import Problem


@pytest.fixture
def scored():
    """200 images with overlapping scores, some of them tied."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 200)
    return label, (0.3 * label + 0.7 * rng.random(200)).round(2)


def test_measures_equal_scikit_learn(scored):
    label, probability = scored
    found = metrics.measure(label, probability, 0.55)
    decision = probability >= 0.55
    assert found["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(label, decision), abs=1e-12)
    assert found["auc"] == pytest.approx(sklearn_metrics.roc_auc_score(label, probability), abs=1e-12)
    assert found["sensitivity"] == pytest.approx(sklearn_metrics.recall_score(label, decision), abs=1e-12)
    assert found["specificity"] == pytest.approx(sklearn_metrics.recall_score(label, decision, pos_label=0), abs=1e-12)
    assert found["ppv"] == pytest.approx(sklearn_metrics.precision_score(label, decision), abs=1e-12)
    assert found["npv"] == pytest.approx(sklearn_metrics.precision_score(label, decision, pos_label=0), abs=1e-12)
    assert found["f1"] == pytest.approx(sklearn_metrics.f1_score(label, decision), abs=1e-12)
    assert found["mcc"] == pytest.approx(sklearn_metrics.matthews_corrcoef(label, decision), abs=1e-12)
    assert found["balanced_accuracy"] == pytest.approx(
        sklearn_metrics.balanced_accuracy_score(label, decision), abs=1e-12
    )
    assert found["average_precision"] == pytest.approx(
        sklearn_metrics.average_precision_score(label, probability), abs=1e-12
    )


def test_youden_threshold_is_the_best_of_all_thresholds(scored):
    label, probability = scored

    def j(threshold):
        found = metrics.measure(label, probability, threshold)
        return found["sensitivity"] + found["specificity"] - 1

    best = max(j(t) for t in np.linspace(-0.005, 1.005, 102))
    chosen = metrics.youden_threshold(label, probability)
    assert j(chosen) == pytest.approx(best)
    assert chosen not in probability, "a threshold on a score hangs on the rounding of that score"


@pytest.mark.parametrize(
    "probability, said", [([0.1, np.nan, 0.8, 0.9], "not numbers"), ([0.5, 0.5, 0.5, 0.5], "same|learned nothing")]
)
def test_useless_probabilities_are_named(probability, said):
    with pytest.raises(Problem, match=said) as problem:
        metrics.youden_threshold([0, 0, 1, 1], probability)
    assert "learning rate in the parameters of the notebook that trained" in str(problem.value)
    assert ".ipynb" not in str(problem.value), "the same words are shown in 04, 05, 07 and 08"


def test_one_class_is_named():
    with pytest.raises(Problem, match="02_split.csv"):
        metrics.measure([1, 1, 1], [0.2, 0.5, 0.9], 0.5)


def intervals(table, threshold, resamples=2000, seed=0):
    """95% intervals by name, as notebook 05 makes them."""
    drawn = metrics.spread(table.label, table.probability, threshold, metrics.resample(table, resamples, seed))
    return {name: metrics.interval(drawn[name]) for name in metrics.NAMES}


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    """Simulated studies with a known accuracy and two films a patient that agree with each other."""
    truth, covered, studies = 0.8, 0, 200
    for study in range(studies):
        rng = np.random.default_rng(study)
        patients = pd.DataFrame({"label": np.tile([0, 1], 60), "right": rng.random(120) < truth})
        films = patients.loc[patients.index.repeat(2)].assign(patient=lambda t: t.index)
        films["probability"] = np.where(films.right, films.label, 1 - films.label) * 0.8 + 0.1
        low, high = intervals(films, 0.5, resamples=200, seed=study)["accuracy"]
        covered += low <= truth <= high
    assert 0.91 <= covered / studies <= 0.985


def test_intervals_by_patient_are_wider_than_by_image():
    rng = np.random.default_rng(1)
    patients = pd.DataFrame({"label": np.tile([0, 1], 30), "probability": rng.random(60)})
    films = patients.loc[patients.index.repeat(6)]
    by_patient = intervals(films.assign(patient=films.index), 0.5, 300)["accuracy"]
    by_image = intervals(films.assign(patient=range(len(films))), 0.5, 300)["accuracy"]
    assert np.ptp(by_patient) > 1.8 * np.ptp(by_image)


def test_intervals_hold_the_estimate_of_every_measure(scored):
    label, probability = scored
    table = pd.DataFrame({"label": label, "probability": probability, "patient": np.arange(200) // 2})
    table["patient"] = table.patient.astype(str) + table.label.astype(str)
    found, bounds = metrics.measure(label, probability, 0.55), intervals(table, 0.55, 400)
    for name in metrics.NAMES:
        low, high = bounds[name]
        assert low < found[name] < high and high - low < 0.3, name


def test_intervals_of_auc_are_those_of_scikit_learn(scored):
    """Scores are rounded, so that ties are in it."""
    label, probability = scored
    probability = probability.round(1)
    table = pd.DataFrame({"label": label, "probability": probability, "patient": np.arange(200)})
    rng, drawn = np.random.default_rng(7), []
    for _ in range(300):
        rows = np.concatenate([rng.choice(np.flatnonzero(label == c), (label == c).sum()) for c in (0, 1)])
        drawn.append(sklearn_metrics.roc_auc_score(label[rows], probability[rows]))
    expected = np.percentile(drawn, [2.5, 97.5])
    np.testing.assert_allclose(intervals(table, 0.5, 3000)["auc"], expected, atol=0.015)


def test_report_has_a_row_for_each_class(scored):
    label, probability = scored
    rows = metrics.report(label, probability, 0.5, ("normal", "diseased")).set_index("class")
    assert list(rows.index[:2]) == ["normal", "diseased"]
    assert rows.loc["diseased", "recall"] == pytest.approx(metrics.measure(label, probability, 0.5)["sensitivity"])
    assert rows.loc["accuracy", "support"] == len(label)


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.55, 1.01])
def test_resampled_figures_of_the_whole_are_the_figures(scored, threshold):
    """The bootstrap has formulas of its own; where each image is drawn once they must agree with scikit-learn's."""
    label, probability = scored
    whole = metrics.spread(label, probability, threshold, np.ones((1, len(label))))
    found = metrics.measure(label, probability, threshold)
    for name in metrics.NAMES:
        assert whole[name][0] == pytest.approx(found[name], abs=1e-12), name


def test_a_resample_draws_whole_patients_and_keeps_both_classes():
    table = pd.DataFrame({"label": [0, 0, 0, 1, 1, 1, 1], "patient": list("aabcccd")})
    times = metrics.resample(table, 500, seed=1)
    for films in ([0, 1], [3, 4, 5]):
        assert (times[:, films] == times[:, films[:1]]).all()
    assert (times[:, :3].sum(axis=1) > 0).all() and (times[:, 3:].sum(axis=1) > 0).all()
    np.testing.assert_allclose(times.mean(axis=0), 1, atol=0.15)


@pytest.mark.parametrize("wanted, name", [({"sensitivity": 0.9}, "sensitivity"), ({"specificity": 0.9}, "specificity")])
def test_an_operating_point_reaches_what_is_wanted_and_no_less_of_the_rest_than_needed(scored, wanted, name):
    label, probability = scored
    chosen = metrics.measure(label, probability, metrics.threshold_for(label, probability, **wanted))
    assert chosen[name] >= 0.9
    other = {"sensitivity": "specificity", "specificity": "sensitivity"}[name]
    for cut in np.linspace(0, 1.01, 203):
        found = metrics.measure(label, probability, cut)
        assert found[name] < 0.9 or found[other] <= chosen[other] + 1e-12


def test_an_operating_point_that_does_not_exist_is_named(scored):
    with pytest.raises(Problem, match="05_evaluate.ipynb"):
        metrics.threshold_for(*scored, sensitivity=1.0, specificity=1.0)


def test_bands_hold_the_curves_of_scikit_learn(scored):
    label, probability = scored
    table = pd.DataFrame({"label": label, "patient": np.arange(200)})
    bands = metrics.bands(label, probability, metrics.resample(table, 300))
    false, true, _ = sklearn_metrics.roc_curve(label, probability, drop_intermediate=False)
    for row in bands.itertuples():
        assert row.sensitivity == pytest.approx(true[false <= row.at + 1e-12].max())
        assert row.sensitivity_low <= row.sensitivity <= row.sensitivity_high
    precision, recall, _ = sklearn_metrics.precision_recall_curve(label, probability)
    for row in bands[bands["at"] > 0].itertuples():
        reaching = precision[:-1][recall[:-1] >= row.at - 1e-12]
        assert row.precision == pytest.approx(reaching[-1])
    wide = (bands.sensitivity_high - bands.sensitivity_low).max()
    assert 0.02 < wide < 0.6


def test_a_better_network_is_told_from_an_equal_one(scored):
    label, probability = scored
    table = pd.DataFrame({"label": label, "patient": np.arange(200)})
    times = metrics.resample(table, 400)
    guess = np.random.default_rng(3).random(200)
    found = metrics.compare(label, (probability, 0.55), (guess, 0.5), times)
    assert found["differences"]["auc"]["interval"][0] > 0 and found["mcnemar"]["p"] < 1e-4
    same = metrics.compare(label, (probability, 0.55), (probability, 0.55), times)
    assert same["mcnemar"] == {"only_this_right": 0, "only_other_right": 0, "p": 1.0}
    assert all(row["value"] == 0 and row["interval"] == [0, 0] for row in same["differences"].values())


def test_mcnemar_counts_the_films_that_one_alone_gets_right():
    label, one, other = [1, 1, 1, 0, 0, 0], [0.9, 0.9, 0.9, 0.1, 0.1, 0.9], [0.9, 0.1, 0.1, 0.1, 0.9, 0.1]
    table = pd.DataFrame({"label": label, "patient": range(6)})
    found = metrics.compare(label, (one, 0.5), (other, 0.5), metrics.resample(table, 50))["mcnemar"]
    assert (found["only_this_right"], found["only_other_right"]) == (3, 1)
    assert found["p"] == pytest.approx(0.625)  # two-sided binomial test of 3 against 1


def test_paired_intervals_cover_a_difference_as_often_as_they_say():
    """Two networks that share most of their errors: accuracy .8 and .9."""
    covered, studies = 0, 200
    for study in range(studies):
        rng = np.random.default_rng(study)
        luck, label = rng.random(150), np.tile([0, 1], 75)
        answers = [(np.where(luck < accuracy, label, 1 - label) * 0.8 + 0.1, 0.5) for accuracy in (0.9, 0.8)]
        times = metrics.resample(pd.DataFrame({"label": label, "patient": np.arange(150)}), 200, study)
        low, high = metrics.compare(label, *answers, times)["differences"]["accuracy"]["interval"]
        covered += low <= 0.1 <= high
    assert 0.9 <= covered / studies <= 0.99


def test_a_group_of_one_class_is_held_against_all_of_the_other(scored):
    label, probability = scored
    table = pd.DataFrame({"label": label, "probability": probability, "patient": np.arange(200)})
    ill = table[table.label == 1].index[:20]
    groups = {
        "all": table.label >= 0,
        "some ill": table.index.isin(ill),
        "none": table.label > 5,
        "half": table.index < 100,
    }
    groups = {name: pd.Series(rows, table.index) for name, rows in groups.items()}
    parts = metrics.subgroups(table, groups, 0.55, 100).set_index("group")
    assert list(parts.index) == ["all", "some ill", "half"], "an empty group is left out"
    own = table.loc[[*ill, *table[table.label == 0].index]]
    assert parts.loc["some ill", "auc"] == pytest.approx(sklearn_metrics.roc_auc_score(own.label, own.probability))
    assert parts.loc["some ill", "sensitivity"] == pytest.approx((probability[ill] >= 0.55).mean())
    assert np.isnan(parts.loc["some ill", "specificity"]) and parts.loc["some ill", "images"] == 20
    half = metrics.measure(label[:100], probability[:100], 0.55)
    assert parts.loc["half", "specificity"] == pytest.approx(half["specificity"])
    assert (parts.auc_low <= parts.auc).all() and (parts.auc <= parts.auc_high).all()


def test_the_best_threshold_bounds_the_accuracy_of_any_other():
    label, good = np.array([0, 0, 1, 1]), np.array([0.1, 0.6, 0.7, 0.9])
    table = metrics.accuracy_by_threshold(label, [(good, 0.8), (np.array([0.1, 0.8, 0.9, 0.7]), 0.75)])
    assert table["from validation"].tolist() == [0.75, 0.5] and table["0.5"].tolist() == [0.75, 0.75]
    assert table["best on test"].tolist() == [1.0, 0.75]
    assert metrics.best_accuracy([0, 0, 0, 1], [0.9, 0.8, 0.7, 0.1]) == 0.75, "calling nobody ill counts as well"


def test_false_alarms_are_counted_by_network_and_block(scored):
    label, probability = scored
    answers, inside = {"a": (probability, 0.5), "all ill": (probability, 0.0)}, np.arange(200) < 50
    found = metrics.false_alarms(label, answers, inside)
    assert found.loc["all", "a"] == metrics.measure(label, probability, 0.5)["false_positives"]
    assert found["all ill"].tolist() == found["normal films"].tolist() == [(label == 0).sum(), (label[:50] == 0).sum()]
    wrong = metrics.times_wrong(label, [*answers.values()])
    assert (wrong == ((probability >= 0.5) != label).astype(int) + (label == 0)).all()


def test_answers_of_validation_stand_before_those_of_test_in_the_columns_that_are_kept():
    films = pd.DataFrame({"path": [*"abc"], "subtype": [*"xyz"], "patient": [*"pqr"], "split": ["val", "val", "train"]})
    val = pd.DataFrame({"path": ["b", "a"], "label": [1, 0], "seed_0": [0.9, 0.1], "plain_0": 0.5, "ensemble": 0.4})
    test = pd.DataFrame({"path": ["t"], "label": 1, "subtype": "z", "patient": "s", "split": "test", "more": 1})
    found = metrics.kept_answers(val, test.assign(probability=0.7, plain=0.6, ensemble=0.8), films, "seed_0", "plain_0")
    assert list(found) == "path label subtype patient split probability ensemble plain".split()
    assert found.values.tolist()[0] == ["b", 1, "y", "q", "val", 0.9, 0.4, 0.5] and list(found.path) == [*"bat"]


def test_intervals_and_thresholds_by_name(scored):
    label, probability = scored
    table = pd.DataFrame({"label": label, "patient": np.arange(200), "one": probability, "other": 1 - probability})
    times = metrics.resample(table, 50)
    drawn = metrics.spread(label, probability, 0.5, times)
    found = metrics.intervals(label, probability, 0.5, times)
    assert found == {name: metrics.interval(drawn[name]) for name in metrics.NAMES}
    limits = metrics.youden_by_name(table, ["one", "other"])
    assert limits == {name: metrics.youden_threshold(label, table[name]) for name in ("one", "other")}


def test_a_change_of_the_films_flips_decisions_and_costs_auc(scored):
    label, probability = scored
    times = np.ones((3, 200))
    found = metrics.under_changes(label, probability, {"none": probability, "turned": 1 - probability}, 0.5, times)
    none, turned = found.itertuples(index=False)
    assert (none.change, none.flipped, none.auc_lost, none.auc_lost_low) == ("none", 0, 0, 0)
    assert turned.flipped == pytest.approx(((probability >= 0.5) != (1 - probability >= 0.5)).mean())
    lost = 2 * metrics.auc(label, probability) - 1
    assert (turned.auc_lost, turned.auc_lost_low, turned.auc_lost_high) == pytest.approx((lost, lost, lost))


def test_a_group_without_an_error_has_an_interval_of_some_width():
    table = pd.DataFrame(
        {
            "label": [0] * 20 + [1] * 20,
            "probability": [0.1] * 20 + [0.9] * 20,
            "patient": [f"a{i // 2}" for i in range(20)] + [f"b{i}" for i in range(20)],
        }
    )
    row = metrics.subgroups(table, {"all": table.label >= 0}, 0.5, 50).iloc[0]
    assert row.sensitivity == row.sensitivity_high == 1 and row.sensitivity_low == pytest.approx(0.025 ** (1 / 20))
    assert row.specificity_low == pytest.approx(0.025 ** (1 / 10)), "ten patients, two films each"


# --- the threshold and the seeds drawn anew ---------------------------------------------------------------------


def test_a_threshold_for_each_resample_is_that_of_the_images_in_it(scored):
    label, probability = scored
    times = metrics.resample(pd.DataFrame({"label": label, "patient": np.arange(200) // 2 * 2 + label}), 230)
    found = metrics.youden_thresholds(label, probability, times)
    assert found.shape == (230,) and len(set(found)) > 5
    for weight, threshold in list(zip(times.astype(int), found))[::23]:
        assert threshold == pytest.approx(metrics.youden_threshold(label.repeat(weight), probability.repeat(weight)))
    whole = metrics.youden_thresholds(label, probability, np.ones((1, 200)))
    assert whole[0] == pytest.approx(metrics.youden_threshold(label, probability))


def test_figures_at_a_threshold_for_each_resample(scored):
    label, probability = scored
    times = metrics.resample(pd.DataFrame({"label": label, "patient": np.arange(200)}), 3)
    several = metrics.spread(label, probability, np.array([0.3, 0.5, 0.7]), times)
    for row, threshold in enumerate((0.3, 0.5, 0.7)):
        alone = metrics.spread(label, probability, threshold, times[[row]])
        for name in metrics.NAMES:
            assert several[name][row] == pytest.approx(alone[name][0]), name


def test_an_interval_with_the_threshold_drawn_anew_is_wider(scored):
    label, probability = scored
    table = pd.DataFrame({"label": label, "patient": np.arange(200)})
    times, of_val = metrics.resample(table, 500), metrics.resample(table, 500, seed=1)
    at = metrics.youden_threshold(label, probability)
    fixed = metrics.spread(label, probability, at, times)
    anew = metrics.spread(label, probability, metrics.youden_thresholds(label, probability, of_val), times)
    for name in ("sensitivity", "specificity"):
        assert np.ptp(metrics.interval(anew[name])) > 1.1 * np.ptp(metrics.interval(fixed[name]))
    assert metrics.interval(anew["auc"]) == pytest.approx(metrics.interval(fixed["auc"])), "it needs no threshold"


def test_seeds_are_drawn_as_well_as_patients(scored):
    label, probability = scored
    rng, table = np.random.default_rng(0), pd.DataFrame({"label": label, "patient": np.arange(200)})
    times = metrics.resample(table, 400)
    good = [(probability + rng.normal(0, 0.02, 200), 0.55) for _ in range(4)]
    worse = [(probability + rng.normal(0, noise, 200), 0.55) for noise in (0.2, 0.6, 1.2)]
    found = metrics.compare_seeds(label, good, worse, times)
    value = np.mean([metrics.auc(label, p) for p, _ in good]) - np.mean([metrics.auc(label, p) for p, _ in worse])
    low, high = found["auc"]["interval"]
    assert found["auc"]["value"] == pytest.approx(value) and low < value < high
    pair = metrics.compare(label, good[0], worse[1], times)["differences"]["auc"]["interval"]
    assert high - low > np.ptp(pair), "the seeds of the other one differ, which one pair does not show"
    same = metrics.compare_seeds(label, good[:1], good[:1], times)
    assert all(row == {"value": 0, "interval": [0, 0]} for row in same.values())
