"""How far a score can be taken at its word: calibration.

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


def fit_line(y_true, y_score, weight=None, slope=None) -> tuple[float, float]:
    """Intercept and slope in the log-odds with the smallest log-loss (Platt 1999), by Newton's method.

    A `slope` that is given is held fixed.
    """
    y_true, y_score = metrics.checked(y_true, y_score)
    odds, weight = logit(y_score), np.ones(len(y_true)) if weight is None else np.asarray(weight, float)
    weight, free = weight / weight.sum(), np.array([True, slope is None])
    inputs = np.stack([np.ones_like(odds), odds], axis=1)[:, free]
    line = np.array([0.0, 1.0 if slope is None else slope])

    def loss(line: np.ndarray) -> float:
        z = line[0] + line[1] * odds
        return float(weight @ (np.logaddexp(0, z) - y_true * z))

    for _ in range(50):
        p, step = special.expit(line[0] + line[1] * odds), np.zeros(2)
        curvature = (inputs.T * (weight * p * (1 - p))) @ inputs + 1e-12 * np.eye(free.sum())
        step[free] = np.linalg.solve(curvature, inputs.T @ (weight * (p - y_true)))
        while np.abs(step).max() > 1e-9 and loss(line - step) > loss(line):
            step /= 2
        line = line - step
        if np.abs(step).max() <= 1e-9:
            break
    return float(line[0]), float(line[1])


def scale(y_score, temperature: float) -> np.ndarray:
    """Probability after its log-odds are divided by the temperature (Guo et al. 2017); the order stays."""
    return special.expit(logit(y_score) / temperature)


def reliability(y_true, y_score, bins: int = 10) -> pd.DataFrame:
    """Probability given (``foretold``) and share that is ill (``found``), in `bins` groups of equal width.

    ``low`` to ``high`` is Wilson's 95% interval.
    """
    y_true, y_score = metrics.checked(y_true, y_score)
    bin_of = np.minimum((y_score * bins).astype(int), bins - 1)
    groups = pd.DataFrame({"label": y_true, "score": y_score}).groupby(bin_of)
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
