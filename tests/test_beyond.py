"""The notebooks beyond the five, on tiny data and as committed."""

import json
import os
import shutil
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
import restamp
from PIL import Image
from sklearn import metrics as sklearn_metrics

import run
from contract import ARTIFACTS, BEYOND, TINY_AND_COMMITTED, by_scikit_learn, code_cells
from cxr import images, predict
from cxr.paths import ROOT, Problem, data_dir
from drawn import draw_chest


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
        patch.delenv("CXR_EXTERNAL_DIR", raising=False)
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
        said = val[f"seed_{row.seed}"]
        assert row.threshold == pytest.approx(metrics.youden_threshold(val.label, said), abs=1e-6)
        for kind, name in (("plain", "val"), ("stress", "stress"), ("swap", "swap"), ("conflict", "conflict")):
            own = val.kind == kind
            expected = sklearn_metrics.roc_auc_score(val.label[own], said[own])
            assert getattr(row, f"{name}_auc") == pytest.approx(expected, abs=1e-5)
        own = long[long.seed == row.seed]
        expected = by_scikit_learn(own.label, own.probability, found["threshold"])
        assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-9)
    for name in ("accuracy", "auc"):
        assert facts["seeds"]["mean"][name] == pytest.approx(np.mean([one[name] for one in facts["seeds"]["each"]]))
    run, order = read(results / "07_run.json"), list(seeds.sort_values("conflict_auc").seed)
    ranked = run["between_seeds"] > 2 * run["noise"]
    assert facts["kept_seed"] == run["kept_seed"] == (order[(len(order) - 1) // 2] if ranked else 0)
    small = read(results / "05_seed_predictions.csv")
    theirs = np.mean([sklearn_metrics.roc_auc_score(own.label, own.probability) for _, own in small.groupby("seed")])
    gain = facts["against_small"]["differences"]["auc"]
    assert gain["value"] == pytest.approx(facts["seeds"]["mean"]["auc"] - theirs, abs=1e-6)
    assert gain["interval"][0] <= gain["value"] <= gain["interval"][1]


def test_07_names_every_backbone_and_takes_the_best_on_validation(results):
    from cxr import backbones

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
        low, high = facts["test"][which]["intervals_95"]["macro_auc"]
        assert low <= kept["macro_auc"] + 0.02 and high >= kept["macro_auc"] - 0.02
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
    assert (results / "08_subtypes.keras").stat().st_size < 1_500_000, "the small one is stored"
    clues = facts["beside"]["the clues alone"]
    assert clues["conflict_macro_auc"] is None and 0 <= clues["test_ill_auc"] <= 1


def test_09_gives_no_answer_without_a_reason(results):
    table, gated, facts = (read(results / name) for name in ("09_predictions.csv", "09_gate.csv", "09_gate.json"))
    refused = table.answer == predict.CANNOT
    assert ((table.reason != "") == refused).all() and ((table.probability == "") == refused).all()
    by_name = table.set_index("file").reason
    assert "damaged" in by_name["10 cut short.jpeg"] and by_name["11 cat.png"] == "is in colour"
    assert "045Y" in by_name["09 adult, by its header.dcm"]
    others = gated[~gated.pictures.str.contains("validation|test|adults")]
    altered = others.pictures.isin(["films in part", "films on a screen"])
    turned = others.pictures.isin(["films, inverted", "films on their side", "films upside down"])
    parts = (("turned", turned, 3), ("altered", altered, 2), ("strange", ~altered & ~turned, 5))
    for what, of_kind, kinds in parts:
        rows = others[of_kind]
        expected = (rows.refused * rows["count"]).sum() / rows["count"].sum()
        assert len(rows) == kinds and facts[f"refused_of_{what}"] == pytest.approx(expected, abs=1e-4)
    answered = table[~refused]
    assert answered.typicality.astype(float).between(0, 1).all()


def test_the_committed_gate_keeps_its_promise():
    """Of films that should pass, of adults, and of other pictures; the test folder is only reported."""
    facts, gated = read(ROOT / "results/09_gate.json"), read(ROOT / "results/09_gate.csv").set_index("pictures")
    assert facts["refused_of_validation"] <= 0.02
    assert (gated.refused[gated.index.str.startswith("validation films, ")] <= 0.05).all()
    assert (gated.refused[gated.index.str.startswith("adults")] >= 0.97).sum() == 5, (
        "each by a line without the patient"
    )
    assert facts["refused_of_strange"] >= 0.98 and facts["refused_of_turned"] >= 0.95
    assert 0.5 <= facts["refused_of_altered"] <= 1
    assert gated.refused["test films"] == pytest.approx(facts["refused_of_test"], abs=1e-5)
    assert (ROOT / "results/09_gate.keras").stat().st_size < 3_000_000


@pytest.mark.skipif("CXR_FULL_SIZE_DIR" not in os.environ, reason="needs CXR_FULL_SIZE_DIR and CHEST_XRAY_DIR")
def test_full_size_films_pass_the_committed_gate_and_get_the_answer_of_their_small_copy():
    """It must smell neither encoder nor size: CXR_FULL_SIZE_DIR has class folders of originals of the train folder."""
    reader, top = predict.Reader.load(), Path(os.environ["CXR_FULL_SIZE_DIR"])
    originals = sorted(top.glob("*/*.jpeg"))
    copies = [data_dir() / "train" / path.relative_to(top) for path in originals]
    large, small = (reader(paths, anyway=True)[0] for paths in (originals, copies))
    assert len(large) and (large.reason != "").mean() <= 0.03 and (small.reason != "").mean() <= 0.03
    called, copied = (one.answer.str.removeprefix(predict.DESPITE) for one in (large, small))
    assert (called == copied).mean() >= 0.99


def test_09_exports_say_what_keras_says(beyond, finished, tiny):
    from cxr import export
    from cxr.backend import keras

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
    called = table.probability.astype(float) >= facts["threshold"]
    passes = table.reason == ""
    assert facts["films"] == len(table) and facts["patients"] == table.patient.nunique()
    assert facts["refused"] == pytest.approx((~passes).mean())
    assert facts["reasons"] == table.reason[~passes].value_counts().to_dict()
    for name, inside in (("all", passes | True), ("passes the gate", passes), ("declined", ~passes)):
        if inside.any():
            own = facts["answers"][name]
            assert own["films"] == inside.sum() and own["called_ill"] == pytest.approx(called[inside].mean())
    home, saved = facts["figures"], read(results / "05_predictions.csv")
    part = "val" if facts["figures_of"] == "rehearsal" else "test"
    own = saved[saved.split == part]
    assert home[f"home, {part}"]["value"]["auc"] == pytest.approx(
        sklearn_metrics.roc_auc_score(own.label, own.probability)
    )
    curve = read(results / "10_learning.csv")
    assert set(facts["worth"]) < set(curve.way) and curve.groupby("films").way.nunique().eq(3).all()
    start = curve[curve.films == 0]
    judged = f"{facts['figures_of']}, all"
    assert start.accuracy.tolist() == pytest.approx([home[judged]["value"]["accuracy"]] * 3, abs=2e-3)
    assert (curve.accuracy_low <= curve.accuracy + 1e-6).all() and (curve.accuracy <= curve.accuracy_high + 1e-6).all()


@pytest.mark.chain
def test_10_without_a_folder_is_a_rehearsal_on_validation_films(beyond):
    facts, table = (read(beyond / "results" / name) for name in ("10_external.json", "10_predictions.csv"))
    assert facts["what_if"] is True and facts["external"] == facts["figures_of"] == "rehearsal"
    found = facts["figures"]["rehearsal, all"]["value"]
    expected = by_scikit_learn(table.label, table.probability, facts["threshold"])
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-4)
    saved = read(beyond / "results/05_predictions.csv")
    names = saved[saved.split == "val"].path.str.rpartition("/")[2].str.rpartition(".")[0]
    assert set(table.path.str.rpartition("/")[2].str.removesuffix(".png")) == set(names)
    for name, own in table.groupby("class_name"):
        assert facts["rehearsal"]["declined"][name.lower()][0] == pytest.approx((own.reason != "").mean())


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
        {"10": run.QUICK["10"] | {"FOLDER": str(tmp_path / "elsewhere"), "NAME": "elsewhere"}},
    )
    facts, table = read(tmp_path / "results/10_external.json"), read(tmp_path / "results/10_predictions.csv")
    assert facts["what_if"] is False and facts["external"] == "elsewhere" and len(table) == 16
    assert set(table.class_name) == {"Normal", "tuberculosis"} and facts["threshold"] > 0
    assert "elsewhere, all" in facts["figures"]
    assert facts["figures_of"] == "elsewhere" and set(read(tmp_path / "results/10_learning.csv").films) == {0, 8}


