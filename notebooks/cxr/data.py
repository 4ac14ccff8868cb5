"""Folders of films as tables: which films there are and whose, what is wrong with them, and a split by patient.

A data folder holds ``train/``, ``test/`` and perhaps ``val/``, each with a folder for normal X-rays and one or more for
others. A folder of another hospital has class folders, or films alone. A CSV may say whose film each is.
"""

import hashlib
import numbers
import os
import re
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from . import download, images
from .chain import Part, Step, TestPart
from .download import AGAIN, HANDLE
from .images import FORMATS
from .paths import Problem, display_path, resolve

SAMPLE = "sample.json"  # marks the folder of the sample that comes with the project
COLUMNS = ["path", "folder", "class_name", "label", "subtype", "patient", "width", "height", "mode", "bytes", "sha256"]
MOST_CLASSES = 20  # more folders than that are no classes, but patients or visits
MOST_FILMS = 20  # of a patient on average: sub-folders of a class that hold more are no patients
KAGGLE = r"(person\d+_(?:bacteria|virus)|(?:NORMAL2-)?IM-\d+)[^/]*$"  # of person7_virus_3: person7_virus
PUBLIC = (
    r"(?:^|/)(000\d{5}(?=_\d{3}$)"  # NIH ChestX-ray14: 00000013_005
    r"|patient\d{5}(?=[/_]study)"  # CheXpert: patient00001/study1/view1_frontal
    r"|p\d{8}(?=[/_]s\d{8}))"  # MIMIC-CXR: p10/p10000032/s50414267/...
)
ZEROS = r"^0+(?=\d+$)"
COLUMN_NAMES = {  # of a CSV, by letters alone ("Image Index" is imageindex); the last one that is there counts
    "path": "image imageindex imageid filepath filename file path",
    "patient": "subjectid patientid patient",
    "subtype": "subtype",
    "view": "viewposition projection view",
    "age": "patientage age",
    "source": "source",
    "license": "licence license",
}
NO_CLASS = re.compile(  # cxr_png, images_001, stage_2_train_images, patient00001: folders that name no class
    r"(^|[-_ ])(images?|imgs?|films|png|jpe?g|dicom|cxr)[-_ ]?\d*$|^(patient|pat|p|sub)[-_]?\d+$", re.IGNORECASE
)
JUNK = re.compile(r"(^|/)(\.|__|thumbs\.db$|desktop\.ini$)", re.IGNORECASE)  # of operating systems and Jupyter


def _subfolders(folder: Path) -> dict[str, Path]:
    """Sub-folders by lower-case name, without those of an operating system and of masks."""
    try:
        folders = sorted(path for path in folder.iterdir() if path.is_dir())
    except OSError as error:
        lack = f"{display_path(folder)} can't be listed ({error.strerror})"
        raise Problem(f"{lack}: make it readable, or name another folder (CHEST_XRAY_DIR, or FOLDER in 10).") from None
    found: dict[str, Path] = {}
    for path in folders:
        if not JUNK.search(path.name) and not images.MASKS.search(path.name):
            if (other := found.setdefault(path.name.lower(), path)) != path:
                raise Problem(f"{display_path(folder)} holds both {other.name}/ and {path.name}/: merge them into one.")
    return found


def _by_class(folder: Path, names: set[str]) -> tuple[pd.DataFrame, list[Path]]:
    """Films of the class folders in `folder`, and all else there; each of `names` (lower case) must have a film."""
    places, rows = _subfolders(folder), []
    others = [path for path in folder.iterdir() if path not in places.values()]
    for name in sorted({*places, *names}):
        place = places.get(name, folder / name)
        films, beside = images.find(place, or_none=True) if name in places else ([], [])
        if name in names and not films:
            lack = f"{display_path(folder)}/{place.name} " + ("holds no film" if name in places else "is not there")
            remedy = f"put images of this class ({', '.join(FORMATS)}) there, or move its folder away elsewhere"
            raise Problem(f"{lack}: {remedy}.")
        rows += [(film, place.name, int(name != "normal"), film.relative_to(place).as_posix()) for film in films]
        others += beside
    return pd.DataFrame(rows, columns=["file", "class_name", "label", "inside"]), others


