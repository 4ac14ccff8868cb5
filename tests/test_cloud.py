"""A borrowed machine keeps its own TensorFlow, gets only what it lacks, and loses nothing; all said in one sentence."""

import importlib.util
import json
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
import yaml

from cxr import colab as cloud
from cxr import fingerprint, paths
from cxr.paths import Problem

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
COLAB = {
    "tensorflow": "2.20.0",
    "keras": "3.13.2",
    "numpy": "2.1.3",
    "sklearn": "1.6.1",
    "PIL": "11.3.0",
    "kagglehub": "1.0.0",
    "filelock": "3.20.0",
}
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
    for module in (cloud, paths):
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


@pytest.mark.parametrize(
    "packages, wanted",
    [
        (EVERYTHING, []),
        (COLAB, ["keras>=3.15.1"]),
        ({**EVERYTHING, "keras": "3.15.0"}, ["keras>=3.15.1"]),
        ({**EVERYTHING, "keras": "3.9.9"}, ["keras>=3.15.1"]),
        ({**EVERYTHING, "keras": "3.15.2"}, []),
        ({**EVERYTHING, "keras": "4.0"}, []),
        ({**EVERYTHING, "keras": "3.16.0.dev2"}, []),
        ({**EVERYTHING, "kagglehub": "0.3.13"}, ["kagglehub>=0.4.0"]),
        ({**EVERYTHING, "numpy": "1.26.4", "filelock": "0.1", "PIL": "9"}, []),
    ],
)
def test_only_what_is_too_old_is_wanted(has, packages, wanted):
    has(packages)
    assert cloud.missing(ASKED) == wanted


@pytest.mark.parametrize(
    "absent, wanted",
    [
        ("filelock", ["filelock<=4.2.11"]),
        ("sklearn", ["scikit-learn<=1.9.1"]),
        ("PIL", ["pillow<=13.0.0"]),
        ("keras", ["keras<=3.15.1"]),
    ],
)
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
    code = "\n".join(
        path.read_text(encoding="utf-8")
        for pattern in ("cxr/**/*.py", "*.ipynb")
        for path in (top / "notebooks").glob(pattern)
        if path.name != "run.py"
    )
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


@pytest.mark.parametrize(
    "said, quoted",
    [
        (
            "WARNING: retrying\nERROR: No matching distribution found for keras\n\n[notice] a new pip\n",
            "(ERROR: No matching distribution found for keras)",
        ),
        ("Fatal Python error\n", "(Fatal Python error)"),
        ("\n", "(it did not say why)"),
    ],
)
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
    assert paths.results_dir() == kept / "results" and paths.checkpoint_dir() == kept / "checkpoints"
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


@pytest.mark.parametrize(
    "error, reason",
    [
        (OSError(28, "No space left on device"), "No space left on device"),
        (shutil.Error([("a", "b", "why")]), "not all files could be copied"),
    ],
)
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
    assert paths.results_dir() == tmp_path / "drive/MyDrive/chest-xray-notebooks/results"
    assert not paths.results_dir().exists()


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


# --- elsewhere ------------------------------------------------------------------------------------------------


def test_a_machine_of_the_readers_own_is_left_alone(has, pip, capsys):
    has(COLAB)
    before = dict(os.environ)
    cloud.prepare()
    assert pip.calls == [] and dict(os.environ) == before and capsys.readouterr().out == ""
    with pytest.raises(Problem) as problem:
        cloud.prepare(keep_on_drive=True)
    sentence(problem, "KEEP_ON_DRIVE is True, but this is not Colab", "set it to False")
    assert pip.calls == []


# --- Kaggle ---------------------------------------------------------------------------------------------------


def test_kaggle_keeps_results_where_it_saves_them(has, kaggle, machine):
    cloud.prepare()
    assert paths.results_dir() == kaggle / "results"
    assert (kaggle / "results" / "01_manifest.csv").read_text() == "committed"
    (kaggle / "results" / "01_manifest.csv").write_text("mine")
    cloud.prepare()
    assert (kaggle / "results" / "01_manifest.csv").read_text() == "mine"


