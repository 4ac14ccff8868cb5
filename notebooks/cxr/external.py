"""Films of another hospital: the gate's and the network's answers, with intervals, and what labels of its own buy."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageOps
from scipy import optimize, special, stats
from sklearn.model_selection import StratifiedGroupKFold

from . import data, metrics
from .backend import keras
from .paths import cache_dir, external_dir, resolve

WHOSE = {"hannover": "Hannover Medical School, ml-workgroup"}  # a source as its licence wants it named
RIDGES = (1e3, 1e2, 1e1, 1.0, 0.1)  # how strongly the last layer is held to what it was, the strongest first


def place(folder: str, name: str, home: Path, table: pd.DataFrame) -> tuple[Path | str, str, bool]:
    """`folder`, else CXR_EXTERNAL_DIR, else what `simulate` makes; its name, and whether it is such a rehearsal."""
    if not (folder := folder or external_dir()):
        return simulate(home, table), "rehearsal", True
    return folder, name or resolve(folder).name.capitalize(), False


def ask(folder, size: int, detector, network, ages) -> tuple[pd.DataFrame, np.ndarray, pd.DataFrame]:
    """What `data.read_films` returns; with ``reason`` ("" where the gate passes it), ``passes`` and ``probability``."""
    films, pictures, broken = data.read_films(data.list_folder(folder), folder, size, ages)
    films["reason"] = [header or looks for header, looks in zip(films.reason, detector.predict(pictures))]
    films["probability"] = metrics.predict(network, pictures)
    return films.assign(passes=films.reason == ""), pictures, broken


def credit(table: pd.DataFrame) -> str:
    """Where the films of `table` come from and under which licence, as the CSV of their folder says."""
    values = [sorted(set(table[name]) - {""}) for name in ("source", "license") if name in table]
    return ", ".join("; ".join(WHOSE.get(value, value) for value in own) for own in values if own)


def licensed(table: pd.DataFrame, folder) -> tuple[Path | None, str]:
    """A film of `table` that may be shown to everybody (Creative Commons), and its `credit`; None, "" without one."""
    if not {"source", "license"} <= set(table):
        return None, ""
    free = table[table.license.str.startswith("CC")]
    film = free[free.source.isin(free.source.mode()[:1])].head(1)
    return (resolve(folder) / film.path.iloc[0], credit(film)) if len(film) else (None, "")


def enough(table: pd.DataFrame) -> bool:
    """Whether `table` has two patients of each class."""
    return bool(table.groupby("label").patient.nunique().reindex([0, 1], fill_value=0).min() >= 2)


def share(yes, patient: pd.Series, resamples: int = 2000, seed: int = 0) -> list[float]:
    """Share of true values and its 95% interval: by bootstrap over patients, or Clopper and Pearson's over patients
    where all values are the same; NaN where there is none.
    """
    yes, (owner, names) = np.asarray(yes, float), pd.factorize(patient)
    if not len(yes):
        return [np.nan] * 3
    if yes.mean() in (0, 1):
        low, high = stats.binomtest(int(yes.mean()) * len(names), len(names)).proportion_ci(method="exact")
        return [yes.mean(), low, high]
    if len(names) < 2:
        return [yes.mean(), np.nan, np.nan]
    times = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), resamples)
    hits, count = (np.bincount(owner, weight, len(names)) for weight in (yes, np.ones(len(yes))))
    return [yes.mean(), *metrics.interval((times @ hits) / (times @ count))]


def answers(table: pd.DataFrame, threshold: float, resamples: int = 2000, seed: int = 0) -> pd.DataFrame:
    """What the network says of all films, of those that pass the gate and of those declined, a row each, by name; and
    how often it is right, where labels are known.

    ``called_ill``, ``sensitivity``, ``specificity`` and ``auc`` have a 95% interval (``..._low``, ``..._high``); NaN
    where there are no films for a figure.
    """
    rows = {}
    parts = {"all": table, "passes the gate": table[table.passes], "declined": table[~table.passes]}
    for name, own in parts.items():
        if own.empty:
            continue
        called, ill, healthy = own.probability >= threshold, own.label == 1, own.label == 0
        row = {"films": len(own), "patients": own.patient.nunique()}
        right = {"called_ill": called, "sensitivity": called[ill], "specificity": ~called[healthy]}
        for figure, yes in right.items():
            found = share(yes, own.patient[yes.index], resamples, seed)
            row |= dict(zip((figure, f"{figure}_low", f"{figure}_high"), found))
        row |= dict.fromkeys(("auc", "auc_low", "auc_high"), np.nan)
        if enough(own):
            known = own[own.label.notna()]
            drawn = metrics.spread(known.label, known.probability, threshold, metrics.resample(known, resamples, seed))
            row["auc"] = metrics.auc(known.label, known.probability)
            row["auc_low"], row["auc_high"] = metrics.interval(drawn["auc"])
        rows[name] = row
    return pd.DataFrame.from_dict(rows, orient="index")


def simulate(folder: Path, table: pd.DataFrame, seed: int = 0) -> Path:
    """The films of `table` as another hospital might have made them, in a cache folder with one folder a class.

    Wider framing, a steeper tone curve, grain, other sizes, PNG; one in twenty with black and white exchanged.
    """
    target, rng = cache_dir() / "another_hospital", np.random.default_rng(seed)
    shutil.rmtree(target, ignore_errors=True)
    for row in table.itertuples():
        film, high = Image.open(folder / row.path).convert("L"), int(rng.integers(380, 520))
        film = film.resize((int(high * rng.uniform(1.05, 1.25)), high), Image.Resampling.BICUBIC)
        film = ImageOps.expand(film, tuple((rng.uniform(0, 0.06, 4) * high).astype(int).tolist()))
        pixels = (np.asarray(film) / 255) ** rng.uniform(1.2, 1.7) * 255 + rng.normal(0, 4, film.size[::-1])
        film = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
        place = target / row.class_name.lower() / f"{Path(row.path).stem}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        (ImageOps.invert(film) if rng.random() < 0.05 else film).save(place)
    return target


def last_layer(network: keras.Model, pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the last layer sees of `pictures`, and its weights, the bias last."""
    last = network.layers[-1]
    kernel, bias = last.get_weights()
    seen = keras.Model(network.inputs, last.input).predict(pictures[..., None], batch_size=128, verbose=0)
    return seen.astype(float), np.append(kernel[:, 0], bias).astype(float)


