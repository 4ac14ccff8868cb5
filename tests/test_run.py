"""The five notebooks, whole and in order, on tiny data: their artifacts, and what stops them."""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sklearn_metrics

import report
import run
from contract import ARTIFACTS, MANIFEST, TINY_AND_COMMITTED, by_scikit_learn
from cxr import images
from cxr.paths import ROOT, Problem


def test_every_artifact_is_there_and_nothing_else(finished):
    expected = {name for n in run.CORE for name in [*ARTIFACTS[n], f"{n}_lineage.json"]}
    assert {path.name for path in (finished / "results").iterdir()} == expected


def test_contract_of_manifest_and_split(finished, tiny):
    manifest = pd.read_csv(finished / "results/01_manifest.csv", keep_default_na=False)
    assert list(manifest) == MANIFEST
    assert len(manifest) == 72 and all((tiny / path).is_file() for path in manifest.path)
    split = pd.read_csv(finished / "results/02_split.csv", keep_default_na=False)
    assert list(split) == ["path", "label", "subtype", "patient", "split"]
    assert set(split.path[split.split == "test"]) == set(manifest.path[manifest.folder == "test"])
    assert split.groupby("patient").split.nunique().max() == 1
    assert split.merge(manifest, on="path").groupby("sha256").split.nunique().max() == 1


def test_predictions_come_from_the_saved_models(finished, tiny):
    from cxr.backend import keras

    results = finished / "results"
    saved = pd.read_csv(results / "05_predictions.csv", keep_default_na=False)
    split = pd.read_csv(results / "02_split.csv", keep_default_na=False)
    assert list(saved) == ["path", "label", "subtype", "patient", "split", "probability", "ensemble", "plain"]
    assert set(saved.path) == set(split.path[split.split != "train"])
    run = json.loads((results / "04_run.json").read_text())
    pictures = np.stack([images.decode(tiny / path, run["image_size"]) for path in saved.path])[..., None]
    answers = {
        name: keras.models.load_model(results / f"04_{name}.keras", compile=False).predict(pictures, verbose=0)
        for name in ("xray_classification_model", "ensemble", "plain")
    }
    test = (saved.split == "test").to_numpy()
    for name, at, column in (
        ("xray_classification_model", 0, "probability"),
        ("plain", run["kept_seed"], "plain"),
        ("ensemble", slice(None), "ensemble"),
        ("ensemble", run["kept_seed"], "probability"),
    ):
        found = answers[name][:, at].reshape(len(saved), -1).mean(axis=1)
        np.testing.assert_allclose(found[test], saved[column][test], atol=1e-5)
        np.testing.assert_allclose(found, saved[column], rtol=0, atol=1e-3)  # 04 scored validation before it saved
    long = pd.read_csv(results / "05_seed_predictions.csv")
    assert list(long) == ["seed", "path", "label", "probability"] and sorted(set(long.seed)) == [0, 1]
    by_seed = long.pivot(index="path", columns="seed", values="probability")
    np.testing.assert_allclose(by_seed.loc[saved.path[test]], answers["ensemble"][test], atol=1e-5)


@pytest.mark.skipif(not os.environ.get("CHEST_XRAY_DIR"), reason="needs the real X-rays: set CHEST_XRAY_DIR")
def test_the_committed_network_says_of_the_real_x_rays_what_is_committed():
    from cxr.backend import keras

    results, folder = ROOT / "results", Path(os.environ["CHEST_XRAY_DIR"])
    saved = pd.read_csv(results / "05_predictions.csv", keep_default_na=False)
    saved = saved[saved.split == "val"]  # stored in half precision after it was scored
    size = json.loads((results / "04_run.json").read_text())["image_size"]
    pictures = np.stack([images.decode(folder / path, size) for path in saved.path])[..., None]
    network = keras.models.load_model(results / "04_xray_classification_model.keras", compile=False)
    np.testing.assert_allclose(network.predict(pictures, verbose=0)[:, 0], saved.probability, rtol=0, atol=1e-3)


