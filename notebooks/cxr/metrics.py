"""Figures of merit for a probability of pneumonia, or for one of several classes, each with its interval.

Intervals and tests come from one set of resampled *patients* (`resample`), shared by all that is compared: films of one
patient are not independent, nor are two networks that score the same films. In all functions `y_true` has shape
(images,), 1 or the class; `y_score` too, or (images, classes); `times` is (resamples, images), from `resample`.
"""

import numpy as np
import pandas as pd
from scipy import stats
from sklearn import metrics

from .paths import Problem

NAMES = "accuracy balanced_accuracy auc average_precision sensitivity specificity ppv npv f1 mcc".split()
COUNTS = ["true_negatives", "false_positives", "false_negatives", "true_positives"]


def checked(y_true, y_score) -> tuple[np.ndarray, np.ndarray]:
    """Both as arrays; a Problem where a score is not a number, or a class has no image."""
    y_true, y_score = np.asarray(y_true, int), np.asarray(y_score, float)
    broken = int((~np.isfinite(y_score)).sum())
    if broken:
        raise Problem(
            f"{broken} of {y_score.size} probabilities are not numbers, for the training has diverged: set the "
            "learning rate in the parameters of the notebook that trained the network to a tenth, and run it again."
        )
    classes, found = y_score.shape[1] if y_score.ndim > 1 else 2, set(y_true)
    if len(found) < 2 or (y_score.ndim > 1 and found != set(range(classes))):
        raise Problem(
            f"Of {classes} classes, {len(found)} have images in this split (02_split.csv): figures need all of them, "
            "so add images of the others and run from 01_download.ipynb."
        )
    return y_true, y_score


def youden_threshold(y_true, y_score) -> float:
    """The threshold with the largest sensitivity + specificity - 1 (Youden 1950); pneumonia from there on.

    It lies half-way between two scores.
    """
    y_true, y_score = checked(y_true, y_score)
    if np.ptp(y_score) == 0:
        raise Problem(
            f"Every image gets the probability {y_score[0]:.3f}, for the model has learned nothing: set more "
            "epochs or another learning rate in the parameters of the notebook that trained it, and run it again."
        )
    false, true, scores = metrics.roc_curve(y_true, y_score, drop_intermediate=False)
    best = 1 + np.argmax(true[1:] - false[1:])  # the first one stands for "call nothing"
    return float((scores[best] + np.append(scores, 0.0)[best + 1]) / 2)


def auc(y_true, y_score) -> float:
    """Area under the ROC curve: how often a film with pneumonia gets a higher score than a normal one."""
    return float(metrics.roc_auc_score(*checked(y_true, y_score)))


def _rates(tn, fp, fn, tp) -> dict:
    """Those of `NAMES` that follow from the four counts, numbers or arrays; NaN where one is not defined."""
    return {
        "accuracy": (tp + tn) / (tp + tn + fp + fn),
        "balanced_accuracy": (tp / (tp + fn) + tn / (tn + fp)) / 2,
        "sensitivity": tp / (tp + fn),
        "specificity": tn / (tn + fp),
        "ppv": tp / (tp + fp),
        "npv": tn / (tn + fn),
        "f1": 2 * tp / (2 * tp + fp + fn),
        "mcc": (tp * tn - fp * fn) / np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)),
    }


def measure(y_true, y_score, threshold: float) -> dict:
    """The figures of `NAMES` (0 where one is not defined) at a threshold, and the four counts behind them."""
    y_true, y_score = checked(y_true, y_score)
    called = (y_score >= threshold).astype(int)
    counts = metrics.confusion_matrix(y_true, called, labels=[0, 1]).ravel()
    with np.errstate(invalid="ignore"):
        found = _rates(*counts.astype(float))
    found["auc"] = metrics.roc_auc_score(y_true, y_score)
    found["average_precision"] = metrics.average_precision_score(y_true, y_score)
    found["mcc"] = metrics.matthews_corrcoef(y_true, called)
    figures = {name: float(np.nan_to_num(found[name])) for name in NAMES}
    return {"threshold": float(threshold)} | figures | dict(zip(COUNTS, counts.tolist()))


