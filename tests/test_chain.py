"""An artifact is whole or not there, no step reads an outdated one, and the test folder opens behind a ledger alone."""

import errno
import json
import re
import textwrap
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from test_data import contents, refused

from cxr import chain, data, images, keys
from cxr.chain import Step
from cxr.paths import Problem

TABLE = pd.DataFrame({"path": ["train/NORMAL/a b.jpeg", 'x/"y", ü.png', "z\nz"], "label": [0, 1, 1]})
TABLE = TABLE.assign(subtype=["normal", "", "NA"], patient=["007", "1e5", "null"], probability=[0.125, 1 / 3, 0])
DATASET = {"name": "a test", "sample": False, "images": 3}


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setenv("CXR_RESULTS_DIR", str(tmp_path / "results"))
    return tmp_path / "results"


def run(number, reads=(), content="1", done=True):
    """Run a step: read `reads`, write ``NN_out.csv`` with `content` and ``NN_more.json``, perhaps not to the end."""
    step = Step(chain._maker(number)[:-6])
    step.dataset = DATASET
    for name in reads:
        step.read(name)
    step.write(f"{number}_out.csv", f"value\n{content}\n")
    step.write(f"{number}_more.json", {"of": number})
    if done:
        step.done()
    return step


@pytest.fixture
def four(results, capsys):
    """Four finished steps; each reads the one before it, and 04 the first as well."""
    run("01")
    run("02", ["01_out.csv"])
    run("03", ["02_out.csv"])
    run("04", ["01_out.csv", "03_out.csv"])
    return results


def test_tables_dicts_texts_and_functions_come_back_as_they_were(results, capsys):
    step, content = Step("01_download"), {"größe": [1, 2.5, None, True], "b": {"c": "Röntgen 胸部\n"}, "empty": ""}
    step.write("01_table.csv", TABLE)
    step.write("01_none.csv", TABLE[:0])
    step.write("01_a.json", content)
    step.write("01_b.md", "Zeile 1\nβ\n")
    step.write("01_model.keras", lambda path: Path(path).write_bytes(b"weights"))
    step.done()
    later = Step("02_explore")
    pd.testing.assert_frame_equal(later.read("01_table.csv"), TABLE, check_dtype=False, atol=1e-6)
    assert list(later.read("01_none.csv")) == [*TABLE] and b"\r" not in (results / "01_table.csv").read_bytes()
    assert later.read("01_a.json") == content and later.path("01_model.keras").read_bytes() == b"weights"
    assert later.path("01_b.md").read_text(encoding="utf-8") == "Zeile 1\nβ\n"
    assert "results/: 01_table.csv, " in capsys.readouterr().out
    record = json.loads((results / "01_lineage.json").read_text())
    assert record["code"] == chain.code_of(chain.notebooks()["01"]) and len(record["writes"]) == 5
    assert later.reads["01_b.md"] == record["writes"]["01_b.md"] and str(results) not in json.dumps(record)


def test_what_is_text_stays_text_even_where_it_looks_like_numbers(results):
    step, patients = Step("01_download"), ["007", "7", "1e5", "100000", "True", "", "nan", "9" * 20]
    step.write("01_table.csv", pd.DataFrame({"patient": patients, "subtype": ""}))
    step.done()
    again = Step("02_explore").read("01_table.csv")
    assert list(again.patient) == patients and set(again.subtype) == {""}


def test_figures_are_the_same_bytes_each_time_and_marked_on_the_sample(results):
    step = Step("01_download")
    for name, sample in (("01_a.png", False), ("01_b.png", False), ("01_c.png", True)):
        step.dataset, figure = {**DATASET, "sample": sample}, Figure(figsize=(8, 5))
        figure.subplots().plot([0, 1], [1, 0])
        step.write(name, figure)
    first, second, marked = ((results / f"01_{name}.png").read_bytes() for name in "abc")
    assert first == second != marked


def half_then(error):
    def write(path):
        Path(path).write_bytes(b"half")
        raise error if isinstance(error, BaseException) else OSError(error.format(path))

    return write


FULL, READ_ONLY = OSError(errno.ENOSPC, "No space left on device"), PermissionError(13, "Permission denied", "/x/y")
FAILURES = {  # content, function that fails, error, what the sentence says
    "disk full in a table": (TABLE, "pandas.DataFrame.to_csv", FULL, "No space left on device"),
    "an error without a number": (half_then("Can't write data (name = '{}')"), None, None, "Can't write data"),
    "renaming refused": ("text", "os.replace", READ_ONLY, "Permission denied"),
    "folder refused": ("text", "pathlib.Path.mkdir", READ_ONLY, "Permission denied"),
}


