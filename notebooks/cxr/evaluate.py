"""Figures of merit for a probability of pneumonia: thresholds, metrics, intervals. Label 1 is the positive class."""

import numpy as np
import pandas as pd
from sklearn import metrics

from .project import Problem

NAMES = ["accuracy", "auc", "sensitivity", "specificity", "precision", "f1"]


def _checked(label, probability) -> tuple[np.ndarray, np.ndarray]:
    label, probability = np.asarray(label, int), np.asarray(probability, float)
    if not np.isfinite(probability).all():
        raise Problem(f"{(~np.isfinite(probability)).sum()} of {len(probability)} probabilities are not numbers: the "
                      "training has diverged, so run 04_train.ipynb again with a smaller LEARNING_RATE.")
    if len(np.unique(label)) < 2:
        raise Problem("All images of this split carry the same label (02_split.csv): metrics need both classes, so add "
                      "the other one and run from 01_download.ipynb.")
    return label, probability


def youden_threshold(label, probability) -> float:
    """The threshold with the largest sensitivity + specificity - 1 (Youden 1950, Cancer 3:32-35).

    Parameters
    ----------
    label : array of 0 and 1, shape (images,)
    probability : array of float, shape (images,)

    Returns
    -------
    float
        Call an image pneumonia where its probability is at least this. It lies half-way between two scores.

    Raises
    ------
    Problem
        Probabilities that are NaN or all the same, or labels of one class.
    """
    label, probability = _checked(label, probability)
    if np.ptp(probability) == 0:
        raise Problem(f"Every image gets the probability {probability[0]:.3f}: the model has learned nothing, so run "
                      "04_train.ipynb again with more EPOCHS or another LEARNING_RATE.")
    false, true, scores = metrics.roc_curve(label, probability, drop_intermediate=False)
    best = 1 + np.argmax((true - false)[1:])  # the first one stands for "call nothing"
    below = scores[best + 1] if best + 1 < len(scores) else 0.0
    return float((scores[best] + below) / 2)


def measure(label, probability, threshold: float) -> dict:
    """Accuracy, AUC, sensitivity, specificity, precision and F1, with the four counts behind them.

    Parameters
    ----------
    label : array of 0 and 1, shape (images,)
    probability : array of float, shape (images,)
    threshold : float
        An image is called pneumonia at this probability or above.

    Raises
    ------
    Problem
        Probabilities that are NaN, or labels of one class.
    """
    label, probability = _checked(label, probability)
    decision = (probability >= threshold).astype(int)
    tn, fp, fn, tp = (int(n) for n in metrics.confusion_matrix(label, decision, labels=[0, 1]).ravel())
    return {
        "threshold": float(threshold),
        "accuracy": (tp + tn) / len(label),
        "auc": float(metrics.roc_auc_score(label, probability)),
        "sensitivity": tp / (tp + fn),
        "specificity": tn / (tn + fp),
        "precision": tp / (tp + fp) if tp + fp else 0.0,
        "f1": 2 * tp / (2 * tp + fp + fn),
        "true_negatives": tn, "false_positives": fp, "false_negatives": fn, "true_positives": tp,
    }


def intervals(table: pd.DataFrame, threshold: float, resamples: int = 2000, seed: int = 0) -> dict:
    """95% intervals by a bootstrap over patients: images of one patient are not independent.

    Patients are drawn with replacement within each class, so that every resample has both; percentile intervals
    (Efron & Tibshirani 1993, chapter 13).

    Parameters
    ----------
    table : DataFrame with the columns ``label``, ``probability``, ``patient``
    threshold : float
    resamples : int
    seed : int

    Returns
    -------
    dict
        ``{"accuracy": [low, high], ...}`` for accuracy, auc, sensitivity, specificity, precision, f1.
    """
    label, probability = _checked(table.label, table.probability)
    rng, times = np.random.default_rng(seed), np.zeros((resamples, len(table)))
    for one_class in (0, 1):  # times[r, i]: how often resample r holds image i
        patient, names = pd.factorize(table.patient.where(label == one_class))
        drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
        times[:, patient >= 0] = drawn[:, patient[patient >= 0]]
    called = probability >= threshold
    tp, fn = times @ (called & (label == 1)), times @ (~called & (label == 1))
    fp, tn = times @ (called & (label == 0)), times @ (~called & (label == 0))
    # AUC as a rank statistic (Mann-Whitney), ties counting half: for all resamples at once
    order = np.argsort(probability)
    ties = np.flatnonzero(np.diff(probability[order], prepend=-np.inf))
    healthy, ill = (np.add.reduceat((times * (label == c))[:, order], ties, axis=1) for c in (0, 1))
    auc = (ill * (healthy.cumsum(axis=1) - healthy / 2)).sum(axis=1) / (ill.sum(axis=1) * healthy.sum(axis=1))
    with np.errstate(invalid="ignore"):  # precision where a resample calls nothing
        values = {"accuracy": (tp + tn) / (tp + tn + fp + fn),
                  "auc": auc,
                  "sensitivity": tp / (tp + fn), "specificity": tn / (tn + fp), "precision": tp / (tp + fp),
                  "f1": 2 * tp / (2 * tp + fp + fn)}
    return {name: np.nanpercentile(values[name], [2.5, 97.5]).tolist() for name in NAMES}


def report(label, probability, threshold: float, names: tuple[str, str]) -> pd.DataFrame:
    """scikit-learn's classification report as a table: precision, recall, F1 and support of each class."""
    label, probability = _checked(label, probability)
    rows = metrics.classification_report(label, probability >= threshold, target_names=names, output_dict=True,
                                         zero_division=0)
    rows["accuracy"] = {"f1-score": rows["accuracy"], "support": len(label)}
    return pd.DataFrame(rows).T.rename_axis("class").reset_index()


def predict(network, pictures: np.ndarray, batch_size: int = 128) -> np.ndarray:
    """Probability of pneumonia for each picture.

    Parameters
    ----------
    network : keras.Model
    pictures : ndarray of uint8, shape (images, size, size)
    batch_size : int

    Returns
    -------
    ndarray of float, shape (images,)
    """
    return network.predict(pictures[..., None], batch_size=batch_size, verbose=0)[:, 0].astype(float)
