"""Figures of merit for a probability of pneumonia, or for one of several classes, each with its interval.

Intervals and tests come from one set of resampled *patients* (`resample`), shared by all that is compared: images of
one patient are not independent, and two networks scored on the same X-rays are not either. With two classes label 1
is the positive one. In all functions `label` has shape (images,), and `probability` too, or (images, classes) where
there are several; `times` has shape (resamples, images) and comes from `resample`. All raise the Problems of `checked`.
"""

import numpy as np
import pandas as pd
from scipy import stats
from sklearn import metrics

from .paths import Problem

NAMES = "accuracy balanced_accuracy auc average_precision sensitivity specificity ppv npv f1 mcc".split()
OVER_CLASSES = "accuracy balanced_accuracy macro_f1 macro_auc kappa".split()  # one number for all classes together
COUNTS = ["true_negatives", "false_positives", "false_negatives", "true_positives"]


def checked(label, probability) -> tuple[np.ndarray, np.ndarray]:
    """Both as arrays; a Problem where a probability is not a number, or a class has no image."""
    label, probability = np.asarray(label, int), np.asarray(probability, float)
    broken = int((~np.isfinite(probability)).sum())
    if broken:
        raise Problem(
            f"{broken} of {probability.size} probabilities are not numbers, for the training has diverged: set the "
            "learning rate in the parameters of the notebook that trained the network to a tenth, and run it again."
        )
    several, found = probability.shape[1:], len(np.unique(label))
    if several and set(label) != set(range(several[0])):
        raise Problem(
            f"Of {several[0]} classes, {found} have images in this split (02_split.csv): figures need all of them, so "
            "add images of the others and run from 01_download.ipynb."
        )
    if found < 2:
        raise Problem(
            "All images of this split carry the same label (02_split.csv): metrics need both classes, so add "
            "the other one and run from 01_download.ipynb."
        )
    return label, probability


def _curve(label, probability) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sensitivity, specificity and threshold of every cut between two scores, from the highest score down."""
    label, probability = checked(label, probability)
    if np.ptp(probability) == 0:
        raise Problem(
            f"Every image gets the probability {probability[0]:.3f}, for the model has learned nothing: set more "
            "epochs or another learning rate in the parameters of the notebook that trained it, and run it again."
        )
    false, true, scores = metrics.roc_curve(label, probability, drop_intermediate=False)
    below = np.append(scores[2:], 0.0)  # the first one stands for "call nothing"
    return true[1:], 1 - false[1:], (scores[1:] + below) / 2


def youden_threshold(label, probability) -> float:
    """The threshold with the largest sensitivity + specificity - 1 (Youden 1950, Cancer 3:32-35).

    An image is called pneumonia where its probability is at least this. It lies half-way between two scores. A Problem
    where all probabilities are the same.
    """
    sensitivity, specificity, threshold = _curve(label, probability)
    return float(threshold[np.argmax(sensitivity + specificity)])


def youden_by_name(table: pd.DataFrame, names: list[str]) -> dict[str, float]:
    """`youden_threshold` of each of these columns of probabilities; `table` has ``label`` as well."""
    return {name: youden_threshold(table.label, table[name]) for name in names}


def threshold_for(label, probability, sensitivity: float = 0.0, specificity: float = 0.0) -> float:
    """The threshold that reaches a wanted sensitivity (or specificity, 0 to 1) and has the most of the other one.

    A Problem as in `youden_threshold`; or where both are asked for, and no threshold has both.
    """
    reached, spared, threshold = _curve(label, probability)
    enough, other = (reached >= sensitivity) & (spared >= specificity), spared if sensitivity else reached
    if not enough.any():
        raise Problem(
            f"No threshold has a sensitivity of {sensitivity} and a specificity of {specificity} on "
            "validation: ask for one of them only, in 05_evaluate.ipynb."
        )
    return float(threshold[np.argmax(np.where(enough, other, -1))])


def best_accuracy(label, probability) -> float:
    """The highest accuracy that any threshold reaches: chosen on these very images, so an upper bound.

    Problems as in `youden_threshold`.
    """
    sensitivity, specificity, _ = _curve(label, probability)
    ill = float(np.mean(label))
    return max(float((ill * sensitivity + (1 - ill) * specificity).max()), 1 - ill)  # the last calls nobody ill


def auc(label, probability) -> float:
    """Area under the ROC curve: how often an X-ray with pneumonia gets a higher probability than a normal one."""
    return float(metrics.roc_auc_score(*checked(label, probability)))


def _rates(tn, fp, fn, tp) -> dict:
    """Those of `NAMES` that follow from the four counts, which are numbers or arrays; NaN where one is not defined."""
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


def measure(label, probability, threshold: float) -> dict:
    """The figures of `NAMES` where an image is called pneumonia from `threshold` on, and the four counts behind them.

    ``ppv`` and ``npv`` are the positive and negative predictive value (0 where nothing is called so), ``mcc`` is
    Matthews' correlation.
    """
    label, probability = checked(label, probability)
    called = (probability >= threshold).astype(int)
    counts = metrics.confusion_matrix(label, called, labels=[0, 1]).ravel()
    with np.errstate(invalid="ignore"):
        found = _rates(*counts.astype(float))
    found["auc"] = metrics.roc_auc_score(label, probability)
    found["average_precision"] = metrics.average_precision_score(label, probability)
    found["mcc"] = metrics.matthews_corrcoef(label, called)
    figures = {name: float(np.nan_to_num(found[name])) for name in NAMES}
    return {"threshold": float(threshold)} | figures | dict(zip(COUNTS, counts.tolist()))


def measure_seeds(label, answers: list[np.ndarray], thresholds) -> pd.DataFrame:
    """`measure` of every seed, a row each: of `answers`, each (images,), with the seed's own threshold."""
    return pd.DataFrame([measure(label, said, limit) for said, limit in zip(answers, thresholds, strict=True)])


