"""What a probability is worth at the bedside: calibration, predictive values, net benefit. Label 1 is pneumonia."""

import numpy as np
import pandas as pd
from scipy import optimize, special
from sklearn.linear_model import LogisticRegression

from .evaluate import checked, interval, measure, spread

SMALLEST = 1e-6  # probabilities are kept to six decimals, so 0 and 1 stand for this much


def logit(probability) -> np.ndarray:
    """Log-odds of a probability; 0 and 1 count as 1e-6 and 1 - 1e-6, so that the result is finite."""
    return special.logit(np.clip(probability, SMALLEST, 1 - SMALLEST))


def temperature(label, probability) -> float:
    """The number by which log-odds are divided so that the log-loss is smallest (Guo et al. 2017, ICML, section 4.2).

    Parameters
    ----------
    label : array of 0 and 1, shape (images,)
    probability : array of float, shape (images,)
        Of images that were neither trained on nor are tested on.

    Returns
    -------
    float
        Above 1 where the network is too sure of itself; from 0.05 to 20.

    Raises
    ------
    Problem
        Probabilities that are NaN, or labels of one class.
    """
    label, probability = checked(label, probability)
    odds = logit(probability)

    def loss(log_temperature: float) -> float:
        scaled = odds / np.exp(log_temperature)
        return float(np.mean(np.logaddexp(0, scaled) - label * scaled))

    return float(np.exp(optimize.minimize_scalar(loss, bounds=np.log([0.05, 20]), method="bounded").x))


def tempered(probability, by: float) -> np.ndarray:
    """Probability after its log-odds are divided by the temperature `by`; the order, and so the AUC, stays."""
    return special.expit(logit(probability) / by)


def at_prevalence(probability, prevalence: float) -> np.ndarray:
    """What a network trained with both classes weighing the same should say where `prevalence` of the patients are ill.

    Its log-odds are shifted by those of the prevalence (Saerens et al. 2002, Neural Computation 14:21-41).
    """
    return special.expit(logit(probability) + special.logit(prevalence))


def reliability(label, probability, bins: int = 10) -> pd.DataFrame:
    """Foretold against found share of pneumonia, in `bins` groups of equally wide probability.

    Returns
    -------
    DataFrame, one row a group that has images
        ``foretold`` (mean probability), ``found`` (share with pneumonia), ``images``, and a 95% interval of ``found``,
        ``low`` to ``high`` (Wilson 1927; each film counts as a patient).
    """
    label, probability = checked(label, probability)
    rows = pd.DataFrame({"bin": np.minimum((probability * bins).astype(int), bins - 1), "label": label,
                         "probability": probability}).groupby("bin").agg(
        foretold=("probability", "mean"), found=("label", "mean"), images=("label", "size"))
    z, n, share = 1.959964, rows.images, rows.found
    middle = (share + z ** 2 / (2 * n)) / (1 + z ** 2 / n)
    half = z / (1 + z ** 2 / n) * np.sqrt(share * (1 - share) / n + z ** 2 / (4 * n ** 2))
    low, high = np.minimum(middle - half, share).clip(0, 1), np.maximum(middle + half, share).clip(0, 1)
    return rows.assign(low=low, high=high).reset_index(drop=True)


def calibration(label, probability, times: np.ndarray | None = None, bins: int = 10) -> dict:
    """How far a probability can be taken at its word.

    Parameters
    ----------
    label : array of 0 and 1, shape (images,)
    probability : array of float, shape (images,)
    times : ndarray, shape (resamples, images), optional
        From `evaluate.resample`; with it, each figure but ``ece`` gets a 95% interval. (A resample is less smooth than
        what it is drawn from, so its ECE is larger: the percentiles would not hold the truth.)
    bins : int
        Of the expected calibration error, equally wide.

    Returns
    -------
    dict
        ``brier`` (mean squared error; Brier 1950), ``ece`` (mean distance of foretold and found, weighted by images;
        Naeini et al. 2015), ``intercept`` (log-odds by which all are too low; 0 is right) and ``slope`` (below 1 where
        it is too sure; 1 is right), both of a logistic regression of the label on the log-odds (Cox 1958; the
        intercept with the slope held at 1); with `times` also ``intervals_95``.
    """
    label, probability = checked(label, probability)
    odds, bin_of = logit(probability), np.minimum((probability * bins).astype(int), bins - 1)
    member = (bin_of[:, None] == np.arange(bins)).astype(float)

    def figures(weight: np.ndarray) -> dict:
        used = weight > 0
        line = LogisticRegression(C=np.inf).fit(odds[used, None], label[used], sample_weight=weight[used])
        intercept = optimize.brentq(lambda a: weight @ (special.expit(a + odds) - label), -30, 30)
        return {"brier": float(weight @ (probability - label) ** 2 / weight.sum()),
                "ece": float(np.abs(weight * (probability - label) @ member).sum() / weight.sum()),
                "intercept": float(intercept), "slope": float(line.coef_[0, 0])}

    found = figures(np.ones(len(label)))
    if times is not None:
        drawn = pd.DataFrame([figures(weight) for weight in times])
        found["intervals_95"] = {name: interval(drawn[name]) for name in drawn if name != "ece"}
    return found


