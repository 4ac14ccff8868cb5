"""Films from elsewhere: asked, counted with intervals, and learned from by patient."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import special, stats
from sklearn import metrics as sklearn_metrics

from cxr import external, metrics
from cxr.backend import keras
from cxr.chain import load_table
from drawn import draw_chest


def answered(label, **columns):
    """Twelve films of six patients, answered; every third one declined."""
    table = pd.DataFrame({"label": pd.array(label, "Int64"), "patient": [str(i // 2) for i in range(12)]})
    table["class_name"] = table.label.map({0: "Normal", 1: "ill"}).astype(object).fillna("")
    table["probability"] = np.linspace(0.05, 0.95, 12)
    table["reason"] = ["is upside down" if i % 3 == 0 else "" for i in range(12)]
    return table.assign(passes=table.reason == "", **columns)


def test_answers_with_both_classes_have_all_figures():
    found = external.answers(answered([0] * 6 + [1] * 6), 0.4, 200)
    assert list(found.index) == ["all", "passes the gate", "declined"]
    whole = found.loc["all"]
    assert (whole.films, whole.patients, whole.auc) == (12, 6, 1) and whole.sensitivity == 1
    assert whole.specificity == pytest.approx(5 / 6) and whole.called_ill == pytest.approx(7 / 12)
    assert whole.specificity_low < 5 / 6 <= whole.specificity_high and whole.sensitivity_low < 0.5
    assert found.auc_low["all"] == 1 and found.films.tolist() == [12, 8, 4]


@pytest.mark.parametrize("label, has", [(0, "specificity"), (1, "sensitivity"), (None, None)])
def test_answers_of_one_class_or_none_have_what_can_be_said(label, has):
    found = external.answers(answered([label] * 12), 0.4, 200).iloc[0]
    share = (np.linspace(0.05, 0.95, 12) >= 0.4).mean()
    assert found.called_ill == pytest.approx(share) and found.called_ill_low < share < found.called_ill_high
    for figure in ("sensitivity", "specificity", "auc"):
        assert np.isnan(found[figure]) == (figure != has)
    if has:
        assert found[has] == pytest.approx(share if label else 1 - share)


def test_a_share_counts_patients():
    patient = pd.Series([str(i // 4) for i in range(80)])
    exact = stats.binomtest(20, 20).proportion_ci(method="exact")
    assert external.share(np.ones(80), patient) == pytest.approx([1, exact.low, exact.high]), (
        "20 patients, not 80 films"
    )
    value, low, high = external.share(patient.astype(int) < 10, patient)
    assert value == 0.5 and 0.2 < low < 0.35 and 0.65 < high < 0.8
    assert np.isnan(external.share([], patient[:0])).all()


def test_a_folder_is_asked(tmp_path):
    rng = np.random.default_rng(5)
    for name in ("Normal", "sick"):
        (tmp_path / name).mkdir()
        for i in range(3):
            Image.fromarray(draw_chest(rng, "normal", (80, 100))).save(tmp_path / name / f"{i}.png")
    (tmp_path / "sick/broken.png").write_bytes(b"<html>")
    detector = SimpleNamespace(predict=lambda pictures: ["is upside down"] + [""] * (len(pictures) - 1))
    network = keras.Sequential([keras.layers.Input((64, 64, 1)), keras.layers.Flatten(), keras.layers.Dense(1)])
    films, pictures, broken = external.ask(tmp_path, 64, detector, network, None)
    assert films.passes.tolist() == [False] + [True] * 5 and pictures.shape == (6, 64, 64)
    assert films.probability.notna().all() and broken.path.tolist() == ["sick/broken.png"] and external.enough(films)


def test_only_a_film_with_a_free_licence_is_shown(tmp_path):
    table = pd.DataFrame({"path": ["a/1.png", "a/2.png", "b/3.png", "b/4.png", "b/5.png"], "patient": [*"vwxyz"]})
    assert external.licensed(table, tmp_path) == (None, "") and external.credit(table) == ""
    table = table.assign(
        source=["one", "one", "hannover", "hannover", "hannover"], license=["", "CC BY", "own", *["CC0"] * 2]
    )
    assert external.licensed(table, tmp_path) == (tmp_path / "b/4.png", "Hannover Medical School, ml-workgroup, CC0")
    assert external.licensed(table.assign(license="all rights reserved"), tmp_path) == (None, "")


# --- labels of its own ----------------------------------------------------------------------------------------


def test_the_last_layer_gives_the_answers_of_the_network():
    entry = keras.layers.Input((16, 16, 1))
    network = keras.Model(entry, keras.layers.Dense(1, activation="sigmoid")(keras.layers.Flatten()(entry)))
    pictures = np.random.default_rng(0).integers(0, 2, (20, 16, 16), np.uint8)
    features, weights = external.last_layer(network, pictures)
    found = special.expit(features @ weights[:-1] + weights[-1])
    np.testing.assert_allclose(found, metrics.predict(network, pictures), atol=1e-5)


@pytest.mark.parametrize("misled", [True, False])
def test_fine_tuning_helps_where_the_network_is_misled_and_harms_nowhere(misled):
    """The network goes by a mark: feature 0. In a hospital that misleads only feature 1 tells."""
    rng = np.random.default_rng(1)
    label = np.arange(280) // 2 % 2
    mark = rng.permutation(label) if misled else label
    features = np.column_stack([mark, label, rng.normal(size=280)]) + rng.normal(0, 0.3, (280, 3))
    table = pd.DataFrame({"label": label, "patient": [str(i // 2) for i in range(280)]})
    odds = 6 * features[:, 0] - 3
    drawn = external.draw_films(table, 100, rng)
    tuned = external.fine_tune(table[drawn], features[drawn], odds[drawn]).predict(features, odds)
    before, after = (((p > 0.5) == label)[~drawn].mean() for p in (special.expit(odds), tuned))
    assert (before < 0.65 and after > 0.85) if misled else after > before - 0.04


def test_films_are_drawn_by_patient_with_both_classes():
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(60), rng.choice([1, 2, 3, 12], 60))
    table = pd.DataFrame({"label": (patient % 10 > 0).astype(int), "patient": patient.astype(str)})
    for _ in range(30):
        inside = external.draw_films(table, 20, rng)
        assert 12 <= inside.sum() <= 20 and not set(table.patient[inside]) & set(table.patient[~inside])
        for part in (inside, ~inside):
            assert table[part].groupby("label").patient.nunique().min() >= 2
    assert external.draw_films(table[table.patient.isin(["0", "10", "1", "2", "3", "4"])], 8, rng) is None


# --- the pages on drawn films ---------------------------------------------------------------------------------


def test_without_a_folder_10_is_a_rehearsal_and_09_gives_no_answer_without_a_reason(finished):
    results = finished / "results"
    facts, gate = (json.loads((results / f"{name}.json").read_text()) for name in ("10_external", "09_gate"))
    asked, answers = (load_table(results / f"{number}_predictions.csv") for number in ("10", "09"))
    assert facts["what_if"] is True and facts["external"] == "rehearsal" and facts["films"] == len(asked)
    threshold = load_table(results / "04_seeds.csv").threshold[0]  # of the first seed, which is kept
    assert facts["answers"]["all"]["called_ill"] == pytest.approx((asked.probability >= threshold).mean())
    expected = sklearn_metrics.roc_auc_score(asked.label, asked.probability)
    assert facts["answers"]["all"]["auc"] == pytest.approx(expected)
    assert ((answers.reason != "") == (answers.answer == "cannot tell")).all()
    assert "damaged" in answers.set_index("file").reason["09 cut short.jpeg"]
    assert 0 <= gate["least_agreement"] <= 1 and set(gate["declined_test"]["declined"]) == {"normal", "pneumonia"}