def _bare(path: str) -> str:
    """`path` without its ending; ``1.2.840.113``, a usual name of DICOM, has none."""
    name, _, ending = path.rpartition(".")
    return name if f".{ending.lower()}" in FORMATS else path


def from_kaggle(paths: pd.Series, inside: pd.Series) -> pd.Series:
    """Which films lie in a class folder whose files are named as Kaggle's: `inside` has their paths below that folder.

    None where there are no names such as ``person7_virus_3``: others number films ``IM-0001-0001``, too.
    """
    homes = [path.removesuffix(name) for path, name in zip(paths, inside)]
    named = inside.str.match(KAGGLE).groupby(homes).transform("mean") > 0.9
    return named & inside[named].str.startswith("person").any()


def patients(paths: pd.Series, inside: pd.Series) -> pd.Series:
    """Whose film each is, from `paths` below the data folder, of which the parts `inside` are below a class folder.

    By the names of large public sets, else the first folder inside a class where there are several with few films each,
    else each film is a patient of its own. Zeros before a number don't count: patient 00000013 is patient 13.
    """
    paths, inside = paths.map(_bare), inside.map(_bare)
    found = paths.str.extract(PUBLIC, re.IGNORECASE)[0]
    found = found.fillna(inside.where(from_kaggle(paths, inside), "").str.extract(KAGGLE, re.IGNORECASE)[0])
    folders = inside.str.split("/").str[:-1]
    levels = [folders.str[level] for level in range(int(folders.str.len().max() or 0))]
    good = (names for names in levels if 1 < names.nunique() and names.count() <= MOST_FILMS * names.nunique())
    return found.fillna(next(good, paths)).fillna(paths).str.replace(ZEROS, "", regex=True)


def _rows(names: pd.Series, folder: Path, home: Path, paths: pd.Series) -> pd.Series:
    """The row of a CSV in `home` that names each of the `paths` below `folder`, or missing."""
    below = f"{folder.relative_to(home).as_posix()}/" if home != folder else "./"
    forms = [paths, below + paths, paths.str.rpartition("/")[2]]
    row = pd.Series(np.nan, paths.index)
    for form in (*forms, *(form.map(_bare) for form in forms)):
        found = names[names.isin(form)]
        twice = found[found.duplicated()]
        if len(twice) and home == folder:
            raise Problem(f"A CSV of {display_path(folder)} has two rows for {twice.iloc[0]}: delete one of them.")
        if form.is_unique and twice.empty:
            row = row.fillna(form.map(pd.Series(found.index, found.to_numpy(), dtype=float)))
    return row


