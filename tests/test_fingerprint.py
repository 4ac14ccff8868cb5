"""What makes results stale, and what clears them."""

import json
from types import SimpleNamespace

import pandas as pd
import pytest
import restamp

import run
from cxr import fingerprint
from cxr.paths import ROOT

A = '''"""A."""
import numpy as np
from . import (b,
               c)
from .b import X, other
from .project.paths import Problem


def f(x):
    """F."""
    if x < 0:
        raise Problem("too small")
    print("working")
    return b.g(x)  # why


def unused():
    return 1
'''
CELLS = [
    "import sys\n'google.colab' in sys.modules",
    "N = 3  # how many",
    "from cxr import (a,\n    plots)\nfrom cxr.chain import Step\nstep = Step('01_a')",
    "numbers = [a.f(i) for i in range(N)]\nnames = ['one', 'two']",
    "figure = plots.bars(numbers, names)\nstep.write('01_a.png', figure)",
    "for number in numbers:\n    print(number)",
    "print(f'{N} numbers')",
    "step.write('01_a.csv', numbers)\nstep.done()",
]


@pytest.fixture
def program(tmp_path):
    """A notebook that uses one module, which imports another on two lines; a third is imported and not used."""
    package = tmp_path / "cxr"
    for folder in ("project", "plots"):
        (package / folder).mkdir(parents=True)
    for name, text in {
        "a": A,
        "b": "X = 1\n\n\ndef g(x):\n    return x * Y\n\n\ndef other():\n    return 2\n\n\nY = 2\n",
        "c": "Z = 1\n",
        "plots/__init__": "from .style import bars\n",
        "plots/style": "def bars(x, y):\n    return x\n",
        "project/paths": "class Problem(Exception):\n    pass\n",
    }.items():
        (package / f"{name}.py").write_text(text)
    notebook = tmp_path / "01_a.ipynb"

    def write(*cells):
        notebook.write_text(
            json.dumps(
                {
                    "cells": [
                        {"cell_type": "markdown", "source": "# A"},
                        *({"cell_type": "code", "source": cell} for cell in cells),
                    ]
                }
            )
        )

    def edit(module, old, new):
        path = package / f"{module}.py"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    def cell(old, new):
        assert any(old in one for one in CELLS)
        write(*(one.replace(old, new) for one in CELLS))

    write(*CELLS)

    def code():
        fingerprint._modules.cache_clear()  # it takes for granted that a package stays as it is while Python runs
        return fingerprint.code(notebook, package)

    return SimpleNamespace(edit=edit, cell=cell, code=code)


def test_every_piece_that_a_number_comes_from_is_named(program):
    assert set(program.code()) == {"cells", "a.py, f", "b.py, g", "b.py, Y"}


NUMBERS = {
    "a parameter": (lambda p: p.cell("N = 3", "N = 4"), ["cells"]),
    "a statement whose result is written": (lambda p: p.cell("a.f(i)", "2 * a.f(i)"), ["cells"]),
    "a used function": (lambda p: p.edit("a", "return b.g(x)", "return b.g(x) + 1"), ["a.py, f"]),
    "a function of a module imported on two lines": (lambda p: p.edit("b", "x * Y", "x + Y"), ["b.py, g"]),
    "a constant that it uses": (lambda p: p.edit("b", "Y = 2", "Y = 3"), ["b.py, Y"]),
    "when an error is raised": (lambda p: p.edit("a", "x < 0", "x < 1"), ["a.py, f"]),
}
WORDS = {
    "a comment": lambda p: p.edit("a", "  # why", "  # because"),
    "a docstring": lambda p: p.edit("a", '"""F."""', '"""Another\n    word."""'),
    "the layout": lambda p: p.edit("a", "return b.g(x)", "return b.g(\n        x,\n    )"),
    "the words of an error": lambda p: p.edit("a", "too small", "below 0"),
    "a type": lambda p: p.edit("a", "def f(x):", "def f(x: int) -> int:"),
    "a type of a constant": lambda p: p.edit("b", "Y = 2", "Y: int = 2"),
    "what a function prints": lambda p: p.edit("a", '"working"', '"still working"'),
    "a function that is not used": lambda p: p.edit("a", "return 1", "return 2"),
    "an unused constant": lambda p: p.edit("b", "X = 1", "X = 5"),
    "a module that is imported and not used": lambda p: p.edit("c", "Z = 1", "Z = 5"),
    "a figure": lambda p: p.edit("plots/style", "return x", "return y"),
    "where a figure comes from": lambda p: p.edit("plots/__init__", ".style", ".bars"),
    "the plumbing": lambda p: p.edit("project/paths", "pass", "x = 1"),
    "a cell that draws": lambda p: p.cell("plots.bars(numbers, names)", "plots.bars(numbers, names, 2)"),
    "a name that is only drawn": lambda p: p.cell("'two'", "'three'"),
    "a cell that prints": lambda p: p.cell("print(f'{N} numbers')", "print('all')"),
    "a loop that prints": lambda p: p.cell("print(number)", "print(2 * number)"),
    "the cell for Colab": lambda p: p.cell("import sys\n", "import os, sys\n"),
    "the cells cut in another way": lambda p: p.cell(
        "numbers = [a.f(i) for i in range(N)]\nnames", "numbers = [a.f(i)\n           for i in range(N)]\nnames"
    ),
}


@pytest.mark.parametrize("case", NUMBERS)
def test_code_that_makes_a_number_is_noticed_and_named(program, case):
    change, named = NUMBERS[case]
    before = program.code()
    change(program)
    assert fingerprint.differing(before, program.code()) == named


@pytest.mark.parametrize("case", WORDS)
def test_code_that_makes_no_number_is_not(program, case):
    before = program.code()
    WORDS[case](program)
    assert program.code() == before


