"""Are the numbers still the same? ``make same BASE=commit`` runs old and new code on drawn films and says what moved.

Each notebook of today runs on the artifacts that the notebooks of BASE left in ``.cache/same/``. STAMP=1: a record in
``results/`` with equal numbers takes over today's code; ACCEPT="why" notes that the others are of older code.
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
from cxr import chain, paths
from cxr.paths import ROOT, Problem, atomic_write, cache_dir, results_dir

sys.path.insert(0, str(ROOT / "tests"))
from drawn import QUICK, draw, noise_weights  # noqa: E402

UNSTEADY = "seconds seconds_an_epoch peak_memory_gb ms_an_image device when code networks settings versions"
UNSTEADY = {*UNSTEADY.split(), "why", "how", "synthetic", "sample"}  # time, machine, dates, words
NOT_COMPARED = ("_lineage.json", "_ledger.csv", "_test_scores.csv")


def numbers(content, place: str = "") -> dict[str, object]:
    """All numbers in what a JSON file holds, by place."""
    if isinstance(content, dict | list):
        parts = content.items() if isinstance(content, dict) else enumerate(content)
        inner = [numbers(value, f"{place}.{key}".lstrip(".")) for key, value in parts if key not in UNSTEADY]
        return {name: number for one in inner for name, number in one.items()}
    return {} if isinstance(content, str) else {place: content}


def parts_of(path: Path) -> dict[str, object]:
    """What an artifact holds, by name: columns of a table, numbers of a ``.json``, the weights of a network."""
    if path.suffix == ".csv":
        return pd.read_csv(path, keep_default_na=False, dtype=str).to_dict("list")
    if path.suffix == ".json":
        return numbers(json.loads(path.read_text(encoding="utf-8")))
    if path.suffix == ".keras":
        from cxr.backend import keras

        network = keras.models.load_model(path, compile=False)
        return {"weights": [value.tobytes() for value in network.get_weights()]}
    return {}


def differences(old: Path, new: Path) -> list[str]:
    """The parts of an old artifact that are not the same in the new one."""
    if not new.exists():
        return ["is not written any more"]
    before, now = parts_of(old), parts_of(new)
    return [name for name in before.keys() - UNSTEADY if name not in now or now[name] != before[name]]


def execute(notebook: Path, place: Path, drawn: Path) -> None:
    """Run one notebook of any tree on the drawn films, with results in ``place/results``."""
    folders = {"CHEST_XRAY_DIR": drawn / "chest_xray", "KERAS_WEIGHTS_DIR": drawn / "weights"}
    folders |= {"CXR_RESULTS_DIR": place / "results", "CXR_CACHE_DIR": place / "cache"}
    kept = dict(os.environ)
    os.environ |= {name: str(folder) for name, folder in folders.items()}
    try:
        run.execute(notebook, place / "executed" / notebook.name, QUICK.get(notebook.name[:2]), quiet=True)
    finally:
        os.environ.clear()
        os.environ.update(kept)  # else records would be read from the drawn results


def compare(commit: str, wanted: list[Path]) -> dict[str, list[str]]:
    """What differs in each of the `wanted` notebooks, by number, from the code of `commit` on the same inputs."""
    place, found = cache_dir() / "same", dict[str, list[str]]()
    drawn, old, now = place / "drawn", place / commit / "run", place / "now"
    draw(drawn / "chest_xray", images=72)
    noise_weights(drawn / "weights")
    if not old.parent.is_dir():
        archive = subprocess.check_output(["git", "-C", ROOT, "archive", commit, "notebooks", "results"])
        old.parent.mkdir(parents=True)
        subprocess.run(["tar", "-x", "-C", old.parent], input=archive, check=True)
    for number, notebook in chain.notebooks(old.parent / "notebooks").items():
        if number <= wanted[-1].name[:2] and not (old / f"results/{number}_lineage.json").exists():
            print(f"{number} with the code of {commit[:7]} ...", flush=True)
            execute(notebook, old, drawn)
    for notebook in wanted:
        number = notebook.name[:2]
        print(f"{number} with the code as it is ...", flush=True)
        shutil.rmtree(now, ignore_errors=True)
        (now / "results").mkdir(parents=True)
        for path in (old / "results").iterdir():
            if path.name[:2] < number:
                shutil.copy2(path, now / "results")
        try:
            execute(notebook, now, drawn)
            made = [path for path in (old / "results").glob(f"{number}_*") if not path.name.endswith(NOT_COMPARED)]
            pairs = [(path, now / "results" / path.name) for path in sorted(made)]
            found[number] = [f"{one.name}: {what}" for one, other in pairs for what in sorted(differences(one, other))]
        except Problem as problem:
            found[number] = [f"it stopped: {problem}"]
        print(number, *found[number] or ["every number is equal"], sep="\n   ", flush=True)
    return found


def main(arguments: list[str] | None = None) -> None:
    """The command behind ``make same``."""
    parser = argparse.ArgumentParser(prog="make same", description=str(__doc__).splitlines()[0])
    parser.add_argument("--base", required=True, help="the commit whose numbers are held against today's")
    parser.add_argument("--notebooks", default="", help='such as "04 07"; without it, those whose results are stale')
    parser.add_argument("--stamp", action="store_true", help="records with equal numbers take over today's code")
    parser.add_argument("--accept", default="", help="why the results of the others may stay, as of older code")
    options, results = parser.parse_args(arguments), results_dir()
    made = {number: path for number, path in chain.notebooks().items() if (results / f"{number}_lineage.json").exists()}
    wanted = run.choose(options.notebooks, tuple(number for number, path in made.items() if chain.stale(path)))
    for number, moved in compare(options.base, wanted).items() if wanted else ():
        record, code = chain.record(number), chain.code_of(made[number])
        record.pop("accepted", None)
        if options.stamp and not moved:
            record["code"] = code
        elif options.accept and moved:
            record["accepted"] = {"why": options.accept, "differs": moved[:12], "code": code}
        else:
            continue
        with atomic_write(results / f"{number}_lineage.json") as unfinished:
            unfinished.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        print(f"{number}: {'accepted as made by older code' if moved else 'takes over this code'}")


if __name__ == "__main__":
    paths.command(main)
