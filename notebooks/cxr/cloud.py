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
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .project import ROOT, Problem

TOO_OLD = {"keras": (3, 15, 1)}  # below this, upgrade; of everything else any version will do
NOT_THERE = {"jupyter", "ipykernel", "pytest", "papermill", "nbformat"}  # the machine runs notebooks in its own way
IMPORTED_AS = {"scikit-learn": "sklearn", "pillow": "PIL"}
DRIVE = Path("/content/drive")
KEPT = "MyDrive/chest-xray-notebooks"


def on_colab() -> bool:
    """Whether this kernel runs on Google Colab."""
    return "google.colab" in sys.modules


def missing(requirements: str) -> list[str]:
    """The lines of ``requirements.txt`` that this machine needs and lacks.

    Parameters
    ----------
    requirements : str
        Text of the file, ``name==version  # reason`` a line.

    Returns
    -------
    list of str
        Arguments for pip: ``name==version`` for what is not there, ``name>=version`` for what is too old.
    """
    wanted = []
    for name, pinned in re.findall(r"^([\w-]+)==([\d.]+)", requirements, re.MULTILINE):
        if name in NOT_THERE:
            continue
        if importlib.util.find_spec(IMPORTED_AS.get(name, name)) is None:
            wanted.append(f"{name}=={pinned}")
        elif name in TOO_OLD:
            try:
                found = tuple(int(part) for part in re.findall(r"\d+", version(name))[:3])
            except PackageNotFoundError:
                found = (0,)
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
        pip could not install a package, or Drive was not opened.
    """
    wanted = missing((ROOT / "requirements.txt").read_text(encoding="utf-8"))
    if wanted:
        print(f"Installing {', '.join(wanted)}; everything else stays as it is.", flush=True)
        if "keras" in sys.modules and any(line.startswith("keras") for line in wanted):
            raise Problem("An older Keras is already loaded in this kernel: choose Runtime > Restart session, and run "
                          "this notebook from its first cell.")
        done = subprocess.run([sys.executable, "-m", "pip", "install", "-q", *wanted], capture_output=True, text=True)
        if done.returncode:
            raise Problem(f"pip could not install {' '.join(wanted)} ({done.stderr.strip().splitlines()[-1][:200]}): "
                          "check that the machine has internet access (on Kaggle: Settings > Internet), and run this "
                          "cell again.")
        importlib.invalidate_caches()
    os.environ.setdefault("CXR_ANY_COPY", "1")  # the committed results come from a smaller copy of the X-rays
    if keep_on_drive:
        _use_drive()
    elif Path("/kaggle/working").is_dir() and not on_colab():
        os.environ.setdefault("CXR_RESULTS_DIR", "/kaggle/working/results")
        _bring_results(Path(os.environ["CXR_RESULTS_DIR"]))
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
    where = "Runtime > Change runtime type > T4 GPU" if on_colab() else "Settings > Accelerator"
    return (f"No GPU: choose {where} and run this cell again. Without one, 04_train takes about a quarter of an hour, "
            "each other notebook a minute or less.")


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
    os.environ["CXR_RESULTS_DIR"] = str(kept / "results")
    os.environ["CXR_CHECKPOINT_DIR"] = str(kept / "checkpoints")
    _bring_results(kept / "results")
    print(f"Results and checkpoints are kept on Drive, in {KEPT}/.")


def _bring_results(target: Path) -> None:
    """Start from the committed results, so that each notebook can be the first one opened."""
    if not target.exists():
        unfinished = target.with_name(f".unfinished_{target.name}")
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(ROOT / "results", unfinished)
        os.replace(unfinished, target)
