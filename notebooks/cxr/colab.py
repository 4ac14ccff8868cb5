"""Colab and Kaggle: what a borrowed machine needs before the first import, and what it must not lose.

Their Python, TensorFlow and NumPy stay as they are. Only what is too old or missing is installed: Keras, because a
``.keras`` file written by 3.15 does not load in 3.13, and the few small packages that they lack.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .paths import ROOT, Problem, cache_dir, display_path, results_dir

# Below these, upgrade: the committed network was saved by Keras 3.15, and `download` uses what kagglehub 0.4 brought.
TOO_OLD = {"keras": "3.15.1", "kagglehub": "0.4.0"}
# The machine runs notebooks in its own way, and `download` does without the package kaggle.
NOT_THERE = {"jupyter", "ipykernel", "pytest", "pytest-xdist", "papermill", "nbformat", "ruff", "mypy", "kaggle"}
IMPORTED_AS = {"scikit-learn": "sklearn", "scikit-image": "skimage", "pillow": "PIL"}
HELD = ("numpy", "tensorflow")  # whatever pip installs must go with the machine's own
WORKING, DRIVE = Path("/kaggle/working"), Path("/content/drive")
KEPT = "MyDrive/chest-xray-notebooks"


def on_colab() -> bool:
    """Whether this kernel runs on Google Colab. (Kaggle's machines are made from Colab's, its package included.)"""
    return "google.colab" in sys.modules and "KAGGLE_KERNEL_RUN_TYPE" not in os.environ


def missing(requirements: str) -> list[str]:
    """What this machine lacks of ``requirements.txt`` (whose text this is), as arguments for pip.

    That is ``name<=version`` for what is not there (an older one will do where the machine's NumPy asks for it), and
    ``name>=version`` for what is too old.
    """
    wanted = []
    for name, pinned in re.findall(r"^([\w-]+)==([\d.]+)", requirements, re.MULTILINE):
        if name in NOT_THERE:
            continue
        if importlib.util.find_spec(IMPORTED_AS.get(name, name)) is None:
            wanted.append(f"{name}<={pinned}")
        elif name in TOO_OLD:
            found, least = (re.findall(r"\d+", text)[:3] for text in (_version(name) or "0", TOO_OLD[name]))
            wanted += [f"{name}>={TOO_OLD[name]}"] if [*map(int, found)] < [*map(int, least)] else []
    return wanted


def prepare(keep_on_drive: bool = False) -> None:
    """On Colab and Kaggle: install what is missing, open Drive if wanted, and say which accelerator there is.

    With `keep_on_drive` results and checkpoints are kept in ``MyDrive/chest-xray-notebooks``, so that a machine that
    vanishes takes nothing along; the committed results are copied there first, unless it has some already. A `Problem`
    where pip could not install a package, Drive was not opened, or the results can't be copied.
    """
    if keep_on_drive and not on_colab():
        raise Problem("KEEP_ON_DRIVE is True, but this is not Colab: set it to False; results stay on the disk here.")
    if not (on_colab() or WORKING.is_dir()):
        return
    if wanted := missing((ROOT / "requirements.txt").read_text(encoding="utf-8")):
        _install(wanted)
    os.environ.setdefault("CXR_ANY_COPY", "1")  # the committed results come from a smaller copy of the X-rays
    if keep_on_drive:
        _use_drive()
    elif not on_colab():
        os.environ.setdefault("CXR_RESULTS_DIR", str(WORKING / "results"))
        _bring_results(results_dir())
    print(accelerator())


def upload() -> str:
    """Ask for files of the reader's own, which Colab alone can; their folder, or empty text if the reader cancels."""
    if not on_colab():
        raise Problem('OWN is "upload", but this is not Colab: name a picture or a folder instead.')
    from google.colab import files

    folder = str(cache_dir() / "own")
    return folder if files.upload(target_dir=folder) else ""


def accelerator() -> str:
    """Which GPU there is, or what to click for one."""
    ask = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    with suppress(OSError, subprocess.SubprocessError):
        said = subprocess.run(ask, capture_output=True, text=True, timeout=20, check=True).stdout
        names = [line.strip() for line in said.splitlines() if line.strip()]
        if names:
            return f"GPU: {', '.join(names)}."
    where = "Runtime > Change runtime type > T4 GPU" if on_colab() else "Settings > Accelerator > GPU"
    again = "run this notebook from its first cell; without one it takes as long as the table above says"
    return f"No GPU: choose {where} for a training, and {again}."


def _version(name: str) -> str | None:
    with suppress(PackageNotFoundError):
        return version(name)
    return None


def _install(wanted: list[str]) -> None:
    """Let pip install `wanted` beside the machine's own NumPy and TensorFlow."""
    if "keras" in sys.modules and any(line.startswith("keras>") for line in wanted):
        where = "Runtime > Restart session" if on_colab() else "Run > Restart"
        old = f"An older Keras than {TOO_OLD['keras']} is already loaded in this kernel"
        raise Problem(f"{old}: choose {where}, and run this notebook from its first cell.")
    print(f"Installing {', '.join(wanted)}; everything else stays as it is.", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        held = Path(scratch) / "held.txt"
        held.write_text("".join(f"{name}=={_version(name)}\n" for name in HELD if _version(name)), encoding="utf-8")
        command = [sys.executable, "-m", "pip", "install", "-q", "-c", str(held), *wanted]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()] or ["it did not say why"]
        errors = [line for line in said if line.startswith("ERROR")] or said
        lack = f"pip could not install {' '.join(wanted)} ({errors[-1].strip()[:200]})"
        remedy = "check that the machine has internet access (on Kaggle: Settings > Internet), and run this cell again"
        raise Problem(f"{lack}: {remedy}.")
    importlib.invalidate_caches()


def _use_drive() -> None:
    from google.colab import drive

    try:
        drive.mount(str(DRIVE))
    except Exception as error:  # refused, timed out, or no account: each raises a class of Colab's own
        remedy = "allow it in the window that Colab shows, or set KEEP_ON_DRIVE = False"
        raise Problem(f"Google Drive was not opened ({type(error).__name__}): {remedy}.") from None
    _bring_results(DRIVE / KEPT / "results")
    os.environ["CXR_RESULTS_DIR"] = str(DRIVE / KEPT / "results")
    os.environ["CXR_CHECKPOINT_DIR"] = str(DRIVE / KEPT / "checkpoints")
    print(f"Results and checkpoints are kept on Drive, in {KEPT}/.")


def _bring_results(target: Path) -> None:
    """Start from the committed results, so that each notebook can be the first one opened."""
    source, unfinished = ROOT / "results", target.with_name(f".unfinished_{target.name}")
    if target.exists() or not source.is_dir():
        return
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(source, unfinished)
        os.replace(unfinished, target)
    except OSError as error:  # what copytree raises lists every file, and has no strerror
        why = f"({error.strerror or 'not all files could be copied'}): free some space there and run this cell again."
        raise Problem(f"The committed results can't be copied to {display_path(target)} {why}") from None
