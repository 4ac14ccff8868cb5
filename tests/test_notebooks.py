"""The notebooks: their anatomy as committed, and the whole chain on tiny data."""

import json
import os
import re
import shutil
import statistics
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn import metrics

from conftest import BEYOND, QUICK
from cxr import card, chain, headless, images, own
from cxr.practice import draw_chest
from cxr.project import ROOT, Problem

NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
CORE = [path.name for path in NOTEBOOKS if path.name[:2] in headless.CORE]
ARTIFACTS = {
    "01": ["01_manifest.csv"],
    "02": ["02_split.csv", "02_left_out.csv", "02_audit.json", "02_samples.png", "02_class_balance.png", "02_sizes.png",
           "02_audit_baselines.png", "02_audit_letters.png", "02_audit_shift.png", "02_audit_gallery.png"],
    "03": ["03_augmentation.json", "03_augmentation.png"],
    "04": ["04_xray_classification_model.keras", "04_ensemble.keras", "04_plain.keras", "04_seeds.csv",
           "04_val_predictions.csv", "04_history.csv", "04_run.json", "04_loss_accuracy_plot.png", "04_ablation.csv",
           "04_ablation.png"],
    "05": ["05_metrics.json", "05_predictions.csv", "05_seed_predictions.csv", "05_test_ledger.csv",
           "05_classification_report.csv", "05_subgroups.csv", "05_robustness.csv", "05_flow.png", "05_seeds.png",
           "05_roc.png", "05_confusion_matrix.png", "05_calibration.png", "05_decision_curve.png", "05_subgroups.png",
           "05_robustness.png", "MODEL_CARD.md"],
    "06": ["06_attention.csv", "06_explain.json", "06_gradcam.png", "06_attention.png"],
    "07": ["07_backbones.csv", "07_seeds.csv", "07_val_predictions.csv", "07_transfer.keras", "07_run.json",
           "07_seed_predictions.csv", "07_metrics.json", "07_test_ledger.csv", "07_backbones.png", "07_seeds.png"],
    "08": ["08_seeds.csv", "08_subtypes.keras", "08_predictions.csv", "08_metrics.json", "08_test_ledger.csv",
           "08_confusion.png", "08_classes.png"],
    "09": ["09_gate.keras", "09_gate.json", "09_gate.csv", "09_gate.png", "09_predictions.csv", "09_predictions.png",
           "09_model.tflite", "09_saved_model.zip", "09_test_ledger.csv"],
    "10": ["10_external.json", "10_predictions.csv", "10_shift.csv", "10_roc.png", "10_shift.png",
           "10_calibration.png"],
}


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    nb = nbformat.read(request.param, as_version=4)
    nb.path = request.param
    return nb


# --- as committed ---------------------------------------------------------------------------------------------

def test_there_are_five_in_order():
    assert [name[:2] for name in CORE] == list(headless.CORE)


def test_opens_with_question_links_badge_and_table(notebook):
    first, number = notebook.cells[0].source, notebook.path.name[:2]
    assert first.startswith(f"# {number} · ") and "?" in first.splitlines()[0]
    assert "colab.research.google.com/github/" in first and f"/notebooks/{notebook.path.name})" in first
    for word in ("**reads**", "**writes**", "**takes**"):
        assert word in first
    for name in ARTIFACTS.get(number, []):
        assert name in first, f"{name} is written, but the first cell does not say so"


def test_links_lead_to_files_that_exist(notebook):
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for target in re.findall(r"\]\((?!http)([^)#]+)\)", cell.source):
                assert (notebook.path.parent / target).exists(), target


def test_one_parameters_cell_each_line_with_a_comment(notebook):
    tagged = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    for line in tagged[0].source.splitlines():
        assert re.match(r"[A-Z_]+ = .+  # \S", line), line


def test_cells_are_small(notebook):
    lengths = [len(cell.source.splitlines()) for cell in code_cells(notebook)]
    assert statistics.median(lengths) <= 5 and max(lengths) <= 25
    assert notebook.path.stat().st_size <= 1_000_000


