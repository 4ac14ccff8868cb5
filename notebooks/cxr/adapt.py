"""What labelled films of its own are worth to another hospital: threshold and last layer anew, on ever more of them."""

import numpy as np
import pandas as pd
from scipy import optimize, special
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from threadpoolctl import threadpool_limits

from . import metrics
from .backend import keras
from .paths import Problem

WAYS = ("as it is", "threshold and temperature anew", "last layer fine-tuned")
RIDGES = (1e3, 1e2, 1e1, 1.0, 0.1)  # how strongly the last layer is held to what it was, the strongest first


def last_layer(network, pictures: np.ndarray, batch_size: int = 128) -> tuple[np.ndarray, np.ndarray]:
    """What the last layer of a network of one output sees of `pictures` (uint8, shape (images, size, size)).

    Returns
    -------
    features : ndarray of float, shape (images, features)
    weights : ndarray, shape (features + 1,)
        Of that layer, the bias last: ``features @ weights[:-1] + weights[-1]`` are the log-odds of pneumonia.
    """
    last = network.layers[-1]
    kernel, bias = last.get_weights()
    seen = keras.Model(network.inputs, last.input).predict(pictures[..., None], batch_size=batch_size, verbose=0)
    return seen.astype(float), np.append(kernel[:, 0], bias).astype(float)


class LastLayer:
    """The last layer fitted to films of another place, held to what it was: ridge on the change of its weights.

    The log-odds become ``slope_ * odds + intercept_ + changes_ @ features``, with features brought to spread 1. The
    penalty on ``changes_`` and, a tenth of it, on ``slope_ - 1`` holds both at the start (L2-SP: Li, Grandvalet &
    Davoine 2018, ICML); with a strong one only the intercept moves. Without features it is threshold and temperature:
    ``intercept_`` moves the threshold, and 1 / ``slope_`` is the temperature, from 0.05 to 20 (Guo et al. 2017, ICML).
    """

    def __init__(self, ridge: float):
        self.ridge = ridge

    def fit(self, label, features: np.ndarray, odds: np.ndarray) -> "LastLayer":
        """Fit on films of which the `label` is known; `features` (images, features) and `odds` as they were."""
        label, count = np.asarray(label, float), features.shape[1]
        self.middle_, self.spread_ = features.mean(axis=0), features.std(axis=0) * np.sqrt(count) + 1e-6
        seen = np.column_stack([np.ones(len(label)), odds, (features - self.middle_) / self.spread_])
        held, start = np.append([0.0, 0.1], np.full(count, 1.0)), np.append([0.0, 1.0], np.zeros(count))

        def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
            said, change = seen @ theta, theta - start
            error = special.expit(said) - label
            value = (np.logaddexp(0, said) - label * said).sum() + self.ridge / 2 * (held * change**2).sum()
            return value, error @ seen + self.ridge * held * change

        bounds = [(None, None), (0.05, 20.0), *[(None, None)] * count]  # the order of the odds is never turned round
        found = optimize.minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 200}).x
        self.intercept_, self.slope_, self.changes_ = found[0], found[1], found[2:]
        return self

    def predict(self, features: np.ndarray, odds: np.ndarray) -> np.ndarray:
        """Probability of pneumonia, shape (images,)."""
        seen = (features - self.middle_) / self.spread_
        return special.expit(self.intercept_ + self.slope_ * odds + seen @ self.changes_)


def fine_tuned(table: pd.DataFrame, features: np.ndarray, odds: np.ndarray, folds: int = 4, seed: int = 0) -> LastLayer:
    """`LastLayer` with that of the `RIDGES` which has the smallest log-loss on other patients of the same films.

    `table` has ``label`` and ``patient`` of the films to learn from, two patients of each class at least.
    """
    label = table.label.to_numpy(int)
    fewest = min(table.patient[label == one].nunique() for one in (0, 1))
    cut = StratifiedGroupKFold(min(folds, fewest), shuffle=True, random_state=seed)
    lost = dict.fromkeys(RIDGES, 0.0)
    for fit, judge in cut.split(odds, label, table.patient):
        for ridge in RIDGES:
            said = LastLayer(ridge).fit(label[fit], features[fit], odds[fit]).predict(features[judge], odds[judge])
            lost[ridge] -= float(np.log(np.clip(np.where(label[judge] == 1, said, 1 - said), 1e-6, 1)).sum())
    return LastLayer(min(RIDGES, key=lambda ridge: lost[ridge])).fit(label, features, odds)


def drawn(table: pd.DataFrame, count: int, rng: np.random.Generator) -> np.ndarray | None:
    """About `count` films by patient, never more, and two patients of each class among them: bool, shape (films,).

    Patients come in a random order and bring all their films; one who has too many for the room that is left is passed
    over, and two of each class are kept to be tested on. None where there are too few patients for that.
    """
    people = table.groupby("patient").agg(films=("label", "size"), label=("label", "max"))
    people = people.iloc[rng.permutation(len(people))]
    first = people[people.films <= count / 4].groupby("label").head(2)
    kept = people.drop(first.index).groupby("label").head(2)
    if len(first) < 4 or len(kept) < 4:
        return None
    taken, room = [*first.index], count - first.films.sum()
    for name, films_of in people.films.drop([*first.index, *kept.index]).items():
        if films_of <= room:
            taken.append(name)
            room -= films_of
    return table.patient.isin(taken).to_numpy()


