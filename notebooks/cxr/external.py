"""Films of another hospital: a folder of class folders, read, held against home, and recalibrated as a what-if."""

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageOps
from scipy import special
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold

from . import films
from .calibration import logit
from .data import class_folders, patient_of
from .metrics import checked, youden_threshold
from .project.paths import Problem, cache_dir, located, shown
from .shortcuts import shift


def survey(folder: str | Path) -> pd.DataFrame:
    """The pictures in `folder`, which holds a sub-folder called normal and one or more for other classes.

    One row a file: ``path`` (posix, below `folder`), ``class_name``, ``label`` (0 normal, 1 any other class) and
    ``patient`` (by the file's name where it is like Kaggle's; else each file is a patient). A Problem where the folder
    is not there, has no normal/ or no other class, or a class has no picture, or too few patients.
    """
    folder = located(folder)
    if not folder.is_dir():
        raise Problem(f"{shown(folder)} is not there: set FOLDER to a folder that holds normal/ and another class.")
    classes = class_folders(folder)
    rows = [
        (path.relative_to(folder).as_posix(), place.name, y) for place, y in classes for path in films.collect(place)
    ]
    table = pd.DataFrame(rows, columns=["path", "class_name", "label"])
    ending = f"({'|'.join(map(re.escape, films.SUFFIXES))})$"
    table["patient"] = table.path.str.replace(ending, "", case=False, regex=True).map(patient_of)
    if not enough(table):
        raise Problem(f"{shown(folder)} holds fewer than two patients of a class: add films of others.")
    return table


def enough(table: pd.DataFrame) -> bool:
    """Whether `table`, with ``label`` and ``patient``, has two patients of each class, which figures need."""
    return bool(table.groupby("label").patient.nunique().reindex([0, 1], fill_value=0).min() >= 2)


def load(table: pd.DataFrame, folder: str | Path, size: int) -> tuple[pd.DataFrame, np.ndarray, pd.DataFrame]:
    """Read every file of `table` (from `survey`) as `films.read` does, and set those aside that can't be read.

    Returns
    -------
    read : DataFrame
        Rows of `table` with a new index, and ``reason``: why the film must not be judged (colour, or what the header of
        a DICOM file says), else empty. A Problem where a class has fewer than two patients.
    pixels : ndarray of uint8, shape (len(read), size, size)
    broken : DataFrame
        ``path`` and ``reason`` of what can't be read.
    """
    read, broken = [], []
    for path in table.path:
        try:
            read.append(films.read(located(folder) / path, size))
        except Problem as problem:
            broken.append((path, str(problem)))
    broken = pd.DataFrame(broken, columns=["path", "reason"])
    table = table[~table.path.isin(broken.path)].reset_index(drop=True).assign(reason=[film.reason for film in read])
    if not enough(table):
        raise Problem(
            f"{shown(located(folder))} holds fewer than two patients of a class that can be read ({len(broken)} files "
            f"can't, such as: {broken.reason.get(0, '')}): replace them, or add others."
        )
    return table, np.stack([film.pixels for film in read]), broken


def apart(home, away, home_table: pd.DataFrame, away_table: pd.DataFrame) -> tuple[pd.DataFrame, dict]:
    """How well facts that know no lung tell the films of two places apart, within each class.

    `home` and `away` come from `shortcuts.picture_facts`; their tables have ``path``, ``label``, ``class_name`` and
    ``patient``.

    Returns
    -------
    table : DataFrame
        ``fact``, and the AUC ``normal`` and ``other`` by which it tells home from away in that class: 0.5 is no
        difference, above it the other place has more of it. A fact that hardly varies, or that few films have (such as
        a letter's size), is left out.
    together : dict
        ``normal`` and ``other``: AUC of all facts together (cross-validated by patient); None with too few patients.
    """
    both = pd.concat([home_table.assign(folder="train"), away_table.assign(folder="test")], ignore_index=True)
    facts = pd.concat([home, away], ignore_index=True)
    varied = facts.groupby(both.label).agg(lambda fact: fact.nunique() >= max(2, min(10, len(fact) / 2))).all()
    found = shift(facts.loc[:, varied], both)
    return pd.DataFrame(found["rows"])[["fact", "normal", "other"]], found["folder_auc"]


def recalibrated(table: pd.DataFrame, probability, folds: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """What the answers would be, had the threshold and the probabilities been fitted to this place.

    Each film's are fitted on the other patients (cross-fitting, fewer folds where a class has fewer patients): a line
    through the log-odds (Platt 1999) and Youden's threshold. So it needs labels, and says what a few hundred labelled
    films would buy; it is no result of the network.

    `table` has ``label`` and ``patient``; a Problem where a class has fewer than two patients.

    Returns
    -------
    probability : ndarray of float, shape (images,)
    called : ndarray of bool, shape (images,)
    """
    label, probability = checked(table.label, probability)
    if not enough(table):
        raise Problem("A class has fewer than two patients: recalibration needs films to learn from and others to try.")
    fewest = min(table.patient[label == one].nunique() for one in (0, 1))
    odds, fitted, called = logit(probability)[:, None], np.zeros(len(label)), np.zeros(len(label), bool)
    splitter = StratifiedGroupKFold(min(folds, fewest), shuffle=True, random_state=seed)
    for others, here in splitter.split(odds, label, table.patient):
        line = LogisticRegression(C=np.inf).fit(odds[others], label[others])
        fitted[here] = special.expit(line.decision_function(odds[here]))
        called[here] = probability[here] >= youden_threshold(label[others], probability[others])
    return fitted, called


def simulate(folder: Path, table: pd.DataFrame, seed: int = 0) -> Path:
    """Put films into the cache folder as another hospital might have made them: a what-if, where there is no other.

    Wider framing, a steeper tone curve, grain, other sizes, PNG; one in twenty with black and white exchanged.

    `table` has the films to use (``path`` below `folder`, ``label``, ``class_name``), not those that the network was
    trained on. Returns a folder with one folder a class in it.
    """
    target, rng = cache_dir() / "another_hospital", np.random.default_rng(seed)
    shutil.rmtree(target, ignore_errors=True)
    for row in table.itertuples():
        film, high = Image.open(folder / row.path).convert("L"), int(rng.integers(380, 520))
        film = film.resize((int(high * rng.uniform(1.05, 1.25)), high), Image.Resampling.BICUBIC)
        film = ImageOps.expand(film, tuple((rng.uniform(0, 0.06, 4) * high).astype(int).tolist()))
        pixels = (np.asarray(film) / 255) ** rng.uniform(1.2, 1.7) * 255 + rng.normal(0, 4, film.size[::-1])
        film = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
        place = target / row.class_name.lower() / f"{Path(row.path).stem}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        (ImageOps.invert(film) if rng.random() < 0.05 else film).save(place)
    return target