def test_a_results_folder_of_ones_own_stands(has, kaggle, tmp_path, monkeypatch):
    monkeypatch.setenv("CXR_RESULTS_DIR", str(tmp_path / "my own"))
    cloud.prepare()
    assert paths.results_dir() == tmp_path / "my own" and not (kaggle / "results").exists()


def test_kaggle_is_not_taken_for_colab_whose_package_it_has(has, kaggle, colab, capsys):
    cloud.prepare()
    assert not cloud.on_colab() and paths.results_dir() == kaggle / "results"
    assert "Settings > Accelerator" in capsys.readouterr().out


# --- the reader's own files -----------------------------------------------------------------------------------


@pytest.mark.parametrize("chosen", [{}, {"mine.png": b"x"}])
def test_files_of_the_readers_own_lie_in_the_cache(colab, monkeypatch, chosen):
    files, asked = types.ModuleType("google.colab.files"), []
    files.upload = lambda target_dir: asked.append(target_dir) or chosen
    monkeypatch.setitem(sys.modules, "google.colab.files", files)
    monkeypatch.setattr(sys.modules["google.colab"], "files", files, raising=False)
    assert cloud.upload() == (asked[0] if chosen else "")
    assert asked == [str(paths.cache_dir() / "own")]


def test_where_nobody_can_be_asked_for_files_it_says_what_to_do(kaggle):
    with pytest.raises(Problem) as problem:
        cloud.upload()
    sentence(problem, 'OWN is "upload", but this is not Colab', "name a picture or a folder")


# --- the accelerator ------------------------------------------------------------------------------------------


def nvidia_smi(tmp_path, script):
    tool = tmp_path / "bin" / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)


def test_colab_without_a_gpu_says_what_to_click_and_where_it_says_how_long_it_takes(has, colab, capsys):
    cloud.prepare()
    said = capsys.readouterr().out.strip().splitlines()[-1]
    assert said.startswith("No GPU: choose Runtime > Change runtime type > T4 GPU") and "table above" in said


def test_kaggle_without_a_gpu_says_what_to_click(has, kaggle, capsys):
    cloud.prepare()
    said = capsys.readouterr().out
    assert "No GPU: choose Settings > Accelerator > GPU" in said and "Runtime" not in said


@pytest.mark.parametrize(
    "script, said",
    [
        ('[ "$*" = "--query-gpu=name --format=csv,noheader" ] && echo "Tesla T4"', "GPU: Tesla T4."),
        ('echo "Tesla T4"; echo "Tesla T4"; echo', "GPU: Tesla T4, Tesla T4."),
        ('echo "NVIDIA-SMI has failed because it could not communicate with the driver"; exit 9', "No GPU: "),
        ("exit 0", "No GPU: "),
    ],
)
def test_the_gpu_is_named(tmp_path, script, said):
    nvidia_smi(tmp_path, script)
    assert cloud.accelerator().startswith(said)


def test_a_driver_that_hangs_counts_as_none(tmp_path, monkeypatch):
    nvidia_smi(tmp_path, "exec /bin/sleep 30")
    real = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda command, timeout, **options: real(command, timeout=0.2, **options))
    started = time.monotonic()
    assert cloud.accelerator().startswith("No GPU") and time.monotonic() - started < 10


# --- the first cell -------------------------------------------------------------------------------------------

TOP = Path(__file__).resolve().parents[1]
NOTEBOOKS = list(fingerprint.notebooks().values())
RUN = """
import os, sys
{colab}
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
sys.path.insert(0, "")
shell.run_cell(sys.stdin.read()).raise_error()
print("at", os.getcwd(), "with", sys.modules["cxr.colab"].__file__)
"""


def cells(notebook):
    return json.loads(notebook.read_text(encoding="utf-8"))["cells"]


def first_cell(repository=""):
    """The first cell, before a copy knows its own address or after."""
    source = next("".join(cell["source"]) for cell in cells(NOTEBOOKS[0]) if cell["cell_type"] == "code")
    known = re.search("https://github.com/(.+) cxr-project", source)
    old = badges.FETCH.format(known[1]) if known else badges.UNKNOWN
    assert source.count(old) == 1
    return source.replace(old, badges.FETCH.format(repository) if repository else badges.UNKNOWN)


