"""The notebooks beyond the five, on tiny data and as committed."""

import json
import shutil

import nbformat
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn import metrics as sklearn_metrics

from contract import ARTIFACTS, BEYOND, TINY_AND_COMMITTED, by_scikit_learn, code_cells
from cxr import images, predict
from cxr.project import restamp, run
from cxr.project.paths import ROOT, Problem
from cxr.project.practice import draw_chest


@pytest.fixture(scope="module")
def beyond(finished, tiny, tmp_path_factory):
    """Results and executed copies of 06 to 10, after the five; "ImageNet" is a network that has met noise alone."""
    folder = tmp_path_factory.mktemp("beyond")
    shutil.copytree(finished / "results", folder / "results")
    weights = restamp.noise_weights(tmp_path_factory.mktemp("weights"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHEST_XRAY_DIR", str(tiny))
        patch.setenv("CXR_RESULTS_DIR", str(folder / "results"))
        patch.setenv("CXR_CACHE_DIR", str(finished / "cache"))
        patch.setenv("KERAS_WEIGHTS_DIR", str(weights))
        run.run(run.choose(" ".join(BEYOND)), folder / "notebooks", run.QUICK)
    return folder


@pytest.fixture(params=TINY_AND_COMMITTED)
def results(request):
    """The results folder of the tiny run, and the committed one."""
    return ROOT / "results" if request.param == "committed" else request.getfixturevalue("beyond") / "results"


def read(path):
    return json.loads(path.read_text()) if path.suffix == ".json" else pd.read_csv(path, keep_default_na=False)


def test_those_beyond_write_what_they_say_and_nothing_else(beyond, finished):
    written = {path.name for path in (beyond / "results").iterdir()}
    written -= {path.name for path in (finished / "results").iterdir()}
    assert written == {name for n in BEYOND for name in [*ARTIFACTS[n], f"{n}_lineage.json"]}


def test_06_explains_validation_films_alone(results):
    facts, table = read(results / "06_explain.json"), read(results / "06_attention.csv")
    split = read(results / "02_split.csv").set_index("path").split
    assert set(split[table.path]) == {"val"} and facts["films"] == len(table)
    for name in ("plain CNN", "this network"):
        assert facts["inside"][name]["mean"] == pytest.approx(table[f"inside, {name}"].mean(), abs=1e-5)
        for other in ("corners", "body"):
            expected = table[f"lungs, {name}"].mean() / table[f"{other}, {name}"].mean()
            assert facts[f"lungs_over_{other}"][name]["mean"] == pytest.approx(expected, rel=1e-4)
        assert set(facts["auc_covered"][name]) == {"nothing", "corners", "lungs", "body"}
    assert facts["lungs_drawn"] == facts["films"], "the practice set has its lungs drawn"


def test_07_judges_each_seed_by_its_threshold_from_validation(results):
    from cxr import metrics

    facts, seeds, long = (
        read(results / name) for name in ("07_metrics.json", "07_seeds.csv", "07_seed_predictions.csv")
    )
    val = read(results / "07_val_predictions.csv")
    split = read(results / "02_split.csv").set_index("path").split
    assert set(split[val.path]) == {"val"} and set(split[long.path]) == {"test"}
    for row, found in zip(seeds.itertuples(), facts["seeds"]["each"], strict=True):
        assert row.threshold == pytest.approx(metrics.youden_threshold(val.label, val[f"seed_{row.seed}"]), abs=1e-6)
        stressed = val[val.draw > 0]
        assert row.stress_auc == pytest.approx(
            sklearn_metrics.roc_auc_score(stressed.label, stressed[f"seed_{row.seed}"]), abs=1e-5
        )
        own = long[long.seed == row.seed]
        expected = by_scikit_learn(own.label, own.probability, found["threshold"])
        assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-9)
    for name in ("accuracy", "auc"):
        assert facts["seeds"]["mean"][name] == pytest.approx(np.mean([one[name] for one in facts["seeds"]["each"]]))
    order = list(seeds.sort_values("stress_auc").seed)
    assert order[(len(order) - 1) // 2] == facts["kept_seed"] == read(results / "07_run.json")["kept_seed"]


def test_07_names_every_backbone_and_takes_the_best_under_stress(results):
    from cxr import backbones

    table, facts = read(results / "07_backbones.csv"), read(results / "07_metrics.json")
    control = table[table.weights == "RANDOM"]
    assert list(control.backbone) == [f"{facts['backbone']}, control"]
    table = table.drop(control.index)
    assert set(table.backbone) == set(backbones.BACKBONES) and (table.parameters.astype(int) > 300_000).all()
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
        assert kept["macro_f1"] == pytest.approx(
            sklearn_metrics.f1_score(code, called, average="macro", zero_division=0)
        )
        expected = sklearn_metrics.roc_auc_score(code, found / found.sum(axis=1, keepdims=True), multi_class="ovr")
        assert kept["macro_auc"] == pytest.approx(expected, abs=1e-4)
        low, high = facts["test"][which]["intervals_95"]["macro_auc"]
        assert low <= kept["macro_auc"] + 0.02 and high >= kept["macro_auc"] - 0.02
        values = [row["accuracy"] for row in facts["test"][which]["each"]]
        assert facts["test"][which]["mean"]["accuracy"] == pytest.approx(np.mean(values))


def test_09_gives_no_answer_without_a_reason(results):
    table, gated, facts = (read(results / name) for name in ("09_predictions.csv", "09_gate.csv", "09_gate.json"))
    refused = table.answer == predict.CANNOT
    assert ((table.reason != "") == refused).all() and ((table.probability == "") == refused).all()
    by_name = table.set_index("file").reason
    assert "damaged" in by_name["10 cut short.jpeg"] and by_name["11 cat.png"] == "is in colour"
    assert "045Y" in by_name["9 adult, by its header.dcm"]
    others = gated[~gated.pictures.isin(["validation films, other half", "test films"])]
    altered = others.pictures.str.startswith("films")
    turned = others.pictures.isin(["films, inverted", "films on their side", "films upside down"])
    parts = (("turned", turned, 3), ("altered", altered & ~turned, 2), ("strange", ~altered, 5))
    for what, of_kind, kinds in parts:
        rows = others[of_kind]
        expected = (rows.refused * rows["count"]).sum() / rows["count"].sum()
        assert len(rows) == kinds and facts[f"refused_of_{what}"] == pytest.approx(expected, abs=1e-4)


def test_the_committed_gate_keeps_its_promise():
    """Of films that it was not fitted to, and of pictures that are none; the test folder is only reported."""
    facts, gated = read(ROOT / "results/09_gate.json"), read(ROOT / "results/09_gate.csv").set_index("pictures")
    assert facts["refused_of_validation"] <= 0.02
    others = gated[~gated.index.str.contains("validation|test")]
    assert facts["refused_of_strange"] >= 0.95 and facts["refused_of_turned"] >= 0.95
    assert 0.5 <= facts["refused_of_altered"] <= 1
    assert (others.refused * others["count"]).sum() / others["count"].sum() >= 0.95
    assert gated.refused["test films"] == pytest.approx(facts["refused_of_test"], abs=1e-5)


def test_09_exports_say_what_keras_says(beyond, finished, tiny):
    from cxr import export
    from cxr.project.backend import keras

    network = keras.models.load_model(beyond / "results/04_xray_classification_model.keras", compile=False)
    size, place = network.input_shape[1], finished / "cache/exported_practice"
    pictures = np.stack([images.decode(path, size) for path in sorted(tiny.rglob("test/*/*.jpeg"))[:8]])
    expected = network.predict(pictures[..., None], verbose=0)
    np.testing.assert_allclose(export.by_litert(place / "model.tflite", pictures), expected, atol=1e-4)
    np.testing.assert_allclose(export.by_saved_model(place / "saved_model", pictures), expected, atol=1e-4)


def test_predictions_from_the_command_line_are_those_of_the_reader(beyond, tiny, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("CXR_RESULTS_DIR", str(beyond / "results"))
    shutil.copytree(tiny / "test", tmp_path / "films")
    (tmp_path / "films/note.txt").write_text("not a picture")
    predict.main([str(tmp_path / "films"), "--to", str(tmp_path / "out.csv")])
    table = read(tmp_path / "out.csv")
    assert len(table) == 13 and set(table.answer) <= {"pneumonia", "normal", predict.CANNOT}
    assert "Not a diagnostic device" in capsys.readouterr().out
    with pytest.raises(Problem, match="nowhere is not there: name a picture"):
        predict.main([str(tmp_path / "nowhere")])


def test_10_figures_follow_from_its_predictions(results):
    facts, table = read(results / "10_external.json"), read(results / "10_predictions.csv")
    assert facts["what_if"] is True and facts["films"] == len(table)
    assert facts["refused"] == pytest.approx((table.reason != "").mean())
    found = facts["figures"]["what-if hospital, all"]["value"]
    expected = by_scikit_learn(table.label, table.probability, facts["threshold"])
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-4)
    home, saved = facts["figures"]["home, val"]["value"], read(results / "05_predictions.csv")
    val = saved[saved.split == "val"]
    assert home["auc"] == pytest.approx(sklearn_metrics.roc_auc_score(val.label, val.probability))
    assert set(table.path.str.rpartition("/")[2].str.removesuffix(".png")) == set(
        val.path.str.rpartition("/")[2].str.rpartition(".")[0]
    )


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
    run.run(
        run.choose("10"),
        tmp_path / "out",
        {"10": {"FOLDER": str(tmp_path / "elsewhere"), "NAME": "elsewhere", "RESAMPLES": 200}},
    )
    facts, table = read(tmp_path / "results/10_external.json"), read(tmp_path / "results/10_predictions.csv")
    assert facts["what_if"] is False and facts["external"] == "elsewhere" and len(table) == 16
    assert set(table.class_name) == {"Normal", "tuberculosis"} and facts["threshold"] > 0
    assert "elsewhere, all" in facts["figures"]


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
