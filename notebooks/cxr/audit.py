"""What in a data set misleads a model: leakage, copies, clues beside the lungs, folders that differ, odd pictures.

Each finding is a dict of plain numbers with one ``sentence`` made of them; together they are ``02_audit.json``. The
test folder is described, and each baseline is fitted on train and scored on it once: no choice of recipe, threshold
or seed may follow from that.
"""

import imagehash
import numpy as np
import pandas as pd
from PIL import Image
from scipy import ndimage, stats
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import accuracy_score, balanced_accuracy_score, roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from threadpoolctl import threadpool_limits  # comes with scikit-learn

from .clues import WORDS
from .data import class_names
from .project import Problem

BLOCK = (r"NORMAL2-IM-(\d+)", 139, 275)  # normal films of the test folder that models take for pneumonia
LARGE = 0.07  # of the picture's height: a large letter


def _number(value, digits: int = 4) -> float | None:
    """A plain number for JSON, None where there is none."""
    return round(float(value), digits) if value is not None and np.isfinite(value) else None


def _count(number: int, what: str) -> str:
    return f"{f'{number:,}' if number else 'no'} {what}{'' if number == 1 else 's'}"


def _other(manifest: pd.DataFrame) -> str:
    """Name of class 1. Baselines and comparisons need both classes in train and in test."""
    for part in ("train", "test"):
        if manifest.label[manifest.folder == part].nunique() < 2:
            raise Problem(f"The {part} folder has one class only (01_manifest.csv): add images of the other one and "
                          "run 01_download.ipynb again.")
    return class_names(manifest)[1].lower()


def leakage(manifest: pd.DataFrame, share: float = 1 / 7, seeds: int = 20) -> dict:
    """How many patients there are by two keys, and what a split of the train folder at random would leak.

    Parameters
    ----------
    manifest : DataFrame as `data.survey` returns it
    share : float
        Part of the train folder that is drawn for validation, between 0 and 1.
    seeds : int
        Random splits to average over.

    Returns
    -------
    dict
        For ``with_subtype`` (the manifest's patient) and ``number_alone`` (``person12`` for both subtypes):
        ``patients``, ``several_films`` (patients), ``most_films``, ``in_train_and_test`` (patients), ``leaked`` and
        ``leaked_sd`` (share of validation images whose patient is also trained on). ``always_other_subtype``: of the
        bare numbers in both folders, those that never meet their own subtype there.
    """
    train, result = manifest[manifest.folder == "train"], {}
    keys = {"with_subtype": manifest.patient,
            "number_alone": manifest.patient.str.replace(r"(?i)^(person\d+)_(?:bacteria|virus)$", r"\1", regex=True)}
    for name, key in keys.items():
        own, films = key[train.index], key[train.index].value_counts()
        leaked = []
        for seed in range(seeds):
            held = np.random.default_rng(seed).random(len(train)) < share
            leaked += [own[held].isin(own[~held]).mean()] if held.any() else []
        shared = set(own) & set(key[manifest.folder == "test"])
        result[name] = {"patients": int(key.nunique()), "several_films": int((films > 1).sum()),
                        "most_films": int(films.max()), "in_train_and_test": len(shared),
                        "leaked": _number(np.mean(leaked)), "leaked_sd": _number(np.std(leaked))}
    sides = manifest.assign(key=keys["number_alone"])[keys["number_alone"].isin(shared)]
    sides = sides[sides.folder != "val"].groupby(["key", "folder"]).patient.agg(set).unstack()
    other = int(sum(not row.train & row.test for row in sides.itertuples()))
    strict = result["with_subtype"]
    sentence = (f"Split at random, {strict['leaked']:.0%} of the validation images would lie beside another film of "
                f"the same child. {_count(strict['in_train_and_test'], 'patient').capitalize()} in both train and test")
    sentence += (f"; of {_count(len(shared), 'bare person number')} in both, {other} with another subtype only, so a "
                 "number alone is no patient." if other else ".")
    return result | {"always_other_subtype": other, "sentence": sentence}


