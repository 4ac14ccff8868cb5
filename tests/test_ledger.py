import re

import pytest

from cxr import ledger
from cxr.chain import Step
from cxr.project import Problem

NAME = "05_test_ledger.csv"


@pytest.fixture
def step(tmp_path, monkeypatch):
    monkeypatch.setenv("CXR_RESULTS_DIR", str(tmp_path))
    step = Step("05_evaluate")
    step.dataset, step.reads = {"name": "a test"}, {"04_ensemble.keras": "ab" * 32}
    return step


def test_every_scoring_adds_a_line_and_keeps_the_others(step, tmp_path):
    ledger.append(step, 624, ["04_ensemble.keras"], "first, with a comma")
    found = ledger.append(step, 600, ["04_ensemble.keras"], "second")
    assert found.equals(ledger.read()) and list(found) == ledger.COLUMNS
    assert found.why.tolist() == ["first, with a comma", "second"] and found.images.tolist() == ["624", "600"]
    assert (found.networks == "04_ensemble.keras:abababababab").all() and (found.notebook == "05_evaluate").all()
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\dZ", when) for when in found.when)


def test_the_commit_is_named_where_there_is_one(monkeypatch, tmp_path):
    assert re.fullmatch(r"([0-9a-f]{7,12}\+?)?", ledger.commit())
    monkeypatch.setattr(ledger, "ROOT", tmp_path)
    assert ledger.commit() == "", "no repository, no commit"
    monkeypatch.setenv("PATH", "")
    assert ledger.commit() == "", "no git, no commit"


def test_a_scoring_without_a_reason_is_refused(step, tmp_path):
    with pytest.raises(Problem, match="WHY in the parameters of 05_evaluate.ipynb"):
        ledger.append(step, 1, [], "  ")
    assert not (tmp_path / NAME).exists()


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n", "\x00\x01"])
def test_a_damaged_ledger_is_named_and_left_alone(step, tmp_path, content):
    (tmp_path / NAME).write_text(content)
    with pytest.raises(Problem, match=f"{NAME} .*git checkout"):
        ledger.append(step, 1, [], "why")
    assert (tmp_path / NAME).read_text() == content
