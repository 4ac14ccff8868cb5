"""An artifact is whole or it is not there, and no step runs on one that is missing, edited or out of date."""

import errno
import json
import os
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image
from test_data import contents, refused

from cxr import chain, paths
from cxr.chain import Step
from cxr.paths import Problem

MAKERS = {
    number: f"{number}_{name}.ipynb"
    for number, name in {"01": "download", "02": "explore", "03": "augment", "04": "train", "05": "evaluate"}.items()
}
TABLE = pd.DataFrame(
    {
        "path": ["train/NORMAL/a b.jpeg", 'x/"y", ü.png', "z\nz"],
        "label": [0, 1, 1],
        "subtype": ["normal", "", "NA"],
        "patient": ["007", "1e5", "null"],
        "probability": [0.125, 1, 0],
    }
)
DATASET = {"name": "a test", "synthetic": False, "images": 3}


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setenv("CXR_RESULTS_DIR", str(tmp_path / "results"))
    return tmp_path / "results"


def run(number, reads=(), content="1", done=True, **dataset):
    """Run a step: read `reads`, write ``NN_out.csv`` with `content` and ``NN_more.json``, perhaps not to the end."""
    step = Step(MAKERS[number][:-6])
    step.dataset = {**DATASET, **dataset}
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


# ------------------------------------------------------------------------------------ round trips


def test_a_table_comes_back_as_it_was(results):
    step = Step("01_download")
    step.write("01_table.csv", TABLE)
    step.done()
    again = Step("02_explore").read("01_table.csv")
    pd.testing.assert_frame_equal(again, TABLE, check_dtype=False)
    assert list(again.subtype) == ["normal", "", "NA"] and again.label.dtype.kind == "i"
    assert again.probability.dtype.kind == "f"
    assert b"\r" not in (results / "01_table.csv").read_bytes()


@pytest.mark.parametrize(
    "patients",
    [
        ["007", "7", "07"],
        ["1e5", "100000", "1E5"],
        ["True", "False", "True"],
        ["", "", ""],
        ["inf", "nan", "-1"],
        ["12345678901234567890", "12345678901234567891", "1"],
    ],
)
def test_what_is_text_stays_text_even_where_it_looks_like_numbers(results, patients):
    """Else patients 007 and 7 become one, or a virus of no name a missing value."""
    step = Step("01_download")
    step.write("01_table.csv", TABLE.assign(patient=patients, subtype=""))
    step.done()
    again = Step("02_explore").read("01_table.csv")
    assert list(again.patient) == patients and list(again.subtype) == ["", "", ""]


def test_a_table_without_rows_keeps_its_columns(results):
    step = Step("02_explore")
    step.write("02_left_out.csv", pd.DataFrame({"path": [], "reason": []}))
    step.done()
    again = Step("03_augment").read("02_left_out.csv")
    assert list(again.columns) == ["path", "reason"] and again.empty


def test_a_dict_and_a_text_come_back_as_they_were(results):
    content = {"größe": [1, 2.5, None, True], "b": {"c": "Röntgen 胸部\n"}, "empty": ""}
    step = Step("01_download")
    step.write("01_a.json", content)
    step.write("01_b.md", "Zeile 1\nβ\n")
    step.done()
    assert Step("02_explore").read("01_a.json") == content
    assert Step("02_explore").path("01_b.md").read_text(encoding="utf-8") == "Zeile 1\nβ\n"
    assert "größe" in (results / "01_a.json").read_text(encoding="utf-8")


def test_a_function_writes_where_it_is_told_and_lineage_has_its_bytes(results):
    step = Step("04_train")
    step.write("04_model.keras", lambda path: Path(path).write_bytes(b"weights"))
    step.done()
    assert Step("05_evaluate").path("04_model.keras").read_bytes() == b"weights"
    assert contents(results).keys() == {"04_model.keras", "04_lineage.json"}