def exact_duplicates(manifest: pd.DataFrame) -> dict:
    """Byte-identical files, by sha256: groups of copies in each folder, across folders, patients and classes."""
    twins = manifest[manifest.duplicated("sha256", keep=False)].groupby("sha256")
    where = twins.folder.agg(lambda values: " + ".join(sorted(set(values))))
    spare = int(manifest[manifest.folder == "train"].duplicated("sha256").sum())
    result = {"groups": len(where), "by_folder": {str(k): int(v) for k, v in where.value_counts().items()},
              "across_folders": int(where.str.contains("+", regex=False).sum()),
              "under_two_patients": int((twins.patient.nunique() > 1).sum()),
              "under_two_classes": int((twins.label.nunique() > 1).sum()), "spare_in_train": spare}
    result["sentence"] = (f"{_count(len(where), 'picture').capitalize()} in more than one file, byte for byte: "
                          f"{result['across_folders']} across folders, {result['under_two_patients']} under the names "
                          f"of two patients; {_count(spare, 'spare file')} of train left out.")
    return result


def _details(pictures: np.ndarray) -> np.ndarray:
    """Pictures of 64 x 64 without their coarse light and shade, faded to the edges, each of mean 0 and norm 1."""
    small = np.stack([np.asarray(Image.fromarray(p).resize((64, 64), Image.Resampling.BOX)) for p in pictures])
    fine = small.astype(np.float32)
    fine -= ndimage.gaussian_filter(fine, (0, 3, 3))
    fine *= np.hanning(64)[:, None] * np.hanning(64)
    fine -= fine.mean(axis=(1, 2), keepdims=True)
    return fine / np.maximum(np.linalg.norm(fine, axis=(1, 2), keepdims=True), 1e-6)


