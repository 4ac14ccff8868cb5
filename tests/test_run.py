"""All notebooks, whole and in order, on tiny data: do their figures follow from each other? And the runner itself."""

import json
import os
import subprocess
import sys

import nbformat
import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sklearn_metrics

import run
import same
from contract import MANIFEST, NOTEBOOKS, RUN, TINY_AND_COMMITTED, by_scikit_learn
from cxr import chain, images, metrics, paths
from cxr.backend import keras
from cxr.paths import ROOT, Problem


def read(path):
    return json.loads(path.read_text()) if path.suffix == ".json" else pd.read_csv(path, keep_default_na=False)


@pytest.fixture(params=TINY_AND_COMMITTED)
def results(request):
    """The results folder of the tiny run, and the committed one."""
    return ROOT / "results" if request.param == "committed" else request.getfixturevalue("finished") / "results"


@pytest.mark.parametrize("number", [path.name[:2] for path in RUN])
def test_a_notebook_writes_on_tiny_data_what_it_has_written_for_the_project(finished, number):
    tiny, committed = (read(folder / f"{number}_lineage.json") for folder in (finished / "results", ROOT / "results"))
    written = {path.name for path in (finished / "results").glob(f"{number}_*")}
    assert set(tiny["writes"]) | {f"{number}_lineage.json"} == written
    assert set(tiny["writes"]) == set(committed["writes"]) and tiny["code"]


def test_manifest_and_split_fit_together(results):
    manifest, split = read(results / "01_manifest.csv"), read(results / "02_split.csv")
    assert list(manifest) == MANIFEST and list(split) == ["path", "label", "subtype", "patient", "split"]
    assert set(split.path[split.split == "test"]) == set(manifest.path[manifest.folder == "test"])
    assert split.groupby("patient").split.nunique().max() == 1
    assert split.merge(manifest, on="path").groupby("sha256").split.nunique().max() == 1


def test_predictions_come_from_the_saved_models(finished, tiny):
    results = finished / "results"
    saved, facts = read(results / "05_predictions.csv"), read(results / "04_run.json")
    pictures = np.stack([images.decode((tiny / path).read_bytes(), facts["image_size"]) for path in saved.path])
    test, ledger = (saved.split == "test").to_numpy(), read(results / "05_test_ledger.csv")
    for name, column in (("xray_classification_model", "probability"), ("plain", "plain")):
        network = keras.models.load_model(results / f"04_{name}.keras", compile=False)
        found = network.predict(pictures[..., None], verbose=0)
        found = found[:, facts["kept_seed"]] if name == "plain" else found.mean(axis=1)
        np.testing.assert_allclose(found[test], saved[column][test], atol=1e-5)
        np.testing.assert_allclose(found, saved[column], rtol=0, atol=1e-3)  # 04 scored validation before it saved
    long = read(results / "05_seed_predictions.csv").pivot(index="path", columns="seed", values="probability")
    ensemble = keras.models.load_model(results / "04_ensemble.keras", compile=False)
    found = ensemble.predict(pictures[test][..., None], verbose=0)
    np.testing.assert_allclose(found, long.loc[saved.path[test]], atol=1e-5)
    assert len(ledger) == 1 and ledger.images[0] == 13 and "04_plain.keras:" in ledger.networks[0]


