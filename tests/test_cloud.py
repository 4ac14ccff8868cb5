"""The setup cell and `cxr.colab`: on borrowed machines they fetch the project and what it lacks; at home nothing."""

import json
import os
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path
from unittest.mock import Mock

import pytest

from cxr import colab, paths
from cxr.paths import Problem

TOP = Path(__file__).resolve().parents[1]
PAGES = [*sorted(TOP.glob("notebooks/[0-9]*.ipynb")), *sorted(TOP.glob("notebooks/appendix/*.ipynb"))]


def setup_cell(page, owner="OWNER"):
    cells = json.loads(page.read_text(encoding="utf-8"))["cells"]
    source = next("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    return re.sub("github.com/[^/]+/", f"github.com/{owner}/", source)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine with committed results; what its pip was asked for is in `pip`, and what pip says in `answer`."""
    (tmp_path / "project/results").mkdir(parents=True)
    (tmp_path / "project/results/01_manifest.csv").write_text("committed")
    for name in ("CXR_ANY_COPY", "CXR_RESULTS_DIR", "CXR_CHECKPOINT_DIR", "CHEST_XRAY_DIR"):
        monkeypatch.setenv(name, "")  # so that what `prepare` sets is undone
        monkeypatch.delenv(name)
    for module in (colab, paths):
        monkeypatch.setattr(module, "ROOT", tmp_path / "project")
    monkeypatch.setattr(colab, "WORKING", tmp_path / "working")
    monkeypatch.setattr(colab, "DRIVE", tmp_path / "drive")
    monkeypatch.delitem(sys.modules, "google.colab", raising=False)
    note = types.SimpleNamespace(pip=[], held="", answer=(0, ""))

    def run(command, **options):
        note.pip, note.held = command, Path(command[command.index("-c") + 1]).read_text()
        return subprocess.CompletedProcess(command, note.answer[0], "", note.answer[1])

    monkeypatch.setattr(subprocess, "run", run)
    return note


@pytest.fixture
def on_colab(monkeypatch):
    """Makes the kernel one of Colab's: a stand-in for its package."""
    package = Mock()
    package.drive.mount = lambda point: os.makedirs(os.path.join(point, "MyDrive"), exist_ok=True)
    monkeypatch.setitem(sys.modules, "google", Mock(colab=package))
    monkeypatch.setitem(sys.modules, "google.colab", package)
    return package


def refused(*words, **options):
    with pytest.raises(Problem, match=".*".join(words)):
        colab.prepare(**options)


def test_a_machine_of_the_readers_own_is_left_alone(machine, capsys):
    colab.prepare()
    assert not machine.pip and "CXR_ANY_COPY" not in os.environ and capsys.readouterr().out == ""
    refused("not Colab", "set it to False", keep_on_drive=True)


def test_colab_gets_what_it_lacks_beside_its_own_numpy_and_tensorflow(machine, on_colab, capsys):
    colab.prepare()
    assert machine.pip[1:4] == ["-m", "pip", "install"] and "keras>=3.15.1" in machine.pip
    assert re.fullmatch(r"numpy==\S+\ntensorflow==\S+\n", machine.held)
    assert os.environ["CXR_ANY_COPY"] == "1" and "CXR_RESULTS_DIR" not in os.environ
    assert Path("/dev/nvidia0").exists() or "No GPU" in capsys.readouterr().out
    assert colab.upload() == str(paths.cache_dir() / "own")
    machine.answer = (1, "noise\nERROR: No matching distribution found for keras>=3.15.1\n")
    refused("No matching distribution", "switch on the internet")


def test_results_go_to_drive_and_start_from_the_committed_ones(machine, on_colab):
    colab.prepare(keep_on_drive=True)
    results = Path(os.environ["CXR_RESULTS_DIR"])
    assert results.is_relative_to(colab.DRIVE / "MyDrive") and (results / "01_manifest.csv").read_text() == "committed"
    (results / "01_manifest.csv").write_text("mine")
    colab.prepare(keep_on_drive=True)
    assert (results / "01_manifest.csv").read_text() == "mine"

    on_colab.drive.mount = None  # any error is of a class of Colab's own
    refused("Google Drive was not opened", "keep_on_drive=False", keep_on_drive=True)


def test_a_copy_that_breaks_off_leaves_no_results(machine, on_colab, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copytree", Mock(side_effect=shutil.Error([("a", "b", "No space left on device")])))
        refused("can't be copied", "free some space", keep_on_drive=True)
    colab.prepare(keep_on_drive=True)
    assert (Path(os.environ["CXR_RESULTS_DIR"]) / "01_manifest.csv").exists()


def test_kaggle_keeps_results_where_it_saves_them(machine, on_colab, tmp_path):
    (tmp_path / "working").mkdir()  # its machines have Colab's package, too
    assert not colab.on_colab()
    colab.prepare()
    assert (tmp_path / "working" / "results" / "01_manifest.csv").exists()
    refused("not Colab", keep_on_drive=True)


RUN = "import os, sys; sys.path.insert(0, ''); exec(sys.stdin.read()); print(os.getcwd(), colab.__file__)"


def run_cell(source, folder):
    """Run `source` in `folder` as a kernel does."""
    variables = os.environ | {"GIT_CONFIG_GLOBAL": str(folder / "gitconfig"), "GIT_TERMINAL_PROMPT": "0"}
    options = dict(cwd=folder, env=variables, text=True, capture_output=True)
    return subprocess.run([sys.executable, "-c", RUN], input=source, **options)


@pytest.fixture
def github(tmp_path):
    """An empty folder, from which https://github.com/jane/chest-xray-notebooks can be cloned."""
    tree, folder = tmp_path / "tree", tmp_path / "content"
    folder.mkdir()
    (tree / "notebooks" / "cxr").mkdir(parents=True)
    (tree / "notebooks" / "appendix").mkdir()
    for name in ("__init__.py", "colab.py", "paths.py"):
        shutil.copy(TOP / "notebooks" / "cxr" / name, tree / "notebooks" / "cxr")
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "all"]):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *command], cwd=tree, check=True)
    instead = f'[url "file://{tree}"]\n\tinsteadOf = https://github.com/jane/chest-xray-notebooks\n'
    (folder / "gitconfig").write_text(instead + '[url "file:///nowhere/"]\n\tinsteadOf = https://github.com/\n')
    return folder


