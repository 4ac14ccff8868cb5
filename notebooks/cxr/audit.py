"""What in a data set misleads a model: leakage, copies, clues outside the lungs, folders that differ, odd pictures.

Every finding is a dict of plain numbers with one ``sentence`` built from them; together they are ``02_audit.json``.
The test folder is described here, and scored once by each baseline fitted on train. No choice of the recipe, of the
threshold or of a seed may follow from what is seen in it.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import imagehash
import numpy as np
import pandas as pd
from PIL import Image
from scipy import ndimage
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import accuracy_score, balanced_accuracy_score, roc_auc_score

from .images import quiet
from .project import Problem, shown

BLOCK = (r"NORMAL2-IM-(\d+)", 139, 275)  # normal films of the test folder that models take for pneumonia
LUMA = [16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56,
        14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
        49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99]  # JPEG (ITU-T T.81), table K.1
WORDS = {"width": "width", "height": "height", "aspect": "width / height", "bytes_per_pixel": "bytes per pixel",
         "jpeg_quality": "JPEG quality", "color": "stored in color", "brightness": "brightness",
         "contrast": "contrast", "sharpness": "sharpness", "margin": "dark margin", "tilt": "tilt of the body",
         "lines": "bright lines", "marker": "has a letter", "marker_top": "height of the letter's place",
         "marker_size": "size of the letter", "all": "all together"}
OUTSIDE = ["margin", "tilt", "marker", "marker_top", "marker_size"]  # facts of a picture that see no lung


def _number(value, digits: int = 4) -> float | None:
    """A plain number for JSON, None where there is none."""
    return round(float(value), digits) if value is not None and np.isfinite(value) else None


def _both(manifest: pd.DataFrame) -> None:
    for part in ("train", "test"):
        if manifest.label[manifest.folder == part].nunique() < 2:
            raise Problem(f"The {part} folder has one class only (01_manifest.csv): add images of the other one and run "
                          "01_download.ipynb again.")


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
    result |= {"always_other_subtype": other, "sentence":
               f"Split at random, {strict['leaked']:.0%} of the validation images would lie beside another film of the "
               f"same child; between the train and test folders no more than {strict['in_train_and_test']} patients "
               f"are shared, and the {len(shared)} bare person numbers found in both are {other} times of another "
               "subtype, so a number alone is no patient."}
    return result


def exact_duplicates(manifest: pd.DataFrame) -> dict:
    """Byte-identical files, by sha256: groups of copies in each folder, across folders, patients and classes."""
    twins = manifest[manifest.duplicated("sha256", keep=False)].groupby("sha256")
    where = twins.folder.agg(lambda values: " + ".join(sorted(set(values))))
    spare = int(manifest[manifest.folder == "train"].duplicated("sha256").sum())
    result = {"groups": len(where), "by_folder": {str(k): int(v) for k, v in where.value_counts().items()},
              "across_folders": int(where.str.contains("+", regex=False).sum()),
              "under_two_patients": int((twins.patient.nunique() > 1).sum()),
              "under_two_classes": int((twins.label.nunique() > 1).sum()), "spare_in_train": spare}
    result["sentence"] = (f"{result['groups']} pictures are there more than once, byte for byte, "
                          f"{result['under_two_patients']} of them under the names of two patients and "
                          f"{result['across_folders']} in two folders; {spare} spare copies in train are not used.")
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
    """The same film under other bytes: perceptual hashes propose pairs, their fine detail confirms them.

    Chest films look alike, so a close hash proves nothing. A pair counts where its detail (what is finer than about
    1/10 of the picture) correlates by at least `alike` at the best shift. That finds films saved again, exposed
    anew, turned by 2 degrees or cropped by up to about 3% a side, and misses crops of 8%.

    Parameters
    ----------
    pictures : ndarray of uint8, shape (images, size, size)
    manifest : DataFrame, one row a picture
    distance : int
        Bits, of 64, in which two hashes of a proposed pair may differ (pHash: `imagehash.phash`, after Zauner 2010,
        "Implementation and benchmarking of perceptual image hash functions").
    alike : float
        Correlation from which a pair is confirmed.
    most : int
        Confirm no more than this many pairs, the closest hashes first.

    Returns
    -------
    pairs : DataFrame
        ``path``, ``other``, ``distance``, ``correlation``, ``same_patient``, ``same_folder``, the most alike first;
        byte-identical pairs are left out.
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
    proposed = len(found)
    found = found[np.argsort(found[:, 2], kind="stable")][:most]
    waves = np.fft.rfft2(_details(pictures))
    peak = [np.fft.irfft2(waves[part[:, 0]] * waves[part[:, 1]].conj()).max(axis=(1, 2))
            for part in np.array_split(found, len(found) // 500 + 1)]
    one, two = found[:, 0], found[:, 1]
    pairs = pd.DataFrame({"path": path[one], "other": path[two], "distance": found[:, 2],
                          "correlation": np.concatenate(peak).round(3), "same_patient": patient[one] == patient[two],
                          "same_folder": folder[one] == folder[two]})
    confirmed = pairs[pairs.correlation >= alike].sort_values("correlation", ascending=False, ignore_index=True)
    finding = {"proposed": proposed, "confirmed": len(confirmed), "across_folders": int((~confirmed.same_folder).sum()),
               "of_two_patients": int((~confirmed.same_patient).sum()), "distance": distance, "alike": alike,
               "closest_other": _number(pairs.correlation[pairs.correlation < alike].max(), 3)}
    finding["sentence"] = (f"Perceptual hashes call {proposed:,} pairs of different files alike, and "
                           f"{len(confirmed) or 'none'} of them proved to be one film saved twice "
                           f"({finding['across_folders']} across folders): chest films simply look alike.")
    return confirmed, finding


def _quality(table: list[int]) -> float:
    """The libjpeg quality, 1 to 100, whose luminance table is nearest to `table` (64 numbers, any order)."""
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
        ``width``, ``height`` (pixels), ``aspect`` (width / height), ``bytes_per_pixel``, ``jpeg_quality`` (of the
        nearest libjpeg table, 1 to 100; NaN for a PNG), ``color`` (1 unless the file is gray).

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
    return pd.DataFrame({"width": manifest.width, "height": manifest.height,
                         "aspect": manifest.width / manifest.height,
                         "bytes_per_pixel": manifest.bytes / (manifest.width * manifest.height),
                         "jpeg_quality": qualities,
                         "color": (~manifest["mode"].isin(["1", "L", "I", "I;16", "F"])).astype(int)}, manifest.index)


def _booster(images: int, seed: int) -> HistGradientBoostingClassifier:
    return HistGradientBoostingClassifier(max_leaf_nodes=4, max_iter=30, min_samples_leaf=max(2, min(50, images // 12)),
                                          class_weight="balanced", random_state=seed)


def baselines(facts: pd.DataFrame, manifest: pd.DataFrame, seed: int = 0) -> dict:
    """What a small model gets right from each fact alone and from all, fitted on train, scored on test.

    The model is a gradient boosting of 30 trees with 4 leaves, both classes weighing the same.

    Parameters
    ----------
    facts : DataFrame, the index of `manifest`
        One column a fact; NaN is allowed.
    manifest : DataFrame with ``folder`` and ``label``
    seed : int

    Returns
    -------
    dict
        ``always_pneumonia`` (accuracy on test of one answer), ``rows`` (``fact``, ``train_auc``, ``auc``,
        ``accuracy``, ``balanced_accuracy``; None where a fact is the same in all of train), ``invisible`` (the names
        of those), ``sentence``.

    Raises
    ------
    Problem
        Train or test has one class only.
    """
    _both(manifest)
    train, test, label = manifest.folder == "train", manifest.folder == "test", manifest.label
    visible = [name for name in facts if facts.loc[train, name].nunique(dropna=False) > 1]
    rows = []
    for name in [*facts, "all"]:
        columns = visible if name == "all" else [name]
        row = dict.fromkeys(("train_auc", "auc", "accuracy", "balanced_accuracy"))
        if columns and set(columns) <= set(visible):
            model = _booster(train.sum(), seed).fit(facts.loc[train, columns], label[train])
            score, own = (model.predict_proba(facts.loc[part, columns])[:, 1] for part in (test, train))
            row = {"train_auc": _number(roc_auc_score(label[train], own)),
                   "auc": _number(roc_auc_score(label[test], score)),
                   "accuracy": _number(accuracy_score(label[test], score >= 0.5)),
                   "balanced_accuracy": _number(balanced_accuracy_score(label[test], score >= 0.5))}
        rows.append({"fact": name} | row)
    always, invisible = _number(label[test].mean()), [name for name in facts if name not in visible]
    sentence = "Nothing that was measured differs within the train folder."
    if visible:
        best = max((row for row in rows if row["fact"] in visible), key=lambda row: row["auc"])
        sentence = (f"Without looking at a lung, {WORDS.get(best['fact'], best['fact'])} alone gets "
                    f"{best['accuracy']:.1%} of the test folder right (AUC {best['auc']:.3f}); always answering with "
                    f"class 1 gets {always:.1%}.")
    if invisible:
        sentence += (f" What {', '.join(WORDS.get(name, name) for name in invisible)} would tell can't be seen in this "
                     "copy, where it is the same in every training file.")
    return {"always_pneumonia": always, "rows": rows, "invisible": invisible, "sentence": sentence}


def _letters(pictures: np.ndarray) -> pd.DataFrame:
    """Side markers: the clearest letter-sized bright spot in the left 30% of the picture, where an R stands.

    A white top-hat keeps what is bright and narrower than 1/10 of the picture; of its connected spots those may be
    letters that are 3 to 14% of the picture high, narrower than that, neither solid nor thin.
    """
    n, size = pictures.shape[:2]
    strip, window = pictures[:, :int(0.65 * size), :int(0.3 * size)], size // 10 | 1
    clear = ndimage.white_tophat(strip, size=(1, window, window))
    within = np.stack([np.zeros((3, 3)), np.ones((3, 3)), np.zeros((3, 3))])  # spots don't cross to the next picture
    spots, count = ndimage.label(clear > 45, structure=within)
    box = [[part[0].start] + [edge / size for side in part[1:] for edge in (side.start, side.stop)]
           for part in ndimage.find_objects(spots)]
    spot = pd.DataFrame(box, columns=["image", "top", "bottom", "left", "right"], dtype=float)
    spot["high"], wide = spot.bottom - spot.top, spot.right - spot.left
    spot["clear"] = ndimage.mean(clear, spots, np.arange(1, count + 1)) if count else 0.0
    fill = np.bincount(spots.ravel(), minlength=count + 1)[1:] / size ** 2 / (spot.high * wide)
    spot = spot[spot.high.between(0.03, 0.14) & (wide / spot.high).between(0.3, 1.1) & (wide > 2.5 / size)
                & fill.between(0.3, 0.9) & (spot.clear > 60)]
    best = spot.sort_values("clear").drop_duplicates("image", keep="last").set_index("image")
    return best.reindex(np.arange(n))


def picture_facts(pictures: np.ndarray) -> pd.DataFrame:
    """What can be measured of a picture without knowing what a lung is.

    Parameters
    ----------
    pictures : ndarray of uint8, shape (images, size, size)
        The whole film squeezed into a square; 128 pixels suffice.

    Returns
    -------
    DataFrame, one row a picture, numbered from 0
        ``brightness`` (mean gray level, 0 to 255), ``contrast`` (95th less 5th percentile), ``sharpness`` (variance of
        the Laplacian over that of the picture; Pech-Pacheco 2000, "Diatom autofocusing in brightfield microscopy"),
        ``margin`` (share of the width that is dark at the left and right of the body), ``tilt`` (degrees by which
        the bright ridge of spine and heart leans to the right, in the square), ``lines`` (share of the picture that is
        bright and narrow, as tubes and wires are), ``marker`` (1 where a letter was found), ``marker_top`` (its place:
        0 top to 1 bottom), ``marker_size`` (its height, share of the picture's); NaN without a letter.
    """
    n, size = pictures.shape[:2]
    rows = []
    for picture in pictures:
        gray = picture.astype(np.float32)
        low, high = np.percentile(gray[::2, ::2], [5, 95])
        smooth = ndimage.uniform_filter(gray, size // 20)
        body = smooth[size // 4:3 * size // 4] > max(low, 0.3 * high)
        margin = (body.argmax(1) + body[:, ::-1].argmax(1)) * body.any(1) + size * ~body.any(1)
        middle = smooth[size // 5:4 * size // 5, size // 4:3 * size // 4]
        ridge = (middle - middle.min(1, keepdims=True)) ** 4 + 1e-6
        center = (ridge * np.arange(middle.shape[1])).sum(1) / ridge.sum(1)
        lean = -np.polyfit(np.arange(len(center)), center, 1)[0]
        bright = ndimage.white_tophat(picture, size=max(3, size // 25))
        rows.append((gray.mean(), high - low, ndimage.laplace(gray).var() / max(gray.var(), 1), margin.mean() / size,
                     np.degrees(np.arctan(lean)), (bright > 0.2 * max(high - low, 100)).mean()))
    facts = pd.DataFrame(rows, columns=["brightness", "contrast", "sharpness", "margin", "tilt", "lines"])
    letter = _letters(pictures)
    return facts.assign(marker=letter.high.notna().astype(int), marker_top=letter.top, marker_size=letter.high)