def test_numbers_keep_six_digits(results):
    step = Step("05_evaluate")
    step.write("05_a.csv", pd.DataFrame({"p": [1 / 3, 1e-7, 123456.0], "bytes": [2**40 + 1, 0, 3]}))
    step.done()
    again = Step("06_x").read("05_a.csv")
    assert np.allclose(again.p, [1 / 3, 1e-7, 123456], rtol=1e-5, atol=0) and list(again.bytes) == [2**40 + 1, 0, 3]


# ------------------------------------------------------------------------------------ figures


def figure():
    drawn = Figure(figsize=(8, 5))
    drawn.subplots().plot([0, 1], [1, 0])
    return drawn


def pixels(path):
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


@pytest.mark.parametrize("synthetic", [True, False])
@pytest.mark.parametrize("own", [True, False], ids=["set by the step", "read from an earlier step"])
def test_a_figure_of_synthetic_images_is_marked_in_its_pixels(results, synthetic, own):
    if own:
        step = Step("01_download")
        step.dataset = {**DATASET, "synthetic": synthetic}
    else:
        run("01", synthetic=synthetic)
        run("02", ["01_out.csv"])
        step = Step("03_augment")
        step.read("02_out.csv")
    name = f"{step.number}_figure.png"
    step.write(name, figure())
    figure().savefig(results / "plain.png", dpi=150, bbox_inches="tight", facecolor="white")
    marked, plain = pixels(results / name), pixels(results / "plain.png")
    assert marked.shape == plain.shape
    changed = (marked != plain).any(axis=2)
    assert (changed.mean() > 0.01) == synthetic and changed.any() == synthetic
    if synthetic:  # crimson: more red than green where it stands on white, and in the middle of the figure
        high, wide = changed.shape
        assert (marked[changed][:, 0] > marked[changed][:, 1]).mean() > 0.9
        assert changed[high // 4 : -high // 4, wide // 4 : -wide // 4].any()


def test_the_same_figure_gives_the_same_bytes(results):
    """And names neither Matplotlib's version nor a date, which would change with every run."""
    step = Step("01_download")
    step.write("01_a.png", figure())
    step.write("01_b.png", figure())
    first = (results / "01_a.png").read_bytes()
    assert first == (results / "01_b.png").read_bytes() and matplotlib.__version__.encode() not in first


# ------------------------------------------------------------------------------------ whole or not at all


def half_then(error):
    """A content that writes half of itself and fails, as an OSError of HDF5 does with the whole path in its text."""

    def write(path):
        Path(path).write_bytes(b"half")
        raise error if isinstance(error, BaseException) else OSError(error.format(path))

    return write


def raising(error):
    def fail(*_, **__):
        raise error

    return fail


FULL, READ_ONLY = OSError(errno.ENOSPC, "No space left on device"), PermissionError(13, "Permission denied", "/x/y")
FAILURES = {  # content, function that fails, error, what the sentence says
    "disk full in a text": ("text", "pathlib.Path.write_text", FULL, "No space left on device"),
    "disk full in a table": (TABLE, "pandas.DataFrame.to_csv", FULL, "No space left on device"),
    "disk full in a figure": (figure(), "matplotlib.figure.Figure.savefig", FULL, "No space left on device"),
    "disk full in a model": (half_then(FULL), None, FULL, "No space left on device"),
    "an error without a number": (half_then("Can't write data (name = '{}')"), None, None, "Can't write data"),
    "renaming refused": ("text", "os.replace", READ_ONLY, "Permission denied"),
    "folder refused": ("text", "pathlib.Path.mkdir", READ_ONLY, "Permission denied"),
    "disk full in bytes": (b"bytes", "pathlib.Path.write_bytes", FULL, "No space left on device"),
}


@pytest.mark.parametrize("case", FAILURES)
def test_an_artifact_that_cannot_be_written_is_a_problem_and_the_old_one_stays(four, monkeypatch, case):
    content, where, error, said = FAILURES[case]
    step = Step("02_explore")
    step.read("01_out.csv")
    with (
        refused("02_out.csv", said, "free the disk", "CXR_RESULTS_DIR", keeping=[four]),
        monkeypatch.context() as patched,
    ):
        if where:
            patched.setattr(where, raising(error))
        step.write("02_out.csv", content)
    assert "02_out.csv" not in step.writes
    assert Step("03_augment").read("02_out.csv").value.item() == 1  # the old one is as good as before


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError(), ValueError("x")], ids=repr)
@pytest.mark.parametrize("where", ["in the content", "before renaming"])
def test_an_interrupt_leaves_the_old_artifact_and_nothing_else(four, monkeypatch, error, where):
    before, step = contents(four), Step("02_explore")
    with pytest.raises(type(error)), monkeypatch.context() as patched:
        if where == "before renaming":
            patched.setattr("os.replace", raising(error))
        step.write("02_out.csv", half_then(error) if where == "in the content" else "new")
    assert contents(four) == before
    assert Step("03_augment").read("02_out.csv").value.item() == 1


