"""The lungs of one film in the body of another: which films, what is said of them, and what that means."""

import numpy as np
import pandas as pd
import pytest

from cxr import corruptions, data, metrics, swaps
from cxr.paths import Problem


def films(normal=10, ill=14, each=2):
    """A table of so many patients, `each` films of every patient."""
    label = np.repeat([0] * normal + [1] * ill, each)
    return pd.DataFrame({"label": label, "patient": np.repeat(np.arange(normal + ill), each)})


def test_bodies_are_of_both_classes_and_of_different_patients():
    table = films()
    bodies = swaps.choose_bodies(table, np.ones(len(table)), each=4, seed=3)
    assert table.label[bodies].tolist() == [0] * 4 + [1] * 4 and table.patient[bodies].is_unique
    assert (bodies == swaps.choose_bodies(table, np.ones(len(table)), each=4, seed=3)).all()
    left = swaps.other_lungs(table, bodies, np.ones(len(table)))
    assert left.sum() == len(table) - 16 and not set(table.patient[left]) & set(table.patient[bodies])


def test_a_film_whose_lungs_are_not_known_lends_no_body():
    table = films()
    found = np.arange(len(table)) % 2 == 0
    bodies = swaps.choose_bodies(table, found, each=5)
    assert found[bodies].all()
    left = swaps.other_lungs(table, bodies, found)
    assert left.sum() == 24 - 10 and found[left].all(), "nor lungs"
    assert swaps.other_lungs(table, bodies, np.zeros(len(table))).all(), "where none is known, any"
    assert len(swaps.choose_bodies(table, np.zeros(len(table)), each=3)) == 6, "where none is known, any"


@pytest.mark.parametrize("normal, ill, expected", [(3, 9, 2), (2, 2, 2), (1, 5, 2), (40, 6, 6)])
def test_half_of_the_patients_keep_their_lungs_for_others(normal, ill, expected):
    table = films(normal, ill, each=1)
    bodies = swaps.choose_bodies(table, np.ones(len(table)), each=20)
    assert len(bodies) == expected
    assert table.label[swaps.other_lungs(table, bodies, np.ones(len(table)))].nunique() == 2, (
        "both classes have lungs to put in"
    )


def test_a_film_without_lungs_has_them_in_the_usual_place():
    masks = np.zeros((4, 20, 20), np.uint8)
    masks[:3, 5:15, 4:8] = 255
    masks[0, 0] = 255
    found = swaps.or_usual_place(masks)
    assert (found[:3] == masks[:3]).all() and (found[3] == masks[1]).all() and found.dtype == np.uint8
    middle = swaps.or_usual_place(np.zeros((2, 20, 20), np.uint8))
    assert middle[0, 10, 10] == 255 and middle[0, 0, 0] == 0 and (middle[0] == middle[1]).all()


