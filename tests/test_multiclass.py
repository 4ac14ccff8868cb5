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
    score = rng.dirichlet(np.ones(3), 200) + 0.5 * np.eye(3)[code]
    return code, score / score.sum(axis=1, keepdims=True), np.repeat(np.arange(100), 2)


def test_figures_are_those_of_scikit_learn(scored):
    code, score, _ = scored
    found, called = metrics.measure_multiclass(code, score, NAMES), score.argmax(axis=1)
    assert found["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(code, called))
    assert found["balanced_accuracy"] == pytest.approx(sklearn_metrics.balanced_accuracy_score(code, called))
    assert found["macro_f1"] == pytest.approx(sklearn_metrics.f1_score(code, called, average="macro"))
    assert found["macro_auc"] == pytest.approx(sklearn_metrics.roc_auc_score(code, score, multi_class="ovr"))
    assert found["kappa"] == pytest.approx(sklearn_metrics.cohen_kappa_score(code, called))
    counts = metrics.confusion_multiclass(code, score, NAMES)
    assert (counts.to_numpy() == sklearn_metrics.confusion_matrix(code, called)).all() and list(counts) == NAMES
    never = metrics.measure_multiclass([0, 1, 2, 2], np.eye(3)[[0, 1, 1, 1]] * 0.8 + 0.1, NAMES)
    assert never["f1"]["virus"] == 0 and never["precision"]["virus"] == 0, "a class that is never called is missed"


def test_intervals_follow_a_bootstrap_written_out(scored):
    code, score, patient = scored
    times = metrics.resample(pd.DataFrame({"label": code, "patient": patient}), 200)
    rows = [np.repeat(np.arange(len(code)), row) for row in times.astype(int)]
    drawn = [metrics.measure_multiclass(code[own], score[own], NAMES) for own in rows]
    for name, bounds in metrics.intervals_multiclass(code, score, times).items():
        np.testing.assert_allclose(bounds, np.percentile([one[name] for one in drawn], [2.5, 97.5]), atol=1e-9)


def table_of(subtypes, split="train val test", folder="PNEUMONIA"):
    rows = [(name, int(name != "normal"), folder, part) for part in split.split() for name in subtypes]
    return pd.DataFrame(rows, columns=["subtype", "label", "class_name", "split"])


def test_classes_are_numbered_normal_first_and_too_few_are_named():
    code, names = metrics.class_codes(table_of(["virus", "normal", "bacteria"]))
    assert names == NAMES and list(code[:3]) == [2, 0, 1]
    table = pd.concat([table_of(["normal", "virus"]), table_of([""], folder="COVID").assign(label=1)])
    assert metrics.class_codes(table)[1] == ["normal", "covid", "virus"], "named by the folder where the name is silent"
    with pytest.raises(Problem, match=r"2 kinds only \(normal, pneumonia\).*class folders"):
        metrics.class_codes(table_of(["normal", ""]))
    with pytest.raises(Problem, match="val split has no virus image"):
        metrics.class_codes(table[(table.split != "val") | (table.subtype != "virus")])


def test_by_kind_and_among_the_ill(scored):
    code, score, _ = scored
    ill = code > 0
    share = score[ill, 2] / score[ill, 1:].sum(axis=1)
    assert metrics.ill_auc(code, score) == pytest.approx(sklearn_metrics.roc_auc_score(code[ill] == 2, share))
    assert np.isnan(metrics.ill_auc(np.arange(8) % 4, np.full((8, 4), 0.25)))
    found = metrics.by_kind_multiclass(code, np.stack([score[::-1], score]), ["stress", "plain"], NAMES)
    assert found["plain_ill_auc"] == metrics.ill_auc(code, score)
    assert found["stress_macro_auc"] == metrics.measure_multiclass(code, score[::-1], NAMES)["macro_auc"]
    times = np.ones((2, 200))
    assert set(metrics.seeds_multiclass(code, [score], NAMES, times)["sd"].values()) == {None}, "one seed"
