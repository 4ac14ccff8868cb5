"""Trials: other parameters or other code, tried without a trace in the results that are reported.

A trial has a folder of its own in the cache folder, with ``results/`` and the executed ``notebooks/``. ``make trials``
is this module: it holds the trials against each other by what they reached on validation.
"""

import hashlib
import json
import re
import shutil
from pathlib import Path

import pandas as pd

from . import fingerprint
from .paths import ROOT, Problem, cache_dir, command, results_dir, shown, whole

TABLE = ROOT / "benchmarks" / "trials.csv"
MEASURED = "make trials"  # in the column source; other rows were typed in
STEPS = ("02", "03", "04")  # what a trial runs by itself: from the split to the training
AUCS = ["val_auc", "stress_auc", "swap_auc", "conflict_auc", "bias_conflicting_auc", "heldout_auc"]
COLUMNS = ["trial", "settings", "source", "data_set", "seeds", "epochs", *AUCS, "seconds", "parameters", "code"]
PRINTED = ["trial", "settings", "seeds", "epochs", *AUCS, "seconds", "parameters", "source"]
FOLDER = r"\w[\w.=-]{0,79}"  # what may be the name of a trial


def name(trial: str, settings: str) -> str:
    """The folder of a trial: `trial`, or without one a name made of the settings.

    Raises a `Problem` where `trial` can't be the name of a folder.
    """
    if trial:
        if not re.fullmatch(FOLDER, trial):
            remedy = "take letters, digits, - . _ and =, 80 at most, as in TRIAL=wide"
            raise Problem(f"TRIAL is {trial!r}, which is no name of a folder: {remedy}.")
        return trial
    joined = "_".join(sorted(settings.split()))
    if re.fullmatch(FOLDER, joined):
        return joined
    safe = re.sub(r"[^\w.=-]+", "-", joined).lstrip(".-=")
    return f"{safe[:60]}_{hashlib.sha256(joined.encode()).hexdigest()[:8]}"


def sealed() -> list[str]:
    """Numbers of the notebooks that score the test folder, by the call that opens it."""
    opens = r"\.test\(|\bledger\.append\("
    found = fingerprint.notebooks().items()
    return [number for number, path in found if re.search(opens, "\n".join(fingerprint.cells(path)))]


def check(numbers: list[str]) -> None:
    """Refuse a trial that would look at the test folder: a `Problem` where one of these notebooks scores it."""
    closed = sealed()
    if scoring := [number for number in numbers if number in closed]:
        raise Problem(
            f"NOTEBOOKS names {', '.join(scoring)}, which score the test folder, and a run with SET or TRIAL is a "
            "trial, which is judged on validation alone: leave them out, or write the parameters into the notebooks "
            "and call `make run` without SET, which goes into results/ and its ledger."
        )


def begin(folder: Path, numbers: list[str]) -> None:
    """Give a trial what its notebooks read, as copies of the results there are.

    `folder` is that of the trial; what an earlier notebook of the same trial wrote stays. `numbers` are the notebooks
    that will run: what they write is not copied, nor what comes after them.

    Raises a `Problem` where a copy can't be written.
    """
    target = folder / "results"
    try:
        target.mkdir(parents=True, exist_ok=True)
        for path in sorted(results_dir().glob("[0-9][0-9]_*")):
            if path.name[:2] < max(numbers) and path.name[:2] not in numbers and not (target / path.name).exists():
                with whole(target / path.name) as unfinished:
                    shutil.copyfile(path, unfinished)
    except OSError as error:
        remedy = "free the disk or make the folder writable, or set CXR_CACHE_DIR to another folder"
        raise Problem(f"{shown(target)} can't be written ({error.strerror}): {remedy}.") from None


def _settings(notebooks: Path) -> str:
    """What was set in the executed notebooks of a trial, as for SET."""
    found: dict[str, str] = {}
    for path in fingerprint.notebooks(notebooks).values():
        for source in fingerprint.cells(path, "injected-parameters"):
            found |= dict(re.findall(r"^(\w+) = (.*)", source, re.MULTILINE))
    return " ".join(f"{key}={value.strip(chr(34))}" for key, value in found.items())


