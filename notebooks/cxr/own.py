"""Answers for a reader's own pictures, or "cannot tell" and why: ``python -m cxr.own folder`` in ``notebooks/``."""

import argparse
import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from . import clinical, evaluate, films, gate
from .backend import keras
from .chain import Step
from .project import Problem, shown

COLUMNS = ["file", "answer", "probability", "agreement", "reason"]
CANNOT = "cannot tell"


class Reader:
    """Everything that an answer needs.

    Parameters
    ----------
    ensemble : keras.Model
        One probability a picture and seed.
    strangers : keras.Model
        From `gate.fit`.
    limits : array, shape (2,)
        As `gate.reasons` wants them.
    thresholds : array of float, shape (seeds,)
        From which probability on each seed calls a picture ill.
    kept : int
        The seed whose answer is given; the others say whether they agree.
    temperature : float
        Of the kept seed (`clinical.temperature`).
    names : (str, str)
        What labels 0 and 1 are called.
    ages : (youngest, oldest)
        As `films.read` wants them.
    """

    def __init__(self, ensemble: keras.Model, strangers: keras.Model, limits, thresholds, kept: int,
                 temperature: float, names=("normal", "pneumonia"), ages=films.AGES):
        self.ensemble, self.strangers, self.limits = ensemble, strangers, np.asarray(limits, float)
        self.thresholds, self.kept, self.temperature = np.asarray(thresholds, float), kept, temperature
        self.names, self.ages = [name.lower() for name in names], ages

    @property
    def size(self) -> int:
        """Side of a picture, pixels."""
        return self.ensemble.input_shape[1]

    @classmethod
    def load(cls) -> "Reader":
        """From the artifacts of 04 and 09.

        Raises
        ------
        Problem
            One of them is missing, or is not what its notebook last wrote.
        """
        step = Step("00_own")
        seeds, facts = step.read("04_seeds.csv"), step.read("09_gate.json")
        ensemble, strangers = (keras.models.load_model(step.path(name), compile=False)
                               for name in ("04_ensemble.keras", "09_gate.keras"))
        return cls(ensemble, strangers, facts["limits"], seeds.threshold, facts["kept_seed"], facts["temperature"],
                   facts["names"], facts["ages"])

    @property
    def cut(self) -> float:
        """From which probability on, on the scale that is shown, the answer is the second name."""
        return float(clinical.tempered(self.thresholds[self.kept], self.temperature))

    def __call__(self, paths: list[Path]) -> tuple[pd.DataFrame, np.ndarray]:
        """Look at each file; one that can't be read gets no answer, and the others do.

        Parameters
        ----------
        paths : list of Path

        Returns
        -------
        table : DataFrame, one row a file
            ``file``, below the folder that all have in common; ``answer`` (one of `names`, or cannot tell);
            ``probability`` of label 1, its log-odds divided by the temperature; ``agreement``: share of the seeds that
            give the same answer; ``reason`` why there is none. Both numbers are NaN where there is no answer.
        pixels : ndarray of uint8, shape (files, size, size)
            What the network saw; black where a file can't be read.
        """
        pixels, reasons = np.zeros((len(paths), self.size, self.size), np.uint8), [""] * len(paths)
        for i, path in enumerate(paths):
            try:
                pixels[i], reasons[i] = films.read(path, self.size, self.ages)
            except Problem as problem:
                reasons[i] = str(problem).removeprefix(shown(path)).strip()
        if not paths:
            return pd.DataFrame(columns=COLUMNS), pixels
        top = os.path.commonpath([path.parent for path in paths])
        table = pd.DataFrame({"file": [path.relative_to(top).as_posix() for path in paths], "reason": reasons})
        looks = gate.reasons(self.strangers, pixels, self.limits)
        table["reason"] = table.reason.where(table.reason != "", looks)
        each = evaluate.predict(self.ensemble, pixels).reshape(len(paths), -1)
        called = each >= self.thresholds
        own, refused = called[:, self.kept], table.reason != ""
        table["answer"] = np.where(refused, CANNOT, np.where(own, self.names[1], self.names[0]))
        probability = clinical.tempered(each[:, self.kept], self.temperature)
        table["probability"] = np.where(refused, np.nan, probability.round(4))
        table["agreement"] = np.where(refused, np.nan, (called == own[:, None]).mean(axis=1))
        return table[COLUMNS], pixels


def main(arguments: list[str] | None = None) -> None:
    """The command behind ``make predict``."""
    parser = argparse.ArgumentParser(prog="make predict", description=__doc__.splitlines()[0])
    parser.add_argument("place", help="a picture, or a folder of pictures")
    parser.add_argument("--to", type=Path, default=Path("predictions.csv"), help="the table of answers")
    options = parser.parse_args(arguments)
    table, _ = Reader.load()(films.collect(options.place))
    try:
        table.to_csv(options.to, index=False)
    except OSError as error:
        raise Problem(f"{shown(options.to)} can't be written ({error.strerror}): name another file with --to."
                      ) from None
    with pd.option_context("display.max_rows", 40, "display.max_colwidth", 70, "display.width", 160):
        print(table.to_string(index=False, na_rep="", max_rows=40))
    print(f"{options.to} written: {len(table)} files, {(table.answer == CANNOT).sum()} of them: {CANNOT}. "
          "Not a diagnostic device: trained on films of children of one hospital.")


if __name__ == "__main__":
    try:
        main()
    except Problem as problem:
        sys.exit(f"Stopped: {problem}")
