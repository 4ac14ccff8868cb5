"""The results of 06 to 08, of the tiny run and as committed: each figure follows from tables by scikit-learn."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sklearn_metrics

from contract import TINY_AND_COMMITTED, by_scikit_learn
from cxr import backbones, metrics
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
    val = read(results / "07_val_predictions.csv")
    split = read(results / "02_split.csv").set_index("path").split
    assert set(split[val.path]) == {"val"} and set(split[long.path]) == {"test"}
    for row, found in zip(seeds.itertuples(), facts["seeds"]["each"], strict=True):
        y_score = val[f"seed_{row.seed}"]
        assert row.threshold == pytest.approx(metrics.youden_threshold(val.label, y_score), abs=1e-6)
        for kind, name in (("plain", "val"), ("stress", "stress"), ("swap", "swap"), ("conflict", "conflict")):
            own = val.kind == kind
            expected = sklearn_metrics.roc_auc_score(val.label[own], y_score[own])
            assert getattr(row, f"{name}_auc") == pytest.approx(expected, abs=1e-5)
        own = long[long.seed == row.seed]
        expected = by_scikit_learn(own.label, own.probability, found["threshold"])
        assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-9)
    run, order = read(results / "07_run.json"), list(seeds.sort_values("conflict_auc").seed)
    ranked = run["between_seeds"] > 2 * run["noise"]
    assert facts["kept_seed"] == run["kept_seed"] == (order[(len(order) - 1) // 2] if ranked else 0)
    small = read(results / "05_seed_predictions.csv")
    theirs = np.mean([sklearn_metrics.roc_auc_score(own.label, own.probability) for _, own in small.groupby("seed")])
    gain = facts["against_small"]["differences"]["auc"]
    assert gain["value"] == pytest.approx(facts["seeds"]["mean"]["auc"] - theirs, abs=1e-6)


def test_07_names_every_backbone_and_takes_the_best_on_validation(results):
    table, facts = read(results / "07_backbones.csv"), read(results / "07_metrics.json")
    assert set(table.backbone) == set(backbones.BACKBONES) and (table.parameters.astype(int) > 300_000).all()
    ran = table[table.stress_auc != ""]
    pooled = ran[["val_auc", "stress_auc", "swap_auc", "conflict_auc"]].astype(float).mean(axis=1)
    assert facts["backbone"] == ran.backbone[pooled.idxmax()]
    assert (table.weights[table.stress_auc == ""] == "not run here").all() and len(ran) < len(table)


def test_08_figures_follow_from_its_predictions(results):
    facts, table = read(results / "08_metrics.json"), read(results / "08_predictions.csv")
    names = facts["kinds"]
    code = table.subtype.map(names.index)
    assert names == ["normal", "bacteria", "virus"] and facts["images"]["test"] == len(table)
    for which in ("small", "backbone"):
        found = table[[f"{which}_{name}" for name in names]].to_numpy()
        np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-4)
        kept, called = facts["test"][which]["kept"], found.argmax(axis=1)
        assert kept["accuracy"] == pytest.approx((called == code).mean())
        assert kept["macro_f1"] == pytest.approx(
            sklearn_metrics.f1_score(code, called, average="macro", zero_division=0)
        )
        expected = sklearn_metrics.roc_auc_score(code, found / found.sum(axis=1, keepdims=True), multi_class="ovr")
        assert kept["macro_auc"] == pytest.approx(expected, abs=1e-4)
        values = [row["accuracy"] for row in facts["test"][which]["each"]]
        assert facts["test"][which]["mean"]["accuracy"] == pytest.approx(np.mean(values))
        assert facts["beside"][which]["test_macro_auc"] == pytest.approx(facts["test"][which]["mean"]["macro_auc"])


def test_08_counts_patients_and_shows_the_network_that_is_stored(results):
    facts, seeds, split = (read(results / name) for name in ("08_metrics.json", "08_seeds.csv", "02_split.csv"))
    manifest = read(results / "01_manifest.csv").merge(split[["path", "split"]], on="path")
    for kind, row in facts["patients"].items():
        of_kind = manifest[manifest.label.astype(int) == 0] if kind == "normal" else manifest[manifest.subtype == kind]
        assert row == {part: of_kind[of_kind.split == part].patient.nunique() for part in ("train", "val", "test")}
    pooled = seeds[[f"{kind}_macro_auc" for kind in ("plain", "stress", "swap", "conflict")]].mean(axis=1)
    by = {which: pooled[seeds.network == which].mean() for which in ("small", "backbone")}
    assert facts["better"] == max(by, key=by.get) and facts["confusion_of"] == "small, seed 0"
    kept, rows = facts["test"]["small"]["kept"], facts["confusion"]
    assert {kind: row[kind] / sum(row.values()) for kind, row in rows.items()} == pytest.approx(kept["recall"])
    clues = facts["beside"]["the clues alone"]
    assert clues["conflict_macro_auc"] is None and 0 <= clues["test_ill_auc"] <= 1