def test_is_executed_top_to_bottom_without_error_or_noise(notebook):
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for output in (output for cell in cells for output in cell.outputs):
        assert output.output_type != "error"
        assert output.get("name") != "stderr", output.text[:300]


def test_outputs_come_from_the_code_as_it_is(notebook):
    record = json.loads((ROOT / "results" / f"{notebook.path.name[:2]}_lineage.json").read_text())
    assert record["sources"] == chain.sources(notebook.path), (
        f"{notebook.path.name} or a module it uses has changed since it was run: `make render`")


def test_carries_no_widget_runner_metadata_or_machine_path(notebook):
    text = notebook.path.read_text(encoding="utf-8")
    assert "widgets" not in notebook.metadata and "papermill" not in text and "injected-parameters" not in text
    for trace in ("/home/", "/root", "/tmp", "/Users/", str(ROOT), "SYNTHETIC"):
        assert trace not in text, f"{trace} in {notebook.path.name}"


def test_ends_with_what_was_written_and_learned(notebook):
    sources = [cell.source for cell in notebook.cells]
    assert any("step.done()" in source for source in sources[-4:])
    assert "## What we learned" in sources[-2] or "## What we learned" in sources[-3]
    said = code_cells(notebook)[-1].outputs[0].data["text/markdown"]
    assert len(re.findall(r"\d", said)) >= 3, "the takeaways are in numbers"


# --- the chain on tiny data -----------------------------------------------------------------------------------

def test_every_artifact_is_there_and_nothing_else(finished):
    expected = {name for n in headless.CORE for name in [*ARTIFACTS[n], f"{n}_lineage.json"]}
    assert {path.name for path in (finished / "results").iterdir()} == expected


def test_contract_of_manifest_and_split(finished, tiny):
    manifest = pd.read_csv(finished / "results/01_manifest.csv", keep_default_na=False)
    assert list(manifest) == ["path", "folder", "class_name", "label", "subtype", "patient", "width", "height", "mode",
                              "bytes", "sha256"]
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
    answers = {name: keras.models.load_model(results / f"04_{name}.keras", compile=False).predict(pictures, verbose=0)
               for name in ("xray_classification_model", "ensemble", "plain")}
    np.testing.assert_allclose(answers["xray_classification_model"][:, 0], saved.probability, atol=1e-5)
    np.testing.assert_allclose(answers["plain"][:, 0], saved.plain, atol=1e-5)
    np.testing.assert_allclose(answers["ensemble"].mean(axis=1), saved.ensemble, atol=1e-5)
    np.testing.assert_allclose(answers["ensemble"][:, run["kept_seed"]], saved.probability, atol=1e-5)
    long = pd.read_csv(results / "05_seed_predictions.csv")
    assert list(long) == ["seed", "path", "label", "probability"] and sorted(set(long.seed)) == [0, 1]
    by_seed = long.pivot(index="path", columns="seed", values="probability")
    test = (saved.split == "test").to_numpy()
    np.testing.assert_allclose(by_seed.loc[saved.path[test]], answers["ensemble"][test], atol=1e-5)


@pytest.mark.skipif(not os.environ.get("CHEST_XRAY_DIR"), reason="needs the real X-rays: set CHEST_XRAY_DIR")
def test_the_committed_network_says_of_the_real_x_rays_what_is_committed():
    from cxr.backend import keras

    results, folder = ROOT / "results", Path(os.environ["CHEST_XRAY_DIR"])
    saved = pd.read_csv(results / "05_predictions.csv", keep_default_na=False)
    saved = saved[saved.split == "test"]
    size = json.loads((results / "04_run.json").read_text())["image_size"]
    pictures = np.stack([images.decode(folder / path, size) for path in saved.path])[..., None]
    network = keras.models.load_model(results / "04_xray_classification_model.keras", compile=False)
    np.testing.assert_allclose(network.predict(pictures, verbose=0)[:, 0], saved.probability, atol=1e-5)


