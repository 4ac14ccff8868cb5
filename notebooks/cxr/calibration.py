"""What a probability is worth in practice: calibration, predictive values, decision curves.

In all functions `label` (1 is pneumonia) and `probability` have shape (images,), and `times`, from `metrics.resample`,
has shape (resamples, images). All raise the Problems of `metrics.checked`.
"""

import numpy as np
import pandas as pd
from scipy import optimize, special, stats
from sklearn.linear_model import LogisticRegression

from . import metrics

SMALLEST = 1e-6  # probabilities are kept to six decimals, so 0 and 1 stand for this much


def logit(probability) -> np.ndarray:
    """Log-odds of a probability; 0 and 1 count as 1e-6 and 1 - 1e-6, so that the result is finite."""
    return special.logit(np.clip(probability, SMALLEST, 1 - SMALLEST))


class TemperatureScaling:
    """Log-odds divided by one number, which makes the log-loss smallest (Guo et al. 2017, ICML, section 4.2).

    The number is ``temperature_``: given here if it is known, or found by `fit`, from 0.05 to 20. It is above 1 where
    the network is too sure of itself. The order of the answers, and so the AUC, stays.
    """

    def __init__(self, temperature: float = 1.0):
        self.temperature_ = temperature

    def fit(self, label, probability) -> "TemperatureScaling":
        """Find the temperature on images that were neither trained on nor are tested on."""
        label, probability = metrics.checked(label, probability)
        odds = logit(probability)

        def loss(log_temperature: float) -> float:
            scaled = odds / np.exp(log_temperature)
            return float(np.mean(np.logaddexp(0, scaled) - label * scaled))

        found = optimize.minimize_scalar(loss, bounds=np.log([0.05, 20]), method="bounded")
        self.temperature_ = float(np.exp(found.x))
        return self

    def transform(self, probability) -> np.ndarray:
        """Probability after its log-odds are divided by the temperature."""
        return special.expit(logit(probability) / self.temperature_)


class LogisticCalibration:
    """A straight line in the log-odds, which makes the log-loss smallest (Platt 1999): mends intercept and slope.

    ``intercept_`` and ``slope_`` are given here if they are known, or found by `fit`. Both classes weigh the same, as
    in the training of the networks, so the result is meant for even odds: `adjust_to_prevalence` is to follow. The
    order of the answers, and so the AUC, stays, as long as the slope is above 0.
    """

    def __init__(self, intercept: float = 0.0, slope: float = 1.0):
        self.intercept_, self.slope_ = intercept, slope

    def fit(self, label, probability) -> "LogisticCalibration":
        """Find the line on images that were neither trained on nor are tested on.

        Labels count as (n + 1) / (n + 2) and 1 / (n + 2), with n images of their class, as in Platt's paper: then
        there is a line even where a threshold tells the classes apart without an error.
        """
        label, probability = metrics.checked(label, probability)
        odds, images = logit(probability), np.bincount(label)[label]
        target, weight = np.where(label == 1, images + 1, 1) / (images + 2), 0.5 / images

        def loss(line: np.ndarray) -> tuple[float, np.ndarray]:
            scaled = line[0] + line[1] * odds
            error = weight * (special.expit(scaled) - target)
            return weight @ (np.logaddexp(0, scaled) - target * scaled), np.array([error.sum(), error @ odds])

        found = optimize.minimize(loss, [0.0, 1.0], jac=True, method="BFGS")
        self.intercept_, self.slope_ = map(float, found.x)
        return self

    def transform(self, probability) -> np.ndarray:
        """Probability, at even odds, on the line."""
        return special.expit(self.intercept_ + self.slope_ * logit(probability))


def adjust_to_prevalence(probability, prevalence: float) -> np.ndarray:
    """What a network trained with both classes weighing the same should say where `prevalence` of the patients are ill.

    Its log-odds are shifted by those of the prevalence (Saerens et al. 2002, Neural Computation 14:21-41).
    """
    return special.expit(logit(probability) + special.logit(prevalence))


def reliability(label, probability, bins: int = 10, least: int = 0) -> pd.DataFrame:
    """Foretold against found share of pneumonia, in `bins` groups of equally wide probability.

    Each is joined with the next until it has `least` images; a group has fewer only where there are fewer in all.

    One row a group that has images: ``foretold`` (mean probability), ``found`` (share with pneumonia), ``images``, and
    a 95% interval of ``found``, ``low`` to ``high`` (Wilson 1927; each film counts as a patient).
    """
    label, probability = metrics.checked(label, probability)
    films = pd.DataFrame({"label": label, "probability": probability})
    bin_of = np.minimum((probability * bins).astype(int), bins - 1)
    group, held, left = [0], 0, len(label)
    for count in np.bincount(bin_of, minlength=bins):
        held, left = held + count, left - count
        group.append(group[-1] + bool(held >= least and left >= least))
        held = held if group[-1] == group[-2] else 0
    groups = films.groupby(np.array(group)[bin_of])
    table = groups.agg(foretold=("probability", "mean"), found=("label", "mean"), images=("label", "size"))
    tests = [stats.binomtest(int(ill), int(n)) for ill, n in zip(groups.label.sum(), table.images)]
    table[["low", "high"]] = [test.proportion_ci(method="wilson") for test in tests]
    return table.reset_index(drop=True)