def auc_by_kind(y_true, y_score, kinds: list[str]) -> dict[str, float]:
    """AUC by kind of draw; `y_score` is (draws, images), `kinds` a name a draw (`corruptions.validation_variants`)."""
    by_kind = {kind: y_score[np.array(kinds) == kind] for kind in dict.fromkeys(kinds)}
    return {kind: auc(np.tile(y_true, len(own)), own.ravel()) for kind, own in by_kind.items()}


def resample(table: pd.DataFrame, resamples: int = 2000, seed: int = 0) -> np.ndarray:
    """How often each resample holds each image, patients drawn with replacement within each class.

    `table` has ``label`` (from 0) and ``patient``. Use the same for everything that is to be compared.
    """
    label, _ = checked(table.label, np.zeros(len(table)))
    rng, times = np.random.default_rng(seed), np.zeros((resamples, len(table)))
    for one_class in sorted(set(label)):
        patient, names = pd.factorize(table.patient.where(label == one_class))
        drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
        times[:, patient >= 0] = drawn[:, patient[patient >= 0]]
    return times


def interval(values: np.ndarray) -> list[float]:
    """The 2.5th and 97.5th percentile of resampled values (Efron & Tibshirani 1993, chapter 13)."""
    return np.percentile(values, [2.5, 97.5]).tolist()


def _by_score(label: np.ndarray, score: np.ndarray, times: np.ndarray) -> list[np.ndarray]:
    """How many images of label 0, and of label 1, have each score, the highest first: (resamples, scores) each."""
    order = np.argsort(-score, kind="stable")
    ties = np.flatnonzero(np.diff(-score[order], prepend=-np.inf))
    return [np.add.reduceat((times * (label == c))[:, order], ties, axis=1) for c in (0, 1)]


def spread(y_true, y_score, threshold: float, times: np.ndarray) -> dict[str, np.ndarray]:
    """The figures of `NAMES` in every resample."""
    y_true, y_score = checked(y_true, y_score)
    called = y_score >= threshold
    counts = [times @ ((y_true == truth) & (called == answer)) for truth in (0, 1) for answer in (0, 1)]
    healthy, ill = _by_score(y_true, y_score, times)
    healthy_above, ill_above = healthy.cumsum(axis=1), ill.cumsum(axis=1)  # at a score or higher
    with np.errstate(invalid="ignore", divide="ignore"):
        found, precision = _rates(*counts), ill_above / (ill_above + healthy_above)
        # AUC as a rank statistic (Mann-Whitney), ties counting half
        pairs, lost = ill_above[:, -1] * healthy_above[:, -1], (ill * (healthy_above - healthy / 2)).sum(axis=1)
        found["auc"] = 1 - lost / pairs
        found["average_precision"] = np.nansum(ill * precision, axis=1) / ill_above[:, -1]
    return {name: np.nan_to_num(found[name]) for name in NAMES}


def intervals(y_true, y_score, threshold: float, times: np.ndarray) -> dict[str, list[float]]:
    """The 95% `interval` of each of `NAMES` over resamples."""
    return {name: interval(values) for name, values in spread(y_true, y_score, threshold, times).items()}


def mean_with(values, times: np.ndarray) -> dict[str, float]:
    """The ``mean`` of `values` (images,) and its 95% interval, ``low`` to ``high``."""
    values = np.asarray(values, float)
    low, high = interval(times @ values / times.sum(axis=1))
    return {"mean": float(values.mean()), "low": low, "high": high}