def run_cell(source, folder, colab):
    """Run the cell in an IPython of its own, as a kernel does."""
    code = RUN.format(colab="import google.colab" if colab else "")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CXR_")} | {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "PYTHONPATH": str(TOP / "tests/colab_stand_in/site"),
        "GIT_CONFIG_GLOBAL": str(folder / "gitconfig"),
        "GIT_TERMINAL_PROMPT": "0",
        "IPYTHONDIR": str(folder / "ipython"),
    }
    return subprocess.run(
        [sys.executable, "-c", code], input=source, cwd=folder, env=environment, text=True, capture_output=True
    )


@pytest.fixture
def github(tmp_path):
    """A machine's folder, from which https://github.com/jane/lungs can be cloned: the package, wanting nothing."""
    tree, folder = tmp_path / "tree", tmp_path / "content"
    folder.mkdir()
    shutil.copytree(TOP / "notebooks" / "cxr", tree / "notebooks" / "cxr", ignore=shutil.ignore_patterns("__pycache__"))
    (tree / "requirements.txt").write_text("numpy==2.4.6  # arrays\n")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c"]
    environment = {**os.environ, "PATH": "/usr/local/bin:/usr/bin:/bin"}
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "all"]):
        subprocess.run([*git, *command], cwd=tree, check=True, env=environment)
    (folder / "gitconfig").write_text(
        f'[url "file://{tree}"]\n\tinsteadOf = https://github.com/jane/lungs\n'
        '[url "file:///nowhere/"]\n\tinsteadOf = https://github.com/\n'
    )
    return folder


def test_all_begin_with_the_same_cell_of_ten_lines():
    first = {
        next("".join(cell["source"]) for cell in cells(notebook) if cell["cell_type"] == "code")
        for notebook in NOTEBOOKS
    }
    assert len(first) == 1
    for source in (first_cell(), first_cell("OWNER/chest-xray-notebooks")):
        lines = source.splitlines()
        assert len(lines) <= 10 and max(map(len, lines)) <= 88
        assert "KEEP_ON_DRIVE = " in lines[0] and "google.colab" in source  # by which `fingerprint.code` knows it


def test_a_copy_that_does_not_know_its_address_says_so_and_fetches_nothing(github):
    done = run_cell(first_cell(), github, colab=True)
    assert done.returncode
    assert (
        "AssertionError: This copy does not know its own address yet: run `make badges REPO=owner/name`, or open "
        "it from your fork."
    ) in done.stderr
    assert not (github / "cxr-project").exists() and "internet" not in done.stderr


def test_on_colab_the_project_is_fetched_once(github):
    source = first_cell("jane/lungs")
    for _ in range(2):  # another kernel on the same machine finds it there
        done = run_cell(f"{source}\n{source}", github, colab=True)
        assert not done.returncode, done.stderr
        assert f"at {github}/cxr-project/notebooks with" in done.stdout and done.stdout.count("No GPU") == 2
        assert f"{github}/cxr-project/notebooks/cxr/project/colab.py" in done.stdout
        assert "fatal" not in done.stdout + done.stderr


def test_a_machine_without_internet_says_what_to_switch_on(github):
    done = run_cell(first_cell("jane/elsewhere"), github, colab=True)
    assert done.returncode and "AssertionError: Switch the internet on (Kaggle: Settings)" in done.stderr


@pytest.mark.parametrize("repository", ["", "jane/lungs"])
@pytest.mark.parametrize("place", [".", "notebooks"])
def test_at_home_it_steps_into_notebooks_and_does_nothing_else(github, repository, place):
    home = github.parent / "tree"
    shutil.copy(github / "gitconfig", home / place)
    done = run_cell(first_cell(repository), home / place, colab=False)
    assert not done.returncode, done.stderr
    assert done.stdout.strip() == f"at {home}/notebooks with {home}/notebooks/cxr/project/colab.py"


# --- a copy of the project on GitHub --------------------------------------------------------------------------


