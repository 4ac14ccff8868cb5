"""The test folder is opened only behind a line in the ledger, and the same weights are not scored twice."""

import re

import numpy as np
import pandas as pd
import pytest

from cxr import data, images, ledger
from cxr.chain import Step
from cxr.paths import Problem

NAME = "05_test_ledger.csv"
NETWORKS = {"04_ensemble.keras": "ab" * 32}


@pytest.fixture
def step(tmp_path, monkeypatch):
    monkeypatch.setenv("CXR_RESULTS_DIR", str(tmp_path))
    step = Step("05_evaluate")
    step.dataset = {"name": "a test"}
    return step


def test_every_scoring_of_new_weights_or_pictures_adds_a_line_that_says_what_is_new(step):
    ledger.append(step, 624, "p1", NETWORKS, "first, with a comma")
    ledger.append(step, 624, "p1", {"plain, seed 0": "cd" * 32} | NETWORKS, "second")
    found = ledger.append(step, 600, "p2", NETWORKS, "third")
    assert found.equals(ledger.read()) and list(found) == ledger.COLUMNS
    assert found.why.tolist() == ["first, with a comma", "second (new: plain, seed 0)", "third (new: pictures)"]
    assert found.images.tolist() == ["624", "624", "600"] and (found.notebook == "05_evaluate").all()
    assert found.networks.iloc[0] == "04_ensemble.keras:abababababab"
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\dZ", when) for when in found.when)


def test_the_same_weights_on_the_same_pictures_add_none(step):
    one = ledger.append(step, 624, "p1", NETWORKS, "first")
    assert ledger.append(step, 624, "p1", NETWORKS, "again").to_dict() == one.to_dict()
    assert ledger.seen("05", "p1", NETWORKS) and not ledger.seen("05", "p2", NETWORKS)
    assert not ledger.seen("05", "p1", {"04_ensemble.keras": "cd" * 32}) and not ledger.seen("07", "p1", NETWORKS)


def test_a_scoring_without_a_reason_is_refused(step, tmp_path):
    with pytest.raises(Problem, match="WHY in the parameters of 05_evaluate.ipynb"):
        ledger.append(step, 1, "p", {}, "  ")
    assert not (tmp_path / NAME).exists()


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n", "\x00\x01"])
def test_a_damaged_ledger_is_named_and_left_alone(step, tmp_path, content):
    (tmp_path / NAME).write_text(content)
    with pytest.raises(Problem, match=f"{NAME} .*git checkout"):
        ledger.append(step, 1, "p", {}, "why")
    assert (tmp_path / NAME).read_text() == content


# --- the data set under seal ---


@pytest.fixture
def dataset(tiny, tmp_path, monkeypatch):
    """The drawn set, surveyed and split as 01 and 02 do it, and a function that opens it for 05 once more."""
    monkeypatch.setenv("CHEST_XRAY_DIR", str(tiny))
    monkeypatch.setenv("CXR_RESULTS_DIR", str(tmp_path / "results"))
    monkeypatch.setenv("CXR_CACHE_DIR", str(tmp_path / "cache"))
    first, second = Step("01_download"), Step("02_explore")
    manifest = data.survey(tiny)
    first.dataset = data.describe(manifest, tiny)
    first.write("01_manifest.csv", manifest)
    first.done()
    second.read("01_manifest.csv")
    second.write("02_split.csv", data.split(manifest)[0])
    second.done()
    return lambda: data.Dataset(Step("05_evaluate"))


class Network:
    """Says the mean gray of each picture, and counts how often it is asked."""

    asked = 0

    def predict(self, pictures, **_):
        Network.asked += 1
        return pictures.mean(axis=(1, 2)) / 255


@pytest.fixture
def network():
    Network.asked = 0
    return Network()


def test_train_and_validation_come_at_once(dataset):
    opened = dataset()
    train, val = opened.part("train", 32), opened.part("val", 32)
    assert set(opened.rows("train").split) == {"train"} and not set(train.table.patient) & set(val.table.patient)
    assert train.pictures.shape == (len(train.table), 32, 32) and train.label.dtype == np.float32
    expected = images.decode(opened.folder / val.table.path.iloc[0], 32)
    assert (val.pictures[0] == expected).all()


def test_the_test_split_comes_behind_a_line_only(dataset, monkeypatch, tmp_path):
    opened, seen = dataset(), []
    with pytest.raises(Problem, match="test split is sealed.*ledger"):
        opened.part("test", 32)
    load = images.load
    monkeypatch.setattr(images, "load", lambda *args: (seen.append(len(ledger.read())), load(*args))[1])
    test = opened.test(32, NETWORKS, "a reason")
    assert seen == [1] and len(test.ledger) == 1 and set(test.table.split) == {"test"}
    assert test.ledger.pixels.iloc[0] == opened.pixels(32, "test") != opened.pixels(48, "test")


def test_the_same_weights_are_asked_once_and_answer_from_the_file_afterwards(dataset, network, tmp_path):
    first = dataset().test(32, NETWORKS, "a reason")
    scores = first.scores("mean gray", network)
    several = first.once("several", lambda: np.stack([scores, 1 - scores], axis=1))
    assert network.asked == 1 and scores.shape == (len(first.table),) and several.shape == (len(first.table), 2)
    again = dataset().test(32, NETWORKS, "a reason")
    assert len(again.ledger) == 1
    assert (again.scores("mean gray", network) == scores).all() and network.asked == 1
    np.testing.assert_allclose(again.once("several", None), several, atol=1e-6)
    kept = pd.read_csv(tmp_path / "results/05_test_scores.csv")
    assert list(kept) == ["path", "mean gray", "several 0", "several 1"]


@pytest.mark.parametrize("case", ["other weights", "other pictures"])
def test_new_weights_or_pictures_are_asked_anew(dataset, network, case):
    dataset().test(32, NETWORKS, "a reason").scores("mean gray", network)
    size, networks = (48, NETWORKS) if case == "other pictures" else (32, {"04_ensemble.keras": "cd" * 32})
    test = dataset().test(size, networks, "another reason")
    test.scores("mean gray", network)
    assert network.asked == 2 and len(test.ledger) == 2


def test_a_run_killed_before_its_scores_leaves_none_of_older_networks(dataset, network):
    dataset().test(32, NETWORKS, "a reason").scores("mean gray", network)
    other = {"04_ensemble.keras": "cd" * 32}
    dataset().test(32, other, "another reason")  # and is killed here
    test = dataset().test(32, other, "another reason")
    test.scores("mean gray", network)
    assert network.asked == 2 and len(test.ledger) == 2


def test_one_change_of_the_same_films_is_asked_apart(dataset, network):
    test = dataset().test(32, NETWORKS, "a reason")
    plain, dark = test.scores("mean gray", network), test.scores("darkened", network, test.pictures // 2)
    assert network.asked == 2 and (dark < plain).all()


def test_two_sizes_are_one_opening(dataset, network):
    test = dataset().test([32, 48], NETWORKS, "a reason")
    assert {size: films.shape[1] for size, films in test.pictures.items()} == {32: 32, 48: 48} and len(test.ledger) == 1
    test.scores("mean gray", network, test.pictures[48])
    again = dataset().test([32, 48], NETWORKS, "a reason")
    again.scores("mean gray", network, again.pictures[48])
    assert network.asked == 1 and len(again.ledger) == 1