def bands(y_true, y_score, times: np.ndarray, points: int = 101) -> pd.DataFrame:
    """ROC and precision-recall curve with pointwise 95% bands, ``..._low`` and ``..._high``.

    ``sensitivity`` at the false positive rate ``at``, ``precision`` at the sensitivity ``at`` (step curves).
    """
    y_true, y_score = checked(y_true, y_score)
    counts = _by_score(y_true, y_score, np.vstack([np.ones(len(y_true)), times]))
    at, sensitivity, precision = np.linspace(0, 1, points), [], []
    for healthy, ill in zip(*(count.cumsum(axis=1) for count in counts)):
        false, true = np.append(0, healthy / healthy[-1]), ill / ill[-1]
        sensitivity.append(np.append(0, true)[np.searchsorted(false, at + 1e-12, side="right") - 1])
        fewest = np.searchsorted(true, np.maximum(at - 1e-12, 1e-12))  # calls that reach it
        precision.append((ill / np.maximum(ill + healthy, 1e-12))[fewest])
    table = pd.DataFrame({"at": at})
    for name, (curve, *resampled) in {"sensitivity": sensitivity, "precision": precision}.items():
        table[name] = curve
        table[f"{name}_low"], table[f"{name}_high"] = np.percentile(resampled, [2.5, 97.5], axis=0)
    return table


