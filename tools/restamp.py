"""After a rewrite: are the numbers still the same? Then results stay fresh without hours of training: ``make restamp``.

The chain is run on a drawn set twice, with the code that the committed results come from and with the code as it is,
notebook by notebook on the same inputs. Where every number is equal, the lineage record takes over the new code. Where
not, it is said which artifact differs; ``make restamp ACCEPT="why"`` writes that into the record, for all to see.
"""

import argparse
import json
import os
import shutil
import subprocess
from pathlib import Path

import pandas as pd

import run
from cxr import fingerprint
from cxr.chain import CARD, PARTS, TEXT, file_sha256
from cxr.paths import ROOT, Problem, atomic_write, cache_dir, command, display_path, results_dir

# what may differ from run to run: time, memory, machine, dates, and words
UNSTEADY = {"seconds", "seconds_an_epoch", "images_per_second", "peak_memory_gb", "ms_an_image", "device", "when"}
UNSTEADY |= {"commit", "code", "networks", "settings", "versions", "why"}
NOT_COMPARED = ("_lineage.json", "_ledger.csv", "_timing.json")


def _of(number: str, folder: Path) -> list[Path]:
    """The artifacts of one notebook."""
    own = (f"{number}_", CARD) if number == "05" else (f"{number}_",)
    return [path for path in sorted(folder.iterdir()) if path.name.startswith(own)]


def _load(path: Path):
    return json.loads(path.read_text(encoding="utf-8"))


def _numbers(content, place: str = "") -> dict[str, object]:
    """All numbers in what a JSON file holds, each under its place."""
    if isinstance(content, dict):
        parts = [(f"{place}.{key}", value) for key, value in content.items() if key not in UNSTEADY]
    elif isinstance(content, list):
        parts = [(f"{place}[{i}]", value) for i, value in enumerate(content)]
    else:
        return {} if isinstance(content, str) else {place: content}
    return {name: number for key, value in parts for name, number in _numbers(value, key).items()}


def _weights(path: Path) -> list:
    from .backend import keras

    return [value.tobytes() for value in keras.models.load_model(path, compile=False).get_weights()]


def _table(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, keep_default_na=False, dtype=str).drop(columns=[*UNSTEADY], errors="ignore")


def _columns(one: pd.DataFrame, other: pd.DataFrame) -> list[str]:
    """What is not the same in two tables."""
    if len(one) != len(other):
        return [f"{len(other)} rows, not {len(one)}"]
    found, fresh = [], [name for name in other if name not in one]
    for name in one:
        if name not in other:
            twin = next((new for new in fresh if (other[new] == one[name]).all()), None)
            found.append(f"{name} is now {twin}" if twin else f"no {name}")
        elif name not in TEXT and (one[name] != other[name]).any():
            found.append(name)
    return found


def differences(before: Path, after: Path) -> list[str]:
    """What is not the same in two artifacts of one name: columns, places in a JSON file, weights; none if all is equal.

    Of ``.csv``, ``.json`` and ``.keras`` alone; anything else holds no number. A column with another name and the same
    values is ``old is now new``.
    """
    if not (before.exists() and after.exists()):
        return ["is missing" if before.exists() else "is new"]
    if before.suffix == ".csv":
        return _columns(_table(before), _table(after))
    if before.suffix == ".json":
        one, other = _numbers(_load(before)), _numbers(_load(after))
        return [place.lstrip(".") for place in one if place not in other or one[place] != other[place]]
    return ["weights"] if before.suffix == ".keras" and _weights(before) != _weights(after) else []


def _git(*command: str) -> bytes:
    return subprocess.run(["git", "-C", str(ROOT), *command], check=True, capture_output=True).stdout


def _tree(commit: str) -> Path:
    """The project as it was at `commit`, below the cache folder."""
    tree = cache_dir() / "restamp" / commit[:12]
    if not (tree / "notebooks").is_dir():
        shutil.rmtree(tree, ignore_errors=True)
        tree.mkdir(parents=True)
        subprocess.run(["tar", "-x", "-C", str(tree)], input=_git("archive", commit, "notebooks"), check=True)
    return tree


def noise_weights(folder: Path) -> Path:
    """Weights for 07 and 08 on drawn pictures: of a network that has met noise alone, for where ImageNet's are not."""
    from .backend import keras

    path = folder / "mobilenet_v2_0.35_96.weights.h5"
    if not path.exists():
        keras.utils.set_random_seed(0)
        network = keras.applications.MobileNetV2((96, 96, 3), alpha=0.35, include_top=False, weights=None)
        for layer in network.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = 0.5
        for seed in range(8):
            network(keras.random.normal((16, 96, 96, 3), seed=seed), training=True)
        folder.mkdir(parents=True, exist_ok=True)
        network.save_weights(path)
    return folder