def by_scikit_learn(label, probability, threshold):
    """The figures of 05_metrics.json, by scikit-learn alone."""
    called = probability >= threshold
    return {"accuracy": metrics.accuracy_score(label, called), "auc": metrics.roc_auc_score(label, probability),
            "balanced_accuracy": metrics.balanced_accuracy_score(label, called),
            "average_precision": metrics.average_precision_score(label, probability),
            "sensitivity": metrics.recall_score(label, called),
            "specificity": metrics.recall_score(label, called, pos_label=0),
            "ppv": metrics.precision_score(label, called, zero_division=0),
            "npv": metrics.precision_score(label, called, pos_label=0, zero_division=0),
            "f1": metrics.f1_score(label, called), "mcc": metrics.matthews_corrcoef(label, called)}


@pytest.mark.parametrize("which", ["tiny", "committed"])
def test_metrics_follow_from_the_predictions(request, which):
    results = ROOT / "results" if which == "committed" else request.getfixturevalue("finished") / "results"
    facts = json.loads((results / "05_metrics.json").read_text())
    saved = pd.read_csv(results / "05_predictions.csv", keep_default_na=False)
    seeds = pd.read_csv(results / "04_seeds.csv")
    long = pd.read_csv(results / "05_seed_predictions.csv")
    test, found = saved[saved.split == "test"], facts["test"]
    assert facts["images"]["test"] == len(test) and facts["versions"]["keras"]
    each = [by_scikit_learn(own.label, own.probability, row.threshold) for row in seeds.itertuples()
            for own in [long[long.seed == row.seed]]]
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
    mean = long.groupby("path").probability.mean()
    np.testing.assert_allclose(mean[test.path], test.ensemble, atol=1e-6)


@pytest.mark.parametrize("which", ["tiny", "committed"])
def test_thresholds_come_from_validation_alone(request, which):
    from cxr import evaluate

    results = ROOT / "results" if which == "committed" else request.getfixturevalue("finished") / "results"
    val = pd.read_csv(results / "04_val_predictions.csv")
    facts = json.loads((results / "05_metrics.json").read_text())
    own = val[f"seed_{facts['seed']}"]
    assert facts["thresholds"] == pytest.approx({
        "balanced": evaluate.youden_threshold(val.label, own),
        "screening": evaluate.threshold_for(val.label, own, sensitivity=0.98),
        "triage": evaluate.threshold_for(val.label, own, specificity=0.95)}, abs=1e-9)
    split = pd.read_csv(results / "02_split.csv", keep_default_na=False).set_index("path").split
    assert set(split[val.path]) == {"val"}


