"""What in a data set misleads a model: leakage, copies, clues beside the lungs, folders that differ, odd pictures.

Each finding is a dict of plain numbers with one ``sentence`` made of them; together they are ``02_audit.json``. The
test folder is described, and each baseline is fitted on train and scored on it once: no choice of recipe, threshold
or seed may follow from that.
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import imagehash
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from PIL import Image
from scipy import ndimage, stats
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import accuracy_score, balanced_accuracy_score, roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from threadpoolctl import threadpool_limits  # comes with scikit-learn

from .images import quiet
from .plot import BLUE, BY_LABEL, GRAY, VERMILION
from .project import Problem, shown

BLOCK = (r"NORMAL2-IM-(\d+)", 139, 275)  # normal films of the test folder that models take for pneumonia
LARGE = 0.07  # of the picture's height: a large letter
LUMA = [16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56,
        14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
        49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99]  # JPEG (ITU-T T.81), table K.1
WORDS = {"aspect": "width / height", "bytes_per_pixel": "bytes per pixel", "jpeg_quality": "JPEG quality",
         "color": "gray or color", "edge": "body at the edge", "tilt": "tilt of the body",
         "lines": "longest bright line", "letter": "place and size of the letter", "letter_top": "letter: from the top",
         "letter_left": "letter: from the left", "letter_size": "letter: size", "all": "all of these"}


def _number(value, digits: int = 4) -> float | None:
    """A plain number for JSON, None where there is none."""
    return round(float(value), digits) if value is not None and np.isfinite(value) else None


def _count(number: int, what: str) -> str:
    return f"{f'{number:,}' if number else 'no'} {what}{'' if number == 1 else 's'}"


def _word(fact: str) -> str:
    return WORDS.get(fact, fact)


def _other(manifest: pd.DataFrame) -> str:
    """Name of class 1. Baselines and comparisons need both classes in train and in test."""
    for part in ("train", "test"):
        if manifest.label[manifest.folder == part].nunique() < 2:
            raise Problem(f"The {part} folder has one class only (01_manifest.csv): add images of the other one and "
                          "run 01_download.ipynb again.")
    return manifest.class_name[manifest.label == 1].iloc[0].lower()


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


def _quality(table: list[int]) -> float:
    """The libjpeg quality, 1 to 100, whose luminance table is nearest to `table` (64 numbers, in any order)."""
    quality = np.arange(1, 101)
    scale = np.where(quality < 50, 5000 / quality, 200 - 2 * quality)
    tables = ((np.sort(LUMA) * scale[:, None] + 50) // 100).clip(1, 255)
    return float(quality[np.abs(np.log(tables / np.sort(table).clip(1))).sum(axis=1).argmin()])


def file_facts(folder: Path, manifest: pd.DataFrame) -> pd.DataFrame:
    """What a file tells before one pixel of it is decoded.

    Parameters
    ----------
    folder : Path
        Data folder.
    manifest : DataFrame as `data.survey` returns it

    Returns
    -------
    DataFrame, the index of `manifest`
        ``width``, ``height`` (pixels), ``aspect`` (width / height), ``bytes_per_pixel``, ``jpeg_quality`` (1 to 100,
        of the libjpeg table that is nearest to the file's; NaN for a PNG), ``color`` (1 unless the file is gray).

    Raises
    ------
    Problem
        A file is gone or is no picture.
    """
    def quality(path: str) -> float:
        try:
            with Image.open(folder / path) as picture:
                tables = getattr(picture, "quantization", None)
        except OSError:
            raise Problem(f"{path} stands in 01_manifest.csv but can't be read in {shown(folder)}: put it back, or run "
                          "01_download.ipynb again.") from None
        return _quality(tables[0]) if tables else np.nan

    with quiet(), ThreadPoolExecutor() as pool:
        qualities = list(pool.map(quality, manifest.path))
    pixels = manifest.width * manifest.height
    return pd.DataFrame({"width": manifest.width, "height": manifest.height, "aspect": manifest.width / manifest.height,
                         "bytes_per_pixel": manifest.bytes / pixels, "jpeg_quality": qualities,
                         "color": (~manifest["mode"].isin(["1", "L", "I", "I;16", "F"])).astype(int)}, manifest.index)


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
        word = _word(best["clue"])
        sentence = (f"{word[0].upper()}{word[1:]} alone gets {best['accuracy']:.1%} of the test folder right "
                    f"(AUC {best['auc']:.3f}), " + (f"all {len(visible)} clues {every['accuracy']:.1%} (AUC "
                                                    f"{every['auc']:.3f}), " if len(visible) > 1 else "")
                    + f"always answering {name} {always:.1%}. ")
    if invisible:
        sentence += (f"This copy can't show what {', '.join(map(_word, invisible))} would tell: the same in all of its "
                     "training files.")
    return {"always_other": always, "rows": rows, "invisible": invisible, "sentence": sentence.strip()}


def _letters(pictures: np.ndarray) -> pd.DataFrame:
    """Side markers: the clearest letter-sized bright spot at the left, where an R stands; NaN where there is none.

    A white top-hat keeps what is bright and narrower than 1/10 of the picture; of its connected spots those may be
    letters that are 3 to 14% of the picture high, about as wide or narrower, neither solid nor thin.
    """
    n, size = pictures.shape[:2]
    strip, window = pictures[:, :int(0.65 * size), :int(0.3 * size)], size // 10 | 1
    clear = ndimage.white_tophat(strip, size=(1, window, window))
    within = np.stack([np.zeros((3, 3)), np.ones((3, 3)), np.zeros((3, 3))])  # spots don't cross to the next picture
    spots, count = ndimage.label(clear > 45, structure=within)
    box = [[part[0].start] + [edge / size for side in part[1:] for edge in (side.start, side.stop)]
           for part in ndimage.find_objects(spots)]
    spot = pd.DataFrame(box, columns=["image", "letter_top", "bottom", "letter_left", "right"], dtype=float)
    spot["letter_size"], wide = spot.bottom - spot.letter_top, spot.right - spot.letter_left
    spot["clear"] = ndimage.mean(clear, spots, np.arange(1, count + 1)) if count else 0.0
    fill = np.bincount(spots.ravel(), minlength=count + 1)[1:] / size ** 2 / (spot.letter_size * wide)
    spot = spot[spot.letter_size.between(0.03, 0.14) & (wide / spot.letter_size).between(0.3, 1.1)
                & (wide > 2.5 / size) & fill.between(0.3, 0.9) & (spot.clear > 60)]
    spot = spot.sort_values("clear").drop_duplicates("image", keep="last").set_index("image")
    return spot[["letter_top", "letter_left", "letter_size"]].reindex(np.arange(n))


def _tilt(pictures: np.ndarray, most: int = 24, step: int = 3, gain: float = 0.2) -> np.ndarray:
    """Degrees by which the body leans to the right: the turn after which the picture best mirrors itself.

    The mirror stands anywhere in the middle half; 0 where no turn makes the correlation better by `gain`.
    """
    n, k = len(pictures), pictures.shape[1] // 4
    small = pictures[:, :4 * k, :4 * k].reshape(n, k, 4, k, 4).mean((2, 4), dtype=np.float32)
    y, x = np.mgrid[k // 8:k - k // 8, k // 8:k - k // 8] - (k - 1) / 2
    angles, scores = np.arange(-most, most + 1, step), []
    for turn in np.radians(angles):
        down, right = y * np.cos(turn) + x * np.sin(turn), x * np.cos(turn) - y * np.sin(turn)
        turned = small[:, *(np.rint(np.clip(at + (k - 1) / 2, 0, k - 1)).astype(int) for at in (down, right))]
        turned -= turned.mean((1, 2), keepdims=True)
        m = turned.shape[2]
        waves = np.fft.rfft(turned, 2 * m, axis=2)
        mirrored = np.fft.irfft((waves ** 2).sum(1), 2 * m, axis=1)[:, m - 1 - m // 4:m + m // 4]
        scores.append(mirrored.max(1) / np.maximum((turned ** 2).sum((1, 2)), 1))
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

    Parameters
    ----------
    pictures : ndarray of uint8, shape (images, size, size)
        The whole film squeezed into a square; made for 128 pixels.

    Returns
    -------
    DataFrame, one row a picture, numbered from 0
        ``brightness`` (mean gray level, 0 to 255), ``contrast`` (95th less 5th percentile), ``sharpness`` (variance of
        the Laplacian over the picture's; Pech-Pacheco 2000, "Diatom autofocusing in brightfield microscopy"),
        ``edge`` (gray level at the darker of the left and right edge over the median: 0 where dark ground is left
        beside the body, near 1 where the body is cut off), ``tilt`` (degrees in the square by which the head leans to
        the right, in steps of 3; 0 where that is not clear), ``lines`` (length of the longest thin bright line, share
        of the side: wires, tubes, sharp ribs); ``letter_top``, ``letter_left`` and ``letter_size`` (place and height of
        a letter at the left, shares of the side; NaN without one).
    """
    with ThreadPoolExecutor() as pool:
        rows = list(pool.map(_measure, pictures))
    facts = pd.DataFrame(rows, columns=["brightness", "contrast", "sharpness", "edge", "lines"], dtype=float)
    return facts.assign(tilt=_tilt(pictures)).join(_letters(pictures))


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
                + f", 0.5 being one population; the most telling is {_word(fact)}, in {names[where]} films.")
    return {"rows": rows, "folder_auc": together, "sentence": sentence}


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
    name, (pattern, first, last) = _other(manifest), BLOCK
    train, test, normal = manifest.folder == "train", manifest.folder == "test", manifest.label == 0
    inside = test & normal & manifest.path.str.extract(pattern)[0].astype(float).between(first, last)
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