def _run(notebook: Path, work: Path, drawn: Path) -> None:
    """Run one notebook of any tree on the drawn set, with results in ``work/results``."""
    parameters, kept = run.own(notebook, run.QUICK.get(notebook.name[:2], {})), os.environ.copy()
    places = {"CHEST_XRAY_DIR": drawn, "KERAS_WEIGHTS_DIR": drawn.with_name("weights")}
    places |= {"CXR_RESULTS_DIR": work / "results", "CXR_CACHE_DIR": work / "cache"}
    places["CXR_CHECKPOINT_DIR"] = work / "checkpoints"
    try:
        os.environ |= {name: str(path) for name, path in places.items()}
        run.execute(notebook, work / "executed" / notebook.name, parameters, notebook.parent, quiet=True)
    finally:
        os.environ.clear()
        os.environ.update(kept)


def _take_over(number: str, old: Path, new: Path) -> None:
    """Put the old artifacts of one notebook in place of the new ones; its lineage names the inputs that lie there."""
    for path in _of(number, new):
        path.unlink()
    for path in _of(number, old):
        shutil.copy2(path, new / path.name)
    record = _load(path := new / f"{number}_lineage.json")
    record["reads"] = {name: file_sha256(new / name) for name in record["reads"]}
    path.write_text(json.dumps(record), encoding="utf-8")


def compare(commit: str) -> dict[str, list[str]]:
    """What differs, by notebook number, between the code of `commit` and the present one, run on the same inputs."""
    tree, place, numbers = _tree(commit), cache_dir() / "restamp", {}
    drawn, old, new = practice.draw(place / "drawn", images=72), tree / "run", place / "now"
    noise_weights(place / "weights")
    shutil.rmtree(new, ignore_errors=True)
    for folder in (old / "executed", new / "executed", new / "results"):
        folder.mkdir(parents=True, exist_ok=True)
    before, now = fingerprint.notebooks(tree / "notebooks"), fingerprint.notebooks()
    for number in sorted(before.keys() & now.keys()):
        if not (old / f"results/{number}_lineage.json").exists():
            print(f"{number} with the code of {commit[:7]} ...", flush=True)
            _run(before[number], old, drawn)
        print(f"{number} with the code as it is ...", flush=True)
        try:
            _run(now[number], new, drawn)
            made = [path for path in _of(number, old / "results") if not path.name.endswith(NOT_COMPARED)]
            found = [f"{one.name}: {what}" for one in made for what in differences(one, new / "results" / one.name)]
        except Problem as problem:
            found = [f"it stopped: {problem}"]
        for what in found:
            print(f"   {what}", flush=True)
        numbers[number] = [what for what in found if " is now " not in what]
        if numbers[number]:  # the next one runs on the old inputs, so that it is judged for itself
            _take_over(number, old / "results", new / "results")
    return numbers


def stamp(number: str, pieces: dict[str, str], **more) -> None:
    """Write into a committed lineage record what code its numbers belong to: these `pieces`, or instead `more`."""
    record = fingerprint.record(number)
    record.pop("accepted", None)
    record |= more or {"code": pieces}
    record = {name: record[name] for name in ("notebook", "code", "accepted", *PARTS) if name in record}
    with atomic_write(results_dir() / f"{number}_lineage.json") as unfinished:
        unfinished.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def main(arguments: list[str] | None = None) -> None:
    """The command behind ``make restamp``."""
    parser = argparse.ArgumentParser(prog="make restamp", description=str(__doc__).splitlines()[0])
    parser.add_argument("--accept", default="", help="why other numbers are accepted until the next real run")
    parser.add_argument("--since", default="", help="a commit whose code made the results; else that of the records")
    options = parser.parse_args(arguments)
    waiting = {number: path for number, path in fingerprint.notebooks().items() if fingerprint.stale(path)}
    if not waiting:
        print("All results are fresh: nothing to do.")
        return
    last_run = ("log", "-1", "--format=%H", "--", "results/*_lineage.json")
    found = compare(options.since or _git(*last_run).decode().strip())
    for number, notebook in waiting.items():
        pieces, differing = fingerprint.code(notebook), found.get(number, ["it is new"])
        if not differing:
            stamp(number, pieces)
            print(f"{number} fresh: every number of the drawn chain is equal.")
        elif options.accept:
            accepted = {"why": options.accept, "differs": differing[:12], "code": fingerprint.together(pieces)}
            stamp(number, pieces, accepted=accepted)
            print(f"{number} accepted as made by older code: {'; '.join(differing[:4])}")
        else:
            print(f"{number} stays stale: {'; '.join(differing[:4])}")
    print(f"Records in {display_path(results_dir())}/ follow the code as it is.")


if __name__ == "__main__":
    command(main)
