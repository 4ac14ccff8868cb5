"""What in a data set misleads a model: leakage, copies, clues beside the lungs, folders that differ, odd pictures.

Each finding is a dict of plain numbers; together they are ``02_audit.json``, and 02_explore.ipynb puts them into words.
The test folder is described, and each baseline is fitted on train and scored on it once: no choice of recipe, threshold
or seed may follow from that. In all functions `manifest` is a table as `data.survey` returns it, and `facts` has its
index, one column a fact, NaN where there is none.
"""

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from io import BytesIO
from pathlib import Path

import imagehash
import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage, stats
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import accuracy_score, balanced_accuracy_score, roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from threadpoolctl import threadpool_limits  # comes with scikit-learn

from .data import class_names
from .images import quiet
from .paths import Problem, display_path

PRINTS = ("KV59", "KV70", "KV68", "KV55")  # tube voltages as a device prints them; others look much like these
ALIKE = 0.55  # correlation from which a device print is one: no normal film of train reaches it
BLOCK = (r"NORMAL2-IM-(\d+)", 139, 275)  # normal films of the test folder that models take for pneumonia
LARGE = 0.07  # of the picture's height: a large letter
WORDS = {
    "aspect": "width / height",
    "bytes_per_pixel": "bytes per pixel",
    "jpeg_quality": "JPEG quality",
    "color": "gray or color",
    "edge": "body at the edge",
    "tilt": "tilt of the body",
    "lines": "longest bright line",
    "letter": "place and size of the letter",
    "letter_top": "letter: from the top",
    "letter_left": "letter: from the left",
    "letter_size": "letter: size",
    "all": "all of these",
}


def _number(value, digits: int = 4) -> float | None:
    """A plain number for JSON, None where there is none."""
    return round(float(value), digits) if np.isfinite(value) else None


def _other(manifest: pd.DataFrame) -> str:
    """Name of class 1. Baselines and comparisons need both classes in train and in test."""
    for folder in ("train", "test"):
        if manifest.label[manifest.folder == folder].nunique() < 2:
            raise Problem(
                f"The {folder} folder has one class only (01_manifest.csv): add images of the other one and "
                "run 01_download.ipynb again."
            )
    return class_names(manifest)[1].lower()


# --- leakage and copies ----------------------------------------------------------------------------------------


def leakage(manifest: pd.DataFrame, share: float = 1 / 7, seeds: int = 20) -> dict:
    """How many patients there are by two keys, and what a split of the train folder at random would leak.

    `share` of the train folder is drawn for validation, `seeds` times. For ``with_subtype`` (the manifest's patient)
    and ``number_alone`` (``person12`` for both subtypes) the result holds ``patients``, ``several_films`` (patients),
    ``most_films``, ``in_train_and_test`` (patients), ``leaked`` and ``leaked_sd`` (share of validation images whose
    patient is also trained on). ``always_other_subtype``: of the bare numbers in both folders, those that never meet
    their own subtype there.
    """
    bare = manifest.patient.str.replace(r"(?i)^(person\d+)_(?:bacteria|virus)$", r"\1", regex=True)
    in_train, in_test, result = manifest.folder == "train", manifest.folder == "test", {}
    for name, patient in {"with_subtype": manifest.patient, "number_alone": bare}.items():
        known, leaked = patient[in_train], []
        films, in_both = known.value_counts(), set(known) & set(patient[in_test])
        for seed in range(seeds):
            held = np.random.default_rng(seed).random(len(known)) < share
            if held.any():
                leaked.append(known[held].isin(known[~held]).mean())
        result[name] = {
            "patients": patient.nunique(),
            "several_films": int((films > 1).sum()),
            "most_films": int(films.max()),
            "in_train_and_test": len(in_both),
            "leaked": _number(np.mean(leaked)),
            "leaked_sd": _number(np.std(leaked)),
        }
    shared = manifest[bare.isin(in_both) & (in_train | in_test)]
    names = shared.groupby([bare, "folder"]).patient.agg(set).unstack()
    return result | {"always_other_subtype": sum(not row.train & row.test for row in names.itertuples())}


def exact_duplicates(manifest: pd.DataFrame) -> dict:
    """Byte-identical files, by sha256: groups of copies in each folder, across folders, patients and classes."""
    twins = manifest[manifest.duplicated("sha256", keep=False)].groupby("sha256")
    folders = twins.folder.agg(lambda values: " + ".join(sorted(set(values))))
    return {
        "groups": len(folders),
        "by_folder": {str(name): int(groups) for name, groups in folders.value_counts().items()},
        "across_folders": int(folders.str.contains("+", regex=False).sum()),
        "under_two_patients": int((twins.patient.nunique() > 1).sum()),
        "under_two_classes": int((twins.label.nunique() > 1).sum()),
        "spare_in_train": int(manifest[manifest.folder == "train"].duplicated("sha256").sum()),
    }