# --- figures --------------------------------------------------------------------------------------------------

def baseline_figure(findings: dict[str, dict]) -> Figure:
    """AUC of every clue, on train (ring) and on test (dot), with the share of test that it gets right.

    Parameters
    ----------
    findings : dict of title to what `baselines` returned
    """
    low = min(row["auc"] or 0.5 for finding in findings.values() for row in finding["rows"])
    low = min(0.4, np.floor(10 * low) / 10)
    high = [len(finding["rows"]) for finding in findings.values()]
    figure, axes = plt.subplots(len(high), 1, figsize=(8.6, 0.3 * sum(high) + len(high)), sharex=True,
                                squeeze=False, height_ratios=high)
    for axis, (title, finding) in zip(axes.flat, findings.items()):
        for y, row in enumerate(finding["rows"]):
            if row["auc"] is None:
                axis.text(0.5, y, "  can't be seen in this copy", va="center", fontsize=9, color=GRAY, style="italic")
                continue
            axis.plot([row["train_auc"], row["auc"]], [y, y], color=GRAY, linewidth=1, zorder=1)
            axis.scatter(row["train_auc"], y, s=55, facecolor="white", edgecolor=BLUE, linewidth=2)
            axis.scatter(row["auc"], y, s=60, color=VERMILION)
            axis.text(1.015, y, f"{row['accuracy']:.1%}", va="center", fontsize=10)
        axis.set_yticks(range(len(finding["rows"])), [_word(row["clue"]) for row in finding["rows"]])
        axis.set(title=title, ylim=(len(finding["rows"]) - 0.4, -0.6))
        axis.axvline(0.5, color=GRAY, linestyle=":", linewidth=1)
        axis.tick_params(axis="y", length=0)
    axes[0, 0].text(1.015, -0.9, "test right", fontsize=9, color=GRAY)
    axes[-1, 0].set(xlabel="AUC: ring on train, dot on test (0.5 is guessing)", xlim=(low, 1.09),
                    xticks=np.arange(low, 1.01, 0.1))
    return figure


