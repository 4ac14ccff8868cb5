"""Answers for a reader's own pictures, or "cannot tell" and why: ``python -m cxr.predict folder`` in ``notebooks/``.

Three files are written: a table (CSV), the same with the facts of the run (JSON), and a page to look at (HTML). Started
again with the same folder and the same networks, only new and changed files are looked at. In the table alone a text
that begins with ``=``, ``+``, ``-``, ``@``, a tab, a line break or an apostrophe has one more apostrophe before it, so
that no spreadsheet takes the name of a file for a formula.
"""

import argparse
import hashlib
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from filelock import BaseFileLock, FileLock, Timeout

from . import answers, calibration, films, lungs, metrics, page, saliency
from .backend import keras
from .chain import Step
from .ood import OODDetector
from .paths import Problem, cache_dir, command, display_path, resolve
from .training import weights_sha256

COLUMNS = answers.COLUMNS
CANNOT = "cannot tell"
DESPITE = "despite the gate: "  # before an answer that was asked for where there should be none
CHUNK = 64  # files that are looked at together, after which all is written
FEW = 10  # of the files that are passed over, so many are named
CODE = ("calibration", "images", "lungs", "ood", "predict")  # modules that an answer comes from
NOTE = "Not a diagnostic device: trained on films of children of one hospital."