def accuracy_by_threshold(label, answers: list[tuple[np.ndarray, float]]) -> pd.DataFrame:
    """Accuracy of every seed, a row each: at its own threshold, at 0.5, and at the best one (`best_accuracy`).

    `answers` has a pair (probability, threshold) for each seed.
    """
    rows = []
    for said, threshold in answers:
        own, half = (measure(label, said, cut)["accuracy"] for cut in (threshold, 0.5))
        rows.append({"from validation": own, "0.5": half, "best on test": best_accuracy(label, said)})
    return pd.DataFrame(rows)


def over_seeds(by_seed: pd.DataFrame) -> dict:
    """What `measure_seeds` returns, for JSON: ``count``, the ``mean`` and ``sd`` of `NAMES`, and ``each`` seed."""
    figures = by_seed[NAMES]
    summary = {"count": len(by_seed), "mean": figures.mean().to_dict(), "sd": or_none(figures.std())}
    return summary | {"each": by_seed.to_dict("records")}


def stacked(films: pd.DataFrame, answers: list[np.ndarray]) -> pd.DataFrame:
    """Answers of some seeds one below the other: ``seed``, ``path``, ``label`` and ``probability``.

    `films` has ``path`` and ``label``, and each of the `answers` a probability a film.
    """
    every = [films[["path", "label"]].assign(seed=seed, probability=said) for seed, said in enumerate(answers)]
    return pd.concat(every)[["seed", "path", "label", "probability"]]


def kept_answers(val: pd.DataFrame, test: pd.DataFrame, films: pd.DataFrame, kept: str, plain: str) -> pd.DataFrame:
    """``05_predictions.csv``: the films of validation as they are, then those of test, and what is said of them.

    `test` has all columns that are kept; `val` has ``path``, ``label``, ``ensemble``, and the probabilities of the kept
    network and of the plain CNN in the columns `kept` and `plain`; `films` is ``02_split.csv``, where the rest stands.
    """
    columns = "path label subtype patient split probability ensemble plain".split()
    own = val[["path", "label", "ensemble"]].assign(probability=val[kept], plain=val[plain])
    own = own.merge(films[["path", "subtype", "patient", "split"]], on="path")
    return pd.concat([own, test])[columns]