def read_metadata(folder: Path, paths: pd.Series) -> pd.DataFrame:
    """What a CSV in `folder`, or beside it, says of the films at `paths`: the columns of `COLUMN_NAMES` but ``path``.

    A path is from the CSV or from `folder`, or the name alone, with its ending or without. ``patient`` is missing where
    no row names the film; rows of other films don't matter. A Problem where a CSV in `folder` is wrong.
    """
    options = dict(dtype=str, keep_default_na=False, encoding="utf-8-sig")
    for file in (*sorted(folder.glob("*.csv")), *sorted(folder.parent.glob("*.csv"))):
        required, inside, what = file == folder / "metadata.csv", file.parent == folder, display_path(file)
        remedy = f"correct it (columns path and patient; {', '.join([*COLUMN_NAMES][2:])} if you like; a row a file)"
        try:
            head = pd.read_csv(file, nrows=0, **options).columns
            called = {re.sub("[^a-z]", "", column.lower()): column for column in reversed(head)}
            pairs = [(name, one) for name, ones in COLUMN_NAMES.items() for one in ones.split() if one in called]
            columns = {name: called[one] for name, one in pairs}
            if not {"path", "patient"} <= {*columns}:
                if required:
                    raise Problem(f"{what} has the columns {', '.join(head)}: {remedy}.")
                continue
            table = pd.read_csv(file, **options)[[*columns.values()]].set_axis([*columns], axis=1).fillna("")
        except (OSError, ValueError) as error:
            if not inside:
                continue
            lack = getattr(error, "strerror", None) or str(error).strip().rpartition("error: ")[2]
            raise Problem(f"{what} is no table in UTF-8 with commas ({lack}): {remedy}.") from None
        table = table.apply(lambda column: column.str.strip()).drop_duplicates(["path", "patient"], ignore_index=True)
        row = _rows(table.path, folder, file.parent, paths)
        if row.isna().all() and required:
            raise Problem(f"{what} has no row for any film of {display_path(folder)}: {remedy}.")
        if row.notna().mean() > (0 if inside else 0.5):
            known = pd.DataFrame({name: row.map(table[name]) for name in table if name != "path"})
            if (unnamed := known.patient == "").any():
                raise Problem(f"{what} names no patient for {paths[unnamed].iloc[0]}: {remedy}.")
            print(f"{what} says whose {known.patient.notna().sum():,} of {len(known):,} films are.")
            return known.assign(patient=known.patient.str.replace(ZEROS, "", regex=True))
    return pd.DataFrame({"patient": pd.Series(pd.NA, paths.index, object)})


def list_folder(folder: str | Path) -> pd.DataFrame:
    """The films of another hospital: in a sub-folder for each class, that of the healthy called normal, or all in one.

    ``class_name`` is empty and ``label`` (0 normal, 1 any other class) missing where not known.
    """
    folder, what = resolve(folder), display_path(resolve(folder))
    if not folder.is_dir():
        raise Problem(f"{what} is not there: set FOLDER to a folder of films, or leave it empty.")
    films, classes = images.find(folder)[0], _subfolders(folder)
    loose = films if all(map(NO_CLASS.search, classes)) else [path for path in films if path.parent == folder]
    odd = {
        f"films beside normal/, such as {loose[0].name if loose else ''}": loose and "normal" in classes,
        f"{len(classes)} folders, too many to be classes": not loose and len(classes) > MOST_CLASSES,
        "train/ and test/, of which FOLDER can name one": {"train", "test"} <= {*classes},
    }
    for lack in (lack for lack, is_so in odd.items() if is_so):
        remedy = "put the films into normal/ and a folder for each other class, or all into one folder"
        raise Problem(f"{what} holds {lack}: {remedy} where classes are not known.")
    if loose:
        inside = [film.relative_to(folder).as_posix() for film in films]
        table = pd.DataFrame({"file": films, "class_name": "", "label": pd.NA, "inside": inside})
    else:
        table, _ = _by_class(folder, {*classes})
    table["path"] = [file.relative_to(folder).as_posix() for file in table.file]
    known = read_metadata(folder, table.path).drop(columns="subtype", errors="ignore")
    table["patient"] = known.pop("patient").fillna(patients(table.path, table.inside))
    if table.patient.nunique() < 2:
        raise Problem(f"{what} holds films of one patient alone: add films of others.")
    return table[["path", "class_name", "label", "patient"]].astype({"label": "Int64"}).join(known.fillna(""))