@pytest.mark.parametrize("which", TINY_AND_COMMITTED)
def test_metrics_follow_from_the_predictions(request, which):
    results = ROOT / "results" if which == "committed" else request.getfixturevalue("finished") / "results"
    facts = json.loads((results / "05_metrics.json").read_text())
    saved = pd.read_csv(results / "05_predictions.csv", keep_default_na=False)
    seeds = pd.read_csv(results / "04_seeds.csv")
    long = pd.read_csv(results / "05_seed_predictions.csv")
    test, found = saved[saved.split == "test"], facts["test"]
    assert facts["images"]["test"] == len(test) and facts["versions"]["keras"]
    each = [
        by_scikit_learn(own.label, own.probability, row.threshold)
        for row in seeds.itertuples()
        for own in [long[long.seed == row.seed]]
    ]
    for name, value in by_scikit_learn(test.label, test.probability, facts["thresholds"]["balanced"]).items():
        assert found["at_chosen_threshold"][name] == pytest.approx(value, abs=1e-9), name
        values = [row[name] for row in each]
        assert [row[name] for row in found["seeds"]["each"]] == pytest.approx(values, abs=1e-9), name
        assert found["seeds"]["mean"][name] == pytest.approx(np.mean(values), abs=1e-9)
        assert found["seeds"]["sd"][name] == pytest.approx(np.std(values, ddof=1), abs=1e-9)
    for name, value in by_scikit_learn(test.label, test.probability, 0.5).items():
        assert found["at_0.5"][name] == pytest.approx(value, abs=1e-9), name
    for column in ("ensemble", "plain"):
        expected = by_scikit_learn(test.label, test[column], found[column]["threshold"])
        assert {name: found[column][name] for name in expected} == pytest.approx(expected, abs=1e-9)
    scores = pd.read_csv(results / "05_test_scores.csv").set_index("path").loc[test.path]
    plain_seeds = pd.read_csv(results / "04_plain_seeds.csv")
    for row, figures in zip(plain_seeds.itertuples(), found["plain_seeds"]["each"], strict=True):
        expected = by_scikit_learn(test.label.to_numpy(), scores[f"plain {row.seed}"].to_numpy(), row.threshold)
        assert {name: figures[name] for name in expected} == pytest.approx(expected, abs=1e-9)
    apart = found["seeds"]["mean"]["auc"] - found["plain_seeds"]["mean"]["auc"]
    assert found["seeds_against_plain"]["auc"]["value"] == pytest.approx(apart)
    mean = long.groupby("path").probability.mean()
    np.testing.assert_allclose(mean[test.path], test.ensemble, atol=1e-6)


@pytest.mark.parametrize("which", TINY_AND_COMMITTED)
def test_the_share_of_lungs_and_body_follows_from_the_scores(request, which):
    results = ROOT / "results" if which == "committed" else request.getfixturevalue("finished") / "results"
    swap = json.loads((results / "05_metrics.json").read_text())["test"]["swap"]
    scores = pd.read_csv(results / "05_test_scores.csv")
    crossed = scores.filter(regex=rf"^in {swap['bodies']} bodies \d+$")
    assert crossed.shape == (len(scores), 2 * swap["bodies"]) and ((crossed >= 0) & (crossed <= 1)).all(axis=None)
    assert list(swap["networks"]) == ["this network", "plain CNN"]
    assert 0 < swap["lungs"] <= len(scores) and swap["lungs_found"] <= len(scores)
    for figures in swap["networks"].values():
        assert figures["lungs"]["value"] + figures["body"]["value"] + figures["both"]["value"] == pytest.approx(1)
        assert all(0 <= row["low"] <= row["high"] <= 1 for row in figures.values())
    split = pd.read_csv(results / "02_split.csv", keep_default_na=False).set_index("path")
    shown = split.loc[swap["shown"]["paths"]]
    assert shown.split.tolist() == ["val", "val"] and shown.label.tolist() == [1, 0], "chosen on validation"


@pytest.mark.parametrize("which", TINY_AND_COMMITTED)
def test_thresholds_come_from_validation_alone(request, which):
    from cxr import metrics

    results = ROOT / "results" if which == "committed" else request.getfixturevalue("finished") / "results"
    val = pd.read_csv(results / "04_val_predictions.csv")
    facts = json.loads((results / "05_metrics.json").read_text())
    own = val[f"seed_{facts['seed']}"]
    assert facts["thresholds"] == pytest.approx(
        {
            "balanced": metrics.youden_threshold(val.label, own),
            "screening": min(facts["thresholds"]["balanced"], metrics.threshold_for(val.label, own, sensitivity=0.98)),
            "triage": max(facts["thresholds"]["balanced"], metrics.threshold_for(val.label, own, specificity=0.98)),
        },
        abs=1e-9,
    )
    split = pd.read_csv(results / "02_split.csv", keep_default_na=False).set_index("path").split
    assert set(split[val.path]) == {"val"}


