"""How far a score can be taken at its word: calibration, and at another prevalence.

`y_true` (1 is pneumonia) and `y_score` have shape (images,), `times` comes from `metrics.resample`.
"""

import numpy as np
import pandas as pd
from scipy import special, stats

from . import metrics

SMALLEST = 1e-6  # probabilities are kept to six decimals, so 0 and 1 stand for this much


def logit(probability) -> np.ndarray:
    """Log-odds; 0 and 1 count as 1e-6 and 1 - 1e-6, so that the result is finite."""
    return special.logit(np.clip(probability, SMALLEST, 1 - SMALLEST))


def fit_line(y_true, y_score, weight=None, intercept=None, slope=None, balanced=False) -> tuple[float, float]:
    """Intercept and slope in the log-odds with the smallest log-loss (Platt 1999); one that is given is held fixed.

    `balanced`: both classes weigh the same, and labels count as (n + 1) / (n + 2) and 1 / (n + 2), n images of the
    class, as in Platt's paper: a line exists even where no answer is wrong. By Newton's method.
    """
    y_true, y_score = metrics.checked(y_true, y_score)
    odds, target, images = logit(y_score), y_true.astype(float), np.bincount(y_true)[y_true]
    weight = np.ones(len(odds)) if weight is None else np.asarray(weight, float)
    if balanced:
        target, weight = np.where(y_true == 1, images + 1, 1) / (images + 2), weight / images
    weight, free = weight / weight.sum(), np.array([intercept is None, slope is None])
    inputs = np.stack([np.ones_like(odds), odds], axis=1)[:, free]
    line = np.array([intercept or 0.0, 1.0 if slope is None else slope])

    def loss(line: np.ndarray) -> float:
        z = line[0] + line[1] * odds
        return float(weight @ (np.logaddexp(0, z) - target * z))

    for _ in range(50):
        p, step = special.expit(line[0] + line[1] * odds), np.zeros(2)
        curvature = (inputs.T * (weight * p * (1 - p))) @ inputs + 1e-12 * np.eye(free.sum())
        step[free] = np.linalg.solve(curvature, inputs.T @ (weight * (p - target)))
        while np.abs(step).max() > 1e-9 and loss(line - step) > loss(line):
            step /= 2
        line = line - step
        if np.abs(step).max() <= 1e-9:
            break
    return float(line[0]), float(line[1])


def apply_line(y_score, intercept: float, slope: float) -> np.ndarray:
    """Probability on the line that `fit_line` found."""
    return special.expit(intercept + slope * logit(y_score))


def fit_temperature(y_true, y_score) -> float:
    """The number, from 0.05 to 20, to divide log-odds by (Guo et al. 2017); above 1 where the network is too sure."""
    return float(1 / np.clip(fit_line(y_true, y_score, intercept=0.0)[1], 1 / 20, 20))


def scale(y_score, temperature: float) -> np.ndarray:
    """Probability after its log-odds are divided by the temperature; the order, and so the AUC, stays."""
    return apply_line(y_score, 0.0, 1 / temperature)


def adjust_to_prevalence(y_score, prevalence: float) -> np.ndarray:
    """What a network trained at even odds should say where `prevalence` are ill (Saerens et al. 2002)."""
    return special.expit(logit(y_score) + special.logit(prevalence))


def reliability(y_true, y_score, bins: int = 10, least: int = 0) -> pd.DataFrame:
    """Probability given (``foretold``) and share that is ill (``found``), in `bins` groups of equal width.

    A group is joined with the next until it has `least` images. ``low`` to ``high`` is Wilson's 95% interval.
    """
    y_true, y_score = metrics.checked(y_true, y_score)
    bin_of = np.minimum((y_score * bins).astype(int), bins - 1)
    group, held, left = [0], 0, len(y_true)
    for count in np.bincount(bin_of, minlength=bins):
        held, left = held + count, left - count
        group.append(group[-1] + bool(held >= least and left >= least))
        held = held if group[-1] == group[-2] else 0
    groups = pd.DataFrame({"label": y_true, "score": y_score}).groupby(np.array(group)[bin_of])
    table = groups.agg(foretold=("score", "mean"), found=("label", "mean"), images=("label", "size"))
    tests = [stats.binomtest(int(ill), int(n)) for ill, n in zip(groups.label.sum(), table.images)]
    table[["low", "high"]] = [test.proportion_ci(method="wilson") for test in tests]
    return table.reset_index(drop=True)


def measure(y_true, y_score, times: np.ndarray | None = None, bins: int = 10) -> dict:
    """``brier`` (mean squared error), ``ece`` (mean distance of foretold and found), ``intercept`` and ``slope``.

    Intercept (slope held at 1) above 0: all too low; slope below 1: too sure (Cox 1958). With `times` also
    ``intervals_95``, but not of the ECE, which is larger in any resample.
    """
    y_true, y_score = metrics.checked(y_true, y_score)
    member = np.minimum((y_score * bins).astype(int), bins - 1)[:, None] == np.arange(bins)

    def figures(weight: np.ndarray) -> dict:
        used = weight > 0
        own = y_true[used], y_score[used], weight[used]
        return {
            "brier": float(weight @ (y_score - y_true) ** 2 / weight.sum()),
            "ece": float(np.abs(weight * (y_score - y_true) @ member).sum() / weight.sum()),
            "intercept": fit_line(*own, slope=1.0)[0],
            "slope": fit_line(*own)[1],
        }

    found = figures(np.ones(len(y_true)))
    if times is None:
        return found
    drawn = pd.DataFrame([figures(weight) for weight in times])
    return found | {"intervals_95": {name: metrics.interval(drawn[name]) for name in drawn if name != "ece"}}