def row(folder: Path) -> dict | None:
    """What a trial reached on validation: `COLUMNS` and ``synthetic``; AUCs and seconds are means over its seeds.

    None where the 04 of this `folder` has not come to its end, or was begun again and has not.
    """
    names = ("04_lineage.json", "04_seeds.csv", "04_run.json", "04_timing.json")
    files = [folder / "results" / name for name in names]
    if not all(path.exists() for path in [folder / "notebooks" / "04_train.ipynb", *files]):
        return None
    lineage = json.loads(files[0].read_text(encoding="utf-8"))
    if any(lineage["writes"].get(path.name) != hashlib.sha256(path.read_bytes()).hexdigest() for path in files[1:]):
        return None
    seeds = pd.read_csv(files[1])
    run, took = (json.loads(path.read_text(encoding="utf-8")) for path in files[2:])
    found = dict(trial=folder.name, settings=_settings(folder / "notebooks"), source=MEASURED, seeds=len(seeds))
    found |= {name: run[name] for name in ("data_set", "epochs", "parameters", "synthetic")}
    found |= {name: round(mean, 4) for name, mean in seeds.reindex(columns=AUCS).mean().items()}
    found["seconds"] = round(sum(took["seconds"][f"seed {seed}"] for seed in seeds.seed) / len(seeds))
    return found | {"code": fingerprint.together(lineage["code"])}


def collect() -> pd.DataFrame:
    """All trials in the cache folder, one row each (`row`), those on the practice set last."""
    places = [cache_dir() / "trials", cache_dir() / "practice" / "trials"]
    found = [row(folder) for place in places if place.is_dir() for folder in sorted(place.iterdir())]
    return pd.DataFrame([one for one in found if one], columns=[*COLUMNS, "synthetic"])


def keep(found: pd.DataFrame, table: Path) -> pd.DataFrame:
    """Put the trials on real X-rays into the table of what was tried; a trial that was run anew replaces its row.

    `found` is as `collect` returns it. Rows of `table`, a ``.csv``, that are not in it stay. Returns the whole table.

    Raises a `Problem` where the file is no such table, or can't be written.
    """
    kinds, remedy = {"code": str, "seconds": "Int64", "parameters": "Int64"}, "take it back from the repository"
    try:
        before = pd.read_csv(table, dtype=kinds) if table.exists() else pd.DataFrame(columns=COLUMNS)
    except (OSError, ValueError) as error:
        raise Problem(f"{shown(table)} can't be read ({error}): {remedy} (git checkout).") from None
    if list(before) != COLUMNS:
        lack = f"{shown(table)} has other columns than {', '.join(COLUMNS)}"
        raise Problem(f"{lack}: {remedy} (git checkout).")
    new = found[~found.synthetic.astype(bool)][COLUMNS]
    stays = before[~(before.trial.isin(new.trial) & (before.source == MEASURED))]
    both = pd.concat([part for part in (stays, new) if len(part)] or [before], ignore_index=True)
    try:
        with whole(table) as unfinished:
            both.to_csv(unfinished, index=False, lineterminator="\n", float_format="%.6g")
    except OSError as error:
        raise Problem(f"{shown(table)} can't be written ({error.strerror}): make it writable.") from None
    return both


def main() -> None:
    """The command behind ``make trials``."""
    found = collect()
    table = keep(found, TABLE)
    drawn = found[found.synthetic.astype(bool)]
    with pd.option_context("display.max_colwidth", 40, "display.width", 250, "display.max_columns", 20):
        print(table[PRINTED].astype(object).fillna("").to_string(index=False))
        if len(drawn):
            print("\nOn the SYNTHETIC practice set, which says nothing of real X-rays:")
            print(drawn[PRINTED[:-1]].to_string(index=False))
    ours = f"{len(found) - len(drawn)} of them from {shown(cache_dir() / 'trials')}/"
    print(f"\nMeans over seeds, on validation alone. {shown(TABLE)} has {len(table)} rows, {ours}.")


if __name__ == "__main__":
    command(main)