def test_all_pages_begin_with_the_same_cell_and_carry_badges_of_their_own():
    assert len({setup_cell(page) for page in PAGES}) == 1
    for page in PAGES:
        link = f"/blob/main/{page.relative_to(TOP).as_posix()})"
        assert page.read_text(encoding="utf-8").count(link) == 2, page.name  # Colab, Kaggle


def test_on_colab_the_project_is_fetched_once(github):
    source = setup_cell(PAGES[0], "jane")
    for _ in range(2):  # the cell run twice, and another kernel on the same machine
        done = run_cell(f"{source}\n{source}", github)
        assert not done.returncode and "fatal" not in done.stderr, done.stderr
        assert f"{github}/cxr-project/notebooks {github}/cxr-project/notebooks/cxr/colab.py" in done.stdout


@pytest.mark.parametrize("owner", ["OWNER", "joe"])
def test_where_the_project_cannot_be_fetched_the_cell_says_so(github, owner):
    done = run_cell(setup_cell(PAGES[0], owner), github)
    assert done.returncode and f"{owner}/chest-xray-notebooks: see README" in done.stderr
    assert not (github / "cxr-project").exists()


@pytest.mark.parametrize("place", [".", "notebooks", "notebooks/appendix"])
def test_at_home_it_steps_into_notebooks_and_does_nothing_else(github, place):
    home = github.parent / "tree"
    done = run_cell(setup_cell(PAGES[0]), home / place)
    assert not done.returncode, done.stderr
    assert done.stdout.strip() == f"{home}/notebooks {home}/notebooks/cxr/colab.py"
