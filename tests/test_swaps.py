"""The lungs of one film in the body of another: which films, what is answered, and what that means."""

import numpy as np
import pandas as pd
import pytest

from cxr import corruptions, metrics, swaps


def films(normal=10, ill=14, each=2):
    """A table of so many patients, `each` films of every patient."""
    label = np.repeat([0] * normal + [1] * ill, each)
    return pd.DataFrame({"label": label, "patient": np.repeat(np.arange(normal + ill), each)})


def masked(found):
    """Masks of films whose lungs are `found`, and empty ones of the others."""
    return np.where(np.asarray(found)[:, None, None], np.uint8(255), np.uint8(0))


def test_bodies_are_of_both_classes_of_different_patients_and_have_lungs():
    table = films()
    found = np.arange(len(table)) % 2 == 0
    owners, lenders = swaps.choose(table, masked(found), each=4, seed=3)
    assert lenders.label.tolist() == [0] * 4 + [1] * 4 and lenders.patient.is_unique and found[lenders.index].all()
    assert len(owners) == 24 - 8 and found[owners.index].all() and not set(owners.patient) & set(lenders.patient)
    owners, lenders = swaps.choose(table, masked(found & False), each=3)
    assert len(owners) == len(table) and len(lenders) == 6, "where none is known, any"


@pytest.mark.parametrize("normal, ill, expected", [(3, 9, 2), (1, 5, 2), (40, 6, 6)])
def test_half_of_the_patients_keep_their_lungs_for_others(normal, ill, expected):
    table = films(normal, ill, each=1)
    owners, lenders = swaps.choose(table, masked(table.label >= 0), each=20)
    assert len(lenders) == expected and owners.label.nunique() == 2