@pytest.fixture
def fork(tmp_path):
    """jane's copy of the project as GitHub's runner checks it out, and the repository behind it."""
    tree, bare = tmp_path / "work", tmp_path / "github.git"
    for name in ("README.md", "Makefile", ".github", "docs", "notebooks"):
        if (TOP / name).is_dir():
            shutil.copytree(TOP / name, tree / name, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints"))
        else:
            tree.mkdir(exist_ok=True)
            shutil.copy(TOP / name, tree / name)
    environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "GITHUB_REPOSITORY": "jane/lungs",
        "PYTHONDONTWRITEBYTECODE": "1",
    }

    def git(*command):
        return subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *command],
            cwd=tree,
            check=True,
            capture_output=True,
            text=True,
            env=environment,
        ).stdout

    git("init", "-q", "-b", "main")
    git("add", "-A")
    git("commit", "-q", "-m", "a copy")
    git("clone", "-q", "--bare", str(tree), str(bare))
    git("remote", "add", "origin", str(bare))
    git("fetch", "-q")
    git("branch", "-q", "-u", "origin/main")
    return types.SimpleNamespace(tree=tree, git=git, environment=environment)


def test_the_workflow_points_a_copy_at_itself_once(fork):
    workflow = yaml.safe_load((TOP / ".github/workflows/badges.yml").read_text(encoding="utf-8"))
    job = workflow["jobs"]["badges"]
    assert workflow["permissions"] == {"contents": "write"} and "push" in workflow[True]  # YAML reads `on` as true
    assert job["if"] == "github.ref_name == github.event.repository.default_branch"
    steps = [step["run"] for step in job["steps"] if "run" in step]
    assert len(steps) == 2 and all("run" in step or "checkout" in step["uses"] for step in job["steps"])
    heads = []
    for _ in range(2):
        for script in steps:  # `bash -e`, as GitHub runs them
            done = subprocess.run(
                ["bash", "-e", "-c", script], cwd=fork.tree, env=fork.environment, capture_output=True, text=True
            )
            assert not done.returncode, done.stderr
        heads.append(fork.git("ls-remote", "origin", "main").split()[0])
    assert heads[0] == heads[1] and fork.git("rev-list", "--count", heads[0]).strip() == "2"
    assert sorted(fork.git("diff", "--name-only", f"{heads[0]}~", heads[0]).split()) == [
        "README.md",
        "docs/chain.md",
        *(f"notebooks/{notebook.name}" for notebook in NOTEBOOKS),
    ]
    fork.git("reset", "-q", "--hard", "origin/main")
    others = {"keras-team/keras", "ml-workgroup/covid-19-image-repository", "ieee8023/covid-chestxray-dataset"}
    for name in ("README.md", "docs/chain.md", *(f"notebooks/{notebook.name}" for notebook in NOTEBOOKS)):
        text = (fork.tree / name).read_text(encoding="utf-8")
        addresses = set(re.findall(r"(?:github\.com|/github)/([\w.-]+/[\w.-]+?)(?=[/)\s\"]|$)", text))
        assert addresses - others == {"jane/lungs"}, name
        if not name.endswith(".md"):
            begin = next(cell for cell in cells(fork.tree / name) if cell["cell_type"] == "code")
            assert "".join(begin["source"]) == first_cell("jane/lungs")
            assert text == json.dumps(json.loads(text), indent=1, ensure_ascii=False) + "\n"
    ruff = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--no-cache",
        "--config",
        str(TOP / "pyproject.toml"),
        "--stdin-filename",
        "first.ipynb",
        "-",
    ]
    first = json.dumps(json.loads(text) | {"cells": [begin]})
    done = subprocess.run(ruff, input=first, cwd=fork.tree, capture_output=True, text=True)
    assert not done.returncode, done.stdout