def unstacked(table: pd.DataFrame, paths: pd.Series, seeds: pd.DataFrame) -> list[tuple[np.ndarray, float]]:
    """Of a table as from `stacked`, a pair (probability of the films at these `paths`, threshold) for each seed.

    `seeds` has ``seed`` and ``threshold``. It is what `compare_seeds` takes.
    """
    limits = seeds.set_index("seed").threshold
    by_seed = table.set_index("path").groupby("seed")
    return [(films.loc[paths].probability.to_numpy(), limits[seed]) for seed, films in by_seed]


def confusion(figures: dict) -> np.ndarray:
    """The four counts in `figures`, as `measure` returns them, as a matrix: by label (rows) and by answer (columns)."""
    return np.array([figures[name] for name in COUNTS]).reshape(2, 2)


def report(label, probability, threshold: float, names: tuple[str, str]) -> pd.DataFrame:
    """scikit-learn's classification report as a table: precision, recall, F1 and support of each class."""
    label, probability = checked(label, probability)
    called, options = probability >= threshold, {"output_dict": True, "zero_division": 0}
    rows = metrics.classification_report(label, called, target_names=names, **options)
    rows["accuracy"] = {"f1-score": rows["accuracy"], "support": len(label)}
    return pd.DataFrame(rows).T.rename_axis("class").reset_index()


# --- several classes -------------------------------------------------------------------------------------------


def class_codes(table: pd.DataFrame) -> tuple[np.ndarray, list[str]]:
    """The class of each image by its subtype, as a number from 0, and the names of the classes.

    `table` has the columns ``label``, ``subtype``, ``class_name`` and perhaps ``split``. ``normal`` is 0, the others
    follow by name; a subtype that the file name does not tell is the name of the folder. A Problem where there are
    fewer than three classes, or one of them is missing from a split.
    """
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


def auc_by_kind(label, probability, kinds: list[str]) -> dict[str, float]:
    """AUC of each kind of draws by name, all its draws together.

    `probability` has shape (draws, images), `label` shape (images,), and `kinds` one name a draw, as from
    `corruptions.validation_variants`.
    """
    said = {kind: probability[np.array(kinds) == kind] for kind in dict.fromkeys(kinds)}
    return {kind: auc(np.tile(label, len(own)), own.ravel()) for kind, own in said.items()}


def measure_multiclass(code, probability, names: list[str]) -> dict:
    """Figures of merit of a classifier of several classes, which calls the most probable one.

    `code` is the class of each image, from 0. The figures are ``accuracy``, ``balanced_accuracy`` (mean recall),
    ``macro_f1`` and ``macro_auc`` (means over classes, each against the rest), ``kappa`` (Cohen's), and ``f1``,
    ``auc``, ``recall``, ``precision`` by class name.
    """
    code, probability = checked(code, probability)
    called, every = probability.argmax(axis=1), range(len(names))
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(code, called, labels=every, zero_division=0)
    areas = [metrics.roc_auc_score(code == k, probability[:, k]) for k in every]
    figures = {
        "accuracy": float((called == code).mean()),
        "balanced_accuracy": float(recall.mean()),
        "macro_f1": float(f1.mean()),
        "macro_auc": float(np.mean(areas)),
        "kappa": float(metrics.cohen_kappa_score(code, called)),
    }
    by_class = {"f1": f1, "auc": areas, "recall": recall, "precision": precision}
    return figures | {name: dict(zip(names, map(float, values))) for name, values in by_class.items()}


def ill_auc(code, probability) -> float:
    """Among the ill alone, one kind against the other: AUC of the share of kind 2; NaN but for three classes.

    `code` is the class of each image, 0 normal, and `probability` has shape (images, classes).
    """
    code, probability = checked(code, probability)
    if probability.shape[1] != 3:
        return float("nan")
    ill = code > 0
    share = (probability[ill, 2] + 1e-9) / (probability[ill, 1:].sum(axis=1) + 2e-9)
    return auc(code[ill] == 2, share)


def by_kind_multiclass(code, probability, kinds: list[str], names: list[str]) -> dict[str, float]:
    """``plain_macro_auc``, ``plain_ill_auc`` and so on: macro AUC and `ill_auc` of each kind of draws, all its draws.

    `probability` has shape (draws, images, classes), `code` shape (images,), `kinds` one name a draw.
    """
    found = {}
    for kind in dict.fromkeys(kinds):
        own = probability[np.array(kinds) == kind]
        truth, said = np.tile(code, len(own)), np.concatenate(own)
        found[f"{kind}_macro_auc"] = measure_multiclass(truth, said, names)["macro_auc"]
        found[f"{kind}_ill_auc"] = ill_auc(truth, said)
    return found


