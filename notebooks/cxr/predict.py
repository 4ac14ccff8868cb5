"""Answers for a reader's own pictures, or "cannot tell" and why: ``make predict FILES=folder``.

It leaves a table (CSV), the same with the facts of the run (JSON), and a page (HTML), named after the folder. Answers
are kept in the cache: a run that was stopped goes on, and a second one looks at new and changed files only.
"""

import argparse
import base64
import csv
import io
import itertools
import json
import os
import sys
import time
from collections.abc import Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib import colormaps
from PIL import Image
from scipy import ndimage

from . import calibration, images, lungs, metrics, saliency
from .backend import keras
from .chain import Step
from .keys import cache_key
from .ood import OODDetector
from .paths import ROOT, Problem, atomic_write, cache_dir, command, display_path, resolve

COLUMNS = ["file", "answer", "probability", "agreement", "typicality", "reason"]
NAMED = ("kept_seed", "temperature", "names", "ages", "least_agreement")  # settings in 09_gate.json and in the answers
TEXTS, ENDINGS = ("file", "answer", "reason"), (".csv", ".json", ".html")
CANNOT = "cannot tell"
DESPITE = "despite the gate: "  # before an answer that was asked for where there should be none
CHUNK = 64  # files that are looked at together, after which all is written
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "'")  # beginnings that get an apostrophe before them in the table
CHILDREN, OTHERS = "films of children of one hospital", "the films of one data set"  # what networks were trained on