@pytest.mark.parametrize("case", FAILURES)
def test_an_artifact_that_cannot_be_written_is_a_problem_and_the_old_one_stays(four, monkeypatch, case):
    content, where, error, said = FAILURES[case]
    step = Step("02_explore")
    with (
        refused("02_out.csv", said, "free the disk", "CXR_RESULTS_DIR", keeping=[four]),
        monkeypatch.context() as patch,
    ):
        if where:
            patch.setattr(where, Mock(side_effect=error))
        step.write("02_out.csv", content)
    assert "02_out.csv" not in step.writes and Step("03_augment").read("02_out.csv").value.item() == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError()], ids=repr)
def test_an_interrupt_leaves_the_old_artifact_and_nothing_else(four, error):
    before = contents(four)
    with pytest.raises(type(error)):
        Step("02_explore").write("02_out.csv", half_then(error))
    assert contents(four) == before


SPOILT = {  # what happened, which artifact is read then, what the sentence names
    "nothing was run": (lambda f: [p.unlink() for p in f.iterdir()], "01_out.csv", "01_out.csv", "missing", "run 01_d"),
    "no record": (lambda f: (f / "02_lineage.json").unlink(), "02_out.csv", "02_lineage.json", "run 02_explore.ipynb"),
    "edited": (lambda f: (f / "02_out.csv").write_text("x"), "02_out.csv", "edited", "run 02_explore.ipynb again"),
    "cut short": (lambda f: run("02", ["01_out.csv"], "2", done=False), "02_out.csv", "cut short", "run 02_explore"),
    "a folder": (lambda f: replace_by_folder(f / "02_out.csv"), "02_out.csv", "can't be read", "run 02_explore.ipynb"),
    "record cut": (lambda f: (f / "02_lineage.json").write_text('{"n": "02'), "02_out.csv", "02_lineage.json", "again"),
    "record of other types": (lambda f: (f / "02_lineage.json").write_text('{"reads": 1}'), "02_out.csv", "run 02_ex"),
    "input made again": (lambda f: run("01", content="2"), "02_out.csv", "older 01_out.csv", "run 02_explore.ipynb"),
    "two steps back": (lambda f: run("01", content="2"), "03_out.csv", "older 01_out.csv", "run 02_explore.ipynb"),
    "one of two inputs": (lambda f: run("03", ["02_out.csv"], "2"), "04_out.csv", "older 03_out.csv", "run 04_train"),
}