@pytest.mark.parametrize(
    "number, pieces",
    {
        "02": ["data.py, split", "shortcuts.py, leakage"],
        "04": ["training.py, class_weights", "cells"],
        "07": ["training.py, class_weights", "augment.py, RandomFraming"],
        "09": ["ood.py, OODDetector"],
        "10": ["external.py, recalibrated"],
    }.items(),
)
def test_the_notebooks_own_fingerprints_hold_what_they_rest_on(number, pieces):
    found = fingerprint.code(next((ROOT / "notebooks").glob(f"{number}_*.ipynb")))
    assert set(pieces) <= set(found)
    assert not [name for name in found if name.startswith(("plots", "paths", "login", "download"))]


def test_every_stale_notebook_gets_one_line_and_a_fresh_one_none(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CXR_RESULTS_DIR", str(tmp_path))
    for notebook in run.choose("all"):
        record = {"code": fingerprint.code(notebook)}
        if notebook.name.startswith("04"):
            record["code"]["training.py, class_weights"] = "another"
        if notebook.name.startswith("06"):
            record = {
                "code": {},
                "accepted": {
                    "code": fingerprint.together(record["code"]),
                    "why": "a reason",
                    "differs": ["06_explain.json: inside"],
                },
            }
        (tmp_path / f"{notebook.name[:2]}_lineage.json").write_text(json.dumps(record))
    fingerprint.main()
    assert capsys.readouterr().out.splitlines() == [
        "04 stale: training.py, class_weights",
        "06 made by older code, accepted: a reason (06_explain.json: inside)",
    ]


# --- restamp ---

TABLE = pd.DataFrame({"path": ["a", "b"], "auc": [0.5, 0.25], "seconds": [1.0, 2.0]})


def tables(tmp_path, after):
    TABLE.to_csv(tmp_path / "before.csv", index=False)
    after.to_csv(tmp_path / "after.csv", index=False)
    return restamp.differences(tmp_path / "before.csv", tmp_path / "after.csv")


@pytest.mark.parametrize(
    "after, found",
    [
        (TABLE, []),
        (TABLE.assign(seconds=9), []),
        (TABLE.assign(auc=[0.5, 0.26]), ["auc"]),
        (TABLE[:1], ["1 rows, not 2"]),
        (TABLE.rename(columns={"auc": "area"}), ["auc is now area"]),
        (TABLE.drop(columns="auc"), ["no auc"]),
        (TABLE.assign(more=1), []),
    ],
    ids=["equal", "time", "a number", "a row", "a name", "a column", "one more"],
)
def test_tables_are_compared_by_their_numbers(tmp_path, after, found):
    assert tables(tmp_path, after) == found


def test_json_is_compared_by_its_numbers(tmp_path):
    one = {"why": "a", "device": "x", "test": {"auc": 0.5, "each": [{"n": 1}, {"n": 2}]}}
    (tmp_path / "a.json").write_text(json.dumps(one))
    (tmp_path / "b.json").write_text(json.dumps(one | {"device": "y", "why": "b"}))
    assert restamp.differences(tmp_path / "a.json", tmp_path / "b.json") == []
    one["test"]["each"][1]["n"] = 3
    (tmp_path / "b.json").write_text(json.dumps(one))
    assert restamp.differences(tmp_path / "a.json", tmp_path / "b.json") == ["test.each[1].n"]
    assert restamp.differences(tmp_path / "a.json", tmp_path / "c.json") == ["is missing"]


def test_models_are_compared_by_their_weights(tmp_path):
    from cxr.backend import keras

    model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)])
    model.save(tmp_path / "a.keras")
    model.save(tmp_path / "b.keras")
    assert restamp.differences(tmp_path / "a.keras", tmp_path / "b.keras") == []
    model.set_weights([weight + 1 for weight in model.get_weights()])
    model.save(tmp_path / "b.keras")
    assert restamp.differences(tmp_path / "a.keras", tmp_path / "b.keras") == ["weights"]


@pytest.fixture
def two_stale(tmp_path, monkeypatch):
    """A results folder in which 01 and 02 come from older code."""
    monkeypatch.setenv("CXR_RESULTS_DIR", str(tmp_path))
    for notebook in run.choose("all"):
        record = {
            "notebook": notebook.stem,
            "code": fingerprint.code(notebook),
            "dataset": {},
            "reads": {},
            "writes": {},
        }
        if notebook.name[:2] in ("01", "02"):
            record["code"] = {}
        (tmp_path / f"{notebook.name[:2]}_lineage.json").write_text(json.dumps(record))
    found = {"01": [], "02": ["02_split.csv: label"]}
    monkeypatch.setattr(restamp, "compare", lambda commit: found)
    return tmp_path


def record(folder, number):
    return json.loads((folder / f"{number}_lineage.json").read_text())


def test_equal_numbers_clear_the_mark_and_others_are_named(two_stale, capsys):
    restamp.main(["--since", "HEAD"])
    assert "01 fresh" in capsys.readouterr().out and not fingerprint.stale(run.choose("01")[0])
    assert record(two_stale, "02")["code"] == {} and fingerprint.stale(run.choose("02")[0])


def test_other_numbers_are_accepted_with_a_reason_only(two_stale, capsys):
    restamp.main(["--since", "HEAD", "--accept", "retrained next week"])
    accepted = record(two_stale, "02")["accepted"]
    assert accepted["why"] == "retrained next week" and accepted["differs"] == ["02_split.csv: label"]
    assert not fingerprint.stale(run.choose("02")[0]) and record(two_stale, "02")["code"] == {}
    capsys.readouterr()
    restamp.main(["--since", "HEAD"])
    assert "nothing to do" in capsys.readouterr().out