@threadpool_limits.wrap(limits=1)
def learn(
    table: pd.DataFrame, features: np.ndarray, weights: np.ndarray, threshold: float, counts, draws: int = 10, seed=0
) -> pd.DataFrame:
    """What labelled films of its own are worth to another hospital: a learning curve.

    Films are drawn by patient (`drawn`), and all patients that were not drawn are tested on. The network is taken as it
    is, at `threshold`; with threshold and temperature fitted to the drawn films (`LastLayer` without features); and
    with its last layer fine-tuned on them (`fine_tuned`). After a fit a film is called ill from 0.5 on, so that what
    the last two differ in is what the features add.

    Parameters
    ----------
    table : DataFrame
        ``label`` and ``patient`` of each film.
    features, weights : ndarray
        As of `last_layer`.
    counts : sequence of int
        How many films are drawn. Passed over where that is more than half of the films, or patients are too few.
    draws : int
        How often.

    Returns
    -------
    DataFrame
        ``way`` (of `WAYS`), ``films`` (0 and `counts`), ``drawn`` (mean number of films), ``draws``; the means over
        draws ``accuracy``, ``auc`` and ``brier``; ``accuracy_low``, ``accuracy_high``, ``auc_low``, ``auc_high``: 2.5th
        and 97.5th percentile over draws. With 0 films there is nothing to draw, and all films are tested on.
    """
    if not 2 <= draws <= 1000:
        raise Problem(f"DRAWS in 10_external.ipynb is {draws!r}: set it to a whole number from 2 to 1,000.")
    label, odds = table.label.to_numpy(int), features @ weights[:-1] + weights[-1]
    rng, rows = np.random.default_rng(seed), []

    def judged(said: np.ndarray, cut: float, on: np.ndarray) -> dict:
        right = (said[on] >= cut) == label[on]
        brier = ((said[on] - label[on]) ** 2).mean()
        return {"accuracy": right.mean(), "auc": roc_auc_score(label[on], said[on]), "brier": brier}

    said, everyone = special.expit(odds), np.ones(len(label), bool)
    for count in [0, *(count for count in counts if 0 < count <= len(table) / 2)]:
        found = []
        for _ in range(draws if count else 1):
            inside = drawn(table, count, rng) if count else ~everyone
            if inside is None:
                continue
            one = {way: judged(said, threshold, ~inside) for way in WAYS} | {"drawn": int(inside.sum())}
            if count:
                line = LastLayer(1.0).fit(label[inside], features[inside, :0], odds[inside])
                one[WAYS[1]] = judged(line.predict(features[:, :0], odds), 0.5, ~inside)
                tuned = fine_tuned(table[inside], features[inside], odds[inside], seed=seed)
                one[WAYS[2]] = judged(tuned.predict(features, odds), 0.5, ~inside)
            found.append(one)
        for way in WAYS if found else ():
            own = pd.DataFrame([one[way] for one in found])
            row = {"way": way, "films": count, "drawn": np.mean([one["drawn"] for one in found]), "draws": len(found)}
            row |= own.mean().to_dict()
            for name in ("accuracy", "auc"):
                row[f"{name}_low"], row[f"{name}_high"] = metrics.interval(own[name])
            rows.append(row)
    return pd.DataFrame(rows)


def worth(table: pd.DataFrame) -> dict[str, int | None]:
    """How many films until it is worth using them, by way of learning: from `learn`'s table.

    The smallest number at which the lower end of the interval of accuracy is above the mean accuracy of the network as
    it is on the same films; None where there is none.
    """
    return {way: _better(table, way, WAYS[0]) for way in WAYS[1:]}


def _better(table: pd.DataFrame, way: str, than: str) -> int | None:
    """From how many films on the lower end of the accuracy of one way is above the mean of another; None for never."""
    other = table[table.way == than].set_index("films").accuracy
    own = table[(table.way == way) & (table.films > 0)]
    better = own.films[own.accuracy_low > own.films.map(other)]
    return int(better.min()) if len(better) else None


def verdicts(table: pd.DataFrame) -> dict[str, str]:
    """From how many films on a way of learning is worth its films, in words, by its name.

    Threshold and temperature are held against the network as it is, the last layer against threshold and temperature.
    """
    most, found = table.films.max(), {}
    for way, than, word in ((WAYS[1], WAYS[0], "the network as it is"), (WAYS[2], WAYS[1], WAYS[1])):
        count = _better(table, way, than)
        since = f"better than {word} from {count} films on"
        tried = since if count else f"not better than {word} with up to {most} films"
        found[way] = tried if most else "not tried, for there are too few films"
    return found


def said(table: pd.DataFrame) -> str:
    """A sentence in Markdown: what the most films of `learn`'s table have changed, accuracy and AUC, way by way."""
    most = table.films.max()
    if not most:
        return "Not tried: there are too few films."
    last = table[table.films == most].set_index("way")
    before, moved, tuned = (last.loc[way] for way in WAYS)
    return (
        f"With {most} labelled films accuracy goes from {before.accuracy:.3f} to {moved.accuracy:.3f} by threshold and "
        f"temperature, and to {tuned.accuracy:.3f} with the last layer fine-tuned; the AUC from {before.auc:.3f} to "
        f"{moved.auc:.3f} and {tuned.auc:.3f}."
    )