def _details(pictures: np.ndarray) -> np.ndarray:
    """Pictures of 64 x 64 without their coarse light and shade, faded to the edges, each of mean 0 and norm 1."""
    small = np.stack([np.asarray(Image.fromarray(p).resize((64, 64), Image.Resampling.BOX)) for p in pictures])
    fine = small.astype(np.float32)
    fine -= ndimage.gaussian_filter(fine, (0, 3, 3))
    fine *= np.hanning(64)[:, None] * np.hanning(64)
    fine -= fine.mean(axis=(1, 2), keepdims=True)
    return fine / np.maximum(np.linalg.norm(fine, axis=(1, 2), keepdims=True), 1e-6)


def near_duplicates(
    pictures: np.ndarray, manifest: pd.DataFrame, distance: int = 8, alike: float = 0.85, most: int = 50_000
) -> tuple[pd.DataFrame, dict]:
    """The same film in other bytes: perceptual hashes propose pairs, their fine detail confirms or rejects them.

    Chest films look alike, so a close hash proves nothing. A pair is confirmed where its detail (finer than about
    1/10 of the picture) correlates by at least `alike` at the best shift. That finds films saved again, exposed anew,
    turned by 2 degrees or cropped by up to about 3% a side; it misses crops of 8%.

    Parameters
    ----------
    pictures : ndarray of uint8, shape (images, size, size)
    manifest : DataFrame, one row a picture
    distance : int
        Bits, of 64, by which two hashes may differ (`imagehash.phash`, after Zauner 2010, "Implementation and
        benchmarking of perceptual image hash functions").
    alike : float
        Correlation from which a pair is confirmed.
    most : int
        Examine no more pairs than this, the closest hashes first.

    Returns
    -------
    pairs : DataFrame
        All pairs examined, the most alike first, byte-identical ones left out: ``one`` and ``two`` (rows of
        `pictures`), ``path``, ``other``, ``distance``, ``correlation``, ``confirmed``, ``same_patient``,
        ``same_folder``.
    finding : dict
    """
    hashes = np.array([np.packbits(imagehash.phash(Image.fromarray(p)).hash).view(np.uint64)[0] for p in pictures])
    close = [np.empty((0, 3), int)]
    for start in range(0, len(hashes), 512):
        bits = np.bitwise_count(hashes[start : start + 512, None] ^ hashes)
        one, two = np.nonzero(bits <= distance)
        close.append(np.column_stack([one + start, two, bits[one, two]])[one + start < two])
    one, two, bits = np.concatenate(close).astype(int).T
    sha256, patient, folder, path = (manifest[name].to_numpy() for name in ("sha256", "patient", "folder", "path"))
    proposed = np.flatnonzero(sha256[one] != sha256[two])
    examined = proposed[np.argsort(bits[proposed], kind="stable")][:most]
    one, two, bits = one[examined], two[examined], bits[examined]
    waves, parts = np.fft.rfft2(_details(pictures)), len(examined) // 500 + 1
    peaks = [
        np.fft.irfft2(waves[left] * waves[right].conj()).max(axis=(1, 2))
        for left, right in zip(np.array_split(one, parts), np.array_split(two, parts))
    ]
    pairs = pd.DataFrame({"one": one, "two": two, "path": path[one], "other": path[two], "distance": bits})
    pairs["correlation"] = np.concatenate(peaks).round(3)
    pairs["same_patient"], pairs["same_folder"] = patient[one] == patient[two], folder[one] == folder[two]
    pairs["confirmed"] = pairs.correlation >= alike
    pairs = pairs.sort_values("correlation", ascending=False, kind="stable", ignore_index=True)
    same = pairs[pairs.confirmed]
    return pairs, {
        "proposed": len(proposed),
        "proposed_of_two_patients": int((~pairs.same_patient).sum()),
        "confirmed": len(same),
        "across_folders": int((~same.same_folder).sum()),
        "of_two_patients": int((~same.same_patient).sum()),
        "distance": distance,
        "alike": alike,
        "closest_rejected": _number(pairs.correlation[~pairs.confirmed].max(), 3),
    }


# --- clues beside the lungs ------------------------------------------------------------------------------------


