"""The results of 06 to 08, A2 and A3, of the tiny run and as committed: figures follow from tables."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sklearn_metrics

from contract import OF_APPENDIX, TINY_AND_COMMITTED, by_scikit_learn
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
    assert set(split[table.path]) == {"val"} and len(table) == (split == "val").sum()
    for name in ("plain CNN", "this network", "spread evenly"):
        assert facts["inside"][name]["mean"] == pytest.approx(table[f"inside, {name}"].mean(), abs=1e-5)


def test_07_judges_each_seed_by_its_threshold_from_validation(results):
    facts, seeds, scores, split = (
        read(results / name) for name in ("07_metrics.json", "07_seeds.csv", "07_test_scores.csv", "02_split.csv")
    )
    scores = scores.merge(split, on="path")
    assert set(scores.split) == {"test"}
    for row, found in zip(seeds.itertuples(), facts["seeds"]["each"], strict=True):
        assert row.threshold == pytest.approx(found["threshold"], abs=1e-6)
        (own,) = (scores[name] for name in scores if name.startswith(f"MobileNetV2, seed {row.seed} @"))
        expected = by_scikit_learn(scores.label, own, found["threshold"])
        assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-9)
    assert facts["conflict_auc"] == pytest.approx(seeds.conflict_auc.mean(), abs=1e-5)
    small = read(results / "05_seed_predictions.csv")
    theirs = np.mean([sklearn_metrics.roc_auc_score(own.label, own.probability) for _, own in small.groupby("seed")])
    gain = facts["against_small"]["differences"]["auc"]
    assert gain["value"] == pytest.approx(facts["seeds"]["mean"]["auc"] - theirs, abs=1e-6)


def test_08_figures_follow_from_its_answers(results):
    facts, table = read(results / "08_metrics.json"), read(results / "08_test_scores.csv")
    names, subtype = facts["kinds"], read(results / "02_split.csv").set_index("path").subtype
    code, each = table.path.map(subtype).map(names.index), []
    assert names == ["normal", "bacteria", "virus"]
    for seed in range(facts["seeds"]):
        found = table.filter(regex=f"^small, seed {seed} ").to_numpy()
        np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-4)
        called, share = found.argmax(axis=1), found / found.sum(axis=1, keepdims=True)
        each.append([(called == code).mean(), sklearn_metrics.roc_auc_score(code, share, multi_class="ovr")])
    mean, sd = (facts["test"]["small"][name] for name in ("mean", "sd"))
    for i, name in enumerate(("accuracy", "macro_auc")):
        assert mean[name] == pytest.approx(np.mean(each, axis=0)[i], abs=1e-4)
        assert sd[name] == pytest.approx(np.std(each, axis=0, ddof=1)[i], abs=1e-4)


def test_08_holds_networks_against_clues(results):
    facts = read(results / "08_metrics.json")
    ours, clues = facts["beside"]["small"], facts["beside"]["the clues alone"]
    gain, low, high = facts["lead"]
    assert gain == pytest.approx(ours["val_ill_auc"] - clues["val_ill_auc"]) and low <= high
    assert 0 <= ours["conflict_macro_auc"] <= 1


@pytest.mark.parametrize("results", OF_APPENDIX, indirect=True)
def test_a2_judges_each_row_by_its_own_thresholds(results):
    facts, seeds, scores = (read(results / f"A2_{name}") for name in ("ablation.json", "seeds.csv", "test_scores.csv"))
    label = scores.path.map(read(results / "02_split.csv").set_index("path").label)
    for name, own in seeds.groupby("row"):
        for row, found in zip(own.itertuples(), facts["test"][name]["each"], strict=True):
            (said,) = (scores[column] for column in scores if column.startswith(f"{name}, seed {row.seed} @"))
            assert found["accuracy"] == pytest.approx(((said >= row.threshold) == label).mean(), abs=1e-9)
        assert facts["validation"][name]["conflict_auc"] == pytest.approx(own.conflict_auc.mean(), abs=1e-6)
    assert set(facts["validation"]) == {*seeds.row, "plain CNN", "this network"} == set(facts["test"])


@pytest.mark.parametrize("results", OF_APPENDIX, indirect=True)
def test_a3_shares_of_the_variance_are_shares(results):
    shares = read(results / "A3_swaps.csv")
    assert shares[["lungs", "body"]].min(axis=None) >= 0 and (shares.lungs + shares.body).max() <= 1 + 1e-9
    assert len(shares) == 2 * 3 * 2 * len(read(results / "04_seeds.csv"))
