"""A borrowed machine keeps its own TensorFlow, gets only what it lacks, and loses nothing; all said in one sentence."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
import types
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from cxr import cloud, project
from cxr.project import Problem

ASKED = """# a comment
tensorflow==2.21.0      # trains
keras==3.15.1           # layers
numpy==2.4.6            # arrays
scikit-learn==1.9.1     # split
pillow==13.0.0          # JPEG
kagglehub==1.0.2        # downloads
kaggle==2.2.4           # with an account
filelock==4.2.11        # two kernels
jupyter==1.1.1          # JupyterLab
papermill==2.7.0        # headless
"""
COLAB = {"tensorflow": "2.20.0", "keras": "3.13.2", "numpy": "2.1.3", "sklearn": "1.6.1", "PIL": "11.3.0",
         "kagglehub": "1.0.0", "filelock": "3.20.0"}
EVERYTHING = {**COLAB, "keras": "3.15.1"}


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    """A borrowed machine without a GPU and with committed results; nothing of it is this one's."""
    root = tmp_path / "project"
    (root / "results").mkdir(parents=True)
    (root / "results" / "01_manifest.csv").write_text("committed")
    (root / "requirements.txt").write_text(ASKED)
    for name in list(os.environ):
        if name.startswith(("CXR_", "CHEST_XRAY", "KAGGLE", "COLAB")):
            monkeypatch.delenv(name)
    for name in ("CXR_ANY_COPY", "CXR_RESULTS_DIR", "CXR_CHECKPOINT_DIR"):  # so that what `prepare` sets is undone
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    for module in (cloud, project):
        monkeypatch.setattr(module, "ROOT", root)
    monkeypatch.setattr(cloud, "WORKING", tmp_path / "no kaggle")
    monkeypatch.setattr(cloud, "DRIVE", tmp_path / "drive")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    for module in ("google.colab", "google.colab.drive", "keras"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    return root


@pytest.fixture
def has(monkeypatch):
    """Makes the machine have these packages, by the name they are imported under, and no others."""
    def install(packages):
        distributions = {"scikit-learn": "sklearn", "pillow": "PIL"}

        def version(name):
            try:
                return packages[distributions.get(name, name)]
            except KeyError:
                raise PackageNotFoundError(name) from None

        monkeypatch.setattr(importlib.util, "find_spec", lambda name: packages.get(name))
        monkeypatch.setattr(cloud, "version", version)
    install(EVERYTHING)
    return install


@pytest.fixture
def pip(monkeypatch):
    """Stands in for pip: notes each call and the constraints it got; `pip.answer` is what it says."""
    real, note = subprocess.run, types.SimpleNamespace(calls=[], held="", answer=(0, ""))

    def run(command, **options):
        if command[1:3] != ["-m", "pip"]:
            return real(command, **options)
        note.calls.append([str(part) for part in command])
        with open(command[command.index("-c") + 1]) as file:
            note.held = file.read()
        return subprocess.CompletedProcess(command, note.answer[0], "", note.answer[1])

    monkeypatch.setattr(subprocess, "run", run)
    return note


@pytest.fixture
def colab(monkeypatch):
    """Makes the kernel one of Colab's; `colab.mount` is what opening Drive does."""
    drive = types.ModuleType("google.colab.drive")
    package = types.ModuleType("google.colab")
    note = types.SimpleNamespace(mount=lambda point: os.makedirs(os.path.join(point, "MyDrive"), exist_ok=True))
    drive.mount = lambda point: note.mount(point)
    package.drive = drive
    monkeypatch.setitem(sys.modules, "google", types.ModuleType("google"))
    monkeypatch.setitem(sys.modules, "google.colab", package)
    monkeypatch.setitem(sys.modules, "google.colab.drive", drive)
    return note


@pytest.fixture
def kaggle(tmp_path, monkeypatch):
    """Makes the machine one of Kaggle's; returns its ``/kaggle/working``."""
    monkeypatch.setattr(cloud, "WORKING", tmp_path / "working")
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Interactive")
    (tmp_path / "working").mkdir()
    return tmp_path / "working"


def sentence(problem, *words):
    """The error is one sentence that holds `words`."""
    text = str(problem.value)
    assert "\n" not in text and text.endswith("."), text
    assert not re.search(r"[.!?]\s+[A-Z]", text), text
    for word in words:
        assert word in text, f"{word!r} is missing: {text}"


# --- what is missing ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("packages, wanted", [
    (EVERYTHING, []),
    (COLAB, ["keras>=3.15.1"]),
    ({**EVERYTHING, "keras": "3.15.0"}, ["keras>=3.15.1"]),
    ({**EVERYTHING, "keras": "3.9.9"}, ["keras>=3.15.1"]),
    ({**EVERYTHING, "keras": "3.15.2"}, []),
    ({**EVERYTHING, "keras": "4.0"}, []),
    ({**EVERYTHING, "keras": "3.16.0.dev2"}, []),
    ({**EVERYTHING, "kagglehub": "0.3.13"}, ["kagglehub>=0.4.0"]),
    ({**EVERYTHING, "numpy": "1.26.4", "filelock": "0.1", "PIL": "9"}, []),
])
def test_only_what_is_too_old_is_wanted(has, packages, wanted):
    has(packages)
    assert cloud.missing(ASKED) == wanted


