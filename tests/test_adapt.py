"""Films of its own: drawn by patient, a last layer held to what it was, and a curve that says what they are worth."""

import numpy as np
import pandas as pd
import pytest
from scipy import special
from sklearn.linear_model import LogisticRegression

from cxr import adapt, metrics
from cxr.backend import keras
from cxr.paths import Problem
from drawn import draw_chest

LEARNED = adapt.WAYS[1:]


def films(rng, count, misleading):
    """Drawn chests of 64 pixels, two of a patient, with a bright mark at the upper left.

    The mark is on the ill at home, and on anybody in a hospital that misleads.
    """
    label = np.arange(count) // 2 % 2
    pictures = np.stack([draw_chest(rng, "bacteria" if ill else "normal", (64, 64)) for ill in label])
    pictures[rng.permutation(label) == 1 if misleading else label == 1, :16, :16] = 240
    return pd.DataFrame({"label": label, "patient": [str(i // 2) for i in range(count)]}), pictures


@pytest.fixture(scope="module")
def places():
    """A network of one layer on a coarse picture, fitted at home; a hospital that misleads it, and one like home."""
    rng = np.random.default_rng(0)
    home, pictures = films(rng, 200, False)
    entry = keras.layers.Input((64, 64, 1))
    x = keras.layers.Flatten()(keras.layers.AveragePooling2D(8)(keras.layers.Rescaling(1 / 255)(entry)))
    x = keras.layers.Dense(1, activation="sigmoid")(keras.layers.Dropout(0.3)(x))
    network = keras.Model(entry, x)
    seen = keras.Model(entry, network.layers[-1].input).predict(pictures[..., None], verbose=0)
    line = LogisticRegression(C=10).fit(seen, home.label)
    network.layers[-1].set_weights([line.coef_.T, line.intercept_])
    found = {}
    for name, misleading in (("misleading", True), ("like home", False)):
        table, pictures = films(rng, 280, misleading)
        found[name] = table, pictures, network
    return found


@pytest.fixture(scope="module")
def curves(places):
    """`adapt.learn` for both hospitals."""
    return {
        name: adapt.learn(table, *adapt.last_layer(network, pictures), 0.5, [20, 100, 140], draws=6)
        for name, (table, pictures, network) in places.items()
    }


def row(curve, way, count):
    return curve[(curve.way == way) & (curve.films == count)].iloc[0]


def test_the_last_layer_gives_the_answers_of_the_network(places):
    _, pictures, network = places["misleading"]
    features, weights = adapt.last_layer(network, pictures)
    said = special.expit(features @ weights[:-1] + weights[-1])
    np.testing.assert_allclose(said, metrics.predict(network, pictures), atol=1e-5)
    assert features.shape == (280, 64) and weights.shape == (65,)


def test_fine_tuning_helps_where_the_network_is_misled(curves):
    curve = curves["misleading"]
    for count in (100, 140):
        as_it_is, moved, tuned = (row(curve, way, count) for way in adapt.WAYS)
        assert as_it_is.accuracy < 0.65 and tuned.accuracy > as_it_is.accuracy + 0.15
        assert tuned.accuracy_low > max(as_it_is.accuracy_high, moved.accuracy) and tuned.auc_low > as_it_is.auc + 0.15
        assert moved.auc == pytest.approx(as_it_is.auc, abs=1e-9), "a threshold reorders nothing"
    assert row(curve, LEARNED[1], 140).accuracy > row(curve, LEARNED[1], 20).accuracy
    assert adapt.worth(curve)[LEARNED[1]] in (20, 100)


def test_threshold_and_temperature_are_fitted_without_features():
    rng = np.random.default_rng(4)
    odds = rng.normal(0, 2, 4000)
    label = rng.uniform(size=4000) < special.expit((odds - 1.5) / 3)
    line = adapt.LastLayer(1.0).fit(label, np.empty((4000, 0)), odds)
    assert 1 / line.slope_ == pytest.approx(3, rel=0.2) and line.intercept_ == pytest.approx(-0.5, abs=0.15)
    turned = adapt.LastLayer(1e-6).fit(~label, np.empty((4000, 0)), odds)
    assert turned.slope_ == pytest.approx(0.05), "an order that is wrong is not turned round"


def test_it_does_no_harm_where_nothing_is_to_be_learned(curves):
    curve = curves["like home"]
    for count in (20, 100, 140):
        as_it_is, _, tuned = (row(curve, way, count) for way in adapt.WAYS)
        assert tuned.accuracy > as_it_is.accuracy - 0.04 and tuned.auc > as_it_is.auc - 0.03


def test_without_labelled_films_all_ways_are_the_network_as_it_is(curves):
    none = curves["misleading"].query("films == 0")
    assert list(none.way) == list(adapt.WAYS) and none.accuracy.nunique() == 1 and (none.drawn == 0).all()


def test_labels_that_mean_nothing_are_not_worth_using(places):
    """A fit that had seen the films it is judged on would do better than chance."""
    table, pictures, network = places["misleading"]
    seen = adapt.last_layer(network, pictures)
    patients = np.random.default_rng(3).permutation(140) % 2
    curve = adapt.learn(table.assign(label=np.repeat(patients, 2)), *seen, 0.5, [100], draws=8)
    assert 0.4 < row(curve, LEARNED[1], 100).accuracy < 0.6 and adapt.worth(curve)[LEARNED[1]] is None


def test_films_are_drawn_by_patient_with_both_classes():
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(60), rng.choice([1, 2, 3, 12], 60))
    table = pd.DataFrame({"label": (patient % 10 > 0).astype(int), "patient": patient.astype(str)})
    seen = set()
    for _ in range(30):
        inside = adapt.drawn(table, 20, rng)
        assert 12 <= inside.sum() <= 20 and not set(table.patient[inside]) & set(table.patient[~inside])
        for part in (inside, ~inside):
            assert table[part].groupby("label").patient.nunique().min() >= 2
        seen.add(tuple(np.flatnonzero(inside)))
    assert len(seen) > 20
    assert adapt.drawn(table[table.patient.isin(["0", "10", "1", "2", "3", "4"])], 8, rng) is None


def test_too_few_films_leave_the_curve_at_its_start(places):
    table, pictures, network = places["misleading"]
    features, weights = adapt.last_layer(network, pictures[:12])
    curve = adapt.learn(table[:12], features, weights, 0.5, [2, 20, 100])
    assert set(curve.films) == {0} and set(adapt.worth(curve).values()) == {None}
    assert set(adapt.verdicts(curve).values()) == {"not tried, for there are too few films"}
    with pytest.raises(Problem, match="DRAWS.*is 1"):
        adapt.learn(table, features, weights, 0.5, [20], draws=1)


def test_a_strong_ridge_leaves_the_last_layer_as_it_was():
    rng = np.random.default_rng(1)
    features, label = rng.normal(size=(80, 5)), rng.integers(0, 2, 80)
    odds = features[:, 0]
    held, free = (adapt.LastLayer(ridge).fit(label, features, odds) for ridge in (1e7, 1e-3))
    assert np.abs(held.changes_).max() < 1e-3 < np.abs(free.changes_).max() and held.slope_ == pytest.approx(
        1, abs=0.01
    )
    likelihood = [np.log(np.abs(1 - label - one.predict(features, odds))).sum() for one in (held, free)]
    assert likelihood[1] > likelihood[0] + 1


@pytest.mark.parametrize(
    "accuracy_low, expected", [((0.7, 0.85, 0.9), 50), ((0.85, 0.7, 0.9), 20), ((0.5, 0.6, 0.7), None)]
)
def test_worth_is_the_smallest_number_that_is_surely_better(accuracy_low, expected):
    rows = [{"way": adapt.WAYS[0], "films": n, "accuracy": 0.8, "accuracy_low": 0.75} for n in (0, 20, 50, 100)]
    for way in LEARNED:
        lows = zip((0, 20, 50, 100), (0.8, *accuracy_low))
        rows += [{"way": way, "films": n, "accuracy": 0.9, "accuracy_low": low} for n, low in lows]
    assert adapt.worth(pd.DataFrame(rows)) == dict.fromkeys(LEARNED, expected)
    by = (
        f"better than as before from {expected} films on"
        if expected
        else "not better than as before with up to 100 films"
    )
    said = {way: by.replace("as before", "the network as it is") for way in LEARNED[:1]}
    said[LEARNED[1]] = f"not better than {LEARNED[0]} with up to 100 films"  # they are right as often
    assert adapt.verdicts(pd.DataFrame(rows)) == said
    last = pd.DataFrame(rows).assign(auc=0.95)
    assert adapt.said(last) == (
        "With 100 labelled films accuracy goes from 0.800 to 0.900 by threshold and temperature, and to 0.900 with the "
        "last layer fine-tuned; the AUC from 0.950 to 0.950 and 0.950."
    )
    assert adapt.said(last[last.films == 0]) == "Not tried: there are too few films."