def seeds_multiclass(code, answers: list[np.ndarray], names: list[str], times: np.ndarray) -> dict:
    """A network of several classes over its seeds: `answers` has an array (images, classes) a seed, seed 0 first.

    Returns ``mean``, ``sd`` (None for a single seed) and ``each`` of `OVER_CLASSES`; ``kept``, all of
    `measure_multiclass` for seed 0, with ``intervals_95``; ``ensemble``, the same for the mean of the answers.
    """
    measured = [measure_multiclass(code, said, names) for said in answers]
    each = pd.DataFrame(measured)[OVER_CLASSES].astype(float)
    return {
        **{"mean": each.mean().to_dict(), "sd": or_none(each.std()), "each": each.to_dict("records"), "kept_seed": 0},
        **{"intervals_95": intervals_multiclass(code, answers[0], times), "kept": measured[0]},
        "ensemble": measure_multiclass(code, np.mean(answers, axis=0), names),
    }


def intervals_multiclass(code, probability, times: np.ndarray) -> dict[str, list[float]]:
    """95% intervals of the first four figures of `measure_multiclass`; the labels behind `times` were the classes."""
    code, probability = checked(code, probability)
    called, every = probability.argmax(axis=1), range(probability.shape[1])
    right, there, said = (
        np.stack([times @ images for images in rows])
        for rows in zip(*(((code == k) & (called == k), code == k, called == k) for k in every))
    )
    areas = [spread(code == k, probability[:, k], 0.5, times)["auc"] for k in every]
    values = {
        "accuracy": right.sum(axis=0) / there.sum(axis=0),
        "balanced_accuracy": (right / there).mean(axis=0),
        "macro_f1": (2 * right / (there + said)).mean(axis=0),
        "macro_auc": np.mean(areas, axis=0),
    }
    return {name: interval(value) for name, value in values.items()}


def confusion_multiclass(code, probability, names: list[str]) -> pd.DataFrame:
    """Images by class (rows) and by the class that is called (columns)."""
    code, probability = checked(code, probability)
    counts = metrics.confusion_matrix(code, probability.argmax(axis=1), labels=range(len(names)))
    return pd.DataFrame(counts, index=pd.Index(names, name="label"), columns=names)


# --- the bootstrap ---------------------------------------------------------------------------------------------


def resample(table: pd.DataFrame, resamples: int = 2000, seed: int = 0) -> np.ndarray:
    """Draw patients with replacement within each class, so that every resample has all of them.

    `table` has the columns ``label`` (the class, from 0) and ``patient``. The result, of shape (resamples, images),
    says how often each resample holds each image. Use the same for everything that is to be compared.
    """
    label, _ = checked(table.label, np.zeros(len(table)))
    rng, times = np.random.default_rng(seed), np.zeros((resamples, len(table)))
    for one_class in sorted(set(label)):
        patient, names = pd.factorize(table.patient.where(label == one_class))
        drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
        times[:, patient >= 0] = drawn[:, patient[patient >= 0]]
    return times


def _by_score(label: np.ndarray, probability: np.ndarray, times: np.ndarray) -> list[np.ndarray]:
    """How many images of label 0, and of label 1, have each score, the highest first: (resamples, scores) each."""
    order = np.argsort(-probability, kind="stable")
    ties = np.flatnonzero(np.diff(-probability[order], prepend=-np.inf))
    return [np.add.reduceat((times * (label == c))[:, order], ties, axis=1) for c in (0, 1)]


