"""Films of another hospital: a folder of them, labelled or not, read, held against home, and answered."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageOps
from scipy import special, stats
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from threadpoolctl import threadpool_limits

from . import metrics
from .backend import keras
from .calibration import logit
from .data import list_folder as survey
from .data import read_films as load
from .images import AGES
from .metrics import checked, youden_threshold
from .ood import OODDetector
from .paths import Problem, cache_dir, external_dir, resolve
from .shortcuts import WORDS

WHOSE = {"hannover": "Hannover Medical School, ml-workgroup"}  # a source as its licence wants it named
SIDES = {"all": [0, 1], "normal": [0], "other": [1]}  # labels of the films at home that are compared


def place(folder: str) -> Path | None:
    """The folder that the parameter FOLDER names, else that of ``CXR_EXTERNAL_DIR``; None where neither is set."""
    return resolve(folder) if folder else external_dir()


def enough(table: pd.DataFrame) -> bool:
    """Whether `table`, with ``label`` and ``patient``, has two patients of each class, which figures need."""
    return bool(table.groupby("label").patient.nunique().reindex([0, 1], fill_value=0).min() >= 2)


def ask(
    folder: str | Path, size: int, detector: OODDetector, network: keras.Model
) -> tuple[pd.DataFrame, np.ndarray, pd.DataFrame]:
    """Read a folder of films, show each to the gate, and let the network answer all of them, declined or not.

    Problems are those of `survey` and `load`.

    Returns
    -------
    films : DataFrame
        As of `load`, with ``reason`` (why the gate declines it, "" where it passes), ``passes`` (bool) and
        ``probability`` of label 1.
    pictures : ndarray of uint8, shape (films, size, size)
    broken : DataFrame
        As of `load`.
    """
    films, pictures, broken = load(survey(folder), folder, size, AGES)
    films["reason"] = [said or looks for said, looks in zip(films.reason, detector.predict(pictures))]
    films["probability"] = metrics.predict(network, pictures)
    return films.assign(passes=films.reason == ""), pictures, broken


def introduced(name: str, table: pd.DataFrame, broken: pd.DataFrame, rehearsal: bool) -> str:
    """A sentence in Markdown: what a folder holds, as `ask` returns it, or that it is but a `rehearsal`."""
    known = {0: "no labels", 1: "all of one class"}.get(table.label.nunique(), "normal and ill ones")
    count = f"{len(table):,} films of {table.patient.nunique():,} patients"
    said = f"**{name}**: {count}, {known}; {len(broken)} files can't be read."
    if rehearsal:
        said += (
            " **No folder is named, so all of this page is a rehearsal**: validation films of home, framed, exposed "
            "and sized in other ways. The children are the same. It shows the tool, and is no result."
        )
    return said


def sample(table: pd.DataFrame, each: int = 6) -> pd.Index:
    """Rows to look at, spread evenly: of films that are declined, then of those that pass, at most `each`."""
    groups = [table.index[~table.passes], table.index[table.passes]]
    spread = [own[np.linspace(0, len(own) - 1, min(each, len(own))).astype(int)] for own in groups]
    return spread[0].append(spread[1])


def reasons(table: pd.DataFrame) -> pd.DataFrame:
    """How many films of `ask` each reason keeps from an answer, and what share of all; a row a reason, nine at most."""
    why = table.reason.str.partition(":")[0].replace("", "(passes)").value_counts().head(9).to_frame("films")
    return why.assign(share=(why.films / len(table)).map("{:.1%}".format)).rename_axis(None)


def credit(table: pd.DataFrame) -> str:
    """Where the films of `table` (from `survey`) come from and under which licence, as its CSV says; may be empty."""
    said = [sorted(set(table[name]) - {""}) for name in ("source", "license") if name in table]
    said = [[WHOSE.get(value, value) for value in values] for values in said]
    return ", ".join("; ".join(values) for values in said if values)


# --- how different it is ---------------------------------------------------------------------------------------


@threadpool_limits.wrap(limits=1)  # so small a model is slower on two threads
def apart(home, away, home_table: pd.DataFrame, away_table: pd.DataFrame, seed: int = 0) -> tuple[pd.DataFrame, dict]:
    """How well facts that know no lung tell the films of two places apart: all of them, and within each class.

    `home` and `away` come from `shortcuts.picture_facts`; their tables have ``label`` and ``patient``.

    Returns
    -------
    table : DataFrame
        ``fact``, and the AUC ``all``, ``normal`` and ``other`` by which it tells home from away in these films: 0.5 is
        no difference, above it the other place has more of it; missing where the other place has no film of that class,
        or does not say so. A fact that hardly varies, or that few films have (a letter's size), is left out.
    together : dict
        ``all``, ``normal`` and ``other``: AUC of all facts together, by gradient boosting, cross-validated by patient;
        None where there are too few patients.
    """
    facts, there = pd.concat([home, away], ignore_index=True), np.repeat([0, 1], [len(home), len(away)])
    label = pd.concat([home_table.label, away_table.label], ignore_index=True).astype("Int64")
    patient = "0" + home_table.patient.astype(str), "1" + away_table.patient.astype(str)
    patient, rows, together = pd.concat(patient, ignore_index=True), dict[str, dict](), dict[str, float | None]()
    for side, labels in SIDES.items():
        inside = label.isin(labels).to_numpy(bool) | (there == 1 if side == "all" else False)
        own, place_of = facts[inside], there[inside]
        if len(set(place_of)) < 2:
            together[side] = None
            continue
        varied = [fact for fact in own if own[fact].nunique() >= max(2, min(10, len(own) / 2))]
        for fact in varied:
            has = own[fact].notna().to_numpy()
            if len(set(place_of[has])) == 2:
                rows.setdefault(fact, {})[side] = round(float(roc_auc_score(place_of[has], own[fact][has])), 4)
        folds = min(5, pd.Series(patient[inside]).groupby(place_of).nunique().min())
        together[side] = None
        if folds > 1 and varied:
            leaf = max(2, min(50, len(own) // 12))
            options = dict(max_leaf_nodes=4, max_iter=30, min_samples_leaf=leaf, class_weight="balanced")
            cut, model = StratifiedGroupKFold(folds, shuffle=True, random_state=seed), HistGradientBoostingClassifier
            asked = {"cv": cut, "groups": patient[inside], "method": "predict_proba"}
            score = cross_val_predict(model(**options, random_state=seed), own[varied], place_of, **asked)[:, 1]
            together[side] = round(float(roc_auc_score(place_of, score)), 4)
    table = pd.DataFrame([{"fact": fact} | aucs for fact, aucs in rows.items()], columns=["fact", *SIDES])
    return table.astype(dict.fromkeys(SIDES, float)), together


def said_apart(table: pd.DataFrame, together: dict[str, float | None]) -> str:
    """What `apart` found, in Markdown: how well all facts together tell the places apart, and which one does alone."""
    names = {"all": "all films", "normal": "normal films", "other": "the others"}
    known = [side for side in ("normal", "other") if together[side] is not None] or ["all"]
    found = [f"**{together[side]:.3f}** ({names[side]})" for side in known if together[side] is not None]
    if not found or table.empty:
        return "There are too few patients to put the facts together."
    alone = table.set_index("fact")[known].stack()
    fact, side = (alone - 0.5).abs().idxmax()
    return (
        f"All of these facts together tell the two places apart with an AUC of {', '.join(found)}, by gradient "
        f"boosting (many small decision trees), judged on patients it was not fitted to. The most telling one alone: "
        f"{WORDS.get(fact, fact)}, {alone[fact, side]:.2f}."
    )


# --- what the network would say ----------------------------------------------------------------------------------


def subgroups(table: pd.DataFrame) -> dict[str, pd.Series]:
    """Parts of `table` by name, each a Series of bool: by the gate, by its reason, by class, by view.

    `table` has ``passes``, ``reason``, ``class_name`` and perhaps ``view``. A column with one value makes no parts.
    """
    parts = {"all": pd.Series(True, table.index), "passes the gate": table.passes, "declined": ~table.passes}
    parts |= {f"declined: {why}": table.reason == why for why in table.reason[~table.passes].value_counts().index}
    for column in ("class_name", "view"):
        values = table.get(column, pd.Series("", table.index)).str.lower()
        if values.nunique() > 1:
            parts |= {
                f"{column.split('_')[0]}: {value or 'not said'}": values == value for value in sorted(set(values))
            }
    return parts


def _share(yes, patient: pd.Series, resamples: int, seed: int) -> list[float]:
    """Share of true values in `yes` and its 95% interval over patients; NaN where there is none."""
    yes = np.asarray(yes, float)
    if not len(yes):
        return [np.nan] * 3
    of, names = pd.factorize(patient)
    if yes.mean() in (0, 1):  # no resample can have another value
        low, high = stats.binomtest(int(yes.mean()) * len(names), len(names)).proportion_ci(method="exact")
        return [yes.mean(), low, high]
    if len(names) < 2:
        return [yes.mean(), np.nan, np.nan]
    times = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), resamples)
    hits, count = (np.bincount(of, weight, len(names)) for weight in (yes, np.ones(len(yes))))
    return [yes.mean(), *metrics.interval((times @ hits) / (times @ count))]


def answers(table: pd.DataFrame, threshold: float, resamples: int = 2000, seed: int = 0) -> pd.DataFrame:
    """What the network says of each of the `subgroups`, and where labels are known, how often it is right.

    `table` has ``probability``, ``label``, ``patient`` and what `subgroups` asks for; a film is called ill from
    `threshold` on. Returns one row a group that has films: ``group``, ``films``, ``patients``, ``called_ill``,
    ``sensitivity``, ``specificity``, ``auc``, each of the last four with a 95% interval, ``..._low`` and ``..._high``
    (bootstrap over patients; Clopper and Pearson's, 1934, over patients where all films get the same answer), and
    ``mean_probability``. NaN where a figure has no films: a folder of one class has a sensitivity or a specificity.
    """
    rows = []
    for name, inside in subgroups(table).items():
        own = table[inside]
        if own.empty:
            continue
        called, label = own.probability >= threshold, own.label.astype("Int64")
        row = {"group": name, "films": len(own), "patients": own.patient.nunique()}
        row["mean_probability"] = own.probability.mean()
        for figure, chosen, right in (
            ("called_ill", label.notna() | label.isna(), called),
            ("sensitivity", (label == 1).fillna(False), called),
            ("specificity", (label == 0).fillna(False), ~called),
        ):
            value = _share(right[chosen], own.patient[chosen], resamples, seed)
            row |= dict(zip((figure, f"{figure}_low", f"{figure}_high"), value))
        row |= dict.fromkeys(("auc", "auc_low", "auc_high"), np.nan)
        if enough(own):
            known = own[label.notna()]
            drawn = metrics.spread(known.label, known.probability, threshold, metrics.resample(known, resamples, seed))
            row["auc"] = metrics.auc(known.label, known.probability)
            row["auc_low"], row["auc_high"] = metrics.interval(drawn["auc"])
        rows.append(row)
    return pd.DataFrame(rows)


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """What `answers` returns, as a page shows it: percentages with their intervals, and only figures that there are.

    A part that holds all films stands once, as ``all``.
    """
    table = table[(table.films < table.films.max()) | (table.group == "all")]
    groups = table.group.str.split(": ").str[:2].str.join(": ")  # of a reason its first part
    shown = pd.DataFrame({"films": table.films, "patients": table.patients})
    for name, title in (("called_ill", "called ill"), ("sensitivity",) * 2, ("specificity",) * 2, ("auc", "AUC")):
        form = "{:.3f} ({:.3f} to {:.3f})" if name == "auc" else "{:.0%} ({:.0%} to {:.0%})"
        rows = table[[name, f"{name}_low", f"{name}_high"]].to_numpy(float)
        if table[name].notna().any():
            shown[title] = [form.format(*row) if row[0] == row[0] else "" for row in rows]
    return shown.set_axis(groups.rename(None))


def measured(table: pd.DataFrame, threshold: float, resamples: int = 2000) -> tuple[dict, dict]:
    """The figures of `metrics.measure`, and their 95% intervals over patients (`metrics.NAMES`), by name.

    `table` has ``label``, ``probability`` and ``patient``; a Problem as of `metrics.checked`.
    """
    answers = table.label, table.probability, threshold
    return metrics.measure(*answers), metrics.intervals(*answers, metrics.resample(table, resamples))


def declined(table: pd.DataFrame, resamples: int = 2000, seed: int = 0) -> dict[str, list[float]]:
    """Share that the gate declines of each class, with its 95% interval over patients: by name [share, low, high].

    `table` has ``passes``, ``class_name`` and ``patient``. A gate that takes more of one class picks by diagnosis.
    """
    classes = table.groupby("class_name")
    return {name.lower(): _share(~own.passes, own.patient, resamples, seed) for name, own in classes}


def recalibrated(table: pd.DataFrame, probability, folds: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """What the answers would be, had the threshold and the probabilities been fitted to this place.

    Each film's are fitted on the other patients (cross-fitting, fewer folds where a class has fewer patients): a line
    through the log-odds (Platt 1999) and Youden's threshold. So it needs labels, and says what a few hundred labelled
    films would buy; it is no result of the network.

    `table` has ``label`` and ``patient``; a Problem where a class has fewer than two patients.

    Returns
    -------
    probability : ndarray of float, shape (images,)
    called : ndarray of bool, shape (images,)
    """
    label, probability = checked(table.label, probability)
    if not enough(table):
        raise Problem("A class has fewer than two patients: recalibration needs films to learn from and others to try.")
    fewest = min(table.patient[label == one].nunique() for one in (0, 1))
    odds, fitted, called = logit(probability)[:, None], np.zeros(len(label)), np.zeros(len(label), bool)
    splitter = StratifiedGroupKFold(min(folds, fewest), shuffle=True, random_state=seed)
    for others, here in splitter.split(odds, label, table.patient):
        line = LogisticRegression(C=np.inf).fit(odds[others], label[others])
        fitted[here] = special.expit(line.decision_function(odds[here]))
        called[here] = probability[here] >= youden_threshold(label[others], probability[others])
    return fitted, called


def summary(table: pd.DataFrame, broken: pd.DataFrame) -> dict:
    """What there is and what the gate does with it, for ``10_external.json``, from what `ask` returns."""
    return {
        "classes": sorted(set(table.class_name) - {""}),
        "films": len(table),
        "patients": table.patient.nunique(),
        "unreadable": len(broken),
        "refused": float((~table.passes).mean()),
        "reasons": table.reason[~table.passes].value_counts().to_dict(),
    }


# --- a rehearsal -----------------------------------------------------------------------------------------------


def simulate(folder: Path, table: pd.DataFrame, seed: int = 0) -> Path:
    """Put films into the cache folder as another hospital might have made them: a rehearsal, and no result.

    Wider framing, a steeper tone curve, grain, other sizes, PNG; one in twenty with black and white exchanged.

    `table` has the films to use (``path`` below `folder`, ``label``, ``class_name``), not those that the network was
    trained on. Returns a folder with one folder a class in it.
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