@pytest.mark.parametrize("which", ["tiny", "committed"])
def test_the_kept_seed_is_the_median_under_stress(request, which):
    results = ROOT / "results" if which == "committed" else request.getfixturevalue("finished") / "results"
    seeds = pd.read_csv(results / "04_seeds.csv")
    run = json.loads((results / "04_run.json").read_text())
    order = list(seeds.sort_values("stress_auc").seed)
    assert order[(len(order) - 1) // 2] == run["kept_seed"] and run["seeds"] == len(seeds)
    val = pd.read_csv(results / "04_val_predictions.csv")
    for row in seeds.itertuples():
        for column, part in (("val_auc", val.draw == 0), ("stress_auc", val.draw > 0)):
            found = metrics.roc_auc_score(val.label[part], val[f"seed_{row.seed}"][part])
            assert getattr(row, column) == pytest.approx(found, abs=1e-5)


def test_history_and_seeds_agree_on_the_best_epoch(finished):
    history = pd.read_csv(finished / "results/04_history.csv")
    seeds = pd.read_csv(finished / "results/04_seeds.csv")
    run = json.loads((finished / "results/04_run.json").read_text())
    for row in seeds.itertuples():
        own = history[history.seed == row.seed].reset_index(drop=True)
        assert list(own.epoch) == list(range(1, row.epochs + 1)) and own.val_loss.idxmin() + 1 == row.best_epoch
    assert run["best_epoch"] == seeds.set_index("seed").best_epoch[run["kept_seed"]]


def test_the_ablation_has_every_row_and_seed_and_ends_in_the_recipe(finished):
    table = pd.read_csv(finished / "results/04_ablation.csv")
    names = list(dict.fromkeys(table.row))
    assert names[:2] == ["plain CNN", "this network"] and len(names) == len(table) >= 7
    kept = [row for row in json.loads((finished / "results/03_augmentation.json").read_text())["layers"] if row["kept"]]
    added = ", ".join(name.removeprefix("+ ") for name in names if name.startswith("+ ")).split(", ")
    assert added == [row["layer"].removeprefix("Random") for row in kept]
    figures = table[["val_auc", "stress_auc", "misled_auc", "unpractised_auc"]]
    assert ((figures >= 0) & (figures <= 1)).all(axis=None)
    assert (table.epochs == 1).all() and table.weights_sha256.is_unique


def test_the_ledger_of_the_run_has_one_line(finished):
    found = pd.read_csv(finished / "results/05_test_ledger.csv")
    assert len(found) == 1 and found.images[0] == 13 and "04_plain.keras:" in found.networks[0]


def test_every_figure_of_the_card_comes_from_the_metrics(finished):
    metrics = json.loads((finished / "results/05_metrics.json").read_text())
    run = json.loads((finished / "results/04_run.json").read_text())
    text = (finished / "results/MODEL_CARD.md").read_text()
    assert text == card.write(metrics, run, opened=1), "the card follows from the JSON alone"
    assert "SYNTHETIC" in text and "not a diagnostic device" in text
    own = metrics["test"]["at_chosen_threshold"]
    for name in ("accuracy", "auc", "sensitivity", "specificity"):
        assert f"{own[name]:.3f}" in text and f"{metrics['test']['seeds']['mean'][name]:.3f} ±" in text


def test_synthetic_images_are_called_so_everywhere(finished, beyond):
    for name in ("05_metrics.json", "04_run.json"):
        facts = json.loads((finished / "results" / name).read_text())
        assert facts["synthetic"] is True and "SYNTHETIC" in facts["data_set"]
    assert "SYNTHETIC" in (finished / "results/05_classification_report.csv").read_text()
    for path in [*(finished / "results").glob("*.png"), *(beyond / "results").glob("*.png")]:
        pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
        reddish = (pixels[..., 0] - pixels[..., 1] > 30) & (pixels[..., 1] - pixels[..., 2] < 30)
        assert reddish.sum() > 500, f"{path.name} is not marked"


def test_executed_copies_are_tidy(finished, beyond):
    for path in [*(finished / "notebooks").iterdir(), *(beyond / "notebooks").iterdir()]:
        nb = nbformat.read(path, as_version=4)
        assert set(nb.metadata) <= {"kernelspec", "language_info"}
        assert not any(o.output_type == "error" or o.get("name") == "stderr" for c in code_cells(nb) for o in c.outputs)
        for cell in code_cells(nb):
            names = [output.name for output in cell.outputs if output.output_type == "stream"]
            assert all(a != b for a, b in zip(names, names[1:])), "one stream in pieces"


@pytest.mark.parametrize("number, missing, maker", [
    ("02", "01_manifest.csv", "01_download.ipynb"),
    ("03", "02_split.csv", "02_explore.ipynb"),
    ("04", "03_augmentation.json", "03_augment.ipynb"),
    ("05", "04_xray_classification_model.keras", "04_train.ipynb"),
    ("08", "07_run.json", "07_transfer.ipynb"),
    ("10", "09_gate.json", "09_predict.ipynb"),
])
def test_a_notebook_without_its_input_says_which_one_makes_it(number, missing, maker, chain_copy):
    (chain_copy / "results" / missing).unlink(missing_ok=True)  # what comes after 05 was not made yet
    before = {path.name: path.read_bytes() for path in (chain_copy / "results").iterdir()}
    with pytest.raises(Problem, match=f"{missing} is missing: run {maker}"):
        headless.run(headless.choose(number), chain_copy / "out", QUICK)
    assert {path.name: path.read_bytes() for path in (chain_copy / "results").iterdir()} == before
    assert not list((chain_copy / "out").iterdir())


def test_a_notebook_on_an_older_chain_says_so_and_stops(chain_copy):
    headless.run(headless.choose("02"), chain_copy / "out", {"02": {"SPLIT_SEED": 1}})
    with pytest.raises(Problem, match="older 02_split.csv: run (03_augment|04_train).ipynb"):
        headless.run(headless.choose("05"), chain_copy / "out")


def test_a_notebook_on_other_images_says_so_and_stops(chain_copy, tiny, monkeypatch):
    other = chain_copy / "other"
    other.mkdir()
    for path in tiny.rglob("*.jpeg"):
        target = other / path.relative_to(tiny)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes() + b"\0")
    monkeypatch.setenv("CHEST_XRAY_DIR", str(other))
    with pytest.raises(Problem, match="01_manifest.csv.*01_download.ipynb"):
        headless.run(headless.choose("02"), chain_copy / "out")


