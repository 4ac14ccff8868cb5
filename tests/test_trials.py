"""Trials: named safely, held against each other by validation, and kept in a table that loses nothing."""

import json
import shutil

import nbformat
import numpy as np
import pandas as pd
import pytest

from cxr.project import run, trials
from cxr.project.artifacts import Step
from cxr.project.paths import ROOT, Problem


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CXR_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def finished_trial(folder, monkeypatch, stress=(0.9, 0.96), synthetic=False):
    """What 04 leaves in the folder of a trial, in short."""
    monkeypatch.setenv("CXR_RESULTS_DIR", str(folder / "results"))
    step = Step("04_train")
    seeds = pd.DataFrame(
        {
            "seed": range(len(stress)),
            "val_auc": 0.99,
            "stress_auc": stress,
            "bias_conflicting_auc": 0.8,
            "heldout_auc": 0.95,
        }
    )
    step.write("04_seeds.csv", seeds)
    step.write("04_timing.json", {"seconds": {f"seed {seed}": 100 for seed in range(len(stress))} | {"plain CNN": 9}})
    step.write("04_run.json", {"data_set": "some films", "synthetic": synthetic, "epochs": 40, "parameters": 1234})
    step.done()
    notebook = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell("EPOCHS = 28", metadata={"tags": ["parameters"]}),
            nbformat.v4.new_code_cell(
                '# Parameters\nEPOCHS = 40\nBACKBONES = "all"', metadata={"tags": ["injected-parameters"]}
            ),
        ]
    )
    (folder / "notebooks").mkdir()
    nbformat.write(notebook, folder / "notebooks" / "04_train.ipynb")
    return folder


@pytest.mark.parametrize(
    "trial, settings, expected",
    [("wide", "EPOCHS=40", "wide"), ("", "SEEDS=1 EPOCHS=40", "EPOCHS=40_SEEDS=1"), ("", "RATE=1e-3", "RATE=1e-3")],
)
def test_the_name_is_what_is_said_or_what_is_set(trial, settings, expected):
    assert trials.name(trial, settings) == expected


def test_what_is_no_name_becomes_one_and_no_two_the_same():
    names = [trials.name("", settings) for settings in ("F=/a/b", "F=_a_b", "F=../a", "F=" + 300 * "x", "F=ü ö", "/")]
    assert len(set(names)) == len(names)
    for name in names:
        assert len(name) < 90 and "/" not in name and not name.startswith("."), name


@pytest.mark.parametrize("trial", ["../results", "a/b", ".hidden", "a b", 81 * "x", "-a"])
def test_a_name_that_is_no_folder_is_refused(trial):
    with pytest.raises(Problem, match="TRIAL is .*, which is no name of a folder: take letters"):
        trials.name(trial, "")


def test_a_trial_is_one_row_of_means(cache, monkeypatch):
    row = trials.row(finished_trial(cache / "trials/a", monkeypatch))
    expected = {
        "trial": "a",
        "settings": "EPOCHS=40 BACKBONES=all",
        "source": "make trials",
        "seeds": 2,
        "epochs": 40,
        "parameters": 1234,
        "seconds": 100,
    }
    assert {name: row[name] for name in expected} == expected
    assert (row["stress_auc"], row["heldout_auc"]) == (0.93, 0.95) and len(row["code"]) == 12


@pytest.mark.parametrize("gone", ["notebooks/04_train.ipynb", "results/04_seeds.csv", "results/04_lineage.json"])
def test_a_trial_that_has_not_come_to_its_end_is_no_row(cache, monkeypatch, gone):
    folder = finished_trial(cache / "trials/a", monkeypatch)
    (folder / gone).unlink()
    assert trials.row(folder) is None


def test_a_trial_that_was_begun_again_is_no_row(cache, monkeypatch):
    folder = finished_trial(cache / "trials/a", monkeypatch)
    (folder / "results/04_seeds.csv").write_text("seed,val_auc\n0,1.0\n")
    assert trials.row(folder) is None