def _booster(images: int, seed: int) -> HistGradientBoostingClassifier:
    """Gradient boosting of 30 trees with 4 leaves, both classes weighing the same."""
    leaf = max(2, min(50, images // 12))
    return HistGradientBoostingClassifier(
        max_leaf_nodes=4, max_iter=30, min_samples_leaf=leaf, class_weight="balanced", random_state=seed
    )


@threadpool_limits.wrap(limits=1)  # so small a model is slower on two threads
def baselines(facts: pd.DataFrame, manifest: pd.DataFrame, seed: int = 0) -> dict:
    """What a small model gets right from each clue alone and from all, fitted on train, scored once on test.

    The columns ``letter_...`` of `facts` are one clue. The result holds ``always_other`` (share of test that one
    answer, class 1, gets right), ``rows`` (``clue``, ``train_auc``, ``auc``, ``accuracy``, ``balanced_accuracy``; None
    where the clue is the same in all of train) and ``invisible`` (names of those clues). A Problem where train or test
    has one class only.
    """
    _other(manifest)
    train, test = manifest.folder == "train", manifest.folder == "test"
    truth, label = manifest.label[test], manifest.label[train]
    clues: dict[str, list[str]] = {}
    for fact in facts:
        clues.setdefault("letter" if fact.startswith("letter_") else fact, []).append(fact)
    varied = facts[train].nunique(dropna=False) > 1
    visible = {clue: columns for clue, columns in clues.items() if varied[columns].any()}
    rows, figures = [], ("train_auc", "auc", "accuracy", "balanced_accuracy")
    for clue, columns in [*clues.items(), ("all", sum(visible.values(), []))]:
        row = {"clue": clue} | dict.fromkeys(figures)
        if clue in visible or (clue == "all" and visible):
            model = _booster(train.sum(), seed).fit(facts.loc[train, columns], label)
            known, score = (model.predict_proba(facts.loc[films, columns])[:, 1] for films in (train, test))
            found = [roc_auc_score(label, known), roc_auc_score(truth, score)]
            found += [measure(truth, score >= 0.5) for measure in (accuracy_score, balanced_accuracy_score)]
            row |= dict(zip(figures, map(_number, found)))
        rows.append(row)
    invisible = [clue for clue in clues if clue not in visible]
    return {"always_other": _number(truth.mean()), "rows": rows, "invisible": invisible}


@threadpool_limits.wrap(limits=1)
def bias_conflicting(train_facts: pd.DataFrame, train_label, facts: pd.DataFrame, label, seed: int = 0) -> np.ndarray:
    """Which films have clues that point to the wrong class: the more misleading half of each class.

    A network that lives on the clues does badly on these (Nam et al. 2020, "Learning from failure", call them
    bias-conflicting), whatever it reaches on all.

    Parameters
    ----------
    train_facts, facts : DataFrame, one row a film
        Clues beside the lungs, as `picture_facts` returns them: of the films that the clues' meaning is learned from,
        and of those in question.
    train_label, label : array of 0 and 1
    seed : int

    Returns
    -------
    ndarray of bool, one for each row of `facts`
    """
    label = np.asarray(label, int)
    score = _booster(len(train_facts), seed).fit(train_facts, np.asarray(train_label, int)).predict_proba(facts)[:, 1]
    half = np.array([np.median(score[label == c]) if (label == c).any() else np.nan for c in (0, 1)])[label]
    return np.where(label == 0, score >= half, score <= half)


def told_by_clues(train_facts: pd.DataFrame, train_code, facts: pd.DataFrame, seed: int = 0) -> np.ndarray:
    """What a model says that knows nothing but clues beside the lungs: one probability a class, (films, classes).

    It learns from `train_facts`, as `picture_facts` returns them, and the class of each of these films, from 0. A
    network has to be better than this before what it says can come from the lungs.
    """
    return _booster(len(train_facts), seed).fit(train_facts, np.asarray(train_code, int)).predict_proba(facts)


@threadpool_limits.wrap(limits=1)
def shift(facts: pd.DataFrame, manifest: pd.DataFrame, seed: int = 0) -> dict:
    """How well each fact tells train from test within a class, and the classes within a folder.

    The result holds ``rows``: for each ``fact`` the AUCs (0.5 no difference, above it the second is higher) ``normal``
    and ``other`` (train against test, in that class), ``train`` and ``test`` (class 0 against 1, in that folder); and
    ``folder_auc``: by class, how well all facts together tell train from test films (cross-validated by patient), None
    with too few patients. A Problem where train or test has one class only.
    """
    _other(manifest)
    folder, test = manifest.folder, (manifest.folder == "test").astype(int)
    inside = {
        name: folder.isin(["train", "test"]) & (manifest.label == c) for c, name in enumerate(("normal", "other"))
    }
    questions = {name: (films, test) for name, films in inside.items()}
    questions |= {name: (folder == name, manifest.label) for name in ("train", "test")}

    def auc(films: pd.Series, target: pd.Series, values: pd.Series) -> float | None:
        films = films & values.notna()
        return _number(roc_auc_score(target[films], values[films])) if target[films].nunique() == 2 else None

    rows = [{"fact": fact} | {name: auc(*asked, facts[fact]) for name, asked in questions.items()} for fact in facts]
    together = dict.fromkeys(inside)
    for name, films in inside.items():
        patient = manifest.patient[films]
        folds = min(5, patient.groupby(folder[films]).nunique().min())
        if folds > 1:
            cut = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
            asked = {"cv": cut, "groups": patient, "method": "predict_proba"}
            score = cross_val_predict(_booster(films.sum(), seed), facts[films], test[films], **asked)[:, 1]
            together[name] = _number(roc_auc_score(test[films], score))
    return {"rows": rows, "folder_auc": together}


def in_block(manifest: pd.DataFrame) -> pd.Series:
    """Which films are of the block of normal test films that models take for pneumonia; none in another data set."""
    pattern, first, last = BLOCK
    number = manifest.path.str.extract(pattern)[0].astype(float)
    return (manifest.folder == "test") & (manifest.label == 0) & number.between(first, last)


def best_clue(findings: dict) -> tuple[dict, int]:
    """Of the clues of ``02_audit.json`` that need no lung, the one that gets most test films right, and their number.

    It is a row of `baselines`, with ``accuracy`` and ``auc``; chosen on the test folder, so it flatters the clues.
    """
    rows = [row for key in ("no_pixel", "no_lung") for row in findings[key]["rows"] if row["auc"]]
    return max(rows, key=lambda row: row["accuracy"]), len(rows)


def subgroups(test: pd.DataFrame, manifest: pd.DataFrame, facts: pd.DataFrame, prints: list[str]) -> dict:
    """Groups of test films that a network may do less well on, for `metrics.subgroups`.

    By kind of pneumonia, in the hard block or not (`in_block`), by framing (cut at the median of the train folder), by
    letter, by the print of a device (`prints`, paths of films with one), and by size and shape of the picture. Groups
    that this copy of the data can't tell apart are left out.

    `test` has ``path``, ``label``, ``subtype``, numbered from 0; `manifest` also ``folder``, ``width``, ``height``;
    `facts` are those of `picture_facts` of the films of train and test, by path. Returns a Series of bool by name.
    """
    of_test, rows = facts.loc[test.path].reset_index(drop=True), manifest.set_index("path")
    normal, block = test.label == 0, test.path.isin(manifest.path[in_block(manifest)])
    middle = facts.loc[manifest.path[manifest.folder == "train"], "edge"].median()
    groups = {"all": test.label >= 0}
    groups |= {kind: test.subtype == kind for kind in sorted(set(test.subtype))}
    groups |= {"normal: the hard block": block, "normal: others": normal & ~block}
    groups |= {"body cut off at the edge": of_test.edge > middle, "ground beside the body": of_test.edge <= middle}
    groups["large letter"], groups["small letter"] = of_test.letter_size >= LARGE, of_test.letter_size < LARGE
    groups["no letter found"] = of_test.letter_size.isna()
    printed = test.path.isin(prints)
    if printed.any():
        groups |= {"normal: print of a device": normal & printed, "normal: no such print": normal & ~printed}
    sides = rows.loc[test.path, ["width", "height"]].reset_index(drop=True)
    area, aspect = sides.width * sides.height, sides.width / sides.height
    if area.nunique() > 1:
        groups |= {"smaller picture": area <= area.median(), "larger picture": area > area.median()}
    if aspect.nunique() > 1:
        narrow = aspect <= aspect[normal].median()
        groups |= {"normal: narrower film": normal & narrow, "normal: wider film": normal & ~narrow}
    return groups


@threadpool_limits.wrap(limits=1)
def hard_block(facts: pd.DataFrame, manifest: pd.DataFrame, seed: int = 0) -> tuple[pd.Series, dict]:
    """The block of normal test films that models take for pneumonia, beside the groups that it may be confused with.

    The block was found by scoring models on the test folder: it may explain an error, and must not steer a training.
    `facts` are those of `picture_facts`. Returns which films are in it (False everywhere where the data set has other
    names), and a dict: ``images``, ``groups`` (by name: ``images``; ``letter`` and ``large_letter``, shares of films
    with one; ``taken_by_letter`` and ``taken_by_all``, shares that the model of `baselines` calls class 1 from the
    letter or from all facts).
    """
    other, inside = _other(manifest), in_block(manifest)
    train, test, normal = manifest.folder == "train", manifest.folder == "test", manifest.label == 0
    groups = {"block": inside, "other normal, test": test & normal & ~inside, "normal, train": train & normal}
    for folder in ("train", "test"):
        for subtype in sorted(set(manifest.subtype[~normal])):
            films = (manifest.folder == folder) & ~normal & (manifest.subtype == subtype)
            groups[f"{subtype or other}, {folder}"] = films
    shares = pd.DataFrame({"letter": facts.letter_size.notna(), "large_letter": facts.letter_size >= LARGE})
    for name, clues in (("taken_by_letter", facts.filter(like="letter_")), ("taken_by_all", facts)):
        shares[name] = _booster(train.sum(), seed).fit(clues[train], manifest.label[train]).predict(clues)
    found = {
        name: {"images": int(films.sum())} | shares[films].mean().map(_number).to_dict()
        for name, films in groups.items()
        if films.any()
    }
    return inside, {"images": int(inside.sum()), "groups": found}


def look_alikes(
    facts: pd.DataFrame, manifest: pd.DataFrame, inside: pd.Series, each: int = 4, seed: int = 0
) -> pd.DataFrame:
    """Films to lay side by side: normal ones of train at random, those of the block and of class 1 by their letter.

    Returns rows of `manifest` with a ``kind`` (normal train, hard test, and the rarest subtype of train), `each` a
    kind; a kind with fewer films is left out.
    """
    train = manifest[manifest.folder == "train"]
    subtype = train.subtype[train.label == 1].value_counts().index[-1]
    by_size = manifest.loc[facts.letter_size.dropna().sort_values(ascending=False, kind="stable").index]
    ill = (by_size.folder == "train") & (by_size.label == 1) & (by_size.subtype == subtype)
    kinds = {
        "normal train": train[train.label == 0].sample(frac=1, random_state=seed),
        "hard test": by_size[inside[by_size.index]],
        f"{subtype or _other(manifest)} train": by_size[ill],
    }
    chosen = [films.drop_duplicates("patient").head(each).assign(kind=kind) for kind, films in kinds.items()]
    return pd.concat([films for films in chosen if len(films) == each] or [train.head(0).assign(kind="")])


def gallery(facts: pd.DataFrame, manifest: pd.DataFrame, each: int = 4) -> tuple[pd.DataFrame, dict]:
    """Odd films of the train folder that no label tells from the rest: the extremes of four facts.

    Returns a table with the index that the films have in `manifest`: ``kind`` (darkest, at both edges, rotated, wires),
    ``path``, ``class_name``, ``label``, ``value``; `each` films a kind, each of another patient; a kind that can't be
    seen is left out. ``at both edges``: the body reaches the left and the right edge. And a dict: ``films``,
    ``of_class_1`` (the same for the oddest 1% of train of each kind), ``class_1_in_train``, ``paths`` (of those shown).
    """
    train, oddest = manifest[manifest.folder == "train"], []
    not_pale = facts.brightness <= facts.brightness.quantile(0.9)  # the ground of pale films is gray, not cut off
    oddity = pd.DataFrame({"darkest": -facts.brightness, "at both edges": facts.edge.where(not_pale)})
    oddity = oddity.assign(rotated=facts.tilt.abs(), wires=facts.lines).loc[train.index]
    for kind in oddity:
        value = oddity[kind].dropna().sort_values(ascending=False, kind="stable")
        if value.nunique() > 1:
            films = train.loc[value.index].drop_duplicates("patient").head(max(each, len(train) // 100))
            oddest.append(films.assign(kind=kind, value=value))
    odd = pd.concat(oddest)
    films = odd.groupby("kind", sort=False).head(each)[["kind", "path", "class_name", "label", "value"]]
    finding = {"films": len(odd), "of_class_1": int(odd.label.sum()), "class_1_in_train": _number(train.label.mean())}
    return films, finding | {"paths": films.groupby("kind", sort=False).path.agg(list).to_dict()}


@threadpool_limits.wrap(limits=1)
def told(facts: pd.DataFrame, label: pd.Series, part: pd.Series, seed: int = 0) -> dict:
    """What a small model tells from some facts, fitted on the train split and measured on validation.

    `part` has ``train`` or ``val`` for the films that count; films without any fact are left out. Returns ``films`` (of
    validation) and ``val_auc``, None where the facts are all the same, or a split lacks a class.
    """
    train, val = ((part == name) & facts.notna().any(axis=1) for name in ("train", "val"))
    found: dict = {"films": int(val.sum()), "val_auc": None}
    both = label[train].nunique() == 2 == label[val].nunique()
    if both and (facts[train].nunique() > 1).any():
        score = _booster(train.sum(), seed).fit(facts[train], label[train]).predict_proba(facts[val])[:, 1]
        found["val_auc"] = _number(roc_auc_score(label[val], score))
    return found


def groups(manifest: pd.DataFrame) -> pd.Series:
    """Which films belong together in a table by class and folder, such as ``normal, train``; none of ``val``."""
    names = manifest.label.map(class_names(manifest).str.lower()) + ", " + manifest.folder
    return names[manifest.folder.isin(["train", "test"])]


def by_group(facts: pd.DataFrame, manifest: pd.DataFrame) -> dict:
    """The median of each fact by class and folder (`groups`), with the number of ``films`` that have one."""
    known = facts.dropna(how="all")
    if known.empty:
        return {}
    rows = known.groupby(groups(manifest).reindex(known.index))
    table = rows.median().map(_number).astype(object)
    return {name: {"films": int(rows.size()[name])} | row for name, row in table.T.to_dict().items()}


def device_prints(pictures: np.ndarray, manifest: pd.DataFrame) -> dict:
    """On which films a device has printed its voltage (`printed`), by class and folder, and their paths.

    Arguments as for `printed`; the result holds ``groups`` (by name: ``films``, ``printed``) and ``paths``, of train
    and test.
    """
    found = pd.Series(printed(pictures), manifest.index)
    rows = found.groupby(groups(manifest).reindex(manifest.index)).agg(["size", "sum"])
    counts = {name: {"films": int(row["size"]), "printed": int(row["sum"])} for name, row in rows.iterrows()}
    return {"groups": counts, "paths": manifest.path[found & manifest.folder.isin(["train", "test"])].tolist()}


# --- in words --------------------------------------------------------------------------------------------------


def said_of_leakage(finding: dict) -> str:
    """What `leakage` found, as a sentence in Markdown."""
    strict, bare = finding["with_subtype"], finding["number_alone"]["in_train_and_test"]
    other = finding["always_other_subtype"]
    said = f"Split at random, **{strict['leaked']:.0%} of the validation images** would lie beside another film of the "
    said += f"same child. Patients in both train and test: {strict['in_train_and_test']}. "
    said += f"Bare person numbers in both: {bare}"
    return said + (f"; {other} of them have another subtype there, so a number alone is no patient." if other else ".")


def said_of_copies(exact: dict, near: dict) -> str:
    """What `exact_duplicates` and `near_duplicates` found, as a list in Markdown."""
    return (
        f"- Pictures in more than one file, byte for byte: {exact['groups']}; across folders: "
        f"{exact['across_folders']}; under the names of two patients: {exact['under_two_patients']}. "
        f"Spare files of train, left out: {exact['spare_in_train']}.\n"
        f"- Pairs of different files that a perceptual hash calls alike: {near['proposed']:,}. Proved to be one film "
        f"saved twice: {near['confirmed']}; across folders: {near['across_folders']}."
    )


def said_of_clues(finding: dict, other: str) -> str:
    """What `baselines` found, as a sentence in Markdown: the best clue alone, all of them, and which can't be seen.

    `other` is the name of class 1.
    """
    said = f"Always answering {other} gets {finding['always_other']:.1%} of the test folder right"
    *each, every = finding["rows"]
    visible = [row for row in each if row["auc"] is not None]
    if visible:
        best = max(visible, key=lambda row: row["auc"])
        clue = WORDS.get(best["clue"], best["clue"])
        said += f", {clue} alone {best['accuracy']:.1%} (AUC {best['auc']:.3f})"
    if len(visible) > 1:
        said += f", all {len(visible)} clues {every['accuracy']:.1%} (AUC {every['auc']:.3f})"
    if finding["invisible"]:
        same = ", ".join(WORDS.get(clue, clue) for clue in finding["invisible"])
        said += f". This copy can't show what {same} would tell: the same in all of its training files"
    return said + "."


def said_of_shift(finding: dict, manifest: pd.DataFrame, other: str) -> str:
    """What `shift` found, as a list in Markdown: are train and test the same kind of film, in each class?

    `other` is the name of class 1. An AUC counts as a difference from 3 standard deviations above 0.5 (Mann & Whitney
    1947, for two groups of this size).
    """
    lines = ["By all facts together a test film is told from a train film of its class with this AUC:\n"]
    for label, key, kind in ((0, "normal", "normal"), (1, "other", other)):
        auc, count = finding["folder_auc"][key], manifest[manifest.label == label].folder.value_counts()
        chance = 3 * ((1 / count.train + 1 / count.test) / 12) ** 0.5
        verdict = "two kinds of film" if auc is not None and auc - 0.5 > chance else "they look alike"
        lines.append(f"- {kind}: {auc:.2f}, {verdict}." if auc else f"- {kind}: unknown (too few patients).")
    alone = pd.DataFrame(finding["rows"]).set_index("fact")[["normal", "other"]].astype(float)
    fact, key = (alone - 0.5).abs().stack().idxmax()
    films = "normal" if key == "normal" else other
    lines.append(
        f"- The most telling fact alone is {WORDS.get(fact, fact)}, in {films} films: AUC {alone.loc[fact, key]:.2f}."
    )
    return "\n".join(lines)


def said_of_odd_films(finding: dict, usual: float, other: str) -> str:
    """What `gallery` found, as a sentence in Markdown; it is a clue where a binomial test has p < 0.01.

    `usual` is the share of class 1, called `other`, in the train folder.
    """
    clue = stats.binomtest(finding["of_class_1"], finding["films"], usual).pvalue < 0.01
    share = finding["of_class_1"] / finding["films"]
    return (
        f"Of the {finding['films']} oddest training films ({', '.join(finding['paths'])}) {share:.0%} are {other}, "
        f"against {usual:.0%} of all" + (": to be odd is a clue as well." if clue else ".")
    )


def in_auc(told: dict) -> str:
    """What `told` found, in words."""
    return "not visible in this copy" if told["val_auc"] is None else f"validation AUC {told['val_auc']:.3f}"


# --- facts -----------------------------------------------------------------------------------------------------


@cache
def _tables() -> np.ndarray:
    """Pillow's own (libjpeg's) luminance table at each quality from 1 to 100, sorted, shape (100, 64)."""
    tables = []
    for quality in range(1, 101):
        stream = BytesIO()
        Image.new("L", (8, 8)).save(stream, "JPEG", quality=quality)
        tables.append(np.sort(Image.open(stream).quantization[0]))  # type: ignore[attr-defined]
    return np.array(tables)


def _quality(path: Path) -> float:
    """The libjpeg quality, 1 to 100, whose luminance table is nearest to the file's; NaN for a PNG."""
    try:
        with Image.open(path) as picture:
            found = getattr(picture, "quantization", None)
    except OSError:
        raise Problem(
            f"{display_path(path)} stands in 01_manifest.csv but can't be read: put it back, or run 01_download.ipynb again."
        ) from None
    if not found:
        return np.nan
    return 1.0 + np.abs(np.log(_tables() / np.sort(found[0]).clip(1))).sum(axis=1).argmin()


def file_facts(folder: Path, manifest: pd.DataFrame) -> pd.DataFrame:
    """What a file in the data `folder` tells before one pixel of it is decoded.

    Returns a table with the index of `manifest`: ``width``, ``height`` (pixels), ``aspect`` (width / height),
    ``bytes_per_pixel``, ``jpeg_quality`` (1 to 100, of the libjpeg table that is nearest to the file's; NaN for a PNG),
    ``color`` (1 unless the file is gray). A Problem where a file is gone or is no picture.
    """
    with quiet(), ThreadPoolExecutor() as pool:
        qualities = list(pool.map(_quality, [folder / path for path in manifest.path]))
    facts = manifest[["width", "height"]].assign(aspect=manifest.width / manifest.height)
    facts["bytes_per_pixel"] = manifest.bytes / (manifest.width * manifest.height)
    gray = manifest["mode"].isin(["1", "L", "I", "I;16", "F", "MONOCHROME1", "MONOCHROME2"])
    return facts.assign(jpeg_quality=qualities, color=(~gray).astype(int))


def _letters(pictures: np.ndarray) -> pd.DataFrame:
    """Side markers: the clearest letter-sized bright spot at the left, where an R stands; NaN where there is none.

    A white top-hat keeps what is bright and narrower than 1/10 of the picture; of its connected spots those may be
    letters that are 3 to 14% of the picture high, about as wide or narrower, neither solid nor thin.
    """
    n, size = pictures.shape[:2]
    strip, window = pictures[:, : int(0.65 * size), : int(0.3 * size)], size // 10 | 1
    clear = ndimage.white_tophat(strip, size=(1, window, window))
    within = np.stack([np.zeros((3, 3)), np.ones((3, 3)), np.zeros((3, 3))])  # spots don't cross to the next picture
    spots, count = ndimage.label(clear > 45, structure=within)
    box = [
        [i.start, *(e / size for e in (y.start, y.stop, x.start, x.stop))] for i, y, x in ndimage.find_objects(spots)
    ]
    spot = pd.DataFrame(box, columns=["image", "letter_top", "bottom", "letter_left", "right"], dtype=float)
    spot["letter_size"], wide = spot.bottom - spot.letter_top, spot.right - spot.letter_left
    spot["clear"] = ndimage.mean(clear, spots, np.arange(1, count + 1)) if count else 0.0
    fill = np.bincount(spots.ravel(), minlength=count + 1)[1:] / size**2 / (spot.letter_size * wide)
    shaped = spot.letter_size.between(0.03, 0.14) & (wide / spot.letter_size).between(0.3, 1.1) & (wide > 2.5 / size)
    spot = spot[shaped & fill.between(0.3, 0.9) & (spot.clear > 60)]
    spot = spot.sort_values("clear").drop_duplicates("image", keep="last").set_index("image")
    return spot[["letter_top", "letter_left", "letter_size"]].reindex(np.arange(n))


@cache
def _print_templates(size: int) -> np.ndarray:
    """`PRINTS` in four heights and four widths, for pictures of side `size`: (templates, rows, columns).

    Each has mean 0 and norm 1.
    """
    font, fine, made = ImageFont.load_default(64), 8, []
    rows, columns = round(0.067 * size), round(0.125 * size)
    for text in PRINTS:
        left, top, right, bottom = (round(side) for side in font.getbbox(text))
        word = Image.new("L", (right - left, bottom - top))
        ImageDraw.Draw(word).text((-left, -top), text, fill=255, font=font)
        for high in (0.024, 0.029, 0.034, 0.040):  # of the picture's side
            for wide in (1.5, 1.8, 2.15, 2.5):  # of the height: the film is squeezed
                shape = round(high * wide * size * fine), round(high * size * fine)
                ground = Image.new("L", (columns * fine, rows * fine))
                ground.paste(word.resize(shape), ((ground.width - shape[0]) // 2, (ground.height - shape[1]) // 2))
                made.append(np.asarray(ground.resize((columns, rows), Image.Resampling.BOX), np.float32))
    templates = np.stack(made)
    templates -= templates.mean(axis=(1, 2), keepdims=True)
    return templates / np.linalg.norm(templates, axis=(1, 2), keepdims=True)


@threadpool_limits.wrap(limits=1)
def printed(pictures: np.ndarray) -> np.ndarray:
    """Whether a device has printed its tube voltage (``KV59``) at the lower right, where some of them do.

    Templates of the print in several sizes are laid over the corner, after a white top-hat that keeps what is bright
    and narrow; a film has a print where one correlates by `ALIKE` or more (normalised cross-correlation, in which a
    faint pattern counts less). `pictures` are uint8 of shape (images, size, size); made for 224 pixels, and below about
    160 the print can't be read. Returns bool of shape (images,). It misses very small prints.
    """
    size = pictures.shape[1]
    templates = _print_templates(size)
    shape, rows, columns = templates.shape[1:], round(0.1 * size), round(0.18 * size)
    corner = ndimage.white_tophat(pictures[:, -2 * rows :, -2 * columns :], size=(1, 1, size // 32 | 1))
    room = (0, round(0.013 * size)), (0, round(0.027 * size))  # the margin of a template beyond the edge
    best = np.empty(len(pictures))
    for i, film in enumerate(corner[:, -rows:, -columns:]):
        places = np.lib.stride_tricks.sliding_window_view(np.pad(film, room, "edge").astype(np.float32), shape)
        places = places.reshape(-1, shape[0] * shape[1])
        strength = np.maximum(places.std(axis=1), 20) * shape[0] ** 0.5 * shape[1] ** 0.5
        best[i] = (places @ templates.reshape(len(templates), -1).T / strength[:, None]).max()
    return best >= ALIKE


def _tilt(pictures: np.ndarray, most: int = 24, step: int = 3, gain: float = 0.2) -> np.ndarray:
    """Degrees by which the body leans to the right: the turn after which the picture best mirrors itself.

    The mirror stands anywhere in the middle half; 0 where no turn makes the correlation better by `gain`.
    """
    n, k = len(pictures), pictures.shape[1] // 4
    small = pictures[:, : 4 * k, : 4 * k].reshape(n, k, 4, k, 4).mean((2, 4), dtype=np.float32)
    y, x = np.mgrid[k // 8 : k - k // 8, k // 8 : k - k // 8] - (k - 1) / 2
    angles, scores = np.arange(-most, most + 1, step), []
    for turn in np.radians(angles):
        down, right = y * np.cos(turn) + x * np.sin(turn), x * np.cos(turn) - y * np.sin(turn)
        turned = small[:, *(np.rint(np.clip(at + (k - 1) / 2, 0, k - 1)).astype(int) for at in (down, right))]
        turned -= turned.mean((1, 2), keepdims=True)
        m = turned.shape[2]
        waves = np.fft.rfft(turned, 2 * m, axis=2)
        mirrored = np.fft.irfft((waves**2).sum(1), 2 * m, axis=1)[:, m - 1 - m // 4 : m + m // 4]
        scores.append(mirrored.max(1) / np.maximum((turned**2).sum((1, 2)), 1))
    best = np.max(scores, axis=0)
    return np.where(best - scores[len(angles) // 2] >= gain, angles[np.argmax(scores, axis=0)], 0)


def _measure(picture: np.ndarray) -> tuple[float, ...]:
    """``brightness`` to ``lines`` of `picture_facts`, for one picture."""
    size = len(picture)
    gray, middle = picture.astype(np.float32), slice(size // 4, 3 * size // 4)
    low, median, high = np.percentile(gray[::2, ::2], [5, 50, 95])
    edge = min(np.percentile(gray[middle, part], 5) for part in (slice(size // 16), slice(-(size // 16), None)))
    bright = ndimage.white_tophat(picture, size=size // 25) > max(40, 0.3 * (high - low))
    lines, border = [0.0], 0.04 * size
    for box in ndimage.find_objects(ndimage.label(bright, np.ones((3, 3)))[0]):
        if all(side.stop > border and side.start < size - border for side in box):
            lines.append(np.hypot(*(side.stop - side.start for side in box)) / size)
    sharpness = ndimage.laplace(gray).var() / max(gray.var(), 1)
    return gray.mean(), high - low, sharpness, edge / max(median, 1), max(lines)


def picture_facts(pictures: np.ndarray) -> pd.DataFrame:
    """What can be measured of a film without knowing what a lung is; crude, so look at the films that it picks.

    `pictures` are uint8 of shape (images, size, size): the whole film squeezed into a square; made for 128 pixels.
    Returns one row a picture, numbered from 0: ``brightness`` (mean gray level, 0 to 255), ``contrast`` (95th less 5th
    percentile), ``sharpness`` (variance of the Laplacian over the picture's; Pech-Pacheco 2000, "Diatom autofocusing in
    brightfield microscopy"), ``edge`` (gray level at the darker of the left and right edge over the median: 0 where
    dark ground is left beside the body, near 1 where the body is cut off), ``tilt`` (degrees in the square by which the
    head leans to the right, in steps of 3; 0 where that is not clear), ``lines`` (length of the longest thin bright
    line, share of the side: wires, tubes, sharp ribs); ``letter_top``, ``letter_left`` and ``letter_size`` (place and
    height of a letter at the left, shares of the side; NaN without one).
    """
    with ThreadPoolExecutor() as pool:
        rows = list(pool.map(_measure, pictures))
    facts = pd.DataFrame(rows, columns=["brightness", "contrast", "sharpness", "edge", "lines"], dtype=float)
    return facts.assign(tilt=_tilt(pictures)).join(_letters(pictures))