def spread(label, probability, threshold, times: np.ndarray) -> dict[str, np.ndarray]:
    """The figures of `NAMES` in every resample, shape (resamples,) each.

    `threshold` is a number, or one for each resample (`youden_thresholds`). As in `measure`, 0 where a resample does
    not define a figure, such as the PPV where nothing is called ill.
    """
    label, probability = checked(label, probability)
    called = probability >= np.reshape(threshold, (-1, 1))  # (1, images) or (resamples, images)
    there = [(label == truth) & (called == answer) for truth in (0, 1) for answer in (0, 1)]
    counts = [times @ images[0] if len(images) == 1 else (times * images).sum(axis=1) for images in there]
    healthy, ill = _by_score(label, probability, times)
    healthy_above, ill_above = healthy.cumsum(axis=1), ill.cumsum(axis=1)  # at a score or higher
    with np.errstate(invalid="ignore", divide="ignore"):
        found, precision = _rates(*counts), ill_above / (ill_above + healthy_above)
        # AUC as a rank statistic (Mann-Whitney), ties counting half
        pairs, lost = ill_above[:, -1] * healthy_above[:, -1], (ill * (healthy_above - healthy / 2)).sum(axis=1)
        found["auc"] = 1 - lost / pairs
        found["average_precision"] = np.nansum(ill * precision, axis=1) / ill_above[:, -1]
    return {name: np.nan_to_num(found[name]) for name in NAMES}


