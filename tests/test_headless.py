import os
import subprocess
import sys

import nbformat
import pytest

import drawn as practice
import run
from cxr import fingerprint
from cxr.paths import ROOT, Problem


def notebook_of(path, *sources):
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    nb.metadata.kernelspec = {"display_name": "Python 3", "language": "python", "name": "python3"}
    nbformat.write(nb, path)
    return path


def test_choice_is_sorted_once_each_and_named_when_unknown():
    assert [path.name[:2] for path in run.choose("")] == list(run.CORE)
    assert [path.name[:2] for path in run.choose("05, 4 04")] == ["04", "05"]
    assert len(run.choose("all")) >= 5
    with pytest.raises(Problem, match="NOTEBOOKS names 77.*choose from 01"):
        run.choose("04 77")


def test_execution_is_in_place_and_tidy(tmp_path):
    path = notebook_of(tmp_path / "a.ipynb", "for i in range(3):\n    print(i, flush=True)", "6 * 7")
    run.execute(path, path)
    nb = nbformat.read(path, as_version=4)
    assert nb.cells[0].outputs[0].text == "0\n1\n2\n" and len(nb.cells[0].outputs) == 1
    assert nb.cells[1].outputs[0].data["text/plain"] == "42"
    assert "papermill" not in path.read_text() and [cell.execution_count for cell in nb.cells] == [1, 2]


@pytest.mark.parametrize(
    "source, said",
    [
        (
            "from cxr.paths import Problem\nraise Problem('x.csv is missing: run 01 first.')",
            "^x.csv is missing: run 01 first.$",
        ),
        ("1 / 0", "a.ipynb stopped in cell 1 with ZeroDivisionError"),
    ],
)
def test_a_failing_notebook_is_left_as_it_was(tmp_path, source, said):
    path = notebook_of(tmp_path / "a.ipynb", source)
    before = path.read_bytes()
    with pytest.raises(Problem, match=said):
        run.execute(path, path)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["a.ipynb"]


@pytest.fixture
def recorded(monkeypatch, tmp_path):
    """`main` with everything real but the execution, which is written down instead."""
    calls = []
    monkeypatch.setenv("CXR_CACHE_DIR", str(tmp_path / "cache"))
    for variable in ("CHEST_XRAY_DIR", "CXR_RESULTS_DIR"):  # set first, so that what `main` sets is undone
        monkeypatch.setenv(variable, "")
        monkeypatch.delenv(variable)
    monkeypatch.setattr(
        run,
        "run",
        lambda notebooks, output, parameters: calls.append(
            (
                [path.name[:2] for path in notebooks],
                output,
                os.environ.get("CXR_RESULTS_DIR"),
                os.environ["CHEST_XRAY_DIR"],
                {number: chosen for number, chosen in parameters.items() if chosen},
            )
        ),
    )
    monkeypatch.setattr(run, "_summary", lambda: "")
    return calls