def test_the_table_gains_what_is_new_and_loses_nothing(cache, monkeypatch, tmp_path):
    table = tmp_path / "trials.csv"
    shutil.copyfile(trials.TABLE, table)
    typed = table.read_text()
    finished_trial(cache / "trials/a", monkeypatch)
    finished_trial(cache / "practice/trials/b", monkeypatch, synthetic=True)
    found = trials.collect()
    assert list(found.trial) == ["a", "b"]
    trials.keep(found, table)
    first = table.read_text()
    assert first.startswith(typed), "rows that were there stay as they are, to the letter"
    assert first.count("\n") == typed.count("\n") + 1, "practice does not count"
    trials.keep(found, table)
    assert table.read_text() == first
    shutil.rmtree(cache / "trials/a")
    finished_trial(cache / "trials/a", monkeypatch, stress=(0.5, 0.5))
    trials.keep(trials.collect(), table)
    assert list(pd.read_csv(table).stress_auc)[-1] == 0.5 and table.read_text().count("\n") == first.count("\n")
    shutil.rmtree(cache / "trials")
    kept = table.read_text()
    trials.keep(trials.collect(), table)
    assert table.read_text() == kept, "a row outlives the cache"


def test_a_table_that_is_none_is_named_and_left(cache, monkeypatch, tmp_path):
    table = tmp_path / "trials.csv"
    table.write_text("a,b\n1,2\n")
    with pytest.raises(Problem, match="trials.csv has other columns than trial, settings"):
        trials.keep(trials.collect(), table)
    assert table.read_text() == "a,b\n1,2\n"


def test_the_command_prints_all_of_it(cache, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(trials, "TABLE", tmp_path / "trials.csv")
    finished_trial(cache / "trials/a", monkeypatch)
    finished_trial(cache / "practice/trials/b", monkeypatch, synthetic=True)
    trials.main()
    said = capsys.readouterr().out
    assert said.index("EPOCHS=40 BACKBONES=all") < said.index("SYNTHETIC") < said.rindex("EPOCHS=40 BACKBONES=all")


def test_the_committed_table_says_where_each_row_is_from():
    table = pd.read_csv(trials.TABLE, keep_default_na=False)
    assert list(table) == trials.COLUMNS and len(table) >= 12
    assert set(table.source) <= {"typed in from notes", trials.MEASURED}
    assert table.trial[table.source != trials.MEASURED].is_unique
    figures = table[trials.AUCS].replace("", np.nan).astype(float)
    assert (((figures > 0.9) & (figures <= 1)) | figures.isna()).all(axis=None)
    assert figures[["val_auc", "stress_auc", "heldout_auc"]].notna().all(axis=None)
    recipe = table[table.trial == "the recipe"].iloc[0]
    assert (recipe.seeds, recipe.epochs) == (1, 14) and float(recipe.stress_auc) == 0.9909


def test_a_trial_of_04_alone_trains_and_leaves_the_results_as_they_are(chain_copy, monkeypatch, tiny, tmp_path):
    monkeypatch.setenv("CXR_CACHE_DIR", str(tmp_path / "cache"))
    before = {path.name: path.read_bytes() for path in (chain_copy / "results").iterdir()}
    committed = (ROOT / "notebooks/04_train.ipynb").read_bytes()
    run.main(["--notebooks", "04", "--trial", "short", "--set", "EPOCHS=1 SEEDS=1"])
    assert {path.name: path.read_bytes() for path in (chain_copy / "results").iterdir()} == before
    assert (ROOT / "notebooks/04_train.ipynb").read_bytes() == committed
    place = tmp_path / "cache/trials/short"
    assert {path.name[:2] for path in (place / "results").iterdir()} == {"01", "02", "03", "04"}
    row, facts = trials.row(place), json.loads((place / "results/04_run.json").read_text())
    assert row["settings"] == "EPOCHS=1 SEEDS=1" and row["seeds"] == 1 < run.QUICK["04"]["SEEDS"]
    assert row["epochs"] == facts["epochs"] == 1 and row["synthetic"] is True