def predictive_values(sensitivity, specificity, prevalence: float) -> tuple:
    """Positive and negative predictive value where `prevalence` of the patients are ill (Bayes' theorem).

    Parameters
    ----------
    sensitivity, specificity : float or ndarray
    prevalence : float
        From 0 to 1.

    Returns
    -------
    ppv, npv : ndarray, 0 where nothing is called so
    """
    ill, well = np.asarray(sensitivity) * prevalence, np.asarray(specificity) * (1 - prevalence)
    with np.errstate(invalid="ignore"):
        values = ill / (ill + (1 - prevalence) - well), well / (well + prevalence - ill)
    return tuple(np.nan_to_num(value) for value in values)


def at_bedside(label, probability, thresholds: dict[str, float], prevalences: list[float], times: np.ndarray
               ) -> pd.DataFrame:
    """Predictive values of each operating point where pneumonia has another frequency than in this split.

    Parameters
    ----------
    label : array of 0 and 1, shape (images,)
    probability : array of float, shape (images,)
    thresholds : dict of use to threshold
    prevalences : list of float
    times : ndarray, shape (resamples, images), from `evaluate.resample`

    Returns
    -------
    DataFrame, one row a use and prevalence
        ``use``, ``threshold``, ``sensitivity``, ``specificity``, ``prevalence``, ``ppv``, ``npv``, and the 95%
        intervals of the last two, ``ppv_low`` to ``npv_high``.
    """
    rows = []
    for use, threshold in thresholds.items():
        own, drawn = measure(label, probability, threshold), spread(label, probability, threshold, times)
        for prevalence in prevalences:
            row = {"use": use, **{name: own[name] for name in ("threshold", "sensitivity", "specificity")},
                   "prevalence": prevalence}
            values = predictive_values(own["sensitivity"], own["specificity"], prevalence)
            resampled = predictive_values(drawn["sensitivity"], drawn["specificity"], prevalence)
            for name, value, among in zip(("ppv", "npv"), values, resampled):
                low, high = interval(among)
                row |= {name: float(value), f"{name}_low": low, f"{name}_high": high}
            rows.append(row)
    return pd.DataFrame(rows)


def net_benefit(label, probability, times: np.ndarray | None = None, at=None, prevalence: float | None = None
                ) -> pd.DataFrame:
    """Decision curve: true positives less false ones at their exchange rate (Vickers & Elkin 2006).

    Who treats from a probability t on holds one missed patient as bad as (1 - t) / t treated in vain.

    Parameters
    ----------
    label : array of 0 and 1, shape (images,)
    probability : array of float, shape (images,)
    times : ndarray, shape (resamples, images), optional
        From `evaluate.resample`, for the 95% band.
    at : array of float, optional
        Threshold probabilities; without it 0.01 to 0.95.
    prevalence : float, optional
        Share of the patients who are ill, if it is another one than here; `probability` must be meant for it.

    Returns
    -------
    DataFrame
        ``at``, ``network`` (and ``low``, ``high``), ``treat_all``, ``treat_none``: net benefit, in patients rightly
        treated of each patient.
    """
    label, probability = checked(label, probability)
    at = np.linspace(0.01, 0.95, 95) if at is None else np.asarray(at, float)
    rate = at / (1 - at)
    called, ill = (probability >= at[:, None]).astype(float), label == 1  # (thresholds, images)

    def gained(weight: np.ndarray) -> np.ndarray:  # (resamples, thresholds)
        share = weight[:, ill].sum(axis=1, keepdims=True) / weight.sum(axis=1, keepdims=True)
        share = share if prevalence is None else prevalence
        found, false = (weight[:, rows] @ called[:, rows].T / weight[:, rows].sum(axis=1, keepdims=True)
                        for rows in (ill, ~ill))
        return share * found - (1 - share) * rate * false

    share = label.mean() if prevalence is None else prevalence
    table = pd.DataFrame({"at": at, "network": gained(np.ones((1, len(label))))[0],
                          "treat_all": share - rate * (1 - share), "treat_none": 0.0})
    if times is not None:
        drawn = gained(times)
        table["low"], table["high"] = np.percentile(drawn, [2.5, 97.5], axis=0)
    return table
