"""Colab and Kaggle: install what their machines lack, and keep results where they last."""

import os
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from .paths import ROOT, Problem, cache_dir, display_path, results_dir

# Keras 3.15.1 reads the committed networks; of the others any version will do. The machine's NumPy and TensorFlow stay.
LACKED = ["keras>=3.15.1", "kagglehub>=0.4", "filelock", "h5py", "imagehash", "pydicom", "seaborn", "threadpoolctl"]
WORKING, DRIVE = Path("/kaggle/working"), Path("/content/drive")
KEPT = "MyDrive/chest-xray-notebooks"


def on_colab() -> bool:
    """Whether this kernel runs on Google Colab; Kaggle's machines have its package, too."""
    return "google.colab" in sys.modules and not WORKING.is_dir()


def prepare(keep_on_drive: bool = False) -> None:
    """On Colab and Kaggle: install what is missing, open Drive if wanted, and say whether there is a GPU."""
    if keep_on_drive and not on_colab():
        raise Problem("keep_on_drive is True, but this is not Colab: set it to False, results stay on the disk here.")
    if not (on_colab() or WORKING.is_dir()):
        return
    _install()
    os.environ.setdefault("CXR_ANY_COPY", "1")  # the committed results come from a smaller copy of the X-rays
    if keep_on_drive:
        from google.colab import drive

        try:
            drive.mount(str(DRIVE))
        except Exception:  # refused, timed out, or no account: each raises a class of Colab's own
            remedy = "allow it in the window that Colab shows, or set keep_on_drive=False"
            raise Problem(f"Google Drive was not opened: {remedy}.") from None
        os.environ["CXR_RESULTS_DIR"] = str(DRIVE / KEPT / "results")
        os.environ["CXR_CHECKPOINT_DIR"] = str(DRIVE / KEPT / "checkpoints")
    elif WORKING.is_dir():
        os.environ.setdefault("CXR_RESULTS_DIR", str(WORKING / "results"))
    _bring_results(results_dir())
    if not Path("/dev/nvidia0").exists():
        where = "Runtime > Change runtime type" if on_colab() else "Settings > Accelerator"
        print(f"No GPU: choose one for a training ({where}), and run this page from its first cell.")


def _install() -> None:
    """Let pip install what is missing beside the machine's own NumPy and TensorFlow."""
    with tempfile.TemporaryDirectory() as scratch:
        held = Path(scratch, "held.txt")
        held.write_text("".join(f"{name}=={version(name)}\n" for name in ("numpy", "tensorflow")), encoding="utf-8")
        command = [sys.executable, "-m", "pip", "install", "-q", "-c", str(held), *LACKED]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        reason = "".join([line for line in done.stderr.splitlines() if line.startswith("ERROR")][-1:])[:200]
        remedy = "switch on the internet (on Kaggle: Settings > Internet), and run this cell again"
        raise Problem(f"pip could not install {', '.join(LACKED)} ({reason}): {remedy}.")


def _bring_results(target: Path) -> None:
    """Start from the committed results, so that any page can be the first one opened."""
    unfinished = target.with_name(f".unfinished_{target.name}")
    if not target.exists():
        try:
            os.replace(shutil.copytree(ROOT / "results", unfinished, dirs_exist_ok=True), target)
        except OSError:  # what copytree raises lists every file
            lack = f"The committed results can't be copied to {display_path(target)}"
            raise Problem(f"{lack}: free some space there and run this cell again.") from None


def upload() -> str:
    """Ask for films of the reader's own, which Colab alone can; their folder, or empty text if the reader cancels."""
    if not on_colab():
        raise Problem('OWN is "upload", but this is not Colab: name a film or a folder instead.')
    from google.colab import files

    folder = str(cache_dir() / "own")
    return folder if files.upload(target_dir=folder) else ""
