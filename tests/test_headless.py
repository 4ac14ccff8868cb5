import os
import subprocess
import sys

import nbformat
import pytest

from cxr import headless, practice
from cxr.project import ROOT, Problem


def notebook_of(path, *sources):
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    nb.metadata.kernelspec = {"display_name": "Python 3", "language": "python", "name": "python3"}
    nbformat.write(nb, path)
    return path


def test_choice_is_sorted_once_each_and_named_when_unknown():
    assert [path.name[:2] for path in headless.choose("")] == list(headless.CORE)
    assert [path.name[:2] for path in headless.choose("05, 4 04")] == ["04", "05"]
    assert len(headless.choose("all")) >= 5
    with pytest.raises(Problem, match="NOTEBOOKS names 77.*choose from 01"):
        headless.choose("04 77")


def test_execution_is_in_place_and_tidy(tmp_path):
    path = notebook_of(tmp_path / "a.ipynb", "for i in range(3):\n    print(i, flush=True)", "6 * 7")
    headless.execute(path, path)
    nb = nbformat.read(path, as_version=4)
    assert nb.cells[0].outputs[0].text == "0\n1\n2\n" and len(nb.cells[0].outputs) == 1
    assert nb.cells[1].outputs[0].data["text/plain"] == "42"
    assert "papermill" not in path.read_text() and [cell.execution_count for cell in nb.cells] == [1, 2]


@pytest.mark.parametrize("source, said", [
    ("from cxr.project import Problem\nraise Problem('x.csv is missing: run 01 first.')",
     "^x.csv is missing: run 01 first.$"),
    ("1 / 0", "a.ipynb stopped in cell 1 with ZeroDivisionError"),
])
def test_a_failing_notebook_is_left_as_it_was(tmp_path, source, said):
    path = notebook_of(tmp_path / "a.ipynb", source)
    before = path.read_bytes()
    with pytest.raises(Problem, match=said):
        headless.execute(path, path)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["a.ipynb"]


@pytest.fixture
def recorded(monkeypatch, tmp_path):
    """`main` with everything real but the execution, which is written down instead."""
    calls = []
    monkeypatch.setenv("CXR_CACHE_DIR", str(tmp_path / "cache"))
    for variable in ("CHEST_XRAY_DIR", "CXR_RESULTS_DIR"):  # set first, so that what `main` sets is undone
        monkeypatch.setenv(variable, "")
        monkeypatch.delenv(variable)
    monkeypatch.setattr(headless, "run", lambda notebooks, output, parameters: calls.append((
        [path.name[:2] for path in notebooks], output,
        os.environ.get("CXR_RESULTS_DIR"), os.environ["CHEST_XRAY_DIR"],
        {number: chosen for number, chosen in parameters.items() if chosen})))
    monkeypatch.setattr(headless, "_summary", lambda: "")
    return calls


def test_without_x_rays_the_practice_set_is_used_out_of_the_way(recorded, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(headless.download, "find", lambda: None)
    draw = practice.draw
    monkeypatch.setattr(headless.practice, "draw", lambda folder: draw(folder, images=72))
    headless.main([])
    (numbers, output, results, data, chosen), = recorded
    assert chosen == {"04": {"SEEDS": 2}}, "quick, and still more than one"
    scratch = tmp_path / "cache" / "practice"
    assert numbers == list(headless.CORE)
    assert output == scratch / "notebooks" and results == str(scratch / "results")
    assert data == str(scratch / "chest_xray") and (scratch / "chest_xray" / "train").is_dir()
    assert "SYNTHETIC" in capsys.readouterr().out


def test_with_x_rays_the_notebooks_are_rewritten_in_place(recorded, monkeypatch, tiny):
    monkeypatch.setattr(headless.download, "find", lambda: tiny)
    headless.main(["--notebooks", "04 05"])
    assert recorded == [(["04", "05"], ROOT / "notebooks", None, str(tiny), {})]


def test_other_parameters_reach_the_notebook_that_has_them_and_leave_the_committed_ones_alone(recorded, monkeypatch,
                                                                                              tiny, tmp_path):
    monkeypatch.setattr(headless.download, "find", lambda: tiny)
    headless.main(["--notebooks", "03 04 05", "--set", "SEEDS=1 RESAMPLES=500"])
    (_, output, _, _, chosen), = recorded
    assert chosen == {"04": {"SEEDS": 1}, "05": {"RESAMPLES": 500}} and output == tmp_path / "cache" / "notebooks"


@pytest.mark.parametrize("wanted, said", [("SEED=1", "SET names SEED, which is no parameter.*SEEDS"),
                                          ("EPOCHS=ten", "SET gives EPOCHS the value 'ten'"), ("EPOCHS", "EPOCHS")])
def test_a_wrong_parameter_is_named(wanted, said):
    with pytest.raises(Problem, match=said):
        headless.settings(wanted)


def test_text_is_taken_as_it_stands():
    assert headless.settings("FOLDER=/a/b NAME=there SEEDS=1") == {"FOLDER": "/a/b", "NAME": "there", "SEEDS": 1}


def test_download_is_asked_for_only_when_wanted(recorded, monkeypatch, tiny):
    monkeypatch.setattr(headless.download, "find", lambda: pytest.fail("find alone"))
    monkeypatch.setattr(headless.download, "ensure", lambda: tiny)
    headless.main(["--download"])
    assert len(recorded) == 1


def test_a_missing_folder_ends_the_command_with_one_sentence(tmp_path):
    environment = {**os.environ, "CHEST_XRAY_DIR": str(tmp_path / "nowhere")}
    done = subprocess.run([sys.executable, "-m", "cxr.headless"], cwd=ROOT / "notebooks", env=environment,
                          capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "CHEST_XRAY_DIR" in done.stderr and len(done.stderr.strip().splitlines()) == 1