@dataclass
class Reader:
    """Everything that an answer needs."""

    ensemble: keras.Model  # one probability a picture and seed
    detector: OODDetector  # what it refuses gets no answer
    thresholds: np.ndarray  # shape (seeds,): from which probability on each seed calls a picture ill
    kept_seed: int  # the seed whose answer is given; the others say whether they agree
    temperature: float  # of the kept seed (`calibration.scale`)
    names: Sequence[str] = ("normal", "pneumonia")  # what labels 0 and 1 are called
    ages: tuple[float, float] = films.AGES  # youngest and oldest, as `films.read` wants them
    made_of: dict[str, str] = field(default_factory=dict)  # sha256 of the files it was loaded from, by name

    def __post_init__(self):
        self.thresholds, self.names = np.asarray(self.thresholds, float), [name.lower() for name in self.names]

    @classmethod
    def load(cls) -> "Reader":
        """From the artifacts of 03, 04 and 09; a Problem where one is missing or not what its notebook last wrote."""
        step = Step("00_own")
        seeds, facts = step.read("04_seeds.csv"), step.read("09_gate.json")
        ensemble = keras.models.load_model(step.path("04_ensemble.keras"), compile=False)
        finder = keras.models.load_model(step.path("03_lungs.keras"), compile=False)
        detector = OODDetector.load(step.path("09_gate.keras"), facts, finder)
        settings = {name: facts[name] for name in ("kept_seed", "temperature", "names", "ages")}
        return cls(ensemble, detector, seeds.threshold, **settings, made_of=step.reads)

    @property
    def size(self) -> int:
        """Side of a picture, pixels."""
        return self.ensemble.input_shape[1]

    @property
    def cut(self) -> float:
        """From which probability on, on the scale that is shown, the answer is the second name."""
        return float(calibration.scale(self.thresholds[self.kept_seed], self.temperature))

    @property
    def fingerprint(self) -> str:
        """Of all that an answer depends on, but for the film: networks, settings and code."""
        said = [self.made_of, weights_sha256(self.ensemble), self.thresholds.tolist(), self.kept_seed]
        said += [self.temperature, self.names, [*self.ages]]
        said += [Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8") for name in CODE]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()

    def __call__(
        self, paths: Sequence[Path], top: Path | None = None, anyway: bool = False
    ) -> tuple[pd.DataFrame, np.ndarray]:
        """Look at each file; one that can't be read gets no answer, and the others do.

        With `anyway`, a film that is refused gets an answer too, which begins with `DESPITE`, and keeps its reason.

        Returns
        -------
        table : DataFrame, one row a file
            ``file``, below `top`, or the folder that all have in common; ``answer`` (one of `names`, or cannot tell);
            ``probability`` of label 1, its log-odds divided by the temperature; ``agreement``: share of the seeds that
            give the same answer; ``typicality``: share of this hospital's validation films that are less typical, NaN
            where the file can't be read; ``reason``: the first that was found why there should be no answer. It is
            looked for in this order: readable, a frontal radiograph of a chest of a child, held upright, like those of
            this hospital. Probability and agreement are NaN where there is no answer.
        pixels : ndarray of uint8, shape (files, size, size)
            What the network saw; black where a file can't be read.
        """
        pixels, reasons = np.zeros((len(paths), self.size, self.size), np.uint8), [""] * len(paths)
        readable = np.ones(len(paths), bool)
        for i, film in enumerate(films.read_all(paths, self.size, self.ages)):
            if isinstance(film, Problem):
                readable[i], reasons[i] = False, str(film).removeprefix(display_path(paths[i])).strip()
            else:
                pixels[i], reasons[i] = film
        if not paths:
            return pd.DataFrame(columns=COLUMNS), pixels
        top = top or Path(os.path.commonpath([path.parent for path in paths]))
        table = pd.DataFrame({"file": [path.relative_to(top).as_posix() for path in paths]})
        table["reason"] = [said or looks for said, looks in zip(reasons, self.detector.predict(pixels))]
        by_seed = metrics.predict(self.ensemble, pixels).reshape(len(paths), -1)
        called = by_seed >= self.thresholds
        ill, passes = called[:, self.kept_seed], (table.reason == "").to_numpy()
        answered, answer = passes | readable & anyway, np.take(self.names, ill.astype(int)).astype(object)
        table["answer"] = np.where(passes, answer, np.where(answered, DESPITE + answer, CANNOT))
        probability = calibration.scale(by_seed[:, self.kept_seed], self.temperature)
        table["probability"] = np.where(answered, probability.round(4), np.nan)
        table["agreement"] = np.where(answered, (called == ill[:, None]).mean(axis=1), np.nan)
        table["typicality"] = np.where(readable, np.round(self.detector.typicality(pixels), 4), np.nan)
        return table[COLUMNS], pixels


@dataclass
class Explainer:
    """What the page shows on a film besides its answer."""

    network: keras.Model  # the kept one, as `saliency.gradcam` wants it
    finder: keras.Model  # finds lungs, as `lungs.find` wants it
    made_of: dict[str, str] = field(default_factory=dict)  # sha256 of the files it was loaded from, by name

    @classmethod
    def load(cls, reader: Reader) -> "Explainer":
        """From the artifacts of 04, with the finder that `reader` has; a Problem as of `Reader.load`."""
        step = Step("00_own")
        network = keras.models.load_model(step.path("04_xray_classification_model.keras"), compile=False)
        return cls(network, reader.detector.lung_network, step.reads)

    def __call__(self, pixels: np.ndarray, table: pd.DataFrame, ill: str) -> tuple[np.ndarray, np.ndarray]:
        """Where the lungs are (bool), and what speaks for the answer (0 to 1), both of the shape of `pixels`.

        `table` is that of `Reader`, and `ill` the name of label 1. Both are empty where there is no answer; the map is,
        too, where the network leans to the other one and only its threshold decides.
        """
        fields, maps = np.zeros(pixels.shape, bool), np.zeros(pixels.shape, np.float32)
        told = np.flatnonzero(table.probability.notna())
        fields[told] = lungs.find(self.finder, pixels[told]) > 127
        label = table.answer.str.removeprefix(DESPITE) == ill
        judged = np.flatnonzero(table.probability.notna() & (label == (table.probability > 0.5)))
        waiting = [judged] if len(judged) else []
        while waiting:
            part = waiting.pop()
            try:
                maps[part] = saliency.gradcam(self.network, pixels[part], label.to_numpy()[part])
            except Problem:  # one of them has no map, so the halves are tried
                waiting += [half for half in np.array_split(part, 2) if len(half)] if len(part) > 1 else []
        return fields, maps


def _rows(table: pd.DataFrame) -> list[dict]:
    """The rows of a table as JSON has them: numbers to six figures, None where there is none."""
    rows = metrics.or_none(table)
    return [
        {name: float(f"{value:.6g}") if isinstance(value, float) else value for name, value in row.items()}
        for row in rows  # type: ignore[union-attr]
    ]


def _progress(done: int, total: int, started: float, before: int) -> None:
    """How far it is, on the error stream: a bar on a terminal, else a line every 16 chunks."""
    seconds = (time.monotonic() - started) / max(done - before, 1) * (total - done)
    said = f"{done:,} of {total:,} files" + (f", about {seconds:.0f} s to go" if done < total else "")
    if sys.stderr.isatty():
        bar = "#" * (30 * done // total)
        print(f"\r[{bar:<30}] {said:<50}", end="" if done < total else "\n", file=sys.stderr, flush=True)
    elif done == total or (done - before) % (16 * CHUNK) == 0:
        print(said, file=sys.stderr, flush=True)


def _alone(target: Path) -> BaseFileLock:
    """The lock of `target`, held: one command at a time writes it. A Problem where another one does."""
    path = cache_dir() / f"predict_{hashlib.sha256(os.fsencode(target.resolve())).hexdigest()[:16]}.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path, timeout=0)
        lock.acquire()
        return lock
    except Timeout:
        raise Problem(f"{display_path(target)} is being written by another make predict: wait for it to end.") from None
    except OSError as error:
        remedy = "make the folder writable, or set CXR_CACHE_DIR to another one"
        raise Problem(f"{display_path(path)} can't be written ({error.strerror}): {remedy}.") from None


def run(place: Path, target: Path, reader: Reader, explainer: Explainer, anyway: bool = False) -> answers.Answers:
    """Look at the picture or the folder `place`, and write `target` (a CSV), and beside it the JSON and the page.

    Rows of an earlier run are kept where the file, the networks and `anyway` are the same (`answers.Answers`). Returns
    the answers. A Problem where there is no picture, or a file can't be written. Stopped with Ctrl-C it leaves whole
    files and passes the KeyboardInterrupt on.
    """
    place = resolve(place)
    paths, top = films.collect(place), place if place.is_dir() else place.parent
    own = {target.with_suffix(ending).resolve() for ending in (".csv", ".json", ".html")}
    passed = [path for path in films.passed_over(place, paths) if path.resolve() not in own]
    by_name = {path.relative_to(top).as_posix(): path for path in paths}
    facts = {
        "made_by": "make predict",
        "note": NOTE,
        "folder": display_path(place),
        "folder_sha256": hashlib.sha256(os.fsencode(place.resolve())).hexdigest(),
        "fingerprint": reader.fingerprint,
        "networks": {name: of for name, of in (reader.made_of | explainer.made_of).items() if name.endswith(".keras")},
        "names": [*reader.names],
        "threshold": round(reader.cut, 4),
        "temperature": reader.temperature,
        "seeds": len(reader.thresholds),
        "kept_seed": reader.kept_seed,
        "ages": [*reader.ages],
        "anyway": anyway,
        "passed_over": {"count": len(passed), "first": [path.relative_to(top).as_posix() for path in passed[:FEW]]},
    }
    written = answers.Answers(target, facts, {name: answers.stamp(path) for name, path in by_name.items()})
    if written.said:
        print(written.said)
    missing, before, started = written.missing, len(written.rows), time.monotonic()
    if before:
        print(f"{before:,} of {len(paths):,} files were answered before and have not changed: their answers are kept.")
    try:
        for start in range(0, len(missing), CHUNK):
            names = missing[start : start + CHUNK]
            table, pixels = reader([by_name[name] for name in names], top, anyway)
            fields, maps = explainer(pixels, table, reader.names[1])
            rows = [row | dict(zip(answers.STAMP, written.stamps[row["file"]])) for row in _rows(table)]
            readable = pixels.any(axis=(1, 2)) | table.typicality.notna()
            cards = [
                page.card(answers.key(row), row, facts, film if there else None, *layers)
                for row, film, there, *layers in zip(rows, pixels, readable, fields, maps)
            ]
            written.add(rows, cards)
            _progress(before + start + len(names), len(paths), started, before)
    finally:
        written.close()
    return written


def main(arguments: list[str] | None = None) -> None:
    """The command behind ``make predict``."""
    parser = argparse.ArgumentParser(prog="make predict", description=__doc__.splitlines()[0])
    parser.add_argument("place", help="a picture, or a folder of pictures")
    parser.add_argument("--to", type=Path, default=Path("predictions.csv"), help="the table of answers, a .csv")
    parser.add_argument("--anyway", action="store_true", help="answer even what the gate refuses, and mark it")
    options = parser.parse_args(arguments)
    films.collect(options.place)  # before the networks are loaded, which takes a while
    answers.check(options.to)
    lock = _alone(options.to)
    try:
        reader = Reader.load()
        written = run(options.place, options.to, reader, Explainer.load(reader), options.anyway)
    except KeyboardInterrupt:
        print("\nStopped. Nothing is lost: the same command goes on after the last file written.", file=sys.stderr)
        sys.exit(130)
    finally:
        lock.release()
    table = pd.DataFrame([written.rows[name] for name in written.stamps])[COLUMNS]
    table["file"] = table.file.map(page.legible)
    print(table.astype(object).fillna("").to_string(index=False, max_rows=40))
    if count := written.facts["passed_over"]["count"]:
        few = [page.legible(name) for name in written.facts["passed_over"]["first"]]
        print(f"Passed over: {page.counted(count, 'file')} ({', '.join(few)}{', ...' if count > len(few) else ''}).")
    counts = written.counts
    print(
        f"{options.to} written, with {written.data.name} and {written.page.name}: "
        f"{page.counted(counts['files'], 'file')}, {counts['declined']:,} of them: {CANNOT}. {NOTE}"
    )


if __name__ == "__main__":
    command(main)