# --- beyond the five ------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def beyond(finished, tiny, tmp_path_factory):
    """Results and executed copies of 06 to 10, after the five; "ImageNet" is a network that has met noise alone."""
    from cxr import transfer
    from cxr.backend import keras

    folder, weights = tmp_path_factory.mktemp("beyond"), tmp_path_factory.mktemp("weights")
    shutil.copytree(finished / "results", folder / "results")
    met = transfer.raw("MobileNetV2 0.35", 96)
    for layer in met.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.5
    for seed in range(8):
        met(keras.random.normal((16, 96, 96, 3), seed=seed), training=True)
    met.save_weights(weights / "mobilenet_v2_0.35_96.weights.h5")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHEST_XRAY_DIR", str(tiny))
        patch.setenv("CXR_RESULTS_DIR", str(folder / "results"))
        patch.setenv("CXR_CACHE_DIR", str(finished / "cache"))
        patch.setenv("KERAS_WEIGHTS_DIR", str(weights))
        headless.run(headless.choose("06 07 08 09 10"), folder / "notebooks", BEYOND)
    return folder


@pytest.fixture(params=["tiny", "committed"])
def results(request):
    """The results folder of the tiny run, and the committed one."""
    return ROOT / "results" if request.param == "committed" else request.getfixturevalue("beyond") / "results"


def read(path):
    return json.loads(path.read_text()) if path.suffix == ".json" else pd.read_csv(path, keep_default_na=False)


def test_those_beyond_write_what_they_say_and_nothing_else(beyond, finished):
    written = {path.name for path in (beyond / "results").iterdir()}
    written -= {path.name for path in (finished / "results").iterdir()}
    numbers = [path.name[:2] for path in NOTEBOOKS if path.name[:2] not in headless.CORE]
    assert written == {name for n in numbers for name in [*ARTIFACTS[n], f"{n}_lineage.json"]}


def test_06_explains_validation_films_alone(results):
    facts, table = read(results / "06_explain.json"), read(results / "06_attention.csv")
    split = read(results / "02_split.csv").set_index("path").split
    assert set(split[table.path]) == {"val"} and facts["films"] == len(table)
    for name in ("plain CNN", "this network"):
        assert facts["inside"][name]["mean"] == pytest.approx(table[f"inside, {name}"].mean(), abs=1e-5)
        expected = table[f"lungs, {name}"].mean() / table[f"corners, {name}"].mean()
        assert facts["lungs_over_corners"][name]["mean"] == pytest.approx(expected, rel=1e-4)


