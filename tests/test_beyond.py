"""The results of 06 to 08, of the tiny run and as committed: each figure follows from tables by scikit-learn."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sklearn_metrics

from contract import TINY_AND_COMMITTED, by_scikit_learn
from cxr.paths import ROOT


@pytest.fixture(params=TINY_AND_COMMITTED)
def results(request):
    """The results folder of the tiny run, and the committed one."""
    return ROOT / "results" if request.param == "committed" else request.getfixturevalue("finished") / "results"


def read(path):
    return json.loads(path.read_text()) if path.suffix == ".json" else pd.read_csv(path, keep_default_na=False)


def test_06_explains_validation_films_alone(results):
    facts, table = read(results / "06_explain.json"), read(results / "06_attention.csv")
    split = read(results / "02_split.csv").set_index("path").split
    assert set(split[table.path]) == {"val"} and facts["films"] == len(table)
    for name in ("plain CNN", "this network"):
        assert facts["inside"][name]["mean"] == pytest.approx(table[f"inside, {name}"].mean(), abs=1e-5)
        for place in ("nothing", "lungs", "body"):
            expected = sklearn_metrics.roc_auc_score(table.label, table[f"{place} covered, {name}"])
            assert facts["auc_covered"][name][place] == pytest.approx(expected, abs=1e-9)


def test_07_judges_each_seed_by_its_threshold_from_validation(results):
    facts, seeds, long = (
        read(results / name) for name in ("07_metrics.json", "07_seeds.csv", "07_seed_predictions.csv")
    )
    split = read(results / "02_split.csv").set_index("path").split
    assert set(split[long.path]) == {"test"}
    for row, found in zip(seeds.itertuples(), facts["seeds"]["each"], strict=True):
        assert row.threshold == pytest.approx(found["threshold"], abs=1e-6)
        own = long[long.seed == row.seed]
        expected = by_scikit_learn(own.label, own.probability, found["threshold"])
        assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-9)
    for name, version in {"val": "plain", "stress": "stress", "swap": "swap", "conflict": "conflict"}.items():
        assert facts["validation"]["tuned"][version] == pytest.approx(seeds[f"{name}_auc"].mean(), abs=1e-5)
    small = read(results / "05_seed_predictions.csv")
    theirs = np.mean([sklearn_metrics.roc_auc_score(own.label, own.probability) for _, own in small.groupby("seed")])
    gain = facts["against_small"]["differences"]["auc"]
    assert gain["value"] == pytest.approx(facts["seeds"]["mean"]["auc"] - theirs, abs=1e-6)


def test_08_figures_follow_from_its_predictions(results):
    facts, table = read(results / "08_metrics.json"), read(results / "08_predictions.csv")
    names = facts["kinds"]
    code, found = table.subtype.map(names.index), table[[f"small_{name}" for name in names]].to_numpy()
    assert names == ["normal", "bacteria", "virus"]
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-4)
    first, called = facts["test"]["small"]["each"][0], found.argmax(axis=1)
    assert first["accuracy"] == pytest.approx((called == code).mean())
    assert first["macro_f1"] == pytest.approx(sklearn_metrics.f1_score(code, called, average="macro", zero_division=0))
    expected = sklearn_metrics.roc_auc_score(code, found / found.sum(axis=1, keepdims=True), multi_class="ovr")
    assert first["macro_auc"] == pytest.approx(expected, abs=1e-4)
    mean, each = facts["test"]["small"]["mean"], facts["test"]["small"]["each"]
    assert mean["accuracy"] == pytest.approx(np.mean([row["accuracy"] for row in each]))
    assert facts["beside"]["small"]["test_macro_auc"] == pytest.approx(mean["macro_auc"])
    counts = sklearn_metrics.confusion_matrix(code, called, labels=range(3))
    assert [list(row.values()) for row in facts["confusion"].values()] == counts.tolist()


def test_08_counts_patients_and_holds_networks_against_clues(results):
    facts, seeds, split = (read(results / name) for name in ("08_metrics.json", "08_seeds.csv", "02_split.csv"))
    manifest = read(results / "01_manifest.csv").merge(split[["path", "split"]], on="path")
    for kind, row in facts["patients"].items():
        of_kind = manifest[manifest.label.astype(int) == 0] if kind == "normal" else manifest[manifest.subtype == kind]
        assert row == {part: of_kind[of_kind.split == part].patient.nunique() for part in ("train", "val", "test")}
    ours, clues = facts["beside"]["small"], facts["beside"]["the clues alone"]
    assert len(seeds) == facts["seeds"] and facts["confusion_of"] == "small, seed 0"
    for figure in ("macro_auc", "ill_auc"):
        assert ours[f"val_{figure}"] == pytest.approx(seeds[f"val_{figure}"].mean(), abs=1e-5)
        assert ours[f"conflict_{figure}"] == pytest.approx(seeds[f"conflict_{figure}"].mean(), abs=1e-5)
    gain, low, high = facts["lead"]
    assert gain == pytest.approx(ours["val_ill_auc"] - clues["val_ill_auc"]) and low <= high
