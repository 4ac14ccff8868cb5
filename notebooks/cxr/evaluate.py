"""Figures of merit for a probability of pneumonia, each with its interval. Label 1 is the positive class.

Intervals and tests come from one set of resampled *patients* (`resample`), shared by all that is compared: images of
one patient are not independent, and two networks scored on the same X-rays are not either.
"""

import numpy as np
import pandas as pd
from scipy import stats
from sklearn import metrics

from .project import Problem

NAMES = ["accuracy", "balanced_accuracy", "auc", "average_precision", "sensitivity", "specificity", "ppv", "npv", "f1",
         "mcc"]


def checked(label, probability) -> tuple[np.ndarray, np.ndarray]:
    """Both as arrays; a Problem where a probability is not a number, or there is one class only."""
    label, probability = np.asarray(label, int), np.asarray(probability, float)
    if not np.isfinite(probability).all():
        raise Problem(f"{(~np.isfinite(probability)).sum()} of {len(probability)} probabilities are not numbers: the "
                      "training has diverged, so run 04_train.ipynb again with a smaller LEARNING_RATE.")
    if len(np.unique(label)) < 2:
        raise Problem("All images of this split carry the same label (02_split.csv): metrics need both classes, so add "
                      "the other one and run from 01_download.ipynb.")
    return label, probability