def near_duplicates(pictures: np.ndarray, manifest: pd.DataFrame, distance: int = 8, alike: float = 0.85,
                    most: int = 50_000) -> tuple[pd.DataFrame, dict]:
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
    found = [np.empty((0, 3), int)]
    for start in range(0, len(hashes), 512):
        bits = np.bitwise_count(hashes[start:start + 512, None] ^ hashes)
        one, two = np.nonzero(bits <= distance)
        found.append(np.column_stack([one + start, two, bits[one, two]])[one + start < two])
    found = np.concatenate(found).astype(int)
    sha256, patient, folder, path = (manifest[name].to_numpy() for name in ("sha256", "patient", "folder", "path"))
    found = found[sha256[found[:, 0]] != sha256[found[:, 1]]]
    proposed, found = len(found), found[np.argsort(found[:, 2], kind="stable")][:most]
    waves = np.fft.rfft2(_details(pictures))
    peaks = [np.fft.irfft2(waves[part[:, 0]] * waves[part[:, 1]].conj()).max(axis=(1, 2))
             for part in np.array_split(found, len(found) // 500 + 1)]
    one, two, bits = found.T
    pairs = pd.DataFrame({"one": one, "two": two, "path": path[one], "other": path[two], "distance": bits,
                          "correlation": np.concatenate(peaks).round(3), "same_patient": patient[one] == patient[two],
                          "same_folder": folder[one] == folder[two]})
    pairs = pairs.assign(confirmed=pairs.correlation >= alike).sort_values("correlation", ascending=False,
                                                                           kind="stable", ignore_index=True)
    same = pairs[pairs.confirmed]
    finding = {"proposed": proposed, "proposed_of_two_patients": int((~pairs.same_patient).sum()),
               "confirmed": len(same), "across_folders": int((~same.same_folder).sum()),
               "of_two_patients": int((~same.same_patient).sum()), "distance": distance, "alike": alike,
               "closest_rejected": _number(pairs.correlation[~pairs.confirmed].max(), 3)}
    finding["sentence"] = (f"A perceptual hash calls {_count(proposed, 'pair')} of different files alike, and "
                           + (f"{len(same):,} proved to be one film saved twice ({finding['across_folders']} across "
                              "folders)." if len(same) else "not one is the same film"
                              + (": chest films look alike." if proposed else ".")))
    return pairs, finding


def _booster(images: int, seed: int) -> HistGradientBoostingClassifier:
    return HistGradientBoostingClassifier(max_leaf_nodes=4, max_iter=30, min_samples_leaf=max(2, min(50, images // 12)),
                                          class_weight="balanced", random_state=seed)


@threadpool_limits.wrap(limits=1)  # so small a model is slower on two threads
def baselines(facts: pd.DataFrame, manifest: pd.DataFrame, seed: int = 0) -> dict:
    """What a small model gets right from each clue alone and from all, fitted on train, scored once on test.

    The model is a gradient boosting of 30 trees with 4 leaves, both classes weighing the same.

    Parameters
    ----------
    facts : DataFrame, the index of `manifest`
        One column a fact, NaN where there is none; the columns ``letter_...`` are one clue.
    manifest : DataFrame as `data.survey` returns it
    seed : int

    Returns
    -------
    dict
        ``always_other`` (share of test that one answer, class 1, gets right), ``rows`` (``clue``, ``train_auc``,
        ``auc``, ``accuracy``, ``balanced_accuracy``; None where the clue is the same in all of train), ``invisible``
        (names of those clues), ``sentence``.

    Raises
    ------
    Problem
        Train or test has one class only.
    """
    name, train, test, label = _other(manifest), manifest.folder == "train", manifest.folder == "test", manifest.label
    clues = {}
    for fact in facts:
        clues.setdefault("letter" if fact.startswith("letter_") else fact, []).append(fact)
    visible = {clue: columns for clue, columns in clues.items()
               if any(facts.loc[train, fact].nunique(dropna=False) > 1 for fact in columns)}
    rows = []
    for clue, columns in [*clues.items(), ("all", sum(visible.values(), []))]:
        row = {"clue": clue} | dict.fromkeys(("train_auc", "auc", "accuracy", "balanced_accuracy"))
        if clue in visible or (clue == "all" and visible):
            model = _booster(train.sum(), seed).fit(facts.loc[train, columns], label[train])
            score, own = (model.predict_proba(facts.loc[part, columns])[:, 1] for part in (test, train))
            row |= {"train_auc": _number(roc_auc_score(label[train], own)),
                    "auc": _number(roc_auc_score(label[test], score)),
                    "accuracy": _number(accuracy_score(label[test], score >= 0.5)),
                    "balanced_accuracy": _number(balanced_accuracy_score(label[test], score >= 0.5))}
        rows.append(row)
    always, invisible = _number(label[test].mean()), [clue for clue in clues if clue not in visible]
    sentence = ""
    if visible:
        best, every = max(rows[:-1], key=lambda row: row["auc"] or 0), rows[-1]
        word = WORDS.get(best["clue"], best["clue"])
        sentence = (f"{word[0].upper()}{word[1:]} alone gets {best['accuracy']:.1%} of the test folder right "
                    f"(AUC {best['auc']:.3f}), " + (f"all {len(visible)} clues {every['accuracy']:.1%} (AUC "
                                                    f"{every['auc']:.3f}), " if len(visible) > 1 else "")
                    + f"always answering {name} {always:.1%}. ")
    if invisible:
        unseen = ", ".join(WORDS.get(clue, clue) for clue in invisible)
        sentence += f"This copy can't show what {unseen} would tell: the same in all of its training files."
    return {"always_other": always, "rows": rows, "invisible": invisible, "sentence": sentence.strip()}


@threadpool_limits.wrap(limits=1)
def misled(facts: pd.DataFrame, label: np.ndarray, train: np.ndarray, seed: int = 0) -> np.ndarray:
    """Which held-out images have clues that point to the wrong class: the more misleading half of each class.

    A network that lives on the clues does badly on these, whatever it reaches on all.

    Parameters
    ----------
    facts : DataFrame, one row an image
        Clues beside the lungs, as `clues.picture_facts` returns them.
    label : ndarray of 0 and 1, shape (images,)
    train : ndarray of bool, shape (images,)
        The images that the clues' meaning is learned from, as in `baselines`; all others are held out.
    seed : int

    Returns
    -------
    ndarray of bool, shape (held-out images,), in their order
    """
    label, train = np.asarray(label, int), np.asarray(train, bool)
    model = _booster(train.sum(), seed).fit(facts[train], label[train])
    score, own = model.predict_proba(facts[~train])[:, 1], label[~train]
    half = {one_class: np.median(score[own == one_class]) for one_class in set(own)}
    return np.array([s >= half[c] if c == 0 else s <= half[c] for s, c in zip(score, own)])


@threadpool_limits.wrap(limits=1)
def shift(facts: pd.DataFrame, manifest: pd.DataFrame, seed: int = 0) -> dict:
    """How well each fact tells train from test within a class, and the classes within a folder.

    Parameters
    ----------
    facts : DataFrame, the index of `manifest`
    manifest : DataFrame as `data.survey` returns it
    seed : int

    Returns
    -------
    dict
        ``rows``: for each ``fact`` the AUCs (0.5 no difference, above it the second is higher) ``normal`` and
        ``other`` (train against test, in that class), ``train`` and ``test`` (class 0 against 1, in that folder).
        ``folder_auc``: by class, how well all facts together tell train from test films (cross-validated by patient).
        ``sentence``.

    Raises
    ------
    Problem
        Train or test has one class only.
    """
    name = _other(manifest)
    part, test = manifest.folder.isin(["train", "test"]), (manifest.folder == "test").astype(int)
    inside = {where: part & (manifest.label == label) for label, where in enumerate(("normal", "other"))}
    questions = {where: (rows, test) for where, rows in inside.items()}
    questions |= {where: (manifest.folder == where, manifest.label) for where in ("train", "test")}

    def auc(rows: pd.Series, target: pd.Series, values: pd.Series) -> float | None:
        rows = rows & values.notna()
        return _number(roc_auc_score(target[rows], values[rows])) if target[rows].nunique() == 2 else None

    rows = [{"fact": fact} | {key: auc(*question, facts[fact]) for key, question in questions.items()}
            for fact in facts]
    together = {}
    for where, films in inside.items():
        films = manifest.index[films]
        folds = min(5, manifest.loc[films].groupby("folder").patient.nunique().min())
        together[where] = None
        if folds > 1:
            cut = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
            score = cross_val_predict(_booster(len(films), seed), facts.loc[films], test[films], cv=cut,
                                      groups=manifest.patient[films], method="predict_proba")[:, 1]
            together[where] = _number(roc_auc_score(test[films], score))
    _, fact, where = max((abs((row[key] or 0.5) - 0.5), row["fact"], key) for row in rows for key in inside)
    names, found = {"normal": "normal", "other": name}, {key: auc for key, auc in together.items() if auc is not None}
    films = {key: test[rows].value_counts() for key, rows in inside.items()}
    differ = any(auc - 0.5 > 3 * np.sqrt(films[key].sum() / films[key].prod() / 12) for key, auc in found.items())
    sentence = (f"Train and test {'are two populations' if differ else 'look alike'}: facts that know no lung tell a "
                "train film from a test film with AUC "
                + (" and ".join(f"{auc:.2f} ({names[key]})" for key, auc in found.items()) or "unknown (few patients)")
                + f", 0.5 being one population; the most telling is {WORDS.get(fact, fact)}, in {names[where]} films.")
    return {"rows": rows, "folder_auc": together, "sentence": sentence}


def in_block(manifest: pd.DataFrame) -> pd.Series:
    """Which films are of the block of normal test films that models take for pneumonia; none in another data set."""
    pattern, first, last = BLOCK
    number = manifest.path.str.extract(pattern)[0].astype(float)
    return (manifest.folder == "test") & (manifest.label == 0) & number.between(first, last)


@threadpool_limits.wrap(limits=1)
def hard_block(facts: pd.DataFrame, manifest: pd.DataFrame, seed: int = 0) -> tuple[pd.Series, dict]:
    """The block of normal test films that models take for pneumonia, beside the groups that it may be confused with.

    The block was found by scoring models on the test folder: it may explain an error, and must not steer a training.

    Parameters
    ----------
    facts : DataFrame as `picture_facts` returns it, with the index of `manifest`
    manifest : DataFrame as `data.survey` returns it
    seed : int

    Returns
    -------
    inside : Series of bool, the index of `manifest`
        False everywhere where the data set has other names.
    finding : dict
        ``images``, ``groups`` (by name: ``images``; ``letter`` and ``large_letter``, shares of films with one;
        ``taken_by_letter`` and ``taken_by_all``, shares that the model of `baselines` calls class 1 from the letter or
        from all facts), ``sentence``.
    """
    name, inside = _other(manifest), in_block(manifest)
    train, test, normal = manifest.folder == "train", manifest.folder == "test", manifest.label == 0
    letter = facts.filter(like="letter_")
    seen, by_letter = (pd.Series(_booster(train.sum(), seed).fit(clues[train], manifest.label[train]).predict(clues),
                                 manifest.index) for clues in (facts, letter))
    groups = {"block": inside, "other normal, test": test & normal & ~inside, "normal, train": train & normal}
    groups |= {f"{kind or name}, {part}": rows & ~normal & (manifest.subtype == kind)
               for part, rows in (("train", train), ("test", test)) for kind in sorted(set(manifest.subtype[~normal]))}
    shares = {"letter": facts.letter_size.notna(), "large_letter": facts.letter_size >= LARGE,
              "taken_by_letter": by_letter, "taken_by_all": seen}
    finding = {"images": int(inside.sum()), "groups": {
        key: {"images": int(rows.sum())} | {what: _number(share[rows].mean()) for what, share in shares.items()}
        for key, rows in groups.items() if rows.any()}}
    finding["sentence"] = "The block of hard normal films is not in this test folder."
    if inside.any():
        large, taken = ({key: f"{group[what]:.0%}" for key, group in finding["groups"].items()}
                        for what in ("large_letter", "taken_by_letter"))
        finding["sentence"] = (
            f"A model that sees nothing but the place and size of a letter takes {taken.pop('block')} of the "
            f"{finding['images']} hard normal test films for {name} ("
            + ", ".join(f"{key}: {share}" for key, share in taken.items() if "normal" in key)
            + f"); a large letter stands in {large.pop('block')} of them ("
            + ", ".join(f"{key}: {share}" for key, share in large.items() if "normal" in key or "train" in key) + ").")
    return inside, finding


def look_alikes(facts: pd.DataFrame, manifest: pd.DataFrame, inside: pd.Series, each: int = 4,
                seed: int = 0) -> pd.DataFrame:
    """Films to lay side by side: normal ones of train at random, those of the block and of class 1 by their letter.

    Returns
    -------
    DataFrame, the index that the films have in `manifest`
        Its rows and ``kind`` (normal train, hard test, and the rarest subtype of train), `each` a kind; a kind with
        fewer films is left out.
    """
    train = manifest[manifest.folder == "train"]
    kind = train.subtype[train.label == 1].value_counts().index[-1]
    by_size = facts.letter_size.dropna().sort_values(ascending=False, kind="stable").index
    ill = manifest.loc[by_size[by_size.isin(train.index[(train.label == 1) & (train.subtype == kind)])]]
    lots = {"normal train": train[train.label == 0].sample(frac=1, random_state=seed),
            "hard test": manifest.loc[by_size[inside[by_size]]], f"{kind or _other(manifest)} train": ill}
    lots = {name: lot.drop_duplicates("patient").head(each).assign(kind=name) for name, lot in lots.items()}
    return pd.concat([lot for lot in lots.values() if len(lot) == each] or [train.head(0).assign(kind="")])


def gallery(facts: pd.DataFrame, manifest: pd.DataFrame, each: int = 4) -> tuple[pd.DataFrame, dict]:
    """Odd films of the train folder that no label tells from the rest: the extremes of four facts.

    Returns
    -------
    films : DataFrame, the index that the films have in `manifest`
        ``kind`` (darkest, tightest, rotated, wires), ``path``, ``class_name``, ``label``, ``value``; `each` films a
        kind, each of another patient. A kind that can't be seen is left out.
    finding : dict
        ``films``, ``of_class_1`` (the same for the oddest 1% of train of each kind), ``class_1_in_train``, ``paths``
        (of the films shown), ``sentence``.
    """
    train, rows = manifest[manifest.folder == "train"], []
    not_pale = facts.brightness <= facts.brightness.quantile(0.9)  # the ground of pale films is gray, not cut off
    kinds = {"darkest": -facts.brightness, "tightest": facts.edge.where(not_pale), "rotated": facts.tilt.abs(),
             "wires": facts.lines}
    for kind, value in kinds.items():
        value = value[train.index].dropna().sort_values(ascending=False, kind="stable")
        if value.nunique() > 1:
            films = train.loc[value.index].drop_duplicates("patient").head(max(each, len(train) // 100))
            rows.append(films.assign(kind=kind, value=value))
    odd, usual = pd.concat(rows), train.label.mean()
    films = odd.groupby("kind", sort=False).head(each)[["kind", "path", "class_name", "label", "value"]]
    clue = stats.binomtest(int(odd.label.sum()), len(odd), usual).pvalue < 0.01
    finding = {"films": len(odd), "of_class_1": int(odd.label.sum()), "class_1_in_train": _number(usual),
               "paths": films.groupby("kind", sort=False).path.agg(list).to_dict()}
    finding["sentence"] = (f"Of the {len(odd)} oddest training films ({', '.join(finding['paths'])}) "
                           f"{odd.label.mean():.0%} are {_other(manifest)}, against {usual:.0%} of all"
                           + (": to be odd is a clue as well." if clue else "."))
    return films, finding