def test_a_flushed_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    done, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda stream: done.append(Path(stream.name).read_text()) or fsync(stream))
    monkeypatch.setattr(os, "replace", lambda *names: done.append("renamed") or replace(*names))
    for flush in (False, True):
        with paths.atomic_write(tmp_path / "a.txt", flush=flush) as unfinished:
            unfinished.write_text(f"{flush}")
    assert done == ["renamed", "True", "renamed"] and (tmp_path / "a.txt").read_text() == "True"
    monkeypatch.setattr(os, "fsync", raising(FULL))
    with pytest.raises(OSError), paths.atomic_write(tmp_path / "a.txt", flush=True) as unfinished:
        unfinished.write_text("lost")
    assert contents(tmp_path) == {"a.txt": b"True"}


def test_a_results_folder_that_is_a_file_is_named(results):
    results.write_text("")
    with refused("01_a.csv", "CXR_RESULTS_DIR", keeping=[]):
        Step("01_download").write("01_a.csv", "a\n")


@pytest.mark.parametrize("name", ["01_out.csv", "03_out.csv", "out.csv", "2_out.csv", "02out.csv", "../02_out.csv"])
def test_a_step_writes_under_its_own_number_only(four, name):
    before = contents(four.parent)
    with pytest.raises(AssertionError, match="number of 02_explore"):
        Step("02_explore").write(name, "x")
    assert contents(four.parent) == before


def test_done_names_what_was_written(results, capsys):
    run("01")
    assert "results/: 01_out.csv (1 kB), 01_more.json (1 kB)\n" in capsys.readouterr().out.replace("\xa0", " ")
    assert str(results) not in (results / "01_lineage.json").read_text()


# ------------------------------------------------------------------------------------ what is refused


def edit(path):
    path.write_text(path.read_text() + " ")


def spoil_lineage(content):
    return lambda folder: (folder / "02_lineage.json").write_text(content)