def replace_by_folder(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("case", SPOILT)
def test_no_step_reads_what_is_not_the_end_of_a_whole_chain(four, case):
    happened, name, *named = SPOILT[case]
    happened(four)
    step = Step("05_evaluate")
    with refused(*named, keeping=[four]):
        step.read(name)
    assert step.reads == {} and step.dataset == {}


def test_a_whole_chain_is_read_even_if_a_later_step_is_broken(four):
    run("01"), run("02", ["01_out.csv"]), run("03", ["02_out.csv"])  # the same again
    (four / "04_lineage.json").write_text("x")
    step = Step("05_evaluate")
    assert step.read("03_out.csv").value.item() == 1
    assert step.dataset == DATASET and list(step.reads) == ["03_out.csv"]


def test_a_result_of_another_input_is_refused_even_if_01_ran_while_02_did(four):
    step = Step("02_explore")
    step.read("01_out.csv")
    run("01", content="2")
    step.write("02_out.csv", "value\n1\n")
    step.done()
    with refused("02_out.csv", "older 01_out.csv", "run 02_explore.ipynb again", keeping=[four]):
        Step("03_augment").read("02_out.csv")


def test_an_artifact_of_an_earlier_run_is_in_the_lineage_also_where_it_is_not_there(four, monkeypatch, tmp_path):
    monkeypatch.setattr(chain, "ROOT", tmp_path)
    step = Step("02_explore")
    assert step.earlier("03_out.csv") == four / "03_out.csv" and step.earlier("02_gate.keras") is None
    step.done()
    earlier = json.loads((four / "02_lineage.json").read_text())["earlier"]
    assert earlier == {"03_out.csv": chain.file_sha256(four / "03_out.csv"), "02_gate.keras": "not there"}
    with pytest.raises(AssertionError, match="Step.earlier"):
        step.path("02_out.csv")


PROGRAM = {
    "a": '"""A."""\nfrom . import b, plots\nfrom .chain import Step\n\n\n'
    'def f(x):\n    """F."""\n    return b.g(x)  # why\n',
    "b": "Y = 2\n\n\ndef g(x):\n    return x * Y\n",
    "chain": "class Step: ...\n",
    "plots": "COLOR = 1\n",
}
CHANGES = {  # module, old text, new text, whether the hash of module a differs
    "a comment": ("a", "# why", "# because", False),
    "a docstring": ("a", '"""F."""', '"""Another."""', False),
    "layout": ("a", "return b.g(x)", "return b.g(\n        x,\n    )", False),
    "a figure": ("plots", "COLOR = 1", "COLOR = 2", False),
    "plumbing": ("chain", "...", "x = 1", False),
    "a body": ("a", "b.g(x)", "b.g(x) + 1", True),
    "an imported module": ("b", "Y = 2", "Y = 3", True),
}


@pytest.mark.parametrize("case", CHANGES)
def test_code_is_hashed_without_words_and_with_what_it_imports(tmp_path, monkeypatch, case):
    monkeypatch.setattr(keys, "PACKAGE", tmp_path)
    module, old, new, differs = CHANGES[case]
    for name, text in PROGRAM.items():
        (tmp_path / f"{name}.py").write_text(text)
    before = keys.with_imports(["a"])
    (tmp_path / f"{module}.py").write_text(PROGRAM[module].replace(old, new) + "\n")
    assert set(before) == {"a", "b"} and (keys.with_imports(["a"]) != before) == differs


NOTEBOOK = [
    "from cxr import colab\ncolab.prepare()",
    "N = 3",
    "from cxr import calibration\n%matplotlib inline",
    "print(N)",
]


@pytest.mark.parametrize("cell, differs", [(0, False), (1, True), (2, True), (3, False)])
def test_a_notebook_is_hashed_but_for_its_setup_and_what_it_prints(tmp_path, cell, differs):
    def code(cells):
        made = [{"cell_type": "code", "metadata": {}, "source": one} for one in cells]
        (tmp_path / "01_a.ipynb").write_text(json.dumps({"cells": [{"cell_type": "markdown", "source": "x"}, *made]}))
        return chain.code_of(tmp_path / "01_a.ipynb")

    changed = NOTEBOOK[cell].replace("()", "(True)").replace("N", "M").replace("calibration", "swaps")
    assert (code(NOTEBOOK) != code([*NOTEBOOK[:cell], changed, *NOTEBOOK[cell + 1 :]])) == differs


def test_a_function_counts_with_what_it_uses(tmp_path, monkeypatch):
    """Helpers, constants, wrapped functions and methods, whatever module they are in."""
    source = """
        import functools
        FACTOR = 2
        def helper(x): return x
        wrapped = functools.lru_cache(helper)
        class Layer:
            def call(self, x): return wrapped(x) * FACTOR
        def unused(): return 1
        def build(): return Layer()
    """
    monkeypatch.syspath_prepend(tmp_path)
    hashes = {}
    for i, (old, new) in enumerate([("", ""), ("= 2", "= 3"), ("return x", "return -x"), ("return 1", "return 2")]):
        (tmp_path / f"module{i}.py").write_text(textwrap.dedent(source).replace(old, new))
        module = __import__(f"module{i}")
        found = {}
        keys._of_object(module.build, found)
        hashes[new] = json.dumps(found).replace(f"module{i}", "module")
    assert hashes[""] == hashes["return 2"] and len(set(hashes.values())) == 3


def test_a_key_differs_where_any_input_does_and_is_the_same_for_the_same():
    class Network:
        def __init__(self, weight):
            self.get_weights = lambda: [np.array([weight])]

    array, table = np.arange(6), pd.DataFrame({"a": [1.5]})
    inputs = [0, 0.5, "0", None, [0], [[0]], {"a": 0}, {"b": 0}, b"0", array, array.reshape(2, 3), array.astype("f4")]
    inputs += [table, table + 1, Network(1.0), Network(2.0), np.array(["a", None], object), array[:0]]
    found = [keys.cache_key(value) for value in inputs]
    assert len(set(found)) == len(inputs) and found[9] == keys.cache_key(np.arange(6)) and len(found[0]) == 16
    assert keys.cache_key(1, 2) != keys.cache_key([1, 2], []) and keys.cache_key(1, code=[keys]) != keys.cache_key(1)


ENSEMBLE, OTHER = {"04_ensemble.keras": "ab" * 32}, {"04_ensemble.keras": "cd" * 32}


@pytest.fixture
def step(results):
    step = Step("05_evaluate")
    step.dataset = {"name": "a test"}
    return step


def test_a_line_for_each_scoring_of_new_weights_or_pictures_and_none_for_old_ones(step):
    """Of all lines, not the last alone: networks A, B, A are two lines."""
    chain.add_to_ledger(step, 624, "p1", ENSEMBLE, "first, with a comma")
    chain.add_to_ledger(step, 624, "p1", {"plain, seed 0": "cd" * 32} | ENSEMBLE, "second")
    chain.add_to_ledger(step, 600, "p2", ENSEMBLE, "third")
    chain.add_to_ledger(step, 624, "p1", ENSEMBLE, "again")
    found = chain.ledger("05")
    assert list(found) == chain.LEDGER and (found.code == step.code).all()
    assert found.why.tolist()[::2] == ["first, with a comma", "third (new: 04_ensemble.keras)"]
    assert found.why[1] == "second (new: plain, seed 0)"
    assert found.images.tolist() == ["624", "624", "600"] and found.networks.iloc[0] == "04_ensemble.keras:abababababab"
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\dZ", when) for when in found.when)
    assert len(chain.ledger("05", "another data set")) == 0 == len(chain.ledger("07"))


def test_a_damaged_ledger_is_named_and_left_alone(step, results):
    results.mkdir()
    (results / "05_test_ledger.csv").write_text("a,b\n1,2\n")
    with refused("05_test_ledger.csv", "git checkout", keeping=[results]):
        chain.add_to_ledger(step, 1, "p", ENSEMBLE, "why")


@pytest.fixture
def dataset(tiny, tmp_path, results, monkeypatch, capsys):
    """The drawn set, surveyed and split as 01 and 02 do it, and a function that opens it for 05 once more."""
    monkeypatch.setenv("CHEST_XRAY_DIR", str(tiny))
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
    """Says the mean gray of each picture times its weight, and counts how often it is asked."""

    def __init__(self, weight=1.0):
        self.weight, self.asked = weight, 0

    def get_weights(self):
        return [np.array([self.weight])]

    def predict(self, pictures, **_):
        self.asked += 1
        return pictures.mean(axis=(1, 2)) / 255 * self.weight


def test_the_test_split_comes_behind_a_line_only(dataset, monkeypatch):
    opened, seen, load = dataset(), [], images.load
    with pytest.raises(Problem, match="test split is sealed.*ledger"):
        opened.part("test", 32)
    monkeypatch.setattr(images, "load", lambda *args: seen.append(len(chain.ledger("05"))) or load(*args))
    test = opened.test([32, 48], ENSEMBLE, "a reason")
    assert seen == [1, 1] and len(test.ledger) == 1 and set(test.table.split) == {"test"}
    assert {size: films.shape[1] for size, films in test.pictures.items()} == {32: 32, 48: 48}


def test_answers_are_asked_once_for_the_same_network_pictures_parameters_and_code(dataset, results):
    network, quantiles = Network(), []

    def gate(quantile):
        quantiles.append(quantile)
        return np.full((len(test.table), 2), quantile)

    for _ in range(2):
        test = dataset().test(32, ENSEMBLE, "a reason")
        plain, dark = test.scores("gray", network), test.scores("dark", network, test.pictures // 2)
        several = test.answers("gate", lambda: gate(0.9), 0.9, gate)
        test._step.done()
    assert network.asked == 2 and quantiles == [0.9] and (dark < plain).all() and several.shape == (len(plain), 2)
    assert len(test.ledger) == 1
    assert (test.scores("gray", network, test.pictures // 3) < dark).all(), "other pixels under the same name"
    assert (test.scores("gray", Network(0.5)) < plain).all(), "other weights under the same name"
    assert (test.answers("gate", lambda: gate(0.8), 0.8, gate) == 0.8).all(), "another parameter"
    assert (test.answers("gate", lambda: gate(0.7), 0.9, keys.plain) == 0.7).all(), "other code"
    saved = pd.read_csv(results / "05_test_scores.csv")
    assert [re.sub(" @[0-9a-f]{16}$", "", name) for name in saved][:5] == ["path", "gray", "dark", "gate 0", "gate 1"]


def test_columns_that_a_run_did_not_ask_for_are_gone_at_its_end_only(dataset, results):
    test = dataset().test(32, ENSEMBLE, "a reason")
    test.scores("gray", Network())
    test._step.done()
    test = dataset().test(32, OTHER, "networks that are new")
    assert len(pd.read_csv(results / "05_test_scores.csv").columns) == 2
    test.scores("gray", Network(2.0))
    test._step.done()
    assert len(pd.read_csv(results / "05_test_scores.csv").columns) == 2 and len(test.ledger) == 2


def test_an_empty_why_is_refused_before_anything_is_emptied(dataset, results):
    dataset().test(32, ENSEMBLE, "a reason").scores("gray", Network())
    opened = dataset()
    with refused("WHY in the parameters of 05_evaluate.ipynb is empty", keeping=[results]):
        opened.test(32, OTHER, "  ")