def test_badges_need_nothing_but_python(fork):
    code = (
        "import sys; import cxr.project.badges; "
        "print(*{name.split('.')[0] for name in sys.modules} - sys.stdlib_module_names)"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        cwd=fork.tree / "notebooks",
        env=fork.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(done.stdout.split()) <= {"cxr", "__main__"}


# --- the stand-in for Colab and Kaggle ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "named, said",
    [
        (
            [],
            r"make colab needs Linux, root and unshare, .*: run it as root in a virtual machine or a privileged "
            r"container\.",
        ),
        (["ech"], r"SCENARIOS names ech: choose from each order drive .*\."),
    ],
)
def test_make_colab_says_in_a_sentence_what_it_lacks(tmp_path, named, said):
    command = [sys.executable, str(TOP / "tests/colab_stand_in/simulate.py"), "--work", str(tmp_path / "work"), *named]
    done = subprocess.run(command, env={"PATH": str(tmp_path)}, capture_output=True, text=True)
    assert done.returncode and re.fullmatch(said, done.stderr.strip()), done.stderr
    assert not (tmp_path / "work").exists()


# --- how long it takes ----------------------------------------------------------------------------------------

ABLATION = 30  # minutes: three times what one seed of each row took (04_ablation.csv carries no times)


def seconds(number):
    """Of each training of a notebook that is repeated from several seeds; without the plain CNN's."""
    took = json.loads((TOP / "results" / f"{number}_timing.json").read_text(encoding="utf-8"))["seconds"]
    return [own for name, own in took.items() if "seed" in name and "plain" not in name]


def header(number):
    rows = next("".join(cells(notebook)[0]["source"]) for notebook in NOTEBOOKS if notebook.name.startswith(number))
    return dict(re.findall(r"^\| \*\*(\w+)\*\* \| (.+) \|$", rows, re.MULTILINE))


TRAINING = [
    number
    for number in fingerprint.notebooks()
    if (TOP / "results" / f"{number}_timing.json").exists() and seconds(number)
]


@pytest.mark.parametrize("number", TRAINING)
def test_a_header_says_how_long_its_trainings_took(number):
    took = seconds(number)
    said = f"{len(took)} trainings of about {round(sum(took) / len(took) / 60)} minutes on two CPU cores"
    assert header(number)["takes"].startswith(said), f"write: {said}"
    assert header(number)["GPU"] == "should help; not tried"


def test_those_that_train_nothing_say_that_they_need_no_gpu():
    assert {header(notebook.name[:2])["GPU"] for notebook in NOTEBOOKS if notebook.name[:2] not in TRAINING} == {
        "not needed"
    }


def test_the_same_times_stand_in_readme_docs_makefile_and_notebook():
    readme, page, makefile = (
        (TOP / name).read_text(encoding="utf-8") for name in ("README.md", "docs/chain.md", "Makefile")
    )
    seeds = seconds("04")
    timings = [TOP / "results" / f"{number}_timing.json" for number in TRAINING]  # the plain CNN's, too
    everything = sum(sum(json.loads(path.read_text(encoding="utf-8"))["seconds"].values()) for path in timings)
    said = re.search(r"about (\d+) minutes for each of the five seeds", page)
    assert int(said[1]) == round(sum(seeds) / len(seeds) / 60) and len(seeds) == 5, "docs/chain.md: make run"
    hours = {"two": 2, "three": 3, "four": 4, "five": 5}[re.search(r"about (\w+) hours on two cores", page)[1]]
    assert everything / 3600 <= hours <= everything / 3600 + 1, "docs/chain.md: make run NOTEBOOKS=all"
    took = json.loads((TOP / "results/04_timing.json").read_text(encoding="utf-8"))["seconds"]
    whole = int(re.search(r"trains for about (\d+) minutes on two CPU cores", readme)[1])
    assert abs(sum(took.values()) / 60 - whole) <= 2.5, "README: make run DOWNLOAD=1, with the plain CNN"
    practice = [re.search(r"practice[^\n]*?about (\d+) minutes", text)[1] for text in (readme, page, makefile)]
    assert len(set(practice)) == 1, "make run on practice films"
    assert "in about 12 minutes" in (TOP / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert re.search(r"^make test .*about 12 minutes$", readme, re.MULTILINE)
    for text in (page, makefile, fingerprint.notebooks()["04"].read_text(encoding="utf-8")):
        for minutes in re.findall(r"ablation[^\n]*?(\d+) minutes on two cores", text):
            assert int(minutes) == ABLATION
        assert re.search(r"ablation[^\n]*?\d+ minutes on two cores", text)
