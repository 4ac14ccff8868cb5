"""Figures of several classes against scikit-learn's, and their intervals."""

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sklearn_metrics

from cxr import metrics
from cxr.paths import Problem

NAMES = ["normal", "bacteria", "virus"]


@pytest.fixture(scope="module")
def scored():
    """200 images of 100 patients, answers that are right more often than not."""
    rng = np.random.default_rng(0)
    code = np.repeat(rng.integers(0, 3, 100), 2)
    probability = rng.dirichlet(np.ones(3), 200) + 0.5 * np.eye(3)[code]
    return code, probability / probability.sum(axis=1, keepdims=True), np.repeat(np.arange(100), 2)


def test_figures_are_those_of_scikit_learn(scored):
    code, probability, _ = scored
    found, called = metrics.measure_multiclass(code, probability, NAMES), probability.argmax(axis=1)
    assert found["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(code, called))
    assert found["balanced_accuracy"] == pytest.approx(sklearn_metrics.balanced_accuracy_score(code, called))
    assert found["macro_f1"] == pytest.approx(sklearn_metrics.f1_score(code, called, average="macro"))
    assert found["macro_auc"] == pytest.approx(sklearn_metrics.roc_auc_score(code, probability, multi_class="ovr"))
    assert found["kappa"] == pytest.approx(sklearn_metrics.cohen_kappa_score(code, called))
    assert list(found["auc"]) == NAMES and found["recall"]["virus"] == pytest.approx(
        sklearn_metrics.recall_score(code, called, average=None)[2]
    )


def test_a_class_that_is_never_called_counts_as_missed():
    found = metrics.measure_multiclass([0, 1, 2, 2], np.eye(3)[[0, 1, 1, 1]] * 0.8 + 0.1, NAMES)
    assert found["f1"]["virus"] == 0 and found["precision"]["virus"] == 0 and found["accuracy"] == 0.5


def test_intervals_hold_the_figures_and_follow_a_bootstrap_written_out(scored):
    code, probability, patient = scored
    table = pd.DataFrame({"label": code, "patient": patient})
    times = metrics.resample(table, 400)
    found, bounds = (
        metrics.measure_multiclass(code, probability, NAMES),
        metrics.intervals_multiclass(code, probability, times),
    )
    drawn = []
    for row in times[:400].astype(int):
        own = np.repeat(np.arange(len(code)), row)
        drawn.append(metrics.measure_multiclass(code[own], probability[own], NAMES))
    for name, (low, high) in bounds.items():
        assert low < found[name] < high
        expected = np.percentile([one[name] for one in drawn], [2.5, 97.5])
        np.testing.assert_allclose([low, high], expected, atol=1e-9, err_msg=name)


def test_every_resample_has_every_class(scored):
    code, _, patient = scored
    times = metrics.resample(pd.DataFrame({"label": code, "patient": patient}), 50)
    for k in range(3):
        assert (times[:, code == k].sum(axis=1) > 0).all()


@pytest.mark.parametrize(
    "code, probability, said",
    [
        ([0, 1, 1], np.eye(3), "Of 3 classes, 2 have images.*02_split.csv"),
        ([0, 1, 2], np.full((3, 3), np.nan), "9 of 9 probabilities are not numbers.*learning rate.*tenth"),
    ],
)
def test_what_has_no_figures_is_named(code, probability, said):
    with pytest.raises(Problem, match=said):
        metrics.measure_multiclass(code, probability, NAMES)


def test_confusion_counts_by_class_and_answer(scored):
    code, probability, _ = scored
    found = metrics.confusion_multiclass(code, probability, NAMES)
    assert found.to_numpy().sum() == 200 and list(found.index) == list(found.columns) == NAMES
    assert found.loc["virus", "normal"] == ((code == 2) & (probability.argmax(axis=1) == 0)).sum()


def kinds_of(subtypes, split="train val test", folder="PNEUMONIA"):
    rows = [
        {"subtype": name, "label": int(name != "normal"), "class_name": folder, "split": part}
        for part in split.split()
        for name in subtypes
    ]
    return pd.DataFrame(rows)


def test_kinds_are_numbered_normal_first():
    code, names = metrics.class_codes(kinds_of(["virus", "normal", "bacteria"]))
    assert names == NAMES and list(code[:3]) == [2, 0, 1]


def test_a_kind_that_the_name_does_not_tell_is_its_folder():
    table = pd.concat([kinds_of(["normal", "virus"]), kinds_of([""], folder="COVID").assign(label=1)])
    code, names = metrics.class_codes(table)
    assert names == ["normal", "covid", "virus"] and set(code) == {0, 1, 2}


def test_four_classes_work_the_same_way():
    code, names = metrics.class_codes(kinds_of(["normal", "a", "b", "c"]))
    found = metrics.measure_multiclass(code, np.eye(4)[code] * 0.8 + 0.05, names)
    assert found["macro_f1"] == 1 and found["macro_auc"] == 1 and len(found["auc"]) == 4


def test_too_few_kinds_are_named():
    with pytest.raises(Problem, match=r"2 kinds only \(normal, pneumonia\).*class folders"):
        metrics.class_codes(kinds_of(["normal", ""]))
    table = kinds_of(["normal", "virus", "bacteria"])
    with pytest.raises(Problem, match="val split has no virus image.*SPLIT_SEED"):
        metrics.class_codes(table[(table.split != "val") | (table.subtype != "virus")])


def test_among_the_ill_one_kind_stands_against_the_other(scored):
    code, probability, _ = scored
    ill = code > 0
    share = probability[ill, 2] / probability[ill, 1:].sum(axis=1)
    assert metrics.ill_auc(code, probability) == pytest.approx(sklearn_metrics.roc_auc_score(code[ill] == 2, share))
    four = np.full((8, 4), 0.25)
    assert np.isnan(metrics.ill_auc(np.arange(8) % 4, four))


def test_figures_by_kind_of_versions_are_those_of_its_own_versions(scored):
    code, probability, _ = scored
    versions = np.stack([probability, probability[::-1], probability])
    found = metrics.by_kind_multiclass(code, versions, ["plain", "stress", "stress"], NAMES)
    assert list(found) == ["plain_macro_auc", "plain_ill_auc", "stress_macro_auc", "stress_ill_auc"]
    assert found["plain_ill_auc"] == metrics.ill_auc(code, probability)
    both = metrics.measure_multiclass(np.tile(code, 2), np.concatenate(versions[1:]), NAMES)
    assert found["stress_macro_auc"] == both["macro_auc"]


def test_over_seeds_the_first_one_is_kept_and_a_single_one_has_no_deviation(scored):
    code, probability, patient = scored
    times = metrics.resample(pd.DataFrame({"label": code, "patient": patient}), 50)
    two, one = (metrics.seeds_multiclass(code, answers, NAMES, times) for answers in ([probability] * 2, [probability]))
    assert two["kept"] == metrics.measure_multiclass(code, probability, NAMES)
    assert len(two["each"]) == 2 and set(two["mean"]) == set(two["sd"]) == set(metrics.OVER_CLASSES)
    assert two["mean"]["kappa"] == pytest.approx(two["kept"]["kappa"]) and two["sd"]["accuracy"] == 0
    assert set(one["sd"].values()) == {None}
    assert two["ensemble"]["accuracy"] == two["kept"]["accuracy"]