def shift_figure(finding: dict, other: str) -> Figure:
    """AUCs of `shift` as a table of colors: what tells the folders apart, what tells the classes apart.

    Parameters
    ----------
    finding : dict as `shift` returns it
    other : str
        Name of class 1.
    """
    table = pd.DataFrame(finding["rows"]).set_index("fact").astype(float)
    figure, axes = plt.subplots(1, 2, figsize=(8.6, 0.33 * len(table) + 1), sharey=True)
    for axis, columns, names, title in (
            (axes[0], ["normal", "other"], ["normal films", f"{other} films"], "test against train"),
            (axes[1], ["train", "test"], ["in train", "in test"], f"{other} against normal")):
        sns.heatmap(table[columns], vmin=0.1, vmax=0.9, cmap="RdBu_r", annot=True, fmt=".2f", cbar=False, ax=axis,
                    linewidths=1.5, annot_kws={"fontsize": 10})
        axis.set(title=title, ylabel="", xticklabels=names)
        axis.tick_params(length=0)
    axes[0].set_yticklabels([_word(fact) for fact in table.index], rotation=0)
    return figure


def letter_figure(facts: pd.DataFrame, manifest: pd.DataFrame, inside: Iterable[bool]) -> Figure:
    """Where the letter stands, and how large it is, by class and folder; films `inside` the hard block in black."""
    figure, axes = plt.subplots(1, 4, figsize=(9.4, 3.0), sharex=True, sharey=True)
    names = manifest.groupby("label").class_name.first()
    for axis, (part, label) in zip(axes, [("train", 0), ("train", 1), ("test", 0), ("test", 1)]):
        rows = (manifest.folder == part) & (manifest.label == label)
        for chosen, color in ((rows & ~inside, BY_LABEL[label]), (rows & inside, "black")):
            axis.scatter(facts.letter_left[chosen], facts.letter_top[chosen], s=8e3 * facts.letter_size[chosen] ** 2,
                         color=color, alpha=min(0.7, 0.1 + 60 / rows.sum()), linewidths=0)
        axis.set(title=f"{names[label].lower()}, {part}", xlim=(-0.02, 0.32), ylim=(0.67, -0.02),
                 xlabel="from the left")
    axes[0].set_ylabel("from the top")
    return figure