def test_10_takes_films_that_nobody_has_labelled(beyond, finished, tiny, tmp_path, monkeypatch):
    """Named by the environment; patients by a CSV beside it. What needs classes is the rehearsal's."""
    rng, folder = np.random.default_rng(4), tmp_path / "unlabelled"
    folder.mkdir()
    for i in range(7):
        Image.fromarray(draw_chest(rng, "virus", (220, 260))).save(folder / f"{i}.png")
    names = [{"image_id": str(i), "patient_id": f"p{i // 2}", "projection": "ap"} for i in range(7)]
    pd.DataFrame(names).to_csv(tmp_path / "data.csv", index=False)
    shutil.copytree(beyond / "results", tmp_path / "results")
    for name, place in (("CHEST_XRAY_DIR", tiny), ("CXR_CACHE_DIR", finished / "cache")):
        monkeypatch.setenv(name, str(place))
    monkeypatch.setenv("CXR_RESULTS_DIR", str(tmp_path / "results"))
    monkeypatch.setenv("CXR_EXTERNAL_DIR", str(folder))
    run.run(run.choose("10"), tmp_path / "out", run.QUICK)
    facts, table = read(tmp_path / "results/10_external.json"), read(tmp_path / "results/10_predictions.csv")
    assert facts["what_if"] is False and facts["external"] == "Unlabelled" and facts["classes"] == []
    assert len(table) == 7 and facts["patients"] == 4 and set(table.label) == {""}
    assert facts["figures_of"] == "rehearsal" and facts["answers"]["all"]["sensitivity"] is None
    assert (
        facts["told_apart_auc"]["normal"] is None
        and str(tmp_path) not in (tmp_path / "out/10_external.ipynb").read_text()
    )


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