SPOILT = {  # what happened, which artifact is read then, what the sentence names
    "nothing was run": (
        lambda f: [path.unlink() for path in f.iterdir()],
        "01_out.csv",
        "01_out.csv",
        "missing",
        "run 01_download.ipynb",
    ),
    "the artifact is missing": (
        lambda f: (f / "02_out.csv").unlink(),
        "02_out.csv",
        "02_out.csv",
        "missing",
        "run 02_explore.ipynb",
    ),
    "its lineage is missing": (
        lambda f: (f / "02_lineage.json").unlink(),
        "02_out.csv",
        "02_lineage.json",
        "missing",
        "run 02_explore.ipynb",
    ),
    "the artifact was edited": (
        lambda f: edit(f / "02_out.csv"),
        "02_out.csv",
        "02_out.csv",
        "edited",
        "run 02_explore.ipynb again",
    ),
    "emptied": (
        lambda f: (f / "02_out.csv").write_text(""),
        "02_out.csv",
        "02_out.csv",
        "edited",
        "run 02_explore.ipynb again",
    ),
    "a step cut short": (
        lambda f: run("02", ["01_out.csv"], "2", done=False),
        "02_out.csv",
        "02_out.csv",
        "cut short",
        "run 02_explore.ipynb again",
    ),
    "a file the step never wrote": (
        lambda f: (f / "02_own.csv").write_text("a\n"),
        "02_own.csv",
        "02_own.csv",
        "last finished",
        "run 02_explore.ipynb again",
    ),
    "a folder in its place": (
        lambda f: ((f / "02_out.csv").unlink(), (f / "02_out.csv").mkdir()),
        "02_out.csv",
        "02_out.csv",
        "can't be read",
        "run 02_explore.ipynb",
    ),
    "lineage cut": (spoil_lineage('{"notebook": "02'), "02_out.csv", "02_lineage.json", "run 02_explore.ipynb again"),
    "lineage empty": (spoil_lineage(""), "02_out.csv", "02_lineage.json", "run 02_explore.ipynb again"),
    "lineage no text": (
        lambda f: (f / "02_lineage.json").write_bytes(b"\xff\xfe\0"),
        "02_out.csv",
        "02_lineage.json",
        "run 02_explore.ipynb again",
    ),
    "lineage an empty object": (spoil_lineage("{}"), "02_out.csv", "02_lineage.json", "run 02_explore.ipynb again"),
    "lineage a list": (spoil_lineage("[]"), "02_out.csv", "02_lineage.json", "run 02_explore.ipynb again"),
    "lineage of other types": (
        spoil_lineage('{"writes": [], "reads": 1, "dataset": {}}'),
        "02_out.csv",
        "02_lineage.json",
        "run 02_explore.ipynb again",
    ),
    "the input was made anew": (
        lambda f: run("01", content="2"),
        "02_out.csv",
        "02_out.csv",
        "older 01_out.csv",
        "run 02_explore.ipynb again",
    ),
    "the input was edited": (
        lambda f: edit(f / "01_out.csv"),
        "02_out.csv",
        "01_out.csv",
        "edited",
        "run 01_download.ipynb again",
    ),
    "the input is missing": (
        lambda f: (f / "01_out.csv").unlink(),
        "02_out.csv",
        "01_out.csv",
        "missing",
        "run 01_download.ipynb",
    ),
    "the input's step was cut short": (
        lambda f: run("01", content="2", done=False),
        "02_out.csv",
        "01_out.csv",
        "cut short",
        "run 01_download.ipynb",
    ),
    "two steps back: made anew": (
        lambda f: run("01", content="2"),
        "03_out.csv",
        "02_out.csv",
        "older 01_out.csv",
        "run 02_explore.ipynb again",
    ),
    "two steps back: edited": (
        lambda f: edit(f / "01_out.csv"),
        "03_out.csv",
        "01_out.csv",
        "edited",
        "run 01_download.ipynb again",
    ),
    "two steps back: missing": (
        lambda f: (f / "01_out.csv").unlink(),
        "03_out.csv",
        "01_out.csv",
        "missing",
        "run 01_download.ipynb",
    ),
    "half the chain made anew": (
        lambda f: (run("01", content="2"), run("02", ["01_out.csv"], "2")),
        "03_out.csv",
        "03_out.csv",
        "older 02_out.csv",
        "run 03_augment.ipynb again",
    ),
    "one of two inputs made anew": (
        lambda f: run("03", ["02_out.csv"], "2"),
        "04_out.csv",
        "04_out.csv",
        "older 03_out.csv",
        "run 04_train.ipynb again",
    ),
    "a changed subset": (
        lambda f: run("02", ["01_out.csv"], "2"),
        "04_out.csv",
        "03_out.csv",
        "older 02_out.csv",
        "run 03_augment.ipynb again",
    ),
}


@pytest.mark.parametrize("case", SPOILT)
def test_no_step_reads_what_is_not_the_end_of_a_whole_chain(four, case):
    happened, name, *named = SPOILT[case]
    happened(four)
    step = Step("05_evaluate")
    with refused(*named, keeping=[four]):
        step.read(name)
    assert step.reads == {} and step.dataset == {}


