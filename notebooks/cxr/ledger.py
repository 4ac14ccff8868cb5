"""The test ledger: each time networks are scored on the test folder, a line says when, with what code, which, and why.

It is written before the first score is known, by the notebook that scores, into a file with that notebook's number. The
same weights on the same pictures say the same again: then the stored scores are used, and the ledger gets no new line.
"""

from datetime import UTC, datetime

import pandas as pd

from . import fingerprint
from .chain import Step
from .paths import ROOT, Problem, display_path, results_dir

NAME = "{}_test_ledger.csv"
SEPARATOR = "; "
COLUMNS = ["when", "code", "notebook", "data_set", "images", "pixels", "networks", "why"]


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
    remedy = "take it back from the repository (git checkout), or move it away."
    try:
        found = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise Problem(f"{display_path(path)} can't be read ({error}): {remedy}") from None
    if list(found) != COLUMNS:
        raise Problem(f"{display_path(path)} has other columns than {', '.join(COLUMNS)}: {remedy}")
    return found


def _named(networks: dict[str, str]) -> list[str]:
    return [f"{name}:{weights[:12]}" for name, weights in networks.items()]


def seen(number: str, pixels: str, networks: dict[str, str]) -> bool:
    """Whether the last line of a notebook's ledger is of these pictures, and has all of these networks."""
    ledger = read(number)
    last = ledger.iloc[-1] if len(ledger) else None
    return last is not None and last.pixels == pixels and set(_named(networks)) <= set(last.networks.split(SEPARATOR))


def append(step: Step, images: int, pixels: str, networks: dict[str, str], why: str) -> pd.DataFrame:
    """Write down that the test folder is about to be scored, unless these networks have `seen` these pictures.

    Parameters
    ----------
    step : Step
        Of the notebook that scores. ``code`` stands for `fingerprint.code` of it.
    images : int
        Of the test split.
    pixels : str
        Fingerprint of what the networks are shown.
    networks : dict of name to fingerprint of the weights
        Not of their files: these carry another date each time they are saved.
    why : str
        For the reader: what question this answers. What is new since the line before is added.

    Returns
    -------
    DataFrame
        The whole ledger, the newest line last.

    Raises
    ------
    Problem
        `why` is empty, or the ledger can't be read.
    """
    if not why.strip():
        raise Problem(f"WHY in the parameters of {step.name}.ipynb is empty: say what for the test folder is scored.")
    ledger, named = read(step.number), _named(networks)
    if not seen(step.number, pixels, networks):
        before = ledger.networks.iloc[-1].split(SEPARATOR) if len(ledger) else []
        fresh = [one.rpartition(":")[0] for one in named if one not in before]
        notebook = ROOT / "notebooks" / f"{step.name}.ipynb"
        line = {
            "when": datetime.now(UTC).strftime("%Y-%m-%dT%H:%MZ"),
            "notebook": step.name,
            "images": str(images),
            "code": fingerprint.together(fingerprint.code(notebook)) if notebook.exists() else "",
            "data_set": step.dataset.get("name", ""),
            "pixels": pixels,
            "networks": SEPARATOR.join(named),
            "why": f"{why} (new: {', '.join(fresh) or 'pictures'})" if before else why,
        }
        ledger = pd.concat([ledger, pd.DataFrame([line])], ignore_index=True)[COLUMNS]
    step.write(NAME.format(step.number), ledger)
    return ledger