class LastLayer:
    """The last layer fitted to films of another place: ridge on the change of its weights (L2-SP, Li et al. 2018).

    The log-odds become ``slope_ * odds + intercept_ + changes_ @ features``; a tenth of the penalty is on
    ``slope_ - 1``.
    """

    def __init__(self, ridge: float):
        self.ridge = ridge

    def fit(self, label, features: np.ndarray, odds: np.ndarray) -> "LastLayer":
        label, count = np.asarray(label, float), features.shape[1]
        self.middle_, self.spread_ = features.mean(axis=0), features.std(axis=0) * np.sqrt(count) + 1e-6
        seen = np.column_stack([np.ones(len(label)), odds, (features - self.middle_) / self.spread_])
        held, start = np.append([0.0, 0.1], np.full(count, 1.0)), np.append([0.0, 1.0], np.zeros(count))

        def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
            found, change = seen @ theta, theta - start
            error = special.expit(found) - label
            value = (np.logaddexp(0, found) - label * found).sum() + self.ridge / 2 * (held * change**2).sum()
            return value, error @ seen + self.ridge * held * change

        bounds = [(None, None), (0.05, 20.0), *[(None, None)] * count]  # the order of the odds is never turned round
        found = optimize.minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 200}).x
        self.intercept_, self.slope_, self.changes_ = found[0], found[1], found[2:]
        return self

    def predict(self, features: np.ndarray, odds: np.ndarray) -> np.ndarray:
        seen = (features - self.middle_) / self.spread_
        return special.expit(self.intercept_ + self.slope_ * odds + seen @ self.changes_)


def fine_tune(table: pd.DataFrame, features: np.ndarray, odds: np.ndarray) -> LastLayer:
    """`LastLayer` with that of the `RIDGES` which has the smallest log-loss on other patients of the same films."""
    label = table.label.to_numpy(int)
    fewest = min(table.patient[label == one].nunique() for one in (0, 1))
    cut = StratifiedGroupKFold(min(4, fewest), shuffle=True, random_state=0)
    loss = dict.fromkeys(RIDGES, 0.0)
    for fit, judge in cut.split(odds, label, table.patient):
        for ridge in RIDGES:
            found = LastLayer(ridge).fit(label[fit], features[fit], odds[fit]).predict(features[judge], odds[judge])
            loss[ridge] -= float(np.log(np.clip(np.where(label[judge] == 1, found, 1 - found), 1e-6, 1)).sum())
    return LastLayer(min(RIDGES, key=lambda ridge: loss[ridge])).fit(label, features, odds)


def draw_films(table: pd.DataFrame, count: int, rng: np.random.Generator) -> np.ndarray | None:
    """About `count` films by patient (bool), never more; two patients of each class in, two out, else None.

    Patients come in a random order; one who has too many films for the room that is left is passed over.
    """
    people = table.groupby("patient").agg(films=("label", "size"), label=("label", "max"))
    people = people.iloc[rng.permutation(len(people))]
    first = people[people.films <= count / 4].groupby("label").head(2)
    kept = people.drop(first.index).groupby("label").head(2)
    if len(first) < 4 or len(kept) < 4:
        return None
    taken, room = [*first.index], count - first.films.sum()
    for name, films in people.films.drop([*first.index, *kept.index]).items():
        if films <= room:
            taken.append(name)
            room -= films
    return table.patient.isin(taken).to_numpy()
