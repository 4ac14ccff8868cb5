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
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .project import ROOT, Problem, results_dir, shown

# Below these, upgrade: the committed network was saved by Keras 3.15, and `download` uses what kagglehub 0.4 brought.
TOO_OLD = {"keras": (3, 15, 1), "kagglehub": (0, 4, 0)}
# The machine runs notebooks in its own way, and `download` does without the package kaggle.
NOT_THERE = {"jupyter", "ipykernel", "pytest", "pytest-xdist", "papermill", "nbformat", "ruff", "kaggle"}
IMPORTED_AS = {"scikit-learn": "sklearn", "scikit-image": "skimage", "pillow": "PIL"}
HELD = ("numpy", "tensorflow")  # whatever pip installs must go with the machine's own
WORKING = Path("/kaggle/working")
DRIVE = Path("/content/drive")
KEPT = "MyDrive/chest-xray-notebooks"


def on_colab() -> bool:
    """Whether this kernel runs on Google Colab. (Kaggle's machines are made from Colab's, its package included.)"""
    return "google.colab" in sys.modules and "KAGGLE_KERNEL_RUN_TYPE" not in os.environ


def missing(requirements: str) -> list[str]:
    """The lines of ``requirements.txt`` that this machine needs and lacks.

    Parameters
    ----------
    requirements : str
        Text of the file, ``name==version  # reason`` a line.

    Returns
    -------
    list of str
        Arguments for pip: ``name<=version`` for what is not there (an older one will do where the machine's NumPy asks
        for it), ``name>=version`` for what is too old.
    """
    wanted = []
    for name, pinned in re.findall(r"^([\w-]+)==([\d.]+)", requirements, re.MULTILINE):
        if name in NOT_THERE:
            continue
        if importlib.util.find_spec(IMPORTED_AS.get(name, name)) is None:
            wanted.append(f"{name}<={pinned}")
        elif name in TOO_OLD:
            found = tuple(int(part) for part in re.findall(r"\d+", _version(name) or "0")[:3])
            if found < TOO_OLD[name]:
                wanted.append(f"{name}>={'.'.join(map(str, TOO_OLD[name]))}")
    return wanted


def prepare(keep_on_drive: bool = False) -> None:
    """Install what is missing, open Drive if wanted, and say which accelerator there is.

    Parameters
    ----------
    keep_on_drive : bool
        On Colab: keep results and checkpoints in ``MyDrive/chest-xray-notebooks``, so that a machine that vanishes
        takes nothing along. The committed results are copied there first, unless it has some already.

    Raises
    ------
    Problem
        pip could not install a package, Drive was not opened, or the results can't be copied there.
    """
    wanted = missing((ROOT / "requirements.txt").read_text(encoding="utf-8"))
    if wanted:
        _install(wanted)
    os.environ.setdefault("CXR_ANY_COPY", "1")  # the committed results come from a smaller copy of the X-rays
    if keep_on_drive:
        _use_drive()
    elif WORKING.is_dir() and not on_colab():
        os.environ.setdefault("CXR_RESULTS_DIR", str(WORKING / "results"))
        _bring_results(results_dir())
    print(accelerator())


def accelerator() -> str:
    """Which GPU there is, or what to click for one and how long it takes without."""
    try:
        said = subprocess.run(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], capture_output=True,
                              text=True, timeout=20)
        names = [line.strip() for line in said.stdout.splitlines() if line.strip()] if said.returncode == 0 else []
    except (OSError, subprocess.TimeoutExpired):
        names = []
    if names:
        return f"GPU: {', '.join(names)}."
    where = "Runtime > Change runtime type > T4 GPU" if on_colab() else "Settings > Accelerator > GPU"
    return (f"No GPU: choose {where}, and run this notebook from its first cell. Without one, 04_train takes about ten "
            "minutes a seed (SEEDS in its parameters), 07 and 08 half an hour each, any other notebook minutes.")


def _version(name: str) -> str | None:
    """The version of an installed package; None where there is none to be found."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _install(wanted: list[str]) -> None:
    """Let pip install `wanted` beside the machine's own NumPy and TensorFlow."""
    if "keras" in sys.modules and any(line.startswith("keras>") for line in wanted):
        where = "Runtime > Restart session" if on_colab() else "Run > Restart"
        raise Problem(f"An older Keras than {'.'.join(map(str, TOO_OLD['keras']))} is already loaded in this kernel: "
                      f"choose {where}, and run this notebook from its first cell.")
    print(f"Installing {', '.join(wanted)}; everything else stays as it is.", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        held = Path(scratch) / "held.txt"
        held.write_text("".join(f"{name}=={_version(name)}\n" for name in HELD if _version(name)), encoding="utf-8")
        done = subprocess.run([sys.executable, "-m", "pip", "install", "-q", "-c", str(held), *wanted],
                              capture_output=True, text=True)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()] or ["it did not say why"]
        errors = [line for line in said if line.startswith("ERROR")] or said
        raise Problem(f"pip could not install {' '.join(wanted)} ({errors[-1].strip()[:200]}): check that the machine "
                      "has internet access (on Kaggle: Settings > Internet), and run this cell again.")
    importlib.invalidate_caches()


def _use_drive() -> None:
    if not on_colab():
        raise Problem("KEEP_ON_DRIVE is True, but this is not Colab: set it to False; results stay on the disk here.")
    from google.colab import drive

    try:
        drive.mount(str(DRIVE))
    except Exception as error:  # refused, timed out, or no account: each raises a class of Colab's own
        raise Problem(f"Google Drive was not opened ({type(error).__name__}): allow it in the window that Colab shows, "
                      "or set KEEP_ON_DRIVE = False.") from None
    kept = DRIVE / KEPT
    _bring_results(kept / "results")
    os.environ["CXR_RESULTS_DIR"] = str(kept / "results")
    os.environ["CXR_CHECKPOINT_DIR"] = str(kept / "checkpoints")
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
        reason = error.strerror or "not all files could be copied"
        raise Problem(f"The committed results can't be copied to {shown(target)} ({reason}): free some space there "
                      "and run this cell again.") from None