class Bright:
    """Its answer is the mean gray of the left half of each picture."""

    def predict(self, pictures, **_):
        return pictures[:, :, : pictures.shape[2] // 2].mean(axis=(1, 2)) / 255


class Dark(Bright):
    def predict(self, pictures, **_):
        return 1 - super().predict(pictures)


def test_every_pair_is_asked_of_every_network():
    rng = np.random.default_rng(0)
    pictures, masks = rng.integers(0, 255, (3, 48, 48)).astype(np.uint8), np.zeros((3, 48, 48), np.uint8)
    masks[:, 12:36, 8:20] = masks[:, 12:36, 28:40] = 255
    scores = swaps.answers([Bright(), Dark()], pictures, masks, np.array([2, 0])).reshape(3, 2, 2)
    np.testing.assert_allclose(scores[:, 0], 1 - scores[:, 1], atol=2e-6)
    expected = corruptions.transplant(pictures, masks, np.arange(3), np.full(3, 2))
    assert scores[1, 0, 0] == pytest.approx(metrics.predict(Bright(), expected)[1])
    assert scores[0, 0, 1] == pytest.approx(metrics.predict(Bright(), pictures)[0], abs=0.005), "its own body"
    masks[2] = np.roll(masks[2], 6, axis=0)
    four, outlines = swaps.in_both_bodies(pictures, masks, [0, 1], np.array([2, 2]))
    assert np.array_equal(four[::2], pictures[:2]) and np.array_equal(outlines[::2], masks[:2] > 127)
    assert np.array_equal(four[1::2], corruptions.transplant(pictures, masks, np.array([0, 1]), np.array([2, 2])))
    assert (outlines[1::2] == (masks[2] > 127)).mean() > 0.95, "the outline goes with the lungs"


def measured(odds, own, lungs_label, body_label):
    """`swaps.measure` of one network with a threshold of 0.5."""
    owners, lenders = (pd.DataFrame({"label": x, "patient": np.arange(len(x))}) for x in (lungs_label, body_label))
    owners["score"] = 1 / (1 + np.exp(-own))
    return swaps.measure({"one": odds}, {"one": "score"}, {"score": 0.5}, owners, lenders, 60)["one"]


def crossed(by_lungs, by_body):
    """40 lungs, ten of them normal, and 24 bodies, whose log-odds are made of their labels."""
    lungs, bodies = np.repeat([0, 1], [10, 30]), np.repeat([0, 1], 12)
    odds = by_lungs * (2 * lungs[:, None] - 1.0) + by_body * (2 * bodies - 1.0)
    found = measured(odds, (by_lungs + by_body) * (2 * lungs - 1.0), lungs, bodies)
    assert all(row["low"] - 1e-9 <= row["value"] <= row["high"] + 1e-9 for row in found.values())
    return [found[name]["value"] for name in swaps.FIGURES]


def test_a_network_that_reads_lungs_is_told_from_one_that_reads_bodies():
    assert crossed(3.0, 0.0) == pytest.approx([1, 0, 0, 0, 0, 1, 0.5])
    assert crossed(0.0, 3.0) == pytest.approx([0, 1, 0, 0, 1, 0.5, 1])
    assert crossed(2.0, 1.0)[:3] == pytest.approx([4 / 5, 1 / 5, 0], abs=1e-9), "both classes weigh the same"


def test_shares_and_aucs_are_those_of_textbook_and_scikit_learn():
    rng, label = np.random.default_rng(1), np.repeat([0, 1], 10)
    odds = (rng.normal(size=(20, 20)) + 2 * rng.normal(size=(20, 1)) + rng.normal(size=20)).round(1)
    found = measured(odds, odds[:, 0], label, label)
    mean, rows, columns = odds.mean(), odds.mean(axis=1), odds.mean(axis=0)
    total = ((odds - mean) ** 2).sum()
    rest = ((odds - rows[:, None] - columns + mean) ** 2).sum()
    shares = [20 * ((rows - mean) ** 2).sum() / total, 20 * ((columns - mean) ** 2).sum() / total, rest / total]
    assert [found[name]["value"] for name in ("lungs", "body", "both")] == pytest.approx(shares)
    for name, truth in (("auc_by_lungs", label[:, None]), ("auc_by_body", label)):
        truth = np.broadcast_to(truth, odds.shape).ravel()
        assert found[name]["value"] == pytest.approx(metrics.auc(truth, odds.ravel()))


def test_the_films_shown_move_as_far_as_is_usual():
    own = pd.DataFrame({"label": [1, 1, 1, 1, 0, 0, 0], "plain": [0.9, 0.9, 0.9, 0.3, 0.1, 0.1, 0.1]})
    own["kept"], limits = own.label.astype(float), pd.Series({"kept": 0.5, "plain": 0.5})
    other = own.assign(plain=[0.1, 0.2, 0.4, 0.1, 0.6, 0.9, 0.7])
    assert swaps.typical_pair(own, other, limits) == [1, 6]
    other.loc[[1, 6], "kept"] = [0.0, 1.0]  # there the first network gives way
    assert swaps.typical_pair(own, other, limits) == [2, 4]
    same = pd.DataFrame({"label": [0, 1], "kept": 0.5, "plain": 0.5})
    assert swaps.typical_pair(same, same, limits) == [1, 0], "where none is usable, any"


def test_gradients_of_the_lungs_arrive_in_the_body_and_nothing_else_does():
    rng = np.random.default_rng(0)
    pictures = np.stack([np.full((64, 64), 90.0), np.tile(np.linspace(40, 200, 64), (64, 1))]).round().astype(np.uint8)
    masks = np.zeros_like(pictures)
    masks[:, 16:48, 12:52] = 255
    pictures[0, 24:40, 20:44] += rng.integers(0, 60, (16, 24)).astype(np.uint8)
    changed = swaps.by_gradients(pictures, masks, np.array([0, 1]), np.array([1, 1])).astype(float)
    np.testing.assert_allclose(changed[1], pictures[1], atol=1)  # its own lungs: the same film
    film, body = pictures.astype(float)
    inner = np.s_[25:39, 21:43]
    np.testing.assert_allclose(np.diff(changed[0][inner], axis=0), np.diff(film[inner], axis=0), atol=2)
    np.testing.assert_allclose(np.diff(changed[0][:10], axis=1), np.diff(body[:10], axis=1), atol=2)
    assert changed[0].mean() == pytest.approx(body.mean(), abs=1)
