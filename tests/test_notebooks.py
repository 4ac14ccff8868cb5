"""The notebooks: their anatomy as committed, and the whole chain on tiny data."""

import json
import re
import statistics

import nbformat
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn import metrics

from conftest import QUICK
from cxr import chain, headless, images
from cxr.project import ROOT, Problem

NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
CORE = [path.name for path in NOTEBOOKS if path.name[:2] in headless.CORE]
ARTIFACTS = {
    "01": ["01_manifest.csv"],
    "02": ["02_split.csv", "02_left_out.csv", "02_audit.json", "02_samples.png", "02_class_balance.png", "02_sizes.png",
           "02_audit_baselines.png", "02_audit_letters.png", "02_audit_shift.png", "02_audit_gallery.png"],
    "03": ["03_augmentation.json", "03_augmentation.png"],
    "04": ["04_xray_classification_model.keras", "04_history.csv", "04_run.json", "04_loss_accuracy_plot.png"],
    "05": ["05_predictions.csv", "05_metrics.json", "05_classification_report.csv", "05_confusion_matrix.png",
           "05_roc.png"],
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
    expected = {name for names in ARTIFACTS.values() for name in names} | {f"{n}_lineage.json" for n in headless.CORE}
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


def test_predictions_come_from_the_saved_model(finished, tiny):
    from cxr.backend import keras

    saved = pd.read_csv(finished / "results/05_predictions.csv", keep_default_na=False)
    split = pd.read_csv(finished / "results/02_split.csv", keep_default_na=False)
    assert set(saved) == {"path", "label", "subtype", "split", "probability"}
    assert set(saved.path) == set(split.path[split.split != "train"])
    network = keras.models.load_model(finished / "results/04_xray_classification_model.keras", compile=False)
    size = json.loads((finished / "results/04_run.json").read_text())["image_size"]
    pictures = np.stack([images.decode(tiny / path, size) for path in saved.path])
    np.testing.assert_allclose(network.predict(pictures[..., None], verbose=0)[:, 0], saved.probability, atol=1e-5)


def test_metrics_follow_from_the_predictions(finished):
    facts = json.loads((finished / "results/05_metrics.json").read_text())
    saved = pd.read_csv(finished / "results/05_predictions.csv", keep_default_na=False)
    test = saved[saved.split == "test"]
    assert facts["images"]["test"] == len(test) and facts["versions"]["keras"]
    for name, threshold in (("at_chosen_threshold", facts["threshold"]["value"]), ("at_0.5", 0.5)):
        found, called = facts["test"][name], test.probability >= threshold
        assert found["threshold"] == threshold
        assert found["accuracy"] == pytest.approx(metrics.accuracy_score(test.label, called))
        assert found["auc"] == pytest.approx(metrics.roc_auc_score(test.label, test.probability))
        assert found["sensitivity"] == pytest.approx(metrics.recall_score(test.label, called))
        assert found["specificity"] == pytest.approx(metrics.recall_score(test.label, called, pos_label=0))
        assert {"precision", "f1"} <= set(found)


def test_history_and_model_agree_on_the_best_epoch(finished):
    history = pd.read_csv(finished / "results/04_history.csv")
    run = json.loads((finished / "results/04_run.json").read_text())
    assert list(history.epoch) == list(range(1, run["epochs_run"] + 1))
    assert history.val_loss.idxmin() + 1 == run["best_epoch"]


def test_synthetic_images_are_called_so_everywhere(finished):
    for name in ("05_metrics.json", "04_run.json"):
        facts = json.loads((finished / "results" / name).read_text())
        assert facts["synthetic"] is True and "SYNTHETIC" in facts["data_set"]
    assert "SYNTHETIC" in (finished / "results/05_classification_report.csv").read_text()
    for path in (finished / "results").glob("*.png"):
        pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
        reddish = (pixels[..., 0] - pixels[..., 1] > 30) & (pixels[..., 1] - pixels[..., 2] < 30)
        assert reddish.sum() > 500, f"{path.name} is not marked"


def test_executed_copies_are_tidy(finished):
    for name in CORE:
        nb = nbformat.read(finished / "notebooks" / name, as_version=4)
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
])
def test_a_notebook_without_its_input_says_which_one_makes_it(number, missing, maker, chain_copy):
    (chain_copy / "results" / missing).unlink()
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