@pytest.mark.parametrize("absent, wanted", [
    ("filelock", ["filelock<=4.2.11"]), ("sklearn", ["scikit-learn<=1.9.1"]), ("PIL", ["pillow<=13.0.0"]),
    ("keras", ["keras<=3.15.1"])])
def test_what_is_absent_is_wanted_no_newer_than_it_was_tested(has, absent, wanted):
    has({name: version for name, version in EVERYTHING.items() if name != absent})
    assert cloud.missing(ASKED) == wanted


def test_keras_that_pip_knows_nothing_of_is_replaced(has, monkeypatch):
    def unknown(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(cloud, "version", unknown)
    assert cloud.missing("keras==3.15.1\nnumpy==2.4.6\n") == ["keras>=3.15.1"]


def test_of_the_real_requirements_only_what_the_notebooks_import_is_wanted(monkeypatch):
    """A tool that is new in requirements.txt belongs into NOT_THERE."""
    top = Path(__file__).resolve().parents[1]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    names = {line.split("<=")[0] for line in cloud.missing((top / "requirements.txt").read_text(encoding="utf-8"))}
    assert {"tensorflow", "keras", "numpy", "scikit-learn", "pillow", "kagglehub", "filelock"} <= names
    code = "\n".join(path.read_text(encoding="utf-8") for pattern in ("cxr/*.py", "*.ipynb")
                     for path in (top / "notebooks").glob(pattern) if path.name != "headless.py")
    for name in names:
        assert re.search(rf"\b(import|from) {cloud.IMPORTED_AS.get(name, name)}\b", code), f"{name} is not needed there"


# --- installing -----------------------------------------------------------------------------------------------

def test_pip_gets_only_that_and_holds_numpy_and_tensorflow(has, pip, colab, capsys):
    has(COLAB)
    cloud.prepare()
    assert pip.calls == [[sys.executable, "-m", "pip", "install", "-q", "-c", pip.calls[0][6], "keras>=3.15.1"]]
    assert pip.held.split() == ["numpy==2.1.3", "tensorflow==2.20.0"]
    assert not os.path.exists(pip.calls[0][6])
    assert "Installing keras>=3.15.1; everything else stays as it is." in capsys.readouterr().out


def test_where_nothing_is_missing_pip_is_not_called(has, pip, colab, capsys):
    cloud.prepare()
    assert pip.calls == [] and "Installing" not in capsys.readouterr().out
    assert os.environ["CXR_ANY_COPY"] == "1"
    assert "CXR_RESULTS_DIR" not in os.environ and "CXR_CHECKPOINT_DIR" not in os.environ


@pytest.mark.parametrize("said, quoted", [
    ("WARNING: retrying\nERROR: No matching distribution found for keras\n\n[notice] a new pip\n",
     "(ERROR: No matching distribution found for keras)"),
    ("Fatal Python error\n", "(Fatal Python error)"),
    ("\n", "(it did not say why)"),
])
def test_a_failing_pip_is_quoted_with_the_remedy(has, pip, colab, said, quoted):
    has(COLAB)
    pip.answer = (1, said)
    with pytest.raises(Problem) as problem:
        cloud.prepare()
    sentence(problem, "pip could not install keras>=3.15.1", quoted, "Settings > Internet", "run this cell again")


@pytest.mark.parametrize("where, click", [("colab", "Runtime > Restart session"), ("kaggle", "Run > Restart")])
def test_an_old_keras_that_is_loaded_already_asks_for_a_restart(has, pip, where, click, request, monkeypatch, capsys):
    request.getfixturevalue(where)
    has(COLAB)
    monkeypatch.setitem(sys.modules, "keras", types.ModuleType("keras"))
    with pytest.raises(Problem) as problem:
        cloud.prepare()
    sentence(problem, "already loaded", "3.15.1", click, "first cell")
    assert pip.calls == [] and "Installing" not in capsys.readouterr().out


def test_a_loaded_keras_that_is_new_enough_is_no_obstacle(has, pip, colab, monkeypatch):
    monkeypatch.setitem(sys.modules, "keras", types.ModuleType("keras"))
    has({name: version for name, version in EVERYTHING.items() if name != "filelock"})
    cloud.prepare()
    assert pip.calls[0][-1] == "filelock<=4.2.11"


# --- Drive ----------------------------------------------------------------------------------------------------

def test_results_go_to_drive_and_start_from_the_committed_ones(has, colab, machine, tmp_path, capsys):
    cloud.prepare(keep_on_drive=True)
    kept = tmp_path / "drive" / "MyDrive" / "chest-xray-notebooks"
    assert project.results_dir() == kept / "results" and project.checkpoint_dir() == kept / "checkpoints"
    assert (kept / "results" / "01_manifest.csv").read_text() == "committed"
    assert "Results and checkpoints are kept on Drive, in MyDrive/chest-xray-notebooks/." in capsys.readouterr().out
    assert [path.name for path in kept.iterdir()] == ["results"]


def test_results_on_drive_are_never_overwritten(has, colab, machine, tmp_path):
    cloud.prepare(keep_on_drive=True)
    mine = tmp_path / "drive" / "MyDrive" / "chest-xray-notebooks" / "results" / "01_manifest.csv"
    mine.write_text("mine")
    (machine / "results" / "02_split.csv").write_text("a later commit")
    cloud.prepare(keep_on_drive=True)
    assert mine.read_text() == "mine" and not (mine.parent / "02_split.csv").exists()


def test_a_copy_that_breaks_off_leaves_no_results_and_is_made_anew(has, colab, machine, tmp_path, monkeypatch):
    real = shutil.copytree

    def breaks(source, target, **options):
        real(source, target)
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "copytree", breaks)
    with pytest.raises(KeyboardInterrupt):
        cloud.prepare(keep_on_drive=True)
    kept = tmp_path / "drive" / "MyDrive" / "chest-xray-notebooks"
    assert not (kept / "results").exists() and "CXR_RESULTS_DIR" not in os.environ
    (kept / ".unfinished_results" / "half").write_text("of the broken copy")
    monkeypatch.setattr(shutil, "copytree", real)
    cloud.prepare(keep_on_drive=True)
    assert [path.name for path in (kept / "results").iterdir()] == ["01_manifest.csv"]