def read_films(
    table: pd.DataFrame, folder: str | Path, size: int, ages: tuple[float, float] | None = None
) -> tuple[pd.DataFrame, np.ndarray, pd.DataFrame]:
    """Rows of `table` (`list_folder`) with ``reason`` (`images.read_all`), their pixels, and what can't be read."""
    films = images.read_all([resolve(folder) / path for path in table.path], size, ages)
    bad = [isinstance(film, Problem) for film in films]
    broken = table.loc[bad, ["path"]].assign(reason=[str(film) for film in films if isinstance(film, Problem)])
    if all(bad):
        lack = f"holds no film that can be read ({len(broken)} files can't, such as: {broken.reason.iloc[0]})"
        raise Problem(f"{display_path(resolve(folder))} {lack}: replace them, or add others.")
    pixels, reasons = zip(*[film for film in films if isinstance(film, images.Film)])
    read = table[~np.array(bad)].reset_index(drop=True).assign(reason=reasons)
    return read, np.stack(pixels), broken.reset_index(drop=True)


def class_names(manifest: pd.DataFrame) -> pd.Series:
    """What labels 0 and 1 are called: the name of the class folder, or of all that are not normal."""
    return manifest.groupby("label").class_name.agg(lambda names: " or ".join(sorted(set(names))))


def warn_of_leaks(manifest: pd.DataFrame) -> None:
    """Print how many files of the train folder count as a patient of their own because their names say nothing."""
    train = manifest[manifest.folder == "train"]
    if unknown := int((train.path.map(_bare) == train.patient).sum()):
        print(
            f"WARNING: {unknown:,} of the {len(train):,} files in train/ don't say whose they are; each counts as a "
            "patient of its own.\nFilms of one patient may be on both sides of the split, which flatters all figures.\n"
            f"Put a metadata.csv with the columns path and patient beside train/ and test/, and {AGAIN}."
        )


def _examine(path: Path, name: str, folder: Path) -> dict | str:
    """What one file of the data folder is, or in one clause what is wrong with it."""
    if (readable := os.fsencode(name).decode("utf-8", "backslashreplace")) != name:
        return f"{readable} has a name that is not UTF-8"
    if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
        return f"{name} is a link to a file outside the data folder"  # it would change without a trace
    try:
        content = path.read_bytes()
        with images.opened(content) as picture:
            named = FORMATS.get(path.suffix.lower(), "DICOM")
            if picture.format != named:
                return f"{name} is a {picture.format} picture under the name of a {named}"
            (width, height), mode, header = picture.size, picture.mode, getattr(picture, "header", None)
            picture.draft("L", (images.SMALLEST, images.SMALLEST))  # reads every byte, but computes few pixels
            picture.load()
            if images.upright(picture).size != picture.size:
                width, height = height, width
            mode = header.PhotometricInterpretation if header else mode
            known = str(header.get("PatientID", "") or "").strip() if header else ""
    except OSError as error:
        return f"{name} can't be read ({error.strerror})"
    except Problem as problem:
        return f"{name} {str(problem).partition(':')[0]}"
    patient = hashlib.sha256(known.encode()).hexdigest()[:12] if known else None  # not for everyone to read
    found = {"width": width, "height": height, "mode": mode, "bytes": len(content)}
    return found | {"sha256": hashlib.sha256(content).hexdigest(), "patient": patient}