@pytest.mark.parametrize("which", TINY_AND_COMMITTED)
def test_the_kept_seed_is_the_median_where_seeds_differ_by_more_than_noise(request, which):
    results = ROOT / "results" if which == "committed" else request.getfixturevalue("finished") / "results"
    seeds, plain = (pd.read_csv(results / f"04_{name}.csv") for name in ("seeds", "plain_seeds"))
    run = json.loads((results / "04_run.json").read_text())
    order = list(seeds.sort_values("conflict_auc").seed)
    expected = order[(len(order) - 1) // 2] if run["between_seeds"] > 2 * run["noise"] else 0
    assert run["kept_seed"] == expected and run["seeds"] == len(seeds) == len(plain)
    val = pd.read_csv(results / "04_val_predictions.csv")
    for table, prefix in ((seeds, "seed"), (plain, "plain")):
        for row in table.itertuples():
            for column, kind in (("val", "plain"), ("stress", "stress"), ("swap", "swap"), ("conflict", "conflict")):
                part = val[val.kind == kind]
                found = sklearn_metrics.roc_auc_score(part.label, part[f"{prefix}_{row.seed}"])
                assert getattr(row, f"{column}_auc") == pytest.approx(found, abs=1e-5)


def test_history_and_seeds_agree_on_the_best_epoch(finished):
    history = pd.read_csv(finished / "results/04_history.csv")
    seeds = pd.read_csv(finished / "results/04_seeds.csv")
    run = json.loads((finished / "results/04_run.json").read_text())
    for row in seeds.itertuples():
        own = history[history.seed == row.seed].reset_index(drop=True)
        assert list(own.epoch) == list(range(1, row.epochs + 1)) and own.val_auc.idxmax() + 1 == row.best_epoch
    assert run["best_epoch"] == seeds.set_index("seed").best_epoch[run["kept_seed"]]


def test_the_ablation_has_every_row_and_seed_and_ends_in_the_recipe(finished):
    table = pd.read_csv(finished / "results/04_ablation.csv")
    names = list(dict.fromkeys(table.row))
    assert names[:3] == ["plain CNN", "plain CNN + Transplant", "this network"] and len(names) == len(table) == 9
    kept = [row for row in json.loads((finished / "results/03_augmentation.json").read_text())["layers"] if row["kept"]]
    added = [name.removeprefix("+ ").removesuffix(": all") for name in names if name.startswith("+ ")]
    assert sorted(", ".join(added).split(", ")) == sorted(row["layer"].removeprefix("Random") for row in kept)
    figures = table[["val_auc", "stress_auc", "swap_auc", "conflict_auc", "bias_conflicting_auc", "heldout_auc"]]
    assert ((figures >= 0) & (figures <= 1)).all(axis=None)
    assert (table.epochs == 1).all() and table.weights_sha256.is_unique


def test_the_ledger_of_the_run_has_one_line(finished):
    found = pd.read_csv(finished / "results/05_test_ledger.csv")
    assert len(found) == 1 and found.images[0] == 13 and "04_plain.keras:" in found.networks[0]


def test_every_figure_of_the_card_comes_from_the_metrics(finished):
    metrics = json.loads((finished / "results/05_metrics.json").read_text())
    run = json.loads((finished / "results/04_run.json").read_text())
    text = (finished / "results/MODEL_CARD.md").read_text()
    assert text == report.model_card(metrics, run, opened=1), "the card follows from the JSON alone"
    assert "SYNTHETIC" in text and "not a diagnostic device" in text
    own = metrics["test"]["at_chosen_threshold"]
    for name in ("accuracy", "auc", "sensitivity", "specificity"):
        assert f"{own[name]:.3f}" in text and f"{metrics['test']['seeds']['mean'][name]:.3f} ±" in text
        assert f"{metrics['test']['plain_seeds']['mean'][name]:.3f} ±" in text
    for figures in metrics["test"]["swap"]["networks"].values():
        assert all(f"{figures[name]['value']:.3f} ({figures[name]['low']:.3f}" in text for name in ("lungs", "body"))


@pytest.mark.parametrize(
    "number, missing, maker",
    [
        ("02", "01_manifest.csv", "01_download.ipynb"),
        ("03", "02_split.csv", "02_explore.ipynb"),
        ("04", "03_augmentation.json", "03_augment.ipynb"),
        ("05", "04_xray_classification_model.keras", "04_train.ipynb"),
        ("08", "07_run.json", "07_transfer.ipynb"),
        ("10", "09_gate.json", "09_predict.ipynb"),
    ],
)
def test_a_notebook_without_its_input_says_which_one_makes_it(number, missing, maker, chain_copy):
    (chain_copy / "results" / missing).unlink(missing_ok=True)  # what comes after 05 was not made yet
    before = {path.name: path.read_bytes() for path in (chain_copy / "results").iterdir()}
    with pytest.raises(Problem, match=f"{missing} is missing: run {maker}"):
        run.run(run.choose(number), chain_copy / "out", run.QUICK)
    assert {path.name: path.read_bytes() for path in (chain_copy / "results").iterdir()} == before
    assert not list((chain_copy / "out").iterdir())


def test_a_notebook_on_an_older_chain_says_so_and_stops(chain_copy):
    run.run(run.choose("02"), chain_copy / "out", {"02": {"SPLIT_SEED": 1}})
    with pytest.raises(Problem, match="older 02_split.csv: run (03_augment|04_train).ipynb"):
        run.run(run.choose("05"), chain_copy / "out")


def test_a_notebook_on_other_images_says_so_and_stops(chain_copy, tiny, monkeypatch):
    other = chain_copy / "other"
    other.mkdir()
    for path in tiny.rglob("*.jpeg"):
        target = other / path.relative_to(tiny)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes() + b"\0")
    monkeypatch.setenv("CHEST_XRAY_DIR", str(other))
    with pytest.raises(Problem, match="01_manifest.csv.*01_download.ipynb"):
        run.run(run.choose("02"), chain_copy / "out")
