"""Answers for a reader's own pictures, or "cannot tell" and why: ``python -m cxr.predict folder`` in ``notebooks/``."""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from . import calibration, films, metrics
from .ood import OODDetector
from .project.artifacts import Step
from .project.backend import keras
from .project.paths import Problem, shown

COLUMNS = ["file", "answer", "probability", "agreement", "reason"]
CANNOT = "cannot tell"


@dataclass
class Reader:
    """Everything that an answer needs."""

    ensemble: keras.Model  # one probability a picture and seed
    detector: OODDetector  # what it refuses gets no answer
    thresholds: np.ndarray  # shape (seeds,): from which probability on each seed calls a picture ill
    kept_seed: int  # the seed whose answer is given; the others say whether they agree
    temperature: float  # of the kept seed (`calibration.TemperatureScaling`)
    names: Sequence[str] = ("normal", "pneumonia")  # what labels 0 and 1 are called
    ages: tuple[float, float] = films.AGES  # youngest and oldest, as `films.read` wants them

    def __post_init__(self):
        self.thresholds, self.names = np.asarray(self.thresholds, float), [name.lower() for name in self.names]

    @classmethod
    def load(cls) -> "Reader":
        """From the artifacts of 04 and 09; a Problem where one is missing, or is not what its notebook last wrote."""
        step = Step("00_own")
        seeds, facts = step.read("04_seeds.csv"), step.read("09_gate.json")
        ensemble = keras.models.load_model(step.path("04_ensemble.keras"), compile=False)
        detector = OODDetector.load(step.path("09_gate.keras"), facts["limits"])
        settings = (facts[name] for name in ("kept_seed", "temperature", "names", "ages"))
        return cls(ensemble, detector, seeds.threshold, *settings)

    @property
    def size(self) -> int:
        """Side of a picture, pixels."""
        return self.ensemble.input_shape[1]

    @property
    def cut(self) -> float:
        """From which probability on, on the scale that is shown, the answer is the second name."""
        return float(calibration.TemperatureScaling(self.temperature).transform(self.thresholds[self.kept_seed]))

    def __call__(self, paths: list[Path]) -> tuple[pd.DataFrame, np.ndarray]:
        """Look at each file; one that can't be read gets no answer, and the others do.

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
        table = pd.DataFrame({"file": [path.relative_to(top).as_posix() for path in paths]})
        table["reason"] = [said or looks for said, looks in zip(reasons, self.detector.predict(pixels))]
        by_seed = metrics.predict(self.ensemble, pixels).reshape(len(paths), -1)
        called = by_seed >= self.thresholds
        ill, answered = called[:, self.kept_seed], table.reason == ""
        table["answer"] = np.where(answered, np.take(self.names, ill.astype(int)), CANNOT)
        probability = calibration.TemperatureScaling(self.temperature).transform(by_seed[:, self.kept_seed])
        table["probability"] = np.where(answered, probability.round(4), np.nan)
        table["agreement"] = np.where(answered, (called == ill[:, None]).mean(axis=1), np.nan)
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
        raise Problem(
            f"{shown(options.to)} can't be written ({error.strerror}): name another file with --to."
        ) from None
    print(table.to_string(index=False, na_rep="", max_rows=40))
    refused = (table.answer == CANNOT).sum()
    print(
        f"{options.to} written: {len(table)} files, {refused} of them: {CANNOT}. "
        "Not a diagnostic device: trained on films of children of one hospital."
    )


if __name__ == "__main__":
    try:
        main()
    except Problem as problem:
        sys.exit(f"Stopped: {problem}")