def test_an_unreadable_artifact_is_named(four, monkeypatch):
    real = open

    def refuse(path, *arguments, **options):
        if str(path).endswith("02_out.csv"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *arguments, **options)

    monkeypatch.setattr("builtins.open", refuse)
    said = r"02_out\.csv can't be read \(Permission denied\): .*02_explore\.ipynb"
    with pytest.raises(Problem, match=said) as caught:
        Step("03_augment").read("02_out.csv")
    assert str(four) not in str(caught.value)


HARMLESS = {
    "nothing": lambda f: None,
    "the same chain again": lambda f: (run("01"), run("02", ["01_out.csv"]), run("03", ["02_out.csv"])),
    "the first step again, with the same result": lambda f: run("01"),
    "an artifact that nobody read was lost": lambda f: (f / "02_more.json").unlink(),
    "a later step is broken": lambda f: (f / "04_lineage.json").write_text("x"),
    "a strange file beside": lambda f: (f / "notes.txt").write_text("x"),
}


@pytest.mark.parametrize("case", HARMLESS)
def test_a_whole_chain_is_read(four, case):
    HARMLESS[case](four)
    step = Step("05_evaluate")
    assert step.read("03_out.csv").value.item() == 1
    assert step.dataset == DATASET and list(step.reads) == ["03_out.csv"]


def test_lineage_tells_what_was_read_and_written(four):
    record = json.loads((four / "04_lineage.json").read_text())
    assert record["notebook"] == "04_train" and record["dataset"] == DATASET
    assert set(record["reads"]) == {"01_out.csv", "03_out.csv"}
    assert set(record["writes"]) == {"04_out.csv", "04_more.json"}
    assert record["reads"]["01_out.csv"] == chain.file_sha256(four / "01_out.csv")


def test_a_result_of_another_input_is_refused_even_if_01_ran_while_02_did(four):
    """02 has read the old manifest when 01 writes a new one; its split must not pass for one of the new."""
    step = Step("02_explore")
    step.read("01_out.csv")
    run("01", content="2")
    step.write("02_out.csv", "value\n1\n")
    step.done()
    with refused("02_out.csv", "older 01_out.csv", "run 02_explore.ipynb again", keeping=[four]):
        Step("03_augment").read("02_out.csv")


def test_every_notebook_is_named_by_its_number():
    assert {number: chain._maker(number) for number in MAKERS} == MAKERS
    assert chain._maker("99") == "notebook 99"


# ------------------------------------------------------------------------------------ kept artifacts


def again(reads=("01_out.csv",), **dataset):
    step = Step("02_explore")
    step.dataset = {**DATASET, **dataset}
    for name in reads:
        step.read(name)
    step.dataset = {**DATASET, **dataset}
    return step


def test_a_costly_artifact_is_taken_over_from_the_run_before(four):
    step = again()
    assert step.keep("02_out.csv", value="1").value.tolist() == ["1"]
    assert step.keep("02_out.csv").value.tolist() == [1] and set(step.writes) == {"02_out.csv"}
    step.done()
    assert chain.check("02_out.csv")["writes"]["02_out.csv"] == step.writes["02_out.csv"]


@pytest.mark.parametrize(
    "case", ["never written", "edited", "other images", "other input", "no record", "other settings", "no such column"]
)
def test_what_belongs_to_another_run_is_not_taken_over(four, case):
    if case == "edited":
        (four / "02_out.csv").write_text("value\n9\n")
    if case == "other input":
        run("01", content="2")
    if case == "no record":
        (four / "02_lineage.json").unlink()
    step = again(**({"name": "other"} if case == "other images" else {}))
    columns = {"other settings": {"value": "2"}, "no such column": {"settings": "1"}}.get(case, {})
    assert step.keep("02_nothing.csv" if case == "never written" else "02_out.csv", **columns) is None
    assert step.writes == {}


def test_the_model_card_carries_no_number_and_is_in_the_chain(results):
    step = Step("05_evaluate")
    step.dataset = DATASET
    step.write("MODEL_CARD.md", "# card\n")
    step.done()
    assert "MODEL_CARD.md" in json.loads((results / "05_lineage.json").read_text())["writes"]