class Bright:
    """Says the mean gray of the left half of each picture."""

    def predict(self, pictures, **_):
        return pictures[:, :, : pictures.shape[2] // 2].mean(axis=(1, 2)) / 255


class Dark(Bright):
    def predict(self, pictures, **_):
        return 1 - super().predict(pictures)


def test_every_pair_is_asked_of_every_network():
    rng = np.random.default_rng(0)
    pictures, masks = rng.integers(0, 255, (3, 48, 48)).astype(np.uint8), np.zeros((3, 48, 48), np.uint8)
    masks[:, 12:36, 8:20] = masks[:, 12:36, 28:40] = 255
    said = swaps.answers([Bright(), Dark()], pictures, masks, np.array([2, 0]))
    assert said.shape == (3, 4)
    said = said.reshape(3, 2, 2)
    np.testing.assert_allclose(said[:, 0], 1 - said[:, 1], atol=2e-6)
    expected = corruptions.transplant(pictures, masks, np.array([1]), np.array([2]))
    assert said[1, 0, 0] == pytest.approx(metrics.predict(Bright(), expected)[0])
    assert said[0, 0, 1] == pytest.approx(metrics.predict(Bright(), pictures)[0], abs=0.005), "its own body"


def crossed(by_lungs, by_body, noise=0.0, seed=0):
    """A design of 40 lungs and 24 bodies whose log-odds are made of their labels, and its figures."""
    rng, lungs, bodies = np.random.default_rng(seed), np.repeat([0, 1], [10, 30]), np.repeat([0, 1], 12)
    odds = by_lungs * (2 * lungs[:, None] - 1.0) + by_body * (2 * bodies - 1.0) + noise * rng.normal(size=(40, 24))
    own = (by_lungs + by_body) * (2 * lungs - 1.0)
    tables = [pd.DataFrame({"label": label, "patient": np.arange(len(label))}) for label in (lungs, bodies)]
    times = [metrics.resample(table, 100, seed) for seed, table in enumerate(tables)]
    return swaps.measure(odds, own, lungs, bodies, 0.0, *times), (odds, own, lungs, bodies)


def test_a_network_that_reads_lungs_is_told_from_one_that_reads_bodies():
    reader, _ = crossed(3.0, 0.0)
    assert list(reader) == swaps.FIGURES
    assert [reader[name]["value"] for name in swaps.FIGURES] == pytest.approx([1, 0, 0, 0, 0, 0, 1, 0.5])
    misled, _ = crossed(0.0, 3.0)
    assert [misled[name]["value"] for name in swaps.FIGURES] == pytest.approx([0, 1, 0, 0.5, 0, 1, 0.5, 1])
    for row in (*reader.values(), *misled.values()):
        assert row["low"] - 1e-9 <= row["value"] <= row["high"] + 1e-9


def test_both_classes_weigh_the_same_whatever_their_numbers():
    found, _ = crossed(2.0, 1.0)  # ten normal lungs, thirty sick ones
    assert (found["lungs"]["value"], found["body"]["value"]) == pytest.approx((4 / 5, 1 / 5))
    assert found["both"]["value"] == pytest.approx(0, abs=1e-9)


def test_the_shares_are_those_of_a_two_way_analysis_of_variance():
    rng, label = np.random.default_rng(1), np.repeat([0, 1], 10)
    odds = rng.normal(size=(20, 20)) + 2 * rng.normal(size=(20, 1)) + rng.normal(size=20)
    times = np.ones((2, 20))
    found = swaps.measure(odds, odds[:, 0], label, label, 0.0, times, times)
    mean, rows, columns = odds.mean(), odds.mean(axis=1), odds.mean(axis=0)
    total = ((odds - mean) ** 2).sum()
    assert found["lungs"]["value"] == pytest.approx(20 * ((rows - mean) ** 2).sum() / total)
    assert found["body"]["value"] == pytest.approx(20 * ((columns - mean) ** 2).sum() / total)
    rest = ((odds - rows[:, None] - columns + mean) ** 2).sum()
    assert found["both"]["value"] == pytest.approx(rest / total)


def test_the_auc_of_all_pairs_is_that_of_scikit_learn():
    found, (odds, _, lungs, bodies) = crossed(0.5, 0.3, noise=1.0)
    odds = odds.round(1)  # ties
    times = np.ones((1, 40)), np.ones((1, 24))
    found = swaps.measure(odds, odds[:, 0], lungs, bodies, 0.0, *times)
    by_lungs, by_body = np.broadcast_to(lungs[:, None], odds.shape), np.broadcast_to(bodies, odds.shape)
    assert found["auc_by_lungs"]["value"] == pytest.approx(metrics.auc(by_lungs.ravel(), odds.ravel()))
    weighed = np.mean([metrics.auc(by_body[lungs == c].ravel(), odds[lungs == c].ravel()) for c in (0, 1)])
    assert found["auc_by_body"]["value"] == pytest.approx(weighed, abs=0.03), "sick and normal lungs weigh the same"


def test_the_films_shown_are_those_that_both_networks_get_right():
    rng, label = np.random.default_rng(0), np.repeat([0, 1], 3)
    pictures, masks = rng.integers(0, 256, (6, 16, 16)).astype("uint8"), np.zeros((6, 16, 16), np.uint8)
    masks[:, 4:10, 3:12] = 255
    part = data.Part(pd.DataFrame({"path": [*"abcdef"], "label": label}), pictures)
    plain, conflict = (part.table.assign(draw=draw, kind=kind) for draw, kind in ((0, "plain"), (4, "conflict")))
    plain["ours"], plain["theirs"] = [0.1, 0.1, 0.9, 0.9, 0.9, 0.1], [0.1, 0.9, 0.1, 0.9, 0.1, 0.9]
    conflict["ours"], conflict["theirs"] = 0.5, 0.5
    said = pd.concat([plain, conflict])
    four, paths = swaps.to_show(part, masks, said, ("ours", "theirs"), {"ours": 0.5, "theirs": 0.5})
    assert paths == ["d", "a"], "sick first"
    lenders = corruptions.choose_bodies(part.label, 0, other_class=True)
    exchanged = corruptions.transplant(pictures, masks, np.arange(len(lenders)), lenders)
    assert (four == np.stack([pictures[3], exchanged[3], pictures[0], exchanged[0]])).all()
    black = swaps.bodies_alone(pictures, masks)
    assert (black[:, 4:10, 3:12] == 0).all() and (black[:, 0] == pictures[:, 0]).all()


def test_each_network_is_measured_at_its_own_threshold():
    label = np.repeat([0, 1], 4)
    table = pd.DataFrame({"label": label, "patient": np.arange(8), "own": 0.1 + 0.8 * label})
    bodies, lungs = table.iloc[[0, 5]], table.iloc[[1, 2, 6, 7]]
    by_lungs = np.repeat(table.own.to_numpy()[:, None], 2, axis=1)
    by_body = np.tile(bodies.own, (8, 1))
    networks = {"lungs": (None, "own", 0.5), "body": (None, "own", 0.8)}
    squares, found = swaps.by_network(np.stack([by_lungs, by_body], axis=1), lungs, bodies, networks, 20)
    assert found["lungs"]["lungs"]["value"] == pytest.approx(1) == found["body"]["body"]["value"]
    assert set(swaps.WORDS) == set(swaps.FIGURES) == set(found["lungs"])
    assert (squares["lungs"] > 0).tolist() == [[False] * 2] * 2 + [[True] * 2] * 2
    odds = np.log(0.9 / 0.1) - np.log(0.8 / 0.2)
    assert squares["body"][0] == pytest.approx([-np.log(0.9 / 0.1) - np.log(0.8 / 0.2), odds])


def test_useless_answers_are_named():
    with pytest.raises(Problem, match="not numbers"):
        swaps.measure(np.zeros((2, 2)), [np.nan, 0], [0, 1], [0, 1], 0.0, np.ones((1, 2)), np.ones((1, 2)))


def test_the_films_shown_move_as_far_as_is_usual():
    label = np.array([1, 1, 1, 1, 0, 0, 0, 1])
    before = np.array([0.9, 0.9, 0.9, 0.3, 0.1, 0.1, 0.1, 0.9])
    after = np.array([0.1, 0.5, 0.8, 0.1, 0.2, 0.9, 0.5, 0.4])
    right = (before > 0.5) == label
    assert swaps.typical(label, before, after, right) == [1, 6]  # of 0, 1, 2 and 7 the third to move
    assert swaps.typical([0, 1], [0.5, 0.5], [0.5, 0.5], [False, False]) == [1, 0], "where none is right, any"


def test_lungs_are_called_ill_by_group_in_their_own_body_and_in_others():
    own, elsewhere = np.array([1, 0, 0], bool), np.array([[1, 1], [1, 0], [0, 0]], bool)
    groups = {"two": np.array([1, 1, 0], bool), "none": np.zeros(3, bool)}
    assert swaps.called_ill(own, elsewhere, groups) == {"two": {"lungs": 2, "own_body": 0.5, "other_bodies": 0.75}}