def survey(folder: Path) -> pd.DataFrame:
    """Read every film of the data set once, and describe it: a row a film, sorted by ``path`` (posix, below `folder`).

    ``label`` is 0 for normal, 1 for any other class; ``subtype`` is the class where there are three or more, else what
    the file's name says; ``patient`` as `read_metadata` says, else a hash of DICOM's PatientID, else `patients`;
    ``width`` and ``height`` are those of the upright picture; ``mode`` is Pillow's, or DICOM's interpretation. What is
    no film is passed over, and printed. A Problem where folders, a CSV or a file are not in order.
    """
    folder, what = resolve(folder), display_path(resolve(folder))
    parts = _subfolders(folder) if folder.is_dir() else {}
    parts = {part: path for part, path in parts.items() if part in ("train", "val", "test")}
    if not {"train", "test"} <= {*parts}:
        raise Problem(f"{what} holds no train/ and test/: set CHEST_XRAY_DIR to the folder that does.")
    names = {name for part in parts.values() for name in _subfolders(part)}
    if len(names) < 2 or "normal" not in names:
        lack = f"{what} has the class folders {', '.join(sorted(names)[:5]) or '(none)'}"
        raise Problem(f"{lack}: two at least are needed, one of them called normal, with its films in it.")
    listed = {part: _by_class(path, names if part != "val" else set()) for part, path in parts.items()}
    table = pd.concat([films.assign(folder=part) for part, (films, _) in listed.items()], ignore_index=True)
    table["path"] = [file.relative_to(folder).as_posix() for file in table.file]
    known = read_metadata(folder, table.path)
    with images.quiet(), ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(lambda file, path: _examine(file, path, folder), table.file, table.path))
    if broken := [one for one in found if isinstance(one, str)]:
        named = "; ".join(broken[:3]) + (f" and {len(broken) - 3} more" if len(broken) > 3 else "")
        raise Problem(f"{named}, in {what}: rename, replace or delete it, and {AGAIN}.")
    beside = [path.relative_to(folder).as_posix() for _, others in listed.values() for path in others]
    if beside := [name for name in beside if not JUNK.search(name)]:
        print(f"Passed over, since they are no films: {', '.join(beside[:5])}{' ...' if len(beside) > 5 else ''}")
    table = table.join(pd.DataFrame(found))
    table["patient"] = known.patient.fillna(table.patient).fillna(patients(table.path, table.inside))
    stem = table.path.str.rpartition("/")[2].str.lower()
    by_name = stem.str.extract("(?<![a-z])(bacteria|virus)(?![a-z])")[0].fillna("")
    subtype = table.class_name.str.lower() if len(names) > 2 else by_name
    if "subtype" in known:
        subtype = known.subtype.str.lower().replace("", np.nan).fillna(subtype)
    table = table.assign(subtype=subtype.where(table.label == 1, "normal"))[COLUMNS]
    table = table.sort_values("path", ignore_index=True)
    warn_of_leaks(table)
    return table


def describe(manifest: pd.DataFrame, folder: Path) -> dict:
    """What the films are: ``name``, ``sample`` (that of the project), ``kermany`` (Kaggle's films), ``images``."""
    kermany = bool(from_kaggle(manifest.path, manifest.path.str.split("/", n=2).str[2]).all())
    sample = (folder / SAMPLE).exists()
    sizes = (manifest.width.astype(str) + "x" + manifest.height.astype(str)).unique()
    copy = f", copy resized to {sizes[0]} pixels" if len(sizes) == 1 else ""
    name = f"sample of {HANDLE}" if sample else HANDLE + copy if kermany else f"folder {folder.name}"
    return {"name": name, "sample": sample, "kermany": kermany or sample, "images": len(manifest)}