@dataclass
class Reader:
    """Everything that an answer needs."""

    ensemble: keras.Model  # one probability a picture and seed
    network: keras.Model  # the seed whose answer is given, for the heat map
    detector: OODDetector  # what it declines gets no answer
    thresholds: np.ndarray  # shape (seeds,): from which probability on each seed calls a picture ill
    kept_seed: int  # the seed whose answer is given; the others say whether they agree
    temperature: float = 1.0  # of the kept seed: its log-odds are divided by it
    names: Sequence[str] = ("normal", "pneumonia")  # what labels 0 and 1 are called
    ages: tuple[float, float] | None = None  # youngest and oldest that a DICOM header may name; None: any
    least_agreement: float = 0.0  # share of the seeds that must give the same answer
    trained_on: str = CHILDREN
    made_of: dict[str, str] = field(default_factory=dict)  # sha256 of the files it was loaded from, by name

    def __post_init__(self):
        self.thresholds, self.names = np.asarray(self.thresholds, float), [name.lower() for name in self.names]

    @classmethod
    def without_gate(cls, step: Step, **settings) -> "Reader":
        """From the artifacts of 03 and 04, with a detector that is not fitted."""
        files = ("04_ensemble.keras", "04_xray_classification_model.keras", "03_lungs.keras")
        ensemble, network, finder = (keras.models.load_model(step.path(name), compile=False) for name in files)
        return cls(ensemble, network, OODDetector(finder), step.read("04_seeds.csv").threshold, **settings)

    @classmethod
    def load(cls) -> "Reader":
        """From the artifacts of 03, 04 and 09."""
        step = Step("00_own")
        facts = step.read("09_gate.json")
        reader = cls.without_gate(step, **{name: facts[name] for name in NAMED})
        reader.detector = OODDetector.load(step.path("09_gate.keras"), facts, reader.detector.lung_network)
        reader.made_of = {name: sha256 for name, sha256 in step.reads.items() if name.endswith(".keras")}
        reader.trained_on = CHILDREN if step.dataset.get("kermany") else OTHERS
        return reader

    def settings(self) -> dict:
        """All that an answer depends on, but for films and code."""
        return {name: getattr(self, name) for name in (*NAMED, "made_of")} | {"thresholds": self.thresholds.tolist()}

    def __call__(self, paths: Sequence[Path], top: Path | None = None, anyway: bool = False) -> tuple:
        """A table of the `COLUMNS`, a row a file (named from `top`, or what they share), and what the network saw.

        ``reason`` is the first of: unreadable, what a DICOM header says, the gate, too few seeds agree. With `anyway`,
        a declined film gets an answer too, marked by `DESPITE`. Figures without an answer are NaN, unread films black.
        """
        size, count = self.ensemble.input_shape[1], len(paths)
        pixels, reasons, readable = np.zeros((count, size, size), np.uint8), [""] * count, np.ones(count, bool)
        for i, film in enumerate(images.read_all(paths, size, self.ages)):
            if isinstance(film, Problem):
                readable[i], reasons[i] = False, str(film).removeprefix(display_path(paths[i])).strip()
            else:
                pixels[i], reasons[i] = film
        by_seed = metrics.predict(self.ensemble, pixels).reshape(count, -1)
        called = by_seed >= self.thresholds
        ill = called[:, self.kept_seed]
        agree, seeds = (called == ill[:, None]).sum(axis=1), called.shape[1]
        few = [f"divides the networks: {same} of {seeds} agree" for same in agree]
        divided = np.where(agree / seeds < self.least_agreement - 1e-3, few, "")
        top = top or Path(os.path.commonpath([path.parent for path in paths]))
        table = pd.DataFrame({"file": [path.relative_to(top).as_posix() for path in paths]})
        looks = self.detector.predict(pixels)
        table["reason"] = [header or gate or split for header, gate, split in zip(reasons, looks, divided)]
        passes = (table.reason == "").to_numpy(bool)
        answered, answer = passes | readable & anyway, np.take(self.names, ill.astype(int)).astype(object)
        table["answer"] = np.where(passes, answer, np.where(answered, DESPITE + answer, CANNOT))
        probability = calibration.scale(by_seed[:, self.kept_seed], self.temperature)
        table["probability"] = np.where(answered, probability.round(4), np.nan)
        table["agreement"] = np.where(answered, np.round(agree / seeds, 4), np.nan)
        table["typicality"] = np.where(readable, np.round(self.detector.typicality(pixels), 4), np.nan)
        return table[COLUMNS], pixels

    def explain(self, pixels: np.ndarray, table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Where the lungs are, and what speaks for the answer; nothing does where only the threshold decides."""
        fields, maps = np.zeros(pixels.shape, bool), np.zeros(pixels.shape, np.float32)
        answered = np.flatnonzero(table.probability.notna())
        if len(answered) and self.detector.lung_network is not None:
            fields[answered] = lungs.find(self.detector.lung_network, pixels[answered]) > 127
        label = table.answer.str.removeprefix(DESPITE) == self.names[1]
        leans = np.flatnonzero(table.probability.notna() & (label == (table.probability > 0.5)))
        if len(leans):
            heat = saliency.gradcam(self.network, pixels[leans], label.to_numpy()[leans], even=True)
            maps[leans] = np.where((heat == 1).all(axis=(1, 2), keepdims=True), 0, heat)  # flat where nothing speaks
        return fields, maps


def legible(name: str) -> str:
    """`name` with characters that do not print, or are no text, written out: a line break as ``\\n``."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in name)


def counted(number: int, what: str) -> str:
    """``1 file``, ``1,000 files``."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _encoded(pixels: np.ndarray, **options) -> str:
    stream = io.BytesIO()
    Image.fromarray(pixels).resize((128, 128), Image.Resampling.BILINEAR).save(stream, "WEBP", **options)
    return base64.b64encode(stream.getvalue()).decode()


def marks(lung: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """The edge of the lungs and a heat map, to lay over a film: uint8, (size, size, 4)."""
    layer = np.asarray(colormaps["inferno"](heat) * 255).round().astype(np.uint8)
    layer[..., 3] = (heat.clip(0, 1) * 0.6 * 255).round()
    layer[lung & ~ndimage.binary_erosion(lung)] = (0xE6, 0x9F, 0x00, 255)
    return layer


def _cells(row: dict) -> list[str]:
    """A row as the table has it."""
    texts = ["" if row[name] is None else f"{row[name]:{'' if name in TEXTS else '.6g'}}" for name in COLUMNS]
    return [("'" * text.startswith(FORMULA) + text).encode("utf-8", "backslashreplace").decode() for text in texts]


@contextmanager
def _writing(path: Path):
    """An OSError while writing `path` becomes a Problem."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield path
    except OSError as error:
        remedy = "free the disk, or name another table with TO= (the cache: CXR_CACHE_DIR), and start again"
        raise Problem(f"{display_path(path)} can't be written ({error.strerror or error}): {remedy}.") from None


def _write(path: Path, text: str) -> None:
    with _writing(path), atomic_write(path) as unfinished:
        unfinished.write_bytes(text.encode("utf-8", "backslashreplace"))


def _write_table(path: Path, rows: Sequence[dict]) -> None:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows([COLUMNS, *map(_cells, rows)])
    _write(path, stream.getvalue())


def _kept(path: Path) -> dict[str, dict]:
    """Answers of earlier runs, a line of JSON each, by their stamp."""
    found = {}
    with _writing(path):
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            with suppress(ValueError):  # an empty line, or one that was cut short
                entry = json.loads(line)
                found[entry["stamp"]] = entry
    return found


def free_name(target: Path, kept: dict[str, dict]) -> Path:
    """`target`, or the first of ``name (1).csv``, ... that is not there or holds kept answers only."""
    known = {tuple(COLUMNS), *(tuple(_cells(entry["row"])) for entry in kept.values())}
    for number in itertools.count():
        path = target.with_stem(f"{target.stem} ({number})") if number else target
        if not any(path.with_suffix(ending).exists() for ending in ENDINGS):
            return path
        with suppress(OSError, ValueError, csv.Error), open(path, encoding="utf-8", newline="") as stream:
            if {*map(tuple, csv.reader(stream))} <= known:
                return path


def run(places: Sequence[str | Path], target: Path, reader: Reader, anyway: bool = False) -> tuple[Path, dict]:
    """Look at pictures and folders; write the table, the JSON and the page. Returns the table's path and the JSON."""
    found, looked = [resolve(place) for place in places], [images.find(place) for place in places]
    paths = sorted({path for inside, _ in looked for path in inside})
    top = Path(os.path.commonpath([place if place.is_dir() else place.parent for place in found]))
    key = cache_key(reader.settings(), anyway, os.fspath(top), code=[Reader])
    memory = cache_dir() / "answers" / f"{key}.jsonl"
    kept = _kept(memory)
    table = free_name(target, kept)
    own = {table.with_suffix(ending).resolve() for ending in ENDINGS}
    passed = [path for _, others in looked for path in others if path.resolve() not in own]
    stamps = {path: f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in paths}
    todo = [path for path in paths if stamps[path] not in kept]
    if len(todo) < len(paths):
        print(f"{len(paths) - len(todo):,} of {counted(len(paths), 'file')} have not changed: their answers are kept.")
    for start in range(0, len(todo), CHUNK):
        chunk = todo[start : start + CHUNK]
        (rows, pixels), entries = reader(chunk, top, anyway), []
        for path, row, film, lung, heat in zip(chunk, metrics.or_none(rows), pixels, *reader.explain(pixels, rows)):
            entry = {"stamp": stamps[path], "row": row, "heat": bool(heat.any())}
            entry["film"] = "" if row["typicality"] is None else _encoded(film, quality=80)
            marked = lung.any() or heat.any()
            entry["marks"] = _encoded(marks(lung, heat), quality=40, alpha_quality=30) if marked else ""
            entries.append(entry)
        with _writing(memory), open(memory, "a", encoding="utf-8") as stream:
            stream.write("\n" + "\n".join(map(json.dumps, entries)) + "\n")
        kept |= {entry["stamp"]: entry for entry in entries}
        _write_table(table, [kept[stamps[path]]["row"] for path in paths if stamps[path] in kept])
        if len(todo) > CHUNK:
            print(f"{start + len(chunk):,} of {counted(len(todo), 'file')}", file=sys.stderr, flush=True)
    cards = [kept[stamps[path]] for path in paths]
    answers = [card["row"]["answer"] for card in cards if card["row"]["probability"] is not None]
    note, folder = f"Not a diagnostic device: trained on {reader.trained_on}.", found[0] if len(found) == 1 else top
    cut = float(calibration.scale(reader.thresholds[reader.kept_seed], reader.temperature))
    facts = {"note": note, "folder": display_path(folder), **reader.settings()}
    facts |= {"threshold": round(cut, 4), "seeds": len(reader.thresholds), "anyway": anyway}
    facts["passed_over"] = {"count": len(passed), "first": [os.path.relpath(path, top) for path in passed[:10]]}
    facts["counts"] = {"files": len(cards), "answered": len(answers), "declined": len(cards) - len(answers)}
    facts["by_answer"] = {answer: answers.count(answer) for answer in sorted({*answers})}
    facts |= {"date": time.strftime("%Y-%m-%d %H:%M"), "rows": [card["row"] for card in cards]}
    jinja = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    jinja.loader, page = FileSystemLoader(Path(__file__).parent), table.with_suffix(".html")
    jinja.filters |= {"legible": legible, "count": counted}
    _write(page, jinja.get_template("predictions.html.j2").render(facts=facts, cards=cards))
    _write(table.with_suffix(".json"), json.dumps(facts, indent=1) + "\n")
    _write_table(table, facts["rows"])
    return table, facts


def main(arguments: list[str] | None = None) -> None:
    """The command behind ``make predict``."""
    parser = argparse.ArgumentParser(prog="make predict", description=__doc__.splitlines()[0])
    parser.add_argument("places", nargs="+", help="pictures, or folders of pictures")
    parser.add_argument("--to", help="the table of answers, a .csv; without it, named after the folder")
    parser.add_argument("--anyway", action="store_true", help="answer even what the gate declines, and mark it")
    options = parser.parse_args(arguments)
    places = []
    for place in options.places:  # make passes all of them in one text
        several = not resolve(place).exists() and all(resolve(part).exists() for part in place.split())
        places += place.split() if several else [place]
    for place in places:
        images.find(place)  # before the networks are loaded, which takes a while
    first = resolve(places[0]).resolve()
    target = resolve(options.to) if options.to else ROOT / f"{first.name if first.is_dir() else first.stem}_answers.csv"
    if target.suffix.lower() != ".csv" or target.is_dir():
        raise Problem(f"{display_path(target)} is no name of a table: let TO= end in .csv.")
    try:
        table, facts = run(places, target, Reader.load(), options.anyway)
    except KeyboardInterrupt:
        print("\nStopped. Nothing is lost: the same command goes on after the last file written.", file=sys.stderr)
        sys.exit(130)
    rows = pd.DataFrame(facts["rows"])[COLUMNS]
    rows["file"] = rows.file.map(legible)
    print(rows.astype(object).fillna("").to_string(index=False, max_rows=40))
    count, few = facts["passed_over"].values()
    if count:
        more = ", ..." if count > len(few) else ""
        print(f"Passed over: {counted(count, 'file')} ({', '.join(map(legible, few))}{more}).")
    counts = facts["counts"]
    print(f"{display_path(table)} written, with {table.stem}.json and {table.stem}.html: ", end="")
    print(f"{counted(counts['files'], 'file')}, {counts['declined']:,} of them: {CANNOT}. {facts['note']}")


if __name__ == "__main__":
    command(main)
