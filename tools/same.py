"""Are the numbers still the same? ``make same BASE=commit`` runs old and new code on drawn films and says what moved.

The code of BASE runs its notebooks in order, into ``.cache/same/``. Each notebook of today runs on the artifacts that
the old ones before it left, so that it is judged for itself. With STAMP=1, a record in ``results/`` whose notebook
gave equal numbers takes over today's code; ACCEPT="why" notes that the others are of older code.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd

import run
from cxr import chain
from cxr.paths import ROOT, Problem, atomic_write, cache_dir, command, results_dir

sys.path.insert(0, str(ROOT / "tests"))
UNSTEADY = {"seconds", "seconds_an_epoch", "peak_memory_gb", "ms_an_image", "device", "when", "code", "networks"}
UNSTEADY |= {"settings", "versions", "why", "synthetic", "sample"}  # time, machine, dates, words
NOT_COMPARED = ("_lineage.json", "_ledger.csv", "_timing.json", "_test_scores.csv")


def numbers(content, place: str = "") -> dict[str, object]:
    """All numbers in what a JSON file holds, each under its place."""
    if isinstance(content, dict | list):
        parts = content.items() if isinstance(content, dict) else enumerate(content)
        inner = [numbers(value, f"{place}.{key}".lstrip(".")) for key, value in parts if key not in UNSTEADY]
        return {name: number for one in inner for name, number in one.items()}
    return {} if isinstance(content, str) else {place: content}


def differences(old: Path, new: Path) -> list[str]:
    """What is not the same in two artifacts: columns of a ``.csv``, places in a ``.json``, weights of a ``.keras``."""
    if not new.exists():
        return ["is not written any more"]
    if old.suffix == ".csv":
        one, other = (pd.read_csv(path, keep_default_na=False, dtype=str) for path in (old, new))
        if len(one) != len(other):
            return [f"{len(other)} rows, not {len(one)}"]
        compared = [name for name in one if name not in UNSTEADY]
        return [
            f"no {name}" if name not in other else name for name in compared if not one[name].equals(other.get(name))
        ]
    if old.suffix == ".json":
        one, other = (numbers(json.loads(path.read_text(encoding="utf-8"))) for path in (old, new))
        return [place for place in one if place not in other or one[place] != other[place]]
    if old.suffix == ".keras":
        from cxr.backend import keras

        one, other = (keras.models.load_model(path, compile=False).get_weights() for path in (old, new))
        return [] if [value.tobytes() for value in one] == [value.tobytes() for value in other] else ["weights"]
    return []


def tree_of(commit: str) -> Path:
    """The notebooks as they were at `commit`, below the cache folder."""
    tree = cache_dir() / "same" / commit
    if not (tree / "notebooks").is_dir():
        tree.mkdir(parents=True, exist_ok=True)
        archive = subprocess.run(["git", "-C", ROOT, "archive", commit, "notebooks"], check=True, capture_output=True)
        subprocess.run(["tar", "-x", "-C", tree], input=archive.stdout, check=True)
    return tree


def execute(notebook: Path, place: Path, drawn: Path) -> None:
    """Run one notebook of any tree on the drawn films, with results in ``place/results``."""
    from drawn import QUICK

    folders = {"CHEST_XRAY_DIR": drawn / "chest_xray", "KERAS_WEIGHTS_DIR": drawn / "weights"}
    folders |= {"CXR_RESULTS_DIR": place / "results", "CXR_CACHE_DIR": place / "cache"}
    os.environ |= {name: str(folder) for name, folder in folders.items()}
    (place / "executed").mkdir(parents=True, exist_ok=True)
    known = run.parameters(notebook)
    chosen = {name: value for name, value in QUICK.get(notebook.name[:2], {}).items() if name in known}
    run.execute(notebook, place / "executed" / notebook.name, chosen, quiet=True)


def compare(commit: str, wanted: list[Path]) -> dict[str, list[str]]:
    """What differs in each of the `wanted` notebooks, by number, from the code of `commit` on the same inputs."""
    from drawn import draw, noise_weights

    tree, place, found = tree_of(commit), cache_dir() / "same", {}
    draw(place / "drawn" / "chest_xray", images=72)
    noise_weights(place / "drawn" / "weights")
    before, old, now = chain.notebooks(tree / "notebooks"), tree / "run", place / "now"
    for number, notebook in before.items():
        if number <= max(path.name[:2] for path in wanted) and not (old / f"results/{number}_lineage.json").exists():
            print(f"{number} with the code of {commit[:7]} ...", flush=True)
            execute(notebook, old, place / "drawn")
    for notebook in wanted:
        number = notebook.name[:2]
        print(f"{number} with the code as it is ...", flush=True)
        shutil.rmtree(now, ignore_errors=True)
        (now / "results").mkdir(parents=True)
        for path in (old / "results").iterdir():
            if path.name[:2] < number:
                shutil.copy2(path, now / "results")
        try:
            execute(notebook, now, place / "drawn")
            made = [
                path for path in sorted((old / "results").glob(f"{number}_*")) if not path.name.endswith(NOT_COMPARED)
            ]
            found[number] = [
                f"{path.name}: {what}" for path in made for what in differences(path, now / "results" / path.name)
            ]
        except Problem as problem:
            found[number] = [f"it stopped: {problem}"]
        print(*(f"   {what}" for what in found[number] or ["every number is equal"]), sep="\n", flush=True)
    return found


def main(arguments: list[str] | None = None) -> None:
    """The command behind ``make same``."""
    parser = argparse.ArgumentParser(prog="make same", description=str(__doc__).splitlines()[0])
    parser.add_argument("--base", required=True, help="the commit whose numbers are held against today's")
    parser.add_argument("--notebooks", default="", help='such as "04 07"; without it, those whose results are stale')
    parser.add_argument("--stamp", action="store_true", help="records with equal numbers take over today's code")
    parser.add_argument("--accept", default="", help="why the results of the others may stay, as of older code")
    options = parser.parse_args(arguments)
    stale = tuple(
        number
        for number, path in chain.notebooks().items()
        if (results_dir() / f"{number}_lineage.json").exists() and chain.stale(path)
    )
    wanted, results = run.choose(options.notebooks, stale), results_dir()
    if not wanted:
        print("All results are of today's code: nothing to compare.")
        return
    found = compare(options.base, wanted)
    for notebook in wanted:
        number, path = notebook.name[:2], results / f"{notebook.name[:2]}_lineage.json"
        equal, code = not found[number], chain.code_of(notebook)
        if not (equal and options.stamp or options.accept and not equal):
            continue
        record = json.loads(path.read_text(encoding="utf-8"))
        record.pop("accepted", None)
        record |= (
            {"code": code}
            if equal
            else {"accepted": {"why": options.accept, "differs": found[number][:12], "code": code}}
        )
        with atomic_write(path) as unfinished:
            unfinished.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        print(f"{number}: {'its record takes over this code' if equal else 'accepted as made by older code'}")


if __name__ == "__main__":
    command(main)