def check(manifest: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """`manifest`, held against the data folder by name and size of each file; a Problem where one differs.

    ``CXR_ANY_COPY`` (set on Colab and Kaggle, which have larger copies of the films) allows a survey in its place.
    """
    files = [folder / path for path in manifest.path]
    sizes = pd.Series([file.stat().st_size if file.exists() else -1 for file in files], manifest.index)
    differing, missing = sizes != manifest.bytes, sizes < 0
    if not differing.any():
        return manifest
    if os.environ.get("CXR_ANY_COPY") and not missing.any():
        print("These files are another copy of the X-rays than the one that 01_manifest.csv describes: they are read")
        print("once. Figures can differ a little from the committed ones.")
        there = survey(folder).set_index("path").loc[manifest.path].reset_index()
        if (there.label.to_numpy() == manifest.label.to_numpy()).all():
            return there
    at = (missing if missing.any() else differing).idxmax()
    state = "is not" if missing[at] else f"has another size ({sizes[at]:,} bytes, not {manifest.bytes[at]:,})"
    remedy = f"set CHEST_XRAY_DIR to the folder that 01 used, or {AGAIN}, and all after it"
    raise Problem(f"{manifest.path[at]} {state} in {display_path(folder)}, against 01_manifest.csv: {remedy}.")


def neighbours(patient: pd.Series, size: int) -> pd.Series:
    """The block of each patient: `size` consecutive numbers of one kind of name, such as ``IM-0120`` to ``IM-0129``.

    Numbers were given out as films came in: neighbours are likely to be of one week, one room and one technician.
    """
    parts = patient.str.extract(r"^(.*?)(\d{1,18})(\D*)$")
    number = parts[1].astype("Int64") // size * size
    return (parts[0] + number.astype("string") + parts[2]).astype(object).where(parts[1].notna(), patient)


def blocks(films: pd.DataFrame, folds: int) -> pd.Series:
    """`neighbours` of each film's patient that are cut into `folds` as one: ten, or fewer where patients are few."""
    fewest = films.groupby("label").patient.nunique().min()
    return neighbours(films.patient, min(10, max(1, fewest // (10 * folds))))


def split(manifest: pd.DataFrame, seed: int = 0, folds: int = 7) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Cut validation, one of `folds` folds, from the train folder by patient; test is the official test folder, whole.

    Patients with neighbouring numbers go together, up to ten of them, so that validation is a little further from
    training than the next child in the same room. Left out are the official ``val/`` (16 images can't steer a
    training), second copies in train, and train images that a test patient or a copy in test would give away.
    Returns ``path``, ``label``, ``subtype``, ``patient``, ``split``; and ``path``, ``reason`` of what is in no split.
    """
    for setting, value, least, most in (("SPLIT_SEED", seed, 0, 2**32 - 1), ("FOLDS", folds, 2, len(manifest))):
        if not (isinstance(value, numbers.Integral) and least <= value <= most):
            remedy = f"set it to a whole number from {least} to {most:,}"
            raise Problem(f"{setting} in 02_explore.ipynb is {value!r}: {remedy}.")
    manifest = manifest.sort_values("path", ignore_index=True)
    for _, group in manifest[manifest.duplicated("sha256", keep=False)].groupby("sha256"):
        if group.label.nunique() > 1:
            pair = " and ".join(group.drop_duplicates("label").path)
            raise Problem(f"{pair} are the same picture under two classes: delete the wrong one and {AGAIN}.")
    test, pool = manifest[manifest.folder == "test"], manifest[manifest.folder == "train"]
    reasons = pd.Series("", index=manifest.index)
    reasons[manifest.folder == "val"] = "val folder, not used"
    if (unused := (manifest.folder == "val").sum()) > 16:  # as many as Kaggle has
        print(f"WARNING: the {unused:,} films in val/ are not used: move them into train/, and {AGAIN}.")
    reasons[pool.index[pool.duplicated("sha256")]] = "second copy of an image in train"
    reasons[pool.index[pool.sha256.isin(test.sha256)]] = "same picture as one in test"
    known = pool.sha256[pool.patient.isin(test.patient)]
    reasons[pool.index[pool.sha256.isin(known)]] = "patient is in test"  # a copy under another name as well
    if (shared := (reasons[pool.index] == "patient is in test").mean()) > 0.1:
        print(f"WARNING: {shared:.0%} of the films in train/ are left out, since their patients are in test/ as well.")
    pool = pool[reasons[pool.index] == ""]
    warn_of_leaks(manifest)

    fewest = pool.groupby("label").patient.nunique().reindex([0, 1], fill_value=0).min()
    remedy = "add patients of it to train/, or say in metadata.csv whose each film is, and run 01 again"
    if fewest < 2:
        raise Problem(f"The train folder has fewer than 2 patients of a class (01_manifest.csv): {remedy}.")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        cut = StratifiedGroupKFold(min(folds, fewest), shuffle=True, random_state=seed)
        train, val = next(cut.split(pool, pool.label.astype(str) + pool.subtype, blocks(pool, folds)))
    table = manifest.assign(split=manifest.folder.where(manifest.folder == "test", ""))
    table.loc[pool.index[train], "split"] = "train"
    table.loc[pool.index[val], "split"] = "val"
    table = table.loc[table.split != "", ["path", "label", "subtype", "patient", "split"]].reset_index(drop=True)
    if table.groupby("split").label.nunique().min() < 2:
        raise Problem(f"A split lacks a class: {remedy}, or choose another SPLIT_SEED in 02_explore.ipynb.")
    return table, manifest.assign(reason=reasons).loc[reasons != "", ["path", "reason"]].reset_index(drop=True)


def flow(manifest: pd.DataFrame, table: pd.DataFrame, left_out: pd.DataFrame) -> dict[str, dict]:
    """How many images and patients reach each folder and each split, and of folders what is ``left_out``, by reason."""

    def count(rows: pd.DataFrame) -> dict:
        ill = int((rows.label == 1).sum())
        counts = {"images": len(rows), "patients": int(rows.patient.nunique())}
        return counts | {"normal": len(rows) - ill, "pneumonia": ill}

    reason, places = manifest.path.map(left_out.set_index("path").reason), {"all": count(manifest)}
    for folder in ("val", "train", "test"):
        if (rows := manifest.folder == folder).any():
            why = {str(why): int(n) for why, n in reason[rows].dropna().value_counts().items()}
            places[f"{folder} folder"] = count(manifest[rows]) | {"left_out": why}
    return places | {part: count(table[table.split == part]) for part in ("train", "val", "test")}


class Dataset:
    """The X-rays behind ``01_manifest.csv`` and ``02_split.csv``: train and validation at once, test under seal.

    ``table`` is ``02_split.csv`` with ``class_name`` and ``sha256`` of each film; ``sample``, ``kermany``: `describe`.
    """

    def __init__(self, step: Step):
        manifest, split = step.read("01_manifest.csv"), step.read("02_split.csv")
        self.folder = download.ensure()
        self.manifest = check(manifest, self.folder)
        step.dataset = describe(self.manifest, self.folder)
        self.table = split.merge(self.manifest[["path", "class_name", "sha256"]], on="path")
        self.names, self._step = class_names(self.manifest), step
        self.sample, self.kermany = step.dataset["sample"], step.dataset["kermany"]

    def rows(self, *parts: str) -> pd.DataFrame:
        """The films of these splits, numbered from 0."""
        return self.table[self.table.split.isin(parts)].reset_index(drop=True)

    def part(self, name: str, size: int) -> Part:
        """The films of ``"train"`` or ``"val"``, `size` x `size` pixels."""
        if name not in ("train", "val"):
            raise Problem(f"The {name} split is sealed: Dataset.test(...) opens it, after a line in the ledger.")
        return Part(self.rows(name), images.load(self.rows(name), self.folder, size))

    def pixels(self, size: int, *parts: str) -> str:
        """Fingerprint of the pictures of these splits: twelve hexadecimal digits."""
        wanted = self.rows(*parts)[["path", "sha256"]].to_csv(index=False)
        return hashlib.sha256(f"1 {size} {wanted}".encode()).hexdigest()[:12]

    def test(self, size: int | list[int], networks: dict[str, str], why: str) -> TestPart:
        """The official test folder, after a line in the ledger of this notebook, which says `why`.

        `networks` has the hash of the weights of all that are about to be scored. Of sizes, ``pictures`` is a dict.
        """
        table, sizes = self.rows("test"), [size] if isinstance(size, int) else size

        def load() -> np.ndarray | dict[int, np.ndarray]:
            by_size = {one: images.load(table, self.folder, one) for one in sizes}
            return by_size[size] if isinstance(size, int) else by_size

        pixels = " ".join(self.pixels(one, "test") for one in sizes)
        return TestPart(table, load, self._step, pixels, networks, why)
