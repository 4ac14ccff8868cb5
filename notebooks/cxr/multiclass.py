"""Several classes at once: figures of merit, their bootstrap, the confusion matrix. Class 0 is normal."""

import numpy as np
import pandas as pd
from sklearn import metrics

from .evaluate import interval, spread
from .project import Problem


def kinds(table: pd.DataFrame) -> tuple[np.ndarray, list[str]]:
    """The class of each image by its subtype, as a number, and their names.

    Parameters
    ----------
    table : DataFrame with the columns ``label``, ``subtype`` and ``class_name``

    Returns
    -------
    code : ndarray of int, shape (images,)
    names : list of str
        ``normal`` first, the others by name; a subtype that the file name does not tell is the name of the folder.

    Raises
    ------
    Problem
        There are fewer than three kinds, or one of them is missing from a split.
    """
    name = table.subtype.where(table.subtype != "", table.class_name.str.lower())
    names = ["normal", *sorted(set(name[table.label == 1]))]
    if len(names) < 3:
        raise Problem(f"The images are of {len(names)} kinds only ({', '.join(names)}): 08 needs three, told apart by "
                      "class folders or by bacteria and virus in the file names.")
    if "split" in table:
        counts = pd.crosstab(name, table.split).reindex(columns=["train", "val", "test"], fill_value=0).loc[names]
        for part in counts:
            if (counts[part] == 0).any():
                raise Problem(f"The {part} split has no {counts.index[counts[part] == 0][0]} image (02_split.csv): add "
                              "patients of that kind, or choose another SPLIT_SEED in 02_explore.ipynb.")
    return name.map(names.index).to_numpy(), names


def _checked(code, probability) -> tuple[np.ndarray, np.ndarray]:
    code, probability = np.asarray(code, int), np.asarray(probability, float)
    if not np.isfinite(probability).all():
        raise Problem("Some probabilities are not numbers: training has diverged, so run the notebook again with a "
                      "smaller learning rate.")
    if set(code) != set(range(probability.shape[1])):
        raise Problem(f"Of {probability.shape[1]} classes, {len(set(code))} have images: figures need all of them.")
    return code, probability


def measure(code, probability, names: list[str]) -> dict:
    """Figures of merit of a classifier of several classes, which calls the most probable one.

    Parameters
    ----------
    code : array of int, shape (images,)
    probability : array of float, shape (images, classes)
    names : list of str, one a class

    Returns
    -------
    dict
        ``accuracy``, ``balanced_accuracy`` (mean recall), ``macro_f1`` and ``macro_auc`` (means over classes, each
        against the rest), ``kappa`` (Cohen's), and ``f1``, ``auc``, ``recall``, ``precision`` by class name.

    Raises
    ------
    Problem
        Probabilities that are NaN, or a class without images.
    """
    code, probability = _checked(code, probability)
    called, every = probability.argmax(axis=1), range(len(names))
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(code, called, labels=every, zero_division=0)
    auc = [metrics.roc_auc_score(code == k, probability[:, k]) for k in every]
    by_class = {"f1": f1, "auc": auc, "recall": recall, "precision": precision}
    return {"accuracy": float((called == code).mean()), "balanced_accuracy": float(recall.mean()),
            "macro_f1": float(f1.mean()), "macro_auc": float(np.mean(auc)),
            "kappa": float(metrics.cohen_kappa_score(code, called)),
            **{figure: dict(zip(names, map(float, values))) for figure, values in by_class.items()}}


def intervals(code, probability, times: np.ndarray) -> dict[str, list[float]]:
    """95% intervals of accuracy, balanced accuracy, macro F1 and macro AUC, by the bootstrap.

    Parameters
    ----------
    code : array of int, shape (images,)
    probability : array of float, shape (images, classes)
    times : ndarray, shape (resamples, images), from `evaluate.resample`, whose labels were these classes

    Returns
    -------
    dict of name to [low, high]
    """
    code, probability = _checked(code, probability)
    called, every = probability.argmax(axis=1), range(probability.shape[1])
    right = np.stack([times @ ((code == k) & (called == k)) for k in every])
    there = np.stack([times @ (code == k) for k in every])
    said = np.stack([times @ (called == k) for k in every])
    auc = np.stack([spread(code == k, probability[:, k], 0.5, times)["auc"] for k in every])
    values = {"accuracy": right.sum(axis=0) / there.sum(axis=0), "balanced_accuracy": (right / there).mean(axis=0),
              "macro_f1": (2 * right / (there + said)).mean(axis=0), "macro_auc": auc.mean(axis=0)}
    return {name: interval(value) for name, value in values.items()}


def confusion(code, probability, names: list[str]) -> pd.DataFrame:
    """Images by class (rows) and by the class that is called (columns)."""
    code, probability = _checked(code, probability)
    found = metrics.confusion_matrix(code, probability.argmax(axis=1), labels=range(len(names)))
    return pd.DataFrame(found, index=pd.Index(names, name="label"), columns=names)