def subgroups(
    table: pd.DataFrame, groups: dict, threshold: float, resamples: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """Sensitivity, specificity and AUC, with intervals, in `groups` (by name, bool Series) of a scored table.

    `table` has ``label``, ``probability``, ``patient``. A group of one class is held against all images of the other
    one for the AUC. Where all films of a class are right, or all wrong, a bootstrap has no width: then the interval is
    Clopper and Pearson's over patients (1934).
    """
    rows = []
    for name, inside in groups.items():
        members = table[inside]
        classes = set(members.label)
        if not classes:
            continue
        used = members if len(classes) == 2 else table[inside | ~table.label.isin(classes)]
        figures = measure(used.label, used.probability, threshold)
        drawn = spread(used.label, used.probability, threshold, resample(used, resamples, seed))
        row = {"group": name, "images": len(members), "patients": members.patient.nunique()}
        for figure, its_class in (("sensitivity", 1), ("specificity", 0), ("auc", None)):
            value, (low, high) = figures[figure], interval(drawn[figure])
            if its_class is not None and its_class not in classes:
                value = low = high = np.nan
            elif its_class is not None and value in (0.0, 1.0):
                people = members.patient[members.label == its_class].nunique()
                low, high = stats.binomtest(int(value) * people, people).proportion_ci(method="exact")
            row |= {figure: value, f"{figure}_low": low, f"{figure}_high": high}
        rows.append(row)
    return pd.DataFrame(rows)


def measure_seeds(y_true, scores: list[np.ndarray], thresholds) -> pd.DataFrame:
    """`measure` of every seed, a row each, with the seed's own threshold."""
    return pd.DataFrame([measure(y_true, own, limit) for own, limit in zip(scores, thresholds, strict=True)])


def over_seeds(by_seed: pd.DataFrame) -> dict:
    """What `measure_seeds` returns, for JSON: ``count``, the ``mean`` and ``sd`` of `NAMES`, and ``each`` seed."""
    figures = by_seed[NAMES]
    summary = {"count": len(by_seed), "mean": figures.mean().to_dict(), "sd": or_none(figures.std())}
    return summary | {"each": by_seed.to_dict("records")}


def spread_seeds(y_true, seeds: list[tuple], times: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Mean figures of `NAMES` over seeds in every resample: patients are drawn (`times`), and so are the seeds.

    `seeds` has a pair (scores, threshold) each. A handful of them differs less than seeds at large, so intervals are a
    little too narrow.
    """
    drawn = [spread(y_true, *seed, times) for seed in seeds]
    taken = rng.integers(len(seeds), size=(len(times), len(seeds)))
    each = {name: np.stack([one[name] for one in drawn], axis=1) for name in NAMES}  # (resamples, seeds)
    return {name: np.take_along_axis(own, taken, 1).mean(axis=1) for name, own in each.items()}


def evaluate_seeds(y_true, seeds: list[tuple], times: np.ndarray) -> dict:
    """`over_seeds` of pairs (scores, threshold), and ``intervals_95`` of the means over patients and seeds."""
    drawn = spread_seeds(y_true, seeds, times, np.random.default_rng(0))
    bounds = {name: interval(values) for name, values in drawn.items()}
    return over_seeds(measure_seeds(y_true, *zip(*seeds))) | {"intervals_95": bounds}


def compare_seeds(y_true, ours: list[tuple], others: list[tuple], times: np.ndarray, seed: int = 0) -> dict[str, dict]:
    """Mean of `ours` less that of `others`, pairs (scores, threshold): ``value`` and ``interval`` of each figure."""
    rng = np.random.default_rng(seed)
    means = [measure_seeds(y_true, *zip(*seeds)).mean() for seeds in (ours, others)]
    a, b = (spread_seeds(y_true, seeds, times, rng) for seeds in (ours, others))
    return {
        name: {"value": float(means[0][name] - means[1][name]), "interval": interval(a[name] - b[name])}
        for name in NAMES
    }


def stacked(films: pd.DataFrame, scores: list[np.ndarray]) -> pd.DataFrame:
    """Scores of some seeds one below the other: ``seed``, ``path``, ``label`` and ``probability``."""
    every = [films[["path", "label"]].assign(seed=seed, probability=own) for seed, own in enumerate(scores)]
    return pd.concat(every)[["seed", "path", "label", "probability"]]


def unstacked(table: pd.DataFrame, paths: pd.Series, seeds: pd.DataFrame) -> list[tuple[np.ndarray, float]]:
    """Of a `stacked` table, a pair (scores of these `paths`, threshold) for each row of `seeds`."""
    limits, by_seed = seeds.set_index("seed").threshold, table.set_index("path").groupby("seed")
    return [(films.loc[paths].probability.to_numpy(), limits[seed]) for seed, films in by_seed]


def class_codes(table: pd.DataFrame) -> tuple[np.ndarray, list[str]]:
    """The class of each image by its ``subtype`` (or else its folder) as a number, normal 0; and the classes' names."""
    name = table.subtype.where(table.subtype != "", table.class_name.str.lower())
    names = ["normal", *sorted(set(name[table.label == 1]))]
    if len(names) < 3:
        raise Problem(
            f"The images are of {len(names)} kinds only ({', '.join(names)}): 08 needs three, told apart by "
            "class folders or by bacteria and virus in the file names."
        )
    if "split" in table:
        counts = pd.crosstab(table.split, name).reindex(["train", "val", "test"], fill_value=0)[names].stack()
        for part, missing in counts.index[counts == 0]:
            raise Problem(
                f"The {part} split has no {missing} image (02_split.csv): add "
                "patients of that kind, or choose another SPLIT_SEED in 02_explore.ipynb."
            )
    return name.map(names.index).to_numpy(), names


def predict(network, pictures: np.ndarray, batch_size: int = 128) -> np.ndarray:
    """Scores of uint8 `pictures` (images, size, size) to six decimals; (images, outputs) where there are several."""
    found = network.predict(pictures[..., None], batch_size=batch_size, verbose=0).astype(float).round(6)
    return found[:, 0] if found.shape[1] == 1 else found


def or_none(values: pd.DataFrame | pd.Series) -> list[dict] | dict:
    """For JSON, which has no NaN: a table as its rows, a series as a dict, None where there is no number."""
    values = values.astype(object).where(values.notna(), None)
    return values.to_dict("records") if isinstance(values, pd.DataFrame) else values.to_dict()


def with_interval(value: float, interval: list[float]) -> str:
    """``0.931 (0.911 to 0.950)``."""
    return f"{value:.3f} ({interval[0]:.3f} to {interval[1]:.3f})"


def plus_minus(mean: float, deviation: float | None) -> str:
    """``0.931 ± 0.004``, or the mean alone where one seed has no deviation (None or NaN)."""
    return f"{mean:.3f}" if deviation is None or deviation != deviation else f"{mean:.3f} ± {deviation:.3f}"