def _curve(label, probability) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sensitivity, specificity and threshold of every cut between two scores, from the highest score down."""
    label, probability = checked(label, probability)
    if np.ptp(probability) == 0:
        raise Problem(f"Every image gets the probability {probability[0]:.3f}: the model has learned nothing, so run "
                      "04_train.ipynb again with more EPOCHS or another LEARNING_RATE.")
    false, true, scores = metrics.roc_curve(label, probability, drop_intermediate=False)
    below = np.append(scores[2:], 0.0)  # the first one stands for "call nothing"
    return true[1:], 1 - false[1:], (scores[1:] + below) / 2


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
    sensitivity, specificity, threshold = _curve(label, probability)
    return float(threshold[np.argmax(sensitivity + specificity)])


def threshold_for(label, probability, sensitivity: float = 0.0, specificity: float = 0.0) -> float:
    """The threshold that reaches a wanted sensitivity (or specificity) and has the most of the other one.

    Parameters
    ----------
    label : array of 0 and 1, shape (images,)
    probability : array of float, shape (images,)
    sensitivity, specificity : float
        At least this, from 0 to 1; give one of them.

    Returns
    -------
    float

    Raises
    ------
    Problem
        As `youden_threshold`; or both are asked for, and no threshold has both.
    """
    found, spared, threshold = _curve(label, probability)
    there, other = (found >= sensitivity) & (spared >= specificity), spared if sensitivity else found
    if not there.any():
        raise Problem(f"No threshold has a sensitivity of {sensitivity} and a specificity of {specificity} on "
                      "validation: ask for one of them only, in 05_evaluate.ipynb.")
    return float(threshold[np.argmax(np.where(there, other, -1))])


def auc(label, probability) -> float:
    """Area under the ROC curve: how often an X-ray with pneumonia gets a higher probability than a normal one."""
    return float(metrics.roc_auc_score(*checked(label, probability)))


def measure(label, probability, threshold: float) -> dict:
    """The figures of `NAMES` at one threshold, with the four counts behind them.

    Parameters
    ----------
    label : array of 0 and 1, shape (images,)
    probability : array of float, shape (images,)
    threshold : float
        An image is called pneumonia at this probability or above.

    Returns
    -------
    dict
        ``accuracy``, ``balanced_accuracy``, ``auc``, ``average_precision``, ``sensitivity``, ``specificity``, ``ppv``
        and ``npv`` (positive and negative predictive value; 0 where nothing is called so), ``f1``, ``mcc`` (Matthews'
        correlation), ``threshold``, and the counts.

    Raises
    ------
    Problem
        Probabilities that are NaN, or labels of one class.
    """
    label, probability = checked(label, probability)
    decision = (probability >= threshold).astype(int)
    tn, fp, fn, tp = (int(n) for n in metrics.confusion_matrix(label, decision, labels=[0, 1]).ravel())
    return {
        "threshold": float(threshold),
        "accuracy": (tp + tn) / len(label),
        "balanced_accuracy": (tp / (tp + fn) + tn / (tn + fp)) / 2,
        "auc": float(metrics.roc_auc_score(label, probability)),
        "average_precision": float(metrics.average_precision_score(label, probability)),
        "sensitivity": tp / (tp + fn),
        "specificity": tn / (tn + fp),
        "ppv": tp / (tp + fp) if tp + fp else 0.0,
        "npv": tn / (tn + fn) if tn + fn else 0.0,
        "f1": 2 * tp / (2 * tp + fp + fn),
        "mcc": float(metrics.matthews_corrcoef(label, decision)),
        "true_negatives": tn, "false_positives": fp, "false_negatives": fn, "true_positives": tp,
    }


def confusion(figures: dict) -> np.ndarray:
    """The four counts in `figures`, as `measure` returns them, as a matrix: by label (rows) and by answer (columns)."""
    return np.array([[figures["true_negatives"], figures["false_positives"]],
                     [figures["false_negatives"], figures["true_positives"]]])


# --- the bootstrap ---------------------------------------------------------------------------------------------

def resample(table: pd.DataFrame, resamples: int = 2000, seed: int = 0) -> np.ndarray:
    """Draw patients with replacement within each class, so that every resample has both.

    Parameters
    ----------
    table : DataFrame with the columns ``label`` (the class, from 0) and ``patient``
    resamples : int
    seed : int

    Returns
    -------
    ndarray of float, shape (resamples, images)
        How often each resample holds each image. Use the same for everything that is to be compared.
    """
    label, _ = checked(table.label, np.zeros(len(table)))
    rng, times = np.random.default_rng(seed), np.zeros((resamples, len(table)))
    for one_class in sorted(set(label)):
        patient, names = pd.factorize(table.patient.where(label == one_class))
        drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
        times[:, patient >= 0] = drawn[:, patient[patient >= 0]]
    return times


def spread(label, probability, threshold: float, times: np.ndarray) -> dict[str, np.ndarray]:
    """The figures of `NAMES` in every resample.

    Parameters
    ----------
    label : array of 0 and 1, shape (images,)
    probability : array of float, shape (images,)
    threshold : float
    times : ndarray, shape (resamples, images), from `resample`

    Returns
    -------
    dict of name to ndarray, shape (resamples,)
        As in `measure`, 0 where a resample does not define a figure, such as the PPV where nothing is called ill.
    """
    label, probability = checked(label, probability)
    called = probability >= threshold
    tp, fn = times @ (called & (label == 1)), times @ (~called & (label == 1))
    fp, tn = times @ (called & (label == 0)), times @ (~called & (label == 0))
    # what lies at or above each score, for all resamples at once; images of one score belong together
    order = np.argsort(-probability, kind="stable")
    ties = np.flatnonzero(np.diff(-probability[order], prepend=-np.inf))
    healthy, ill = (np.add.reduceat((times * (label == c))[:, order], ties, axis=1) for c in (0, 1))
    above, among = ill.cumsum(axis=1), healthy.cumsum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        # AUC as a rank statistic (Mann-Whitney), ties counting half
        auc = 1 - (ill * (among - healthy / 2)).sum(axis=1) / (above[:, -1] * among[:, -1])
        precision = above / (above + among)
        found = {"accuracy": (tp + tn) / (tp + tn + fp + fn),
                "balanced_accuracy": (tp / (tp + fn) + tn / (tn + fp)) / 2,
                "auc": auc, "average_precision": np.nansum(ill * precision, axis=1) / above[:, -1],
                "sensitivity": tp / (tp + fn), "specificity": tn / (tn + fp), "ppv": tp / (tp + fp),
                "npv": tn / (tn + fn), "f1": 2 * tp / (2 * tp + fp + fn),
                "mcc": (tp * tn - fp * fn) / np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))}
    return {name: np.nan_to_num(values) for name, values in found.items()}


def interval(values: np.ndarray) -> list[float]:
    """The 2.5th and 97.5th percentile of resampled values (Efron & Tibshirani 1993, chapter 13)."""
    return np.percentile(values, [2.5, 97.5]).tolist()


def mean_with(values, times: np.ndarray, over=None) -> dict[str, float]:
    """A mean over images, or a ratio of two means, with its 95% interval.

    Parameters
    ----------
    values : array of float, shape (images,)
    times : ndarray, shape (resamples, images), from `resample`
    over : array of float, shape (images,), optional
        The mean of `values` is divided by the mean of these.

    Returns
    -------
    dict with ``mean``, ``low``, ``high``
    """
    values, below = np.asarray(values, float), np.ones(len(values)) if over is None else np.asarray(over, float)
    low, high = interval(times @ values / (times @ below))
    return {"mean": float(values.sum() / below.sum()), "low": low, "high": high}


def bands(label, probability, times: np.ndarray, points: int = 101) -> pd.DataFrame:
    """ROC and precision-recall curve with pointwise 95% bands.

    Returns
    -------
    DataFrame
        ``at`` (0 to 1, `points` of them); ``sensitivity`` at the false positive rate `at`, ``precision`` at the
        sensitivity `at`, each with ``_low`` and ``_high``. A rate between two scores has the better one's value
        (a step curve).
    """
    label, probability = checked(label, probability)
    order = np.argsort(-probability, kind="stable")
    ties = np.flatnonzero(np.diff(-probability[order], prepend=-np.inf))
    at, steps = np.linspace(0, 1, points), {"sensitivity": [], "precision": []}
    for weight in [np.ones(len(label)), *times]:
        healthy, ill = (np.add.reduceat((weight * (label == c))[order], ties).cumsum() for c in (0, 1))
        false, true = (np.append(0, part / part[-1]) for part in (healthy, ill))
        steps["sensitivity"].append(true[np.searchsorted(false, at + 1e-12, side="right") - 1])
        first = np.searchsorted(true[1:], np.maximum(at - 1e-12, 1e-12))  # the fewest calls that reach it
        steps["precision"].append((ill / np.maximum(ill + healthy, 1e-12))[first])
    table = pd.DataFrame({"at": at})
    for name, (own, *resampled) in steps.items():
        table[name] = own
        table[f"{name}_low"], table[f"{name}_high"] = np.percentile(resampled, [2.5, 97.5], axis=0)
    return table


def compare(label, one: tuple, other: tuple, times: np.ndarray) -> dict:
    """Is `one` better than `other` on the same images?

    Parameters
    ----------
    label : array of 0 and 1, shape (images,)
    one, other : (probability, threshold)
    times : ndarray, shape (resamples, images), from `resample`

    Returns
    -------
    dict
        ``differences`` (by name: ``value``, `one` less `other`; ``interval``, the paired bootstrap's 95%), and
        ``mcnemar``: images that only `one` gets right, those that only `other` does, and the exact ``p`` of such a
        split or a more uneven one if neither were better (McNemar 1947, Psychometrika 12:153-157). It takes images for
        independent; the intervals do not.
    """
    label = np.asarray(label, int)
    figures, drawn = ([what(label, *answer, *rest) for answer in (one, other)]
                      for what, rest in ((measure, ()), (spread, (times,))))
    right = [(np.asarray(probability) >= threshold) == label for probability, threshold in (one, other)]
    only = [int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())]
    p = stats.binomtest(only[0], sum(only)).pvalue if sum(only) else 1.0
    return {"differences": {name: {"value": figures[0][name] - figures[1][name],
                                   "interval": interval(drawn[0][name] - drawn[1][name])} for name in NAMES},
            "mcnemar": {"only_this_right": only[0], "only_other_right": only[1], "p": float(p)}}


def subgroups(table: pd.DataFrame, groups: dict[str, pd.Series], threshold: float, resamples: int = 2000,
              seed: int = 0) -> pd.DataFrame:
    """Sensitivity, specificity and AUC in parts of a split.

    Parameters
    ----------
    table : DataFrame with the columns ``label``, ``probability``, ``patient``
    groups : dict of name to Series of bool, the index of `table`
        A group of one class is held against *all* images of the other class for the AUC, and has no other half:
        bacterial pneumonia has a sensitivity and no specificity. A group without images is left out.
    threshold : float
    resamples : int
    seed : int

    Returns
    -------
    DataFrame, one row a group
        ``group``, ``images``, ``patients``; ``sensitivity``, ``specificity``, ``auc`` and their 95% intervals,
        ``..._low`` and ``..._high``; NaN where there is none. Where all films of a class are right, or all wrong, the
        interval is Clopper and Pearson's over patients (1934), for a bootstrap of equal values has no width.
    """
    rows = []
    for name, inside in groups.items():
        own = table[inside]
        if not len(own):
            continue
        classes = set(own.label)
        used = own if len(classes) == 2 else table[inside | ~table.label.isin(classes)]
        figures = measure(used.label, used.probability, threshold)
        drawn = spread(used.label, used.probability, threshold, resample(used, resamples, seed))
        row = {"group": name, "images": len(own), "patients": own.patient.nunique()}
        for what, shown in (("sensitivity", 1 in classes), ("specificity", 0 in classes), ("auc", True)):
            low, high = interval(drawn[what]) if shown else (np.nan, np.nan)
            if shown and what != "auc" and figures[what] in (0.0, 1.0):  # no resample can have another value
                people = own.patient[own.label == (what == "sensitivity")].nunique()
                sure = stats.binomtest(int(figures[what]) * people, people).proportion_ci(method="exact")
                low, high = sure.low, sure.high
            row |= {what: figures[what] if shown else np.nan, f"{what}_low": low, f"{what}_high": high}
        rows.append(row)
    return pd.DataFrame(rows)


def or_none(values: pd.DataFrame | pd.Series) -> list[dict] | dict:
    """For JSON, which has no NaN: a table as its rows, a series as a dict, None where there is no number."""
    values = values.astype(object).where(values.notna(), None)
    return values.to_dict("records") if isinstance(values, pd.DataFrame) else values.to_dict()


def report(label, probability, threshold: float, names: tuple[str, str]) -> pd.DataFrame:
    """scikit-learn's classification report as a table: precision, recall, F1 and support of each class."""
    label, probability = checked(label, probability)
    rows = metrics.classification_report(label, probability >= threshold, target_names=names, output_dict=True,
                                         zero_division=0)
    rows["accuracy"] = {"f1-score": rows["accuracy"], "support": len(label)}
    return pd.DataFrame(rows).T.rename_axis("class").reset_index()


def predict(network, pictures: np.ndarray, batch_size: int = 128) -> np.ndarray:
    """Probability of pneumonia for each picture, to six decimals, as the tables in ``results/`` keep it.

    Parameters
    ----------
    network : keras.Model
        One output or, for several networks in one, several.
    pictures : ndarray of uint8, shape (images, size, size)
    batch_size : int

    Returns
    -------
    ndarray of float, shape (images,) or (images, outputs)
    """
    found = network.predict(pictures[..., None], batch_size=batch_size, verbose=0).astype(float).round(6)
    return found[:, 0] if found.shape[1] == 1 else found