def test_metrics_follow_from_the_predictions(results):
    facts, saved = read(results / "05_metrics.json"), read(results / "05_predictions.csv")
    seeds, plain_seeds = read(results / "04_seeds.csv"), read(results / "04_plain_seeds.csv")
    long, scores = read(results / "05_seed_predictions.csv"), read(results / "05_test_scores.csv").set_index("path")
    test, found = saved[saved.split == "test"], facts["test"]
    expected = by_scikit_learn(test.label, test.probability, facts["thresholds"]["balanced"])
    assert {name: found["at_chosen_threshold"][name] for name in expected} == pytest.approx(expected, abs=1e-9)
    each = [by_scikit_learn(own.label, own.probability, row.threshold)
            for row in seeds.itertuples() for own in [long[long.seed == row.seed]]]  # fmt: skip
    for name in expected:
        values = [row[name] for row in each]
        assert [row[name] for row in found["seeds"]["each"]] == pytest.approx(values, abs=1e-9), name
        assert found["seeds"]["mean"][name] == pytest.approx(np.mean(values), abs=1e-9)
        assert found["seeds"]["sd"][name] == pytest.approx(np.std(values, ddof=1), abs=1e-9)
    for row, figures in zip(plain_seeds.itertuples(), found["one_rule"]["plain_seeds"]["each"], strict=True):
        own = scores.filter(regex=rf"^plain {row.seed}( @\w+)?$").loc[test.path].iloc[:, 0]
        expected = by_scikit_learn(test.label.to_numpy(), own.to_numpy(), row.threshold)
        assert {name: figures[name] for name in expected} == pytest.approx(expected, abs=1e-9)


def test_the_share_of_lungs_and_body_follows_from_the_scores(results):
    swap, scores = read(results / "05_metrics.json")["test"]["swap"], read(results / "05_test_scores.csv")
    crossed = scores.filter(regex=rf"^in {swap['bodies']} bodies \d+( @\w+)?$")
    assert crossed.shape == (len(scores), 2 * swap["bodies"]) and ((crossed >= 0) & (crossed <= 1)).all(axis=None)
    for figures in swap["networks"].values():
        assert figures["lungs"]["value"] + figures["body"]["value"] + figures["both"]["value"] == pytest.approx(1)
        assert all(0 <= row["low"] <= row["high"] <= 1 for row in figures.values())


def test_thresholds_come_from_validation_alone(results):
    val, facts = read(results / "04_val_predictions.csv"), read(results / "05_metrics.json")
    split = read(results / "02_split.csv").set_index("path").split
    assert set(split[val.path]) == {"val"}
    expected = metrics.youden_threshold(val.label, val[f"seed_{facts['seed']}"])
    assert facts["thresholds"]["balanced"] == pytest.approx(expected, abs=1e-9)


def test_the_aucs_of_every_seed_are_those_of_its_scores(results):
    facts, val = read(results / "04_run.json"), read(results / "04_val_predictions.csv")
    tables = {name: read(results / f"04_{file}.csv") for name, file in (("seed", "seeds"), ("plain", "plain_seeds"))}
    assert facts["kept_seed"] == 0 and {*map(len, tables.values())} == {facts["seeds"]}
    for name, table in tables.items():
        for row in table.itertuples():
            for column, kind in (("val", "plain"), ("stress", "stress"), ("swap", "swap"), ("conflict", "conflict")):
                part = val[val.kind == kind]
                found = sklearn_metrics.roc_auc_score(part.label, part[f"{name}_{row.seed}"])
                assert getattr(row, f"{column}_auc") == pytest.approx(found, abs=1e-5)


def notebook_of(path, *sources):
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources]), path)
    return path


def test_choice_is_sorted_once_each_and_named_when_unknown():
    assert [path.name[:2] for path in run.choose("05, 4 04_train.ipynb")] == ["04", "05"]
    assert run.choose("all") == NOTEBOOKS and len(run.choose("")) == len(run.CORE)
    with pytest.raises(Problem, match="NOTEBOOKS names 77.*choose from 01"):
        run.choose("04 77")