@pytest.mark.parametrize("error, reason", [
    (OSError(28, "No space left on device"), "No space left on device"),
    (shutil.Error([("a", "b", "why")]), "not all files could be copied")])
def test_a_full_drive_is_said_in_a_sentence(has, colab, monkeypatch, error, reason):
    def full(*_, **__):
        raise error

    monkeypatch.setattr(shutil, "copytree", full)
    with pytest.raises(Problem) as problem:
        cloud.prepare(keep_on_drive=True)
    sentence(problem, "can't be copied to .../results", reason, "free some space")
    assert "CXR_RESULTS_DIR" not in os.environ


def test_a_project_without_results_starts_empty(has, colab, machine, tmp_path):
    shutil.rmtree(machine / "results")
    cloud.prepare(keep_on_drive=True)
    assert project.results_dir() == tmp_path / "drive/MyDrive/chest-xray-notebooks/results"
    assert not project.results_dir().exists()


def test_a_refused_drive_names_the_setting(has, colab):
    class MessageError(Exception):
        """Of a class of Colab's own."""

    def refuse(point):
        raise MessageError("Error: credential propagation was unsuccessful")

    colab.mount = refuse
    with pytest.raises(Problem) as problem:
        cloud.prepare(keep_on_drive=True)
    sentence(problem, "Google Drive was not opened (MessageError)", "KEEP_ON_DRIVE = False")
    assert "CXR_RESULTS_DIR" not in os.environ and "CXR_CHECKPOINT_DIR" not in os.environ