def test_07_judges_each_seed_by_its_threshold_from_validation(results):
    from cxr import evaluate

    facts, seeds, long = (read(results / name) for name in ("07_metrics.json", "07_seeds.csv",
                                                            "07_seed_predictions.csv"))
    val = read(results / "07_val_predictions.csv")
    split = read(results / "02_split.csv").set_index("path").split
    assert set(split[val.path]) == {"val"} and set(split[long.path]) == {"test"}
    for row, found in zip(seeds.itertuples(), facts["seeds"]["each"], strict=True):
        assert row.threshold == pytest.approx(evaluate.youden_threshold(val.label, val[f"seed_{row.seed}"]), abs=1e-6)
        stressed = val[val.draw > 0]
        assert row.stress_auc == pytest.approx(
            metrics.roc_auc_score(stressed.label, stressed[f"seed_{row.seed}"]), abs=1e-5)
        own = long[long.seed == row.seed]
        expected = by_scikit_learn(own.label, own.probability, found["threshold"])
        assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-9)
    for name in ("accuracy", "auc"):
        assert facts["seeds"]["mean"][name] == pytest.approx(np.mean([one[name] for one in facts["seeds"]["each"]]))
    order = list(seeds.sort_values("stress_auc").seed)
    assert order[(len(order) - 1) // 2] == facts["kept_seed"] == read(results / "07_run.json")["kept_seed"]


def test_07_names_every_backbone_and_takes_the_best_under_stress(results):
    from cxr import transfer

    table, facts = read(results / "07_backbones.csv"), read(results / "07_metrics.json")
    control = table[table.weights == "RANDOM"]
    assert list(control.backbone) == [f"{facts['backbone']}, control"]
    table = table.drop(control.index)
    assert set(table.backbone) == set(transfer.BACKBONES) and (table.parameters.astype(int) > 300_000).all()
    ran = table[table.stress_auc != ""]
    assert facts["backbone"] == ran.backbone[ran.stress_auc.astype(float).idxmax()]
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
        assert kept["macro_f1"] == pytest.approx(metrics.f1_score(code, called, average="macro", zero_division=0))
        expected = metrics.roc_auc_score(code, found / found.sum(axis=1, keepdims=True), multi_class="ovr")
        assert kept["macro_auc"] == pytest.approx(expected, abs=1e-4)
        low, high = facts["test"][which]["intervals_95"]["macro_auc"]
        assert low <= kept["macro_auc"] + 0.02 and high >= kept["macro_auc"] - 0.02
        values = [row["accuracy"] for row in facts["test"][which]["each"]]
        assert facts["test"][which]["mean"]["accuracy"] == pytest.approx(np.mean(values))


def test_09_gives_no_answer_without_a_reason(results):
    table, gated, facts = (read(results / name) for name in ("09_predictions.csv", "09_gate.csv", "09_gate.json"))
    refused = table.answer == own.CANNOT
    assert ((table.reason != "") == refused).all() and ((table.probability == "") == refused).all()
    by_name = table.set_index("file").reason
    assert "damaged" in by_name["10 cut short.jpeg"] and by_name["11 cat.png"] == "is in colour"
    assert "045Y" in by_name["9 adult, by its header.dcm"]
    others = gated[~gated.pictures.isin(["validation films, other half", "test films"])]
    altered = others.pictures.str.startswith("films")
    for what, rows in (("altered", others[altered]), ("strange", others[~altered])):
        expected = (rows.refused * rows["count"]).sum() / rows["count"].sum()
        assert len(rows) == 5 and facts[f"refused_of_{what}"] == pytest.approx(expected, abs=1e-4)


def test_the_committed_gate_keeps_its_promise():
    """Of films that it was not fitted to, and of pictures that are none; the test folder is only reported."""
    facts, gated = read(ROOT / "results/09_gate.json"), read(ROOT / "results/09_gate.csv").set_index("pictures")
    assert facts["refused_of_validation"] <= 0.02
    others = gated[~gated.index.str.contains("validation|test")]
    assert facts["refused_of_strange"] >= 0.95 and facts["refused_of_altered"] >= 0.9
    assert (others.refused * others["count"]).sum() / others["count"].sum() >= 0.95
    assert gated.refused["test films"] == pytest.approx(facts["refused_of_test"], abs=1e-5)


def test_09_exports_say_what_keras_says(beyond, tiny):
    from cxr import export
    from cxr.backend import keras

    results = beyond / "results"
    network = keras.models.load_model(results / "04_xray_classification_model.keras", compile=False)
    size = network.input_shape[1]
    pictures = np.stack([images.decode(path, size) for path in sorted(tiny.rglob("test/*/*.jpeg"))[:8]])
    expected = network.predict(pictures[..., None], verbose=0)
    np.testing.assert_allclose(export.by_litert(results / "09_model.tflite", pictures), expected, atol=1e-4)
    np.testing.assert_allclose(export.by_saved_model(results / "09_saved_model.zip", pictures), expected, atol=1e-4)


def test_predictions_from_the_command_line_are_those_of_the_reader(beyond, tiny, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("CXR_RESULTS_DIR", str(beyond / "results"))
    shutil.copytree(tiny / "test", tmp_path / "films")
    (tmp_path / "films/note.txt").write_text("not a picture")
    own.main([str(tmp_path / "films"), "--to", str(tmp_path / "out.csv")])
    table = read(tmp_path / "out.csv")
    assert len(table) == 13 and set(table.answer) <= {"pneumonia", "normal", own.CANNOT}
    assert "Not a diagnostic device" in capsys.readouterr().out
    with pytest.raises(Problem, match="nowhere is not there: name a picture"):
        own.main([str(tmp_path / "nowhere")])


def test_10_figures_follow_from_its_predictions(results):
    facts, table = read(results / "10_external.json"), read(results / "10_predictions.csv")
    assert facts["what_if"] is True and facts["films"] == len(table)
    assert facts["refused"] == pytest.approx((table.reason != "").mean())
    found = facts["figures"]["what-if hospital, all"]["value"]
    expected = by_scikit_learn(table.label, table.probability, facts["threshold"])
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-4)
    home, saved = facts["figures"]["home, val"]["value"], read(results / "05_predictions.csv")
    val = saved[saved.split == "val"]
    assert home["auc"] == pytest.approx(metrics.roc_auc_score(val.label, val.probability))
    assert set(table.path.str.rpartition("/")[2].str.removesuffix(".png")) == set(
        val.path.str.rpartition("/")[2].str.rpartition(".")[0])


def test_10_takes_a_folder_of_films_from_elsewhere(beyond, finished, tiny, tmp_path, monkeypatch):
    """Another drawn hospital: PNG of another size, inverted, framed wider, under other class names."""
    rng = np.random.default_rng(3)
    for kind, name in (("normal", "Normal"), ("virus", "tuberculosis")):
        (tmp_path / "elsewhere" / name).mkdir(parents=True)
        for i in range(8):
            film = np.pad(draw_chest(rng, kind, (220, 260)), 20)
            Image.fromarray(255 - film if i == 0 else film).save(tmp_path / "elsewhere" / name / f"{i}.png")
    shutil.copytree(beyond / "results", tmp_path / "results")
    monkeypatch.setenv("CHEST_XRAY_DIR", str(tiny))
    monkeypatch.setenv("CXR_RESULTS_DIR", str(tmp_path / "results"))
    monkeypatch.setenv("CXR_CACHE_DIR", str(finished / "cache"))
    headless.run(headless.choose("10"), tmp_path / "out", {
        "10": {"FOLDER": str(tmp_path / "elsewhere"), "NAME": "elsewhere", "RESAMPLES": 200}})
    facts, table = read(tmp_path / "results/10_external.json"), read(tmp_path / "results/10_predictions.csv")
    assert facts["what_if"] is False and facts["external"] == "elsewhere" and len(table) == 16
    assert set(table.class_name) == {"Normal", "tuberculosis"} and facts["threshold"] > 0
    assert "elsewhere, all" in facts["figures"]