def youden_thresholds(label, probability, times: np.ndarray) -> np.ndarray:
    """`youden_threshold` of every resample, shape (resamples,).

    An interval at a fixed threshold leaves out that the threshold itself was chosen on a few patients. With `times`
    drawn from the patients of validation (all draws of a film together), and the result given to `spread` with
    resamples of test, the interval holds that as well.
    """
    label, probability = checked(label, probability)
    scores = np.append(np.unique(probability)[::-1], 0.0)  # the highest first; below the last one, 0
    chosen = []
    for part in np.array_split(times, 1 + len(times) // 100):
        healthy, ill = _by_score(label, probability, part)
        above = [count.cumsum(axis=1) / np.maximum(count.sum(axis=1, keepdims=True), 1) for count in (healthy, ill)]
        at = np.argmax(above[1] - above[0], axis=1)
        later = (healthy + ill > 0) & (np.arange(len(scores) - 1) > at[:, None])  # lower scores in this resample
        below = np.where(later.any(axis=1), later.argmax(axis=1), len(scores) - 1)
        chosen.append((scores[at] + scores[below]) / 2)
    return np.concatenate(chosen)


def interval(values: np.ndarray) -> list[float]:
    """The 2.5th and 97.5th percentile of resampled values (Efron & Tibshirani 1993, chapter 13)."""
    return np.percentile(values, [2.5, 97.5]).tolist()


def with_bounds(label, probability, threshold: float, times: np.ndarray, figures=("accuracy", "auc")) -> dict:
    """Some `figures` of `measure`, with the bounds of their 95% intervals: ``auc``, ``auc_low``, ``auc_high``, ..."""
    values, drawn = measure(label, probability, threshold), spread(label, probability, threshold, times)
    found: dict[str, float] = {}
    for figure in figures:
        low, high = interval(drawn[figure])
        found |= {figure: values[figure], f"{figure}_low": low, f"{figure}_high": high}
    return found


def mean_with(values, times: np.ndarray, over=None) -> dict[str, float]:
    """The ``mean`` of `values` (images,) and its 95% interval, ``low`` to ``high``; divided by the mean of `over`."""
    values, below = np.asarray(values, float), np.ones(len(values)) if over is None else np.asarray(over, float)
    low, high = interval(times @ values / (times @ below))
    return {"mean": float(values.sum() / below.sum()), "low": low, "high": high}


def bands(label, probability, times: np.ndarray, points: int = 101) -> pd.DataFrame:
    """ROC and precision-recall curve with pointwise 95% bands.

    The columns are ``at`` (0 to 1, `points` of them), ``sensitivity`` at the false positive rate `at`, ``precision`` at
    the sensitivity `at`, each with ``_low`` and ``_high``. A rate between two scores has the better one's value (a
    step curve).
    """
    label, probability = checked(label, probability)
    counts = _by_score(label, probability, np.vstack([np.ones(len(label)), times]))
    at, sensitivity, precision = np.linspace(0, 1, points), [], []
    for healthy, ill in zip(*(count.cumsum(axis=1) for count in counts)):
        false, true = np.append(0, healthy / healthy[-1]), ill / ill[-1]
        sensitivity.append(np.append(0, true)[np.searchsorted(false, at + 1e-12, side="right") - 1])
        fewest = np.searchsorted(true, np.maximum(at - 1e-12, 1e-12))  # calls that reach it
        precision.append((ill / np.maximum(ill + healthy, 1e-12))[fewest])
    table = pd.DataFrame({"at": at})
    for name, (whole, *resampled) in {"sensitivity": sensitivity, "precision": precision}.items():
        table[name] = whole
        table[f"{name}_low"], table[f"{name}_high"] = np.percentile(resampled, [2.5, 97.5], axis=0)
    return table


def compare(label, one: tuple[np.ndarray, float], other: tuple[np.ndarray, float], times: np.ndarray) -> dict:
    """Is `one` better than `other`, each a pair (probability, threshold), on the same images?

    Returns ``differences`` (by name: ``value``, `one` less `other`; ``interval``, the paired bootstrap's 95%), and
    ``mcnemar``: images that only `one` gets right, those that only `other` does, and the exact ``p`` of such a split or
    a more uneven one if neither were better (McNemar 1947, Psychometrika 12:153-157). It takes images for independent;
    the intervals do not.
    """
    label = np.asarray(label, int)
    a, b = (measure(label, *answer) for answer in (one, other))
    drawn_a, drawn_b = (spread(label, *answer, times) for answer in (one, other))
    right_a, right_b = ((np.asarray(probability) >= threshold) == label for probability, threshold in (one, other))
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    p = stats.binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    differences = {
        name: {"value": a[name] - b[name], "interval": interval(drawn_a[name] - drawn_b[name])} for name in NAMES
    }
    mcnemar = {"only_this_right": only_a, "only_other_right": only_b, "p": float(p)}
    return {"differences": differences, "mcnemar": mcnemar}


def compare_seeds(
    label,
    ours: list[tuple[np.ndarray, float]],
    others: list[tuple[np.ndarray, float]],
    times: np.ndarray,
    seed: int = 0,
) -> dict[str, dict]:
    """Is one way of training better than another one, on other patients and with other seeds?

    `ours` and `others` have a pair (probability, threshold) for each seed. Returns by name of a figure the ``value``,
    the mean of `ours` less that of `others`, and its 95% ``interval``: in each resample patients are drawn, the same
    for all, and as many seeds of either as there are, with replacement. A handful of seeds differs less among
    themselves than seeds at large, so the interval is a little too narrow.
    """
    rng, means = np.random.default_rng(seed), []
    for answers in (ours, others):
        whole = pd.DataFrame([measure(label, *answer) for answer in answers]).mean()
        drawn = [spread(label, *answer, times) for answer in answers]
        taken = rng.integers(len(answers), size=(len(times), len(answers)))
        each = {name: np.stack([one[name] for one in drawn], axis=1) for name in NAMES}  # (resamples, seeds)
        means.append((whole, {name: np.take_along_axis(own, taken, 1).mean(axis=1) for name, own in each.items()}))
    (a, drawn_a), (b, drawn_b) = means
    return {
        name: {"value": float(a[name] - b[name]), "interval": interval(drawn_a[name] - drawn_b[name])} for name in NAMES
    }


def subgroups(
    table: pd.DataFrame, groups: dict[str, pd.Series], threshold: float, resamples: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """Sensitivity, specificity and AUC in parts of a split.

    `table` has the columns ``label``, ``probability``, ``patient``; `groups` maps a name to a Series of bool with the
    index of `table`. A group of one class is held against *all* images of the other class for the AUC, and has no
    other half: bacterial pneumonia has a sensitivity and no specificity. A group without images is left out.

    Returns a DataFrame, one row a group: ``group``, ``images``, ``patients``; ``sensitivity``, ``specificity``, ``auc``
    and their 95% intervals, ``..._low`` and ``..._high``; NaN where there is none. Where all films of a class are
    right, or all wrong, the interval is Clopper and Pearson's over patients (1934), for a bootstrap of equal values has
    no width.
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
            elif its_class is not None and value in (0.0, 1.0):  # no resample can have another value
                people = members.patient[members.label == its_class].nunique()
                low, high = stats.binomtest(int(value) * people, people).proportion_ci(method="exact")
            row |= {figure: value, f"{figure}_low": low, f"{figure}_high": high}
        rows.append(row)
    return pd.DataFrame(rows)


def intervals(label, probability, threshold, times: np.ndarray) -> dict[str, list[float]]:
    """The 95% `interval` of each of `NAMES` over resamples; `threshold` as `spread` takes it."""
    return {name: interval(values) for name, values in spread(label, probability, threshold, times).items()}


def false_alarms(label, answers: dict[str, tuple[np.ndarray, float]], inside: np.ndarray) -> pd.DataFrame:
    """How many images of label 0 each network calls ill, in all and of those `inside` (bool) a group.

    `answers` has a pair (probability, threshold) by name. A column a name, and one more, ``normal films``, which counts
    them; the rows are ``all`` and ``in the block``.
    """
    normal, called = np.asarray(label) == 0, {name: np.asarray(said) >= cut for name, (said, cut) in answers.items()}
    rows = {name: normal & ill for name, ill in called.items()} | {"normal films": normal}
    table = {name: {"all": int(own.sum()), "in the block": int(own[inside].sum())} for name, own in rows.items()}
    return pd.DataFrame(table)


def times_wrong(label, answers: list[tuple[np.ndarray, float]]) -> np.ndarray:
    """How many of `answers`, each a pair (probability, threshold), are wrong on each image: int, shape (images,)."""
    return sum(((np.asarray(said) >= cut) != (np.asarray(label) == 1)).astype(int) for said, cut in answers)


def under_changes(label, before, after: dict[str, np.ndarray], threshold: float, times: np.ndarray) -> pd.DataFrame:
    """What changes of the films do to the answers: `before`, and `after` each change by its name.

    One row a change: ``change``, ``flipped`` (share of decisions at `threshold` that are another one), ``auc_lost``
    (0.01 where the AUC falls by as much) and its 95% interval, paired by resample, ``auc_lost_low`` to
    ``auc_lost_high``.
    """
    label, before = checked(label, before)
    area, drawn, rows = auc(label, before), spread(label, before, threshold, times)["auc"], []
    for name, probability in after.items():
        flipped = (np.asarray(probability) >= threshold) != (before >= threshold)
        low, high = interval(drawn - spread(label, probability, threshold, times)["auc"])
        lost = {"auc_lost": area - auc(label, probability), "auc_lost_low": low, "auc_lost_high": high}
        rows.append({"change": name, "flipped": flipped.mean()} | lost)
    return pd.DataFrame(rows)


def or_none(values: pd.DataFrame | pd.Series) -> list[dict] | dict:
    """For JSON, which has no NaN: a table as its rows, a series as a dict, None where there is no number."""
    values = values.astype(object).where(values.notna(), None)
    return values.to_dict("records") if isinstance(values, pd.DataFrame) else values.to_dict()


def predict(network, pictures: np.ndarray, batch_size: int = 128) -> np.ndarray:
    """Probability of pneumonia for each picture, to six decimals, as the tables in ``results/`` keep it.

    `pictures` are uint8 of shape (images, size, size); the result has shape (images,), or (images, outputs) where the
    network has several outputs.
    """
    found = network.predict(pictures[..., None], batch_size=batch_size, verbose=0).astype(float).round(6)
    return found[:, 0] if found.shape[1] == 1 else found


def with_interval(value: float, interval: list[float]) -> str:
    """``0.931 (0.911 to 0.950)``."""
    return f"{value:.3f} ({interval[0]:.3f} to {interval[1]:.3f})"


def among(table: pd.DataFrame, figure: str) -> list[str]:
    """`with_interval` down a table with the columns `figure`, ``..._low`` and ``..._high``; empty where it is NaN."""
    rows = table[[figure, f"{figure}_low", f"{figure}_high"]].to_numpy()
    return [with_interval(value, bounds) if value == value else "" for value, *bounds in rows]


def plus_minus(mean: float, deviation: float | None) -> str:
    """``0.931 ± 0.004``, or the mean alone where one seed has no deviation (None or NaN)."""
    return f"{mean:.3f}" if deviation is None or deviation != deviation else f"{mean:.3f} ± {deviation:.3f}"