def test_drive_is_wanted_where_there_is_none(has, kaggle):
    with pytest.raises(Problem) as problem:
        cloud.prepare(keep_on_drive=True)
    sentence(problem, "KEEP_ON_DRIVE is True, but this is not Colab", "set it to False")


# --- Kaggle ---------------------------------------------------------------------------------------------------

def test_kaggle_keeps_results_where_it_saves_them(has, kaggle, machine):
    cloud.prepare()
    assert project.results_dir() == kaggle / "results"
    assert (kaggle / "results" / "01_manifest.csv").read_text() == "committed"
    (kaggle / "results" / "01_manifest.csv").write_text("mine")
    cloud.prepare()
    assert (kaggle / "results" / "01_manifest.csv").read_text() == "mine"


def test_a_results_folder_of_ones_own_stands(has, kaggle, tmp_path, monkeypatch):
    monkeypatch.setenv("CXR_RESULTS_DIR", str(tmp_path / "my own"))
    cloud.prepare()
    assert project.results_dir() == tmp_path / "my own" and not (kaggle / "results").exists()


def test_kaggle_is_not_taken_for_colab_whose_package_it_has(has, kaggle, colab, capsys):
    cloud.prepare()
    assert not cloud.on_colab() and project.results_dir() == kaggle / "results"
    assert "Settings > Accelerator" in capsys.readouterr().out


# --- the accelerator ------------------------------------------------------------------------------------------

def nvidia_smi(tmp_path, script):
    tool = tmp_path / "bin" / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)


def test_colab_without_a_gpu_says_what_to_click_and_how_long_it_takes(has, colab, capsys):
    cloud.prepare()
    said = capsys.readouterr().out.strip().splitlines()[-1]
    assert said.startswith("No GPU: choose Runtime > Change runtime type > T4 GPU") and "ten minutes a seed" in said


def test_kaggle_without_a_gpu_says_what_to_click(has, kaggle, capsys):
    cloud.prepare()
    said = capsys.readouterr().out
    assert "No GPU: choose Settings > Accelerator > GPU" in said and "Runtime" not in said


@pytest.mark.parametrize("script, said", [
    ('[ "$*" = "--query-gpu=name --format=csv,noheader" ] && echo "Tesla T4"', "GPU: Tesla T4."),
    ('echo "Tesla T4"; echo "Tesla T4"; echo', "GPU: Tesla T4, Tesla T4."),
    ('echo "NVIDIA-SMI has failed because it could not communicate with the driver"; exit 9', "No GPU: "),
    ('exit 0', "No GPU: "),
])
def test_the_gpu_is_named(tmp_path, script, said):
    nvidia_smi(tmp_path, script)
    assert cloud.accelerator().startswith(said)


def test_a_driver_that_hangs_counts_as_none(tmp_path, monkeypatch):
    nvidia_smi(tmp_path, "exec /bin/sleep 30")
    real = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda command, timeout, **options: real(command, timeout=0.2, **options))
    started = time.monotonic()
    assert cloud.accelerator().startswith("No GPU") and time.monotonic() - started < 10