def test_execution_is_in_place_and_tidy_with_this_python_and_figures_whatever_is_installed(tmp_path, monkeypatch):
    foreign = tmp_path / "kernels/python3/kernel.json"
    foreign.parent.mkdir(parents=True)
    foreign.write_text(json.dumps(run.KERNEL | {"argv": ["false"]}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    monkeypatch.setenv("MPLBACKEND", "TkAgg")
    sources = ["for i in range(3):\n    print(i, flush=True)", "import sys\nsys.executable"]
    path = notebook_of(tmp_path / "a.ipynb", *sources, "import matplotlib.pyplot as plt\nplt.plot([0, 1]);")
    run.execute(path, path)
    stream, python, figure = (cell.outputs for cell in nbformat.read(path, as_version=4).cells)
    assert [output.text for output in stream] == ["0\n1\n2\n"] and "image/png" in figure[0].data
    assert python[0].data["text/plain"] == repr(sys.executable) and "papermill" not in path.read_text()


PROBLEM = "from cxr.paths import Problem\nraise Problem('x.csv is missing: run 01.')"


@pytest.mark.parametrize(
    "source, said",
    [(PROBLEM, "^x.csv is missing: run 01.$"), ("1 / 0", "stopped in cell 1 with ZeroDivisionError")]
    + [("import os\nos.kill(os.getpid(), 9)", "a.ipynb died.* BATCH_SIZE")],
)
def test_a_failing_notebook_is_left_as_it_was(tmp_path, source, said):
    (tmp_path / "notebooks").symlink_to(ROOT / "notebooks")
    path = notebook_of(tmp_path / "a.ipynb", f"import sys\nsys.path.insert(0, 'notebooks')\n{source}")
    before = path.read_bytes()
    with pytest.raises(Problem, match=said):
        run.execute(path, path)
    assert path.read_bytes() == before and {p.name for p in tmp_path.iterdir()} == {"a.ipynb", "notebooks"}


@pytest.fixture
def recorded(monkeypatch, tmp_path):
    """`main` with everything real but the execution, which is written down instead."""
    calls = []
    monkeypatch.setenv("CXR_CACHE_DIR", str(tmp_path / "cache"))
    for variable in ("CHEST_XRAY_DIR", "CXR_RESULTS_DIR"):  # set first, so that what `main` sets is undone
        monkeypatch.setenv(variable, "")
        monkeypatch.delenv(variable)

    monkeypatch.setattr(run, "execute", lambda page, output, chosen: calls.append((page.name[:2], output, chosen)))
    monkeypatch.setattr(run, "closing", lambda sample: "closing")
    return calls


def test_without_x_rays_the_sample_is_used_out_of_the_way(recorded, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(run.download, "find", lambda: None)
    run.main(["--set", "EPOCHS=3"])
    assert [number for number, *_ in recorded] == list(run.CORE)
    assert recorded[3] == ("04", tmp_path / "cache/sample/notebooks/04_train.ipynb", run.SAMPLE["04"] | {"EPOCHS": 3})
    assert os.environ["CHEST_XRAY_DIR"] == str(ROOT / "chest_xray/sample")
    assert run.results_dir() == tmp_path / "cache/sample/results" and "DOWNLOAD=1" in capsys.readouterr().out


def test_with_x_rays_the_notebooks_are_rewritten_in_place(recorded, monkeypatch, tmp_path):
    monkeypatch.setattr(run.download, "find", lambda: tmp_path)
    run.main(["--notebooks", "04 A1"])
    assert [output for _, output, _ in recorded] == [NOTEBOOKS[3], ROOT / "notebooks/appendix/A1_audit.ipynb"]
    assert [chosen for *_, chosen in recorded] == [{}, {}] and run.results_dir() == ROOT / "results"


def test_other_parameters_run_apart_and_never_on_the_test_folder(recorded, monkeypatch, tmp_path):
    monkeypatch.setattr(run.download, "find", lambda: tmp_path)
    run.main(["--notebooks", "04", "--set", "EPOCHS=40 SEEDS=1"])
    assert recorded == [("04", tmp_path / "cache/set/notebooks/04_train.ipynb", {"EPOCHS": 40, "SEEDS": 1})]
    copied = {path.name for path in (tmp_path / "cache/set/results").iterdir()}
    assert copied == {path.name for path in (ROOT / "results").iterdir() if path.name[:2] in ("01", "02", "03")}
    for notebooks in ("05", "all"):
        with pytest.raises(Problem, match="NOTEBOOKS names 0[57].*would score the test folder.*leave them out"):
            run.main(["--notebooks", notebooks, "--set", "RESAMPLES=300"])


def test_a_wrong_parameter_is_named_and_text_is_taken_as_it_stands():
    pages = run.choose("04 05")
    assert run.settings("WHY=trying SEEDS=1", pages) == {"WHY": "trying", "SEEDS": 1}
    for wanted, said in (("SEED=1", "SEED, no parameter of 04 05.*SEEDS"), ("EPOCHS=ten", "EPOCHS the value 'ten'")):
        with pytest.raises(Problem, match=said):
            run.settings(wanted, pages)


def test_a_missing_folder_ends_the_command_with_one_sentence(tmp_path):
    environment = {**os.environ, "CHEST_XRAY_DIR": str(tmp_path / "nowhere"), "PYTHONPATH": "notebooks"}
    done = subprocess.run([sys.executable, "tools/run.py"], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and "CHEST_XRAY_DIR" in done.stderr and len(done.stderr.strip().splitlines()) == 1


def test_the_closing_words_say_what_the_results_say(finished, monkeypatch):
    monkeypatch.setenv("CXR_RESULTS_DIR", str(finished / "results"))
    test, text = read(finished / "results/05_metrics.json")["test"], run.closing(sample=True)
    gains = [test["one_rule"]["seeds_against_plain"][name]["interval"] for name in ("accuracy", "auc")]
    conflict = [read(finished / f"results/04_{name}.csv").conflict_auc.mean() for name in ("plain_seeds", "seeds")]
    worse, open_ = (any(high < 0 for _, high in gains), any(low <= 0 for low, _ in gains))
    assert ("prefers the wrong network" in text) == (worse and conflict[0] < conflict[1])
    assert ("do not tell them apart" in text) == (open_ and not worse and conflict[0] < conflict[1])
    assert len(text.splitlines()) == 2 and "body of the other class" in text


def test_what_moved_between_two_runs_is_named(tmp_path):
    old, new = tmp_path / "old.csv", tmp_path / "new.csv"
    table = pd.DataFrame({"path": ["a", "b"], "auc": [0.5, 0.25], "seconds": [1.0, 2.0]})
    table.to_csv(old, index=False)
    changes = [(table.assign(seconds=9, more=1), []), (table.assign(auc=[0.5, 0.26]), ["auc"])]
    for changed, found in [*changes, (table.drop(columns="auc"), ["auc"]), (table[:1], ["auc", "path"])]:
        changed.to_csv(new, index=False)
        assert sorted(same.differences(old, new)) == found
    facts = '{"why": "a", "device": "x", "test": {"auc": 0.5, "each": [{"n": 1}, {"n": 2}]}}'
    for changed, found in (("x", "y"), []), (('"n": 2', '"n": 3'), ["test.each.1.n"]):
        old.with_suffix(".json").write_text(facts)
        new.with_suffix(".json").write_text(facts.replace(*changed))
        assert same.differences(old.with_suffix(".json"), new.with_suffix(".json")) == found


@pytest.mark.parametrize("arguments, stale", [(["--stamp"], False), (["--accept", "why"], False), ([], True)])
def test_a_record_takes_over_the_code_only_where_numbers_are_equal_or_accepted(tmp_path, monkeypatch, arguments, stale):
    monkeypatch.setenv("CXR_RESULTS_DIR", str(tmp_path))
    record = {"notebook": "01_download", "code": "older", "dataset": {}, "reads": {}, "writes": {}}
    (tmp_path / "01_lineage.json").write_text(json.dumps(record))
    differing = ["01_manifest.csv: label"] if "--accept" in arguments else []
    monkeypatch.setattr(same, "compare", lambda commit, wanted: {"01": differing})
    same.main(["--base", "HEAD", *arguments])
    assert chain.stale(chain.notebooks()["01"]) == stale
    accepted = read(tmp_path / "01_lineage.json").get("accepted", {})
    assert accepted.get("why") == ("why" if differing else None)


def test_a_run_on_drawn_films_leaves_the_environment_as_it_was(tmp_path, monkeypatch):
    """Else `make same` would stamp the committed results with the record of the drawn ones, as it once did."""
    before, seen = dict(os.environ), []
    monkeypatch.setattr(run, "execute", lambda *_, **__: seen.append(paths.results_dir()))
    same.execute(chain.notebooks()["01"], tmp_path / "now", tmp_path / "drawn")
    assert seen == [tmp_path / "now/results"] and dict(os.environ) == before