def test_without_x_rays_the_practice_set_is_used_out_of_the_way(recorded, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(run.download, "find", lambda: None)
    draw = practice.draw
    monkeypatch.setattr(run.practice, "draw", lambda folder: draw(folder, images=72))
    run.main([])
    ((numbers, output, results, data, chosen),) = recorded
    assert chosen == {"04": {"SEEDS": 2}}, "quick, and still more than one"
    scratch = tmp_path / "cache" / "practice"
    assert numbers == list(run.CORE)
    assert output == scratch / "notebooks" and results == str(scratch / "results")
    assert data == str(scratch / "chest_xray") and (scratch / "chest_xray" / "train").is_dir()
    assert "SYNTHETIC" in capsys.readouterr().out


def test_with_x_rays_the_notebooks_are_rewritten_in_place(recorded, monkeypatch, tiny):
    monkeypatch.setattr(run.download, "find", lambda: tiny)
    run.main(["--notebooks", "04 05"])
    assert recorded == [(["04", "05"], ROOT / "notebooks", None, str(tiny), {})]


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize(
    "arguments, numbers, copied",
    [
        (["--set", "EPOCHS=40 SEEDS=1"], ["04"], {"01", "02", "03"}),
        (["--set", "SPLIT_SEED=1"], ["02", "03", "04"], {"01"}),
        (["--trial", "wide"], ["02", "03", "04"], {"01"}),
        (["--trial", "wide", "--set", "EPOCHS=40", "--notebooks", "03 04"], ["03", "04"], {"01", "02"}),
        (["--set", "FOLDER=/a/b", "--notebooks", "10"], ["10"], {f"0{n}" for n in range(1, 10)}),
    ],
)
def test_a_trial_has_its_own_folder_and_starts_from_the_results(
    recorded, monkeypatch, tiny, tmp_path, capsys, arguments, numbers, copied
):
    monkeypatch.setattr(run.download, "find", lambda: tiny)
    before = contents(ROOT / "results")
    run.main(arguments)
    ((ran, output, results, data, chosen),) = recorded
    place = output.parent
    assert ran == numbers and data == str(tiny) and place.parent == tmp_path / "cache" / "trials"
    assert results == str(place / "results") and output.name == "notebooks"
    assert contents(place / "results") == {name: content for name, content in before.items() if name[:2] in copied}
    assert f"Trial {place.name}, in" in capsys.readouterr().out and contents(ROOT / "results") == before
    assert (place.name == "wide") == ("--trial" in arguments)
    if "EPOCHS=40" in " ".join(arguments):
        assert chosen["04"]["EPOCHS"] == 40


def test_a_trial_goes_on_from_what_it_wrote_itself(recorded, monkeypatch, tiny, tmp_path):
    monkeypatch.setattr(run.download, "find", lambda: tiny)
    results = tmp_path / "cache/trials/wide/results"
    results.mkdir(parents=True)
    (results / "03_augmentation.json").write_text("its own")
    run.main(["--trial", "wide", "--notebooks", "04"])
    assert (results / "03_augmentation.json").read_text() == "its own" and (results / "02_split.csv").exists()


@pytest.mark.parametrize("notebooks", ["05", "04 05", "07", "all"])
def test_a_trial_does_not_look_at_the_test_folder(recorded, monkeypatch, tiny, tmp_path, notebooks):
    monkeypatch.setattr(run.download, "find", lambda: tiny)
    with pytest.raises(Problem, match="NOTEBOOKS names 0[57].* score the test folder.*leave them out"):
        run.main(["--notebooks", notebooks, "--set", "SEEDS=1"])
    assert not recorded and not (tmp_path / "cache").exists()


def test_the_notebooks_that_keep_a_ledger_are_those_that_a_trial_leaves_out():
    keeping = [
        number
        for number, path in fingerprint.notebooks().items()
        if f"{number}_test_ledger.csv" in path.read_text(encoding="utf-8")
    ]
    assert keeping == trials.sealed() and "05" in keeping


def commands(target):
    """What make would run for `target`, with a trial asked for beside it."""
    asked = ["make", "-n", target, "SET=EPOCHS=1", "TRIAL=a"]
    return subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_the_ablation_goes_into_the_results_and_its_notebook_does_not(recorded, monkeypatch, tiny, tmp_path):
    monkeypatch.setattr(run.download, "find", lambda: tiny)
    run.main(["--notebooks", "04", "--set", "ABLATION_SEEDS=3", "--results"])
    assert recorded == [(["04"], tmp_path / "cache/notebooks", None, str(tiny), {"04": {"ABLATION_SEEDS": 3}})]
    assert '--notebooks "04" --set "ABLATION_SEEDS=3" --trial "" --results' in commands("ablation")


def test_render_is_never_a_trial():
    assert '--notebooks "all" --set "" --trial ""' in commands("render")


def test_a_trial_on_the_practice_set_stays_with_it_and_makes_what_is_missing(recorded, monkeypatch, tiny, tmp_path):
    monkeypatch.setattr(run.download, "find", lambda: None)
    monkeypatch.setattr(run.practice, "draw", lambda folder: tiny)
    run.main(["--set", "EPOCHS=3"])
    ((ran, output, results, _, chosen),) = recorded
    place = tmp_path / "cache/practice/trials/EPOCHS=3"
    assert ran == ["01", "02", "03", "04"] and (output, results) == (place / "notebooks", str(place / "results"))
    assert chosen == {"04": {"EPOCHS": 3, "SEEDS": 2}}


@pytest.mark.parametrize(
    "wanted, said",
    [
        ("SEED=1", "SET names SEED, which is no parameter.*SEEDS"),
        ("EPOCHS=ten", "SET gives EPOCHS the value 'ten'"),
        ("EPOCHS", "EPOCHS"),
    ],
)
def test_a_wrong_parameter_is_named(wanted, said):
    with pytest.raises(Problem, match=said):
        run.settings(wanted)


def test_text_is_taken_as_it_stands():
    assert run.settings("FOLDER=/a/b NAME=there SEEDS=1") == {"FOLDER": "/a/b", "NAME": "there", "SEEDS": 1}


def test_download_is_asked_for_only_when_wanted(recorded, monkeypatch, tiny):
    monkeypatch.setattr(run.download, "find", lambda: pytest.fail("find alone"))
    monkeypatch.setattr(run.download, "ensure", lambda: tiny)
    run.main(["--download"])
    assert len(recorded) == 1


def test_a_missing_folder_ends_the_command_with_one_sentence(tmp_path):
    environment = {**os.environ, "CHEST_XRAY_DIR": str(tmp_path / "nowhere")}
    done = subprocess.run(
        [sys.executable, "-m", "cxr.project.run"],
        cwd=ROOT / "notebooks",
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "CHEST_XRAY_DIR" in done.stderr and len(done.stderr.strip().splitlines()) == 1
