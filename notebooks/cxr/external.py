"""Films of another hospital: a folder of class folders, read, held against home, and recalibrated as a what-if."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageOps
from scipy import special
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold

from . import films
from .audit import shift
from .clinical import logit
from .data import class_folders, patient_of
from .evaluate import checked, youden_threshold
from .project import Problem, cache_dir, located, shown


def survey(folder: str | Path) -> pd.DataFrame:
    """The pictures in `folder`: one sub-folder called normal, one or more for other classes.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    DataFrame, one row a file
        ``path`` (posix, below `folder`), ``class_name``, ``label`` (0 normal, 1 any other class), ``patient`` (by the
        file's name where it is like Kaggle's; else each file is a patient).

    Raises
    ------
    Problem
        The folder is not there, has no normal/ or no other class, or a class has no picture, or too few patients.
    """
    folder = located(folder)
    if not folder.is_dir():
        raise Problem(f"{shown(folder)} is not there: set FOLDER to a folder that holds normal/ and another class.")
    rows = [{"path": path.relative_to(folder).as_posix(), "class_name": one.name, "label": label}
            for one, label in class_folders(folder) for path in films.collect(one)]
    table = pd.DataFrame(rows)
    table["patient"] = [patient_of(path.removesuffix(Path(path).suffix) if Path(path).suffix.lower() in films.SUFFIXES
                                   else path) for path in table.path]
    if not enough(table):
        raise Problem(f"{shown(folder)} holds fewer than two patients of a class: add films of others.")
    return table


def enough(table: pd.DataFrame) -> bool:
    """Whether `table`, with ``label`` and ``patient``, has two patients of each class, which figures need."""
    return bool(table.groupby("label").patient.nunique().reindex([0, 1], fill_value=0).min() >= 2)


def load(table: pd.DataFrame, folder: str | Path, size: int) -> tuple[pd.DataFrame, np.ndarray, pd.DataFrame]:
    """Read every file as `films.read` does, and set those aside that can't be read.

    Parameters
    ----------
    table : DataFrame as `survey` returns it
    folder : Path
    size : int
        Side of the square, pixels.

    Returns
    -------
    read : DataFrame
        Rows of `table` with a new index, and ``reason``: why the film must not be judged (colour, or what the header of
        a DICOM file says), else empty.
    pixels : ndarray of uint8, shape (len(read), size, size)
    broken : DataFrame
        ``path`` and ``reason`` of what can't be read.

    Raises
    ------
    Problem
        What can be read has fewer than two patients of a class.
    """
    found, reasons, broken = [], [], []
    for path in table.path:
        try:
            film = films.read(located(folder) / path, size)
            found.append(film.pixels)
            reasons.append(film.reason)
        except Problem as problem:
            broken.append({"path": path, "reason": str(problem)})
    broken = pd.DataFrame(broken, columns=["path", "reason"])
    read = table[~table.path.isin(broken.path)].reset_index(drop=True).assign(reason=reasons)
    if not enough(read):
        raise Problem(f"{shown(located(folder))} holds fewer than two patients of a class that can be read "
                      f"({len(broken)} files can't, such as: {broken.reason.get(0, '')}): replace them, or add others.")
    return read, np.stack(found), broken


def apart(home: pd.DataFrame, away: pd.DataFrame, home_table: pd.DataFrame, away_table: pd.DataFrame
          ) -> tuple[pd.DataFrame, dict]:
    """How well facts that know no lung tell the films of two places apart, within each class.

    Parameters
    ----------
    home, away : DataFrame as `clues.picture_facts` returns it
    home_table, away_table : DataFrame with ``path``, ``label``, ``class_name`` and ``patient``, one row a fact's

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
    varied = facts.groupby(both.label).agg(lambda own: own.nunique() >= max(2, min(10, len(own) / 2))).all()
    found = shift(facts.loc[:, varied], both)
    return pd.DataFrame(found["rows"])[["fact", "normal", "other"]], found["folder_auc"]


def recalibrated(table: pd.DataFrame, probability, folds: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """What the answers would be, had the threshold and the probabilities been fitted to this place.

    Each film's are fitted on the other patients (cross-fitting): a line through the log-odds (Platt 1999) and Youden's
    threshold. So it needs labels, and says what a few hundred labelled films would buy; it is no result of the network.

    Parameters
    ----------
    table : DataFrame with ``label`` and ``patient``
    probability : array of float, shape (images,)
    folds : int
        Parts, fewer where there are fewer patients in a class.
    seed : int

    Returns
    -------
    probability : ndarray of float, shape (images,)
    called : ndarray of bool, shape (images,)

    Raises
    ------
    Problem
        A class has fewer than two patients.
    """
    label, probability = checked(table.label, probability)
    if not enough(table):
        raise Problem("A class has fewer than two patients: recalibration needs films to learn from and others to try.")
    fewest = min(table.patient[label == one].nunique() for one in (0, 1))
    odds, found, called = logit(probability)[:, None], np.zeros(len(label)), np.zeros(len(label), bool)
    cut = StratifiedGroupKFold(min(folds, fewest), shuffle=True, random_state=seed)
    for known, asked in cut.split(odds, label, table.patient):
        line = LogisticRegression(C=np.inf).fit(odds[known], label[known])
        found[asked] = special.expit(line.decision_function(odds[asked]))
        called[asked] = probability[asked] >= youden_threshold(label[known], probability[known])
    return found, called


def simulate(folder: Path, table: pd.DataFrame, seed: int = 0) -> Path:
    """Put films into the cache folder as another hospital might have made them: a what-if, where there is no other.

    Wider framing, a steeper tone curve, grain, other sizes, PNG; one in twenty with black and white exchanged.

    Parameters
    ----------
    folder : Path
        Data folder.
    table : DataFrame with ``path``, ``label`` and ``class_name``
        The films to use; not those that the network was trained on.
    seed : int

    Returns
    -------
    Path
        A folder with one folder a class in it.
    """
    target, rng = cache_dir() / "another_hospital", np.random.default_rng(seed)
    shutil.rmtree(target, ignore_errors=True)
    for row in table.itertuples():
        with Image.open(folder / row.path) as picture:
            film = picture.convert("L")
        high = int(rng.integers(380, 520))
        film = film.resize((int(high * rng.uniform(1.05, 1.25)), high), Image.Resampling.BICUBIC)
        edge = rng.uniform(0, 0.06, 4) * high
        film = ImageOps.expand(film, tuple(edge.astype(int).tolist()))
        pixels = (np.asarray(film) / 255) ** rng.uniform(1.2, 1.7) * 255 + rng.normal(0, 4, film.size[::-1])
        film = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
        place = target / row.class_name.lower() / f"{Path(row.path).stem}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        (ImageOps.invert(film) if rng.random() < 0.05 else film).save(place)
    return target
