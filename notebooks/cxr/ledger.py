"""The test ledger: each time networks are scored on the test folder, a line says when, with what code, which, and why.

It is written before the first score is known, by the notebook that scores, into a file with that notebook's number.
"""

import subprocess
from datetime import UTC, datetime

import pandas as pd

from .chain import Step, sources
from .project import ROOT, Problem, results_dir, shown

NAME = "{}_test_ledger.csv"
COLUMNS = ["when", "commit", "code", "notebook", "data_set", "images", "networks", "why"]


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def commit() -> str:
    """The commit that the code stands at, with ``+`` where the package differs from it; empty outside a repository."""
    number = _git("rev-parse", "--short=12", "HEAD")
    changed = number and _git("status", "--porcelain", "--", "notebooks/cxr")
    return f"{number}+" if changed else number


def read(number: str = "05") -> pd.DataFrame:
    """The ledger of one notebook so far; empty where it never scored the test folder.

    Raises
    ------
    Problem
        The file is there but is no ledger.
    """
    path = results_dir() / NAME.format(number)
    if not path.exists():
        return pd.DataFrame(columns=COLUMNS)
    try:
        found = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise Problem(f"{shown(path)} can't be read ({error}): take it back from the repository (git checkout), or "
                      "move it away.") from None
    if list(found) != COLUMNS:
        raise Problem(f"{shown(path)} has other columns than {', '.join(COLUMNS)}: take it back from the repository "
                      "(git checkout), or move it away.")
    return found


def append(step: Step, images: int, networks: list[str], why: str, unsaved: dict[str, str] | None = None
           ) -> pd.DataFrame:
    """Write down that the test folder is about to be scored.

    Parameters
    ----------
    step : Step
        Of the notebook that scores; it must have read or written `networks`. ``code`` is `chain.sources` of it, 12
        digits.
    images : int
        Of the test split.
    networks : list of str
        Artifacts, such as ``"04_ensemble.keras"``; the first 12 digits of their sha256 go with them.
    why : str
        For the reader: what question this answers.
    unsaved : dict of name to fingerprint of the weights, optional
        Networks that are scored and are no artifact.

    Returns
    -------
    DataFrame
        The whole ledger, the new line last.

    Raises
    ------
    Problem
        `why` is empty, or the ledger can't be read.
    """
    if not why.strip():
        raise Problem(f"WHY in the parameters of {step.name}.ipynb is empty: say what for the test folder is scored.")
    notebook = ROOT / "notebooks" / f"{step.name}.ipynb"
    scored = {name: (step.reads | step.writes)[name] for name in networks} | (unsaved or {})
    line = {"when": datetime.now(UTC).strftime("%Y-%m-%dT%H:%MZ"), "commit": commit(),
            "code": sources(notebook)[:12] if notebook.exists() else "", "notebook": step.name,
            "data_set": step.dataset.get("name", ""), "images": str(images),
            "networks": " ".join(f"{name}:{sha256[:12]}" for name, sha256 in scored.items()), "why": why}
    ledger = pd.concat([read(step.number), pd.DataFrame([line])], ignore_index=True)
    step.write(NAME.format(step.number), ledger)
    return ledger