def measure(label, probability, times: np.ndarray | None = None, bins: int = 10) -> dict:
    """How far a probability can be taken at its word.

    ``brier`` (mean squared error; Brier 1950); ``ece`` (expected calibration error: mean distance of foretold and found
    over `bins` of equal width, weighted by images; Naeini et al. 2015); ``intercept`` (log-odds by which all are too
    low; 0 is right) and ``slope`` (below 1 where it is too sure; 1 is right), both of a logistic regression of the
    label on the log-odds (Cox 1958; the intercept with the slope held at 1). With `times` also ``intervals_95`` of all
    but ``ece``: a resample is less smooth than what it is drawn from, so its ECE is larger, and the percentiles would
    not hold the truth.
    """
    label, probability = metrics.checked(label, probability)
    odds, bin_of = logit(probability), np.minimum((probability * bins).astype(int), bins - 1)
    member = (bin_of[:, None] == np.arange(bins)).astype(float)

    def figures(weight: np.ndarray) -> dict:
        used = weight > 0
        line = LogisticRegression(C=np.inf).fit(odds[used, None], label[used], sample_weight=weight[used])
        intercept = optimize.brentq(lambda a: weight @ (special.expit(a + odds) - label), -30, 30)
        return {
            "brier": float(weight @ (probability - label) ** 2 / weight.sum()),
            "ece": float(np.abs(weight * (probability - label) @ member).sum() / weight.sum()),
            "intercept": float(intercept),
            "slope": float(line.coef_[0, 0]),
        }

    found = figures(np.ones(len(label)))
    if times is not None:
        drawn = pd.DataFrame([figures(weight) for weight in times])
        found["intervals_95"] = {name: metrics.interval(drawn[name]) for name in drawn if name != "ece"}
    return found


def predictive_values(sensitivity, specificity, prevalence: float) -> tuple:
    """PPV and NPV where `prevalence` (0 to 1) of the patients are ill, by Bayes; 0 where nothing is called so."""
    ill, well = np.asarray(sensitivity) * prevalence, np.asarray(specificity) * (1 - prevalence)
    with np.errstate(invalid="ignore"):
        values = ill / (ill + (1 - prevalence) - well), well / (well + prevalence - ill)
    return tuple(np.nan_to_num(value) for value in values)


def predictive_values_by_prevalence(
    label, probability, thresholds: dict[str, float], prevalences: list[float], times: np.ndarray
) -> pd.DataFrame:
    """Predictive values of each operating point where pneumonia has another frequency than in this split.

    `thresholds` maps a use to its threshold. One row a use and prevalence: ``use``, ``threshold``, ``sensitivity``,
    ``specificity``, ``prevalence``, ``ppv``, ``npv``, and their 95% intervals, ``ppv_low`` to ``npv_high``.
    """
    rows = []
    for use, threshold in thresholds.items():
        figures = metrics.measure(label, probability, threshold)
        drawn = metrics.spread(label, probability, threshold, times)
        point = {name: figures[name] for name in ("threshold", "sensitivity", "specificity")}
        for prevalence in prevalences:
            row = {"use": use, **point, "prevalence": prevalence}
            values, resampled = (
                predictive_values(source["sensitivity"], source["specificity"], prevalence)
                for source in (figures, drawn)
            )
            for name, value, among in zip(("ppv", "npv"), values, resampled):
                low, high = metrics.interval(among)
                row |= {name: float(value), f"{name}_low": low, f"{name}_high": high}
            rows.append(row)
    return pd.DataFrame(rows)


def net_benefit(label, probability, times=None, at=None, prevalence: float | None = None) -> pd.DataFrame:
    """Decision curve: true positives less false ones at their exchange rate (Vickers & Elkin 2006).

    Who treats from a probability t on holds one missed patient as bad as (1 - t) / t treated in vain. The columns are
    ``at`` (threshold probabilities, 0.01 to 0.95 unless given), and in patients rightly treated of each patient
    ``network`` (with `times` its 95% band, ``low`` to ``high``), ``treat_all`` and ``treat_none``. `prevalence` is the
    share of the patients who are ill, if it is another one than here; `probability` must be meant for it.
    """
    label, probability = metrics.checked(label, probability)
    at = np.linspace(0.01, 0.95, 95) if at is None else np.asarray(at, float)
    rate = at / (1 - at)
    called, ill = (probability >= at[:, None]).astype(float), label == 1  # (thresholds, images)

    def gained(weight: np.ndarray) -> np.ndarray:  # (resamples, thresholds)
        share = weight[:, ill].sum(axis=1, keepdims=True) / weight.sum(axis=1, keepdims=True)
        share = share if prevalence is None else prevalence
        found, false = (
            weight[:, rows] @ called[:, rows].T / weight[:, rows].sum(axis=1, keepdims=True) for rows in (ill, ~ill)
        )
        return share * found - (1 - share) * rate * false

    share = label.mean() if prevalence is None else prevalence
    network, treat_all = gained(np.ones((1, len(label))))[0], share - rate * (1 - share)
    table = pd.DataFrame({"at": at, "network": network, "treat_all": treat_all, "treat_none": 0.0})
    if times is not None:
        table["low"], table["high"] = np.percentile(gained(times), [2.5, 97.5], axis=0)
    return table
