"""The data set as tables: survey the folder, name what is broken, and split by patient.

A data folder holds ``train/`` and ``test/`` (and perhaps ``val/``), each with one folder for normal X-rays and one
or more for other classes, under any name and in any letter case. The question of most notebooks is normal or not;
that of 08 is which. A file ``metadata.csv`` beside them may say whose film each file is.
"""

import hashlib
import io
import numbers
import os
import re
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, UnidentifiedImageError
from sklearn.model_selection import StratifiedGroupKFold

from . import download, images
from .chain import Part, Step, TestPart
from .download import HANDLE
from .paths import Problem, display_path

FORMATS = {".jpeg": "JPEG", ".jpg": "JPEG", ".png": "PNG", ".dcm": "DICOM", ".dicom": "DICOM"}
COMMENT = "SYNTHETIC practice set"  # in the JPEG comment of drawn films
SMALLEST = 32  # pixels; below this no rib can be seen
COLUMNS = ["path", "folder", "class_name", "label", "subtype", "patient", "width", "height", "mode", "bytes", "sha256"]
AGAIN = "run 01_download.ipynb again"
PATIENT = (
    r"(?:^|/)((?:person\d+_(?:bacteria|virus)|(?:NORMAL2-)?IM-\d+)(?=[^/]*$)"  # Kaggle's, in the file's name
    r"|000\d{5}(?=_\d{3}$)"  # NIH ChestX-ray14: 00000013_005
    r"|patient\d{5}(?=[/_]study)"  # CheXpert: patient00001/study1/view1_frontal
    r"|p\d{8}(?=[/_]s\d{8}))"  # MIMIC-CXR: p10/p10000032/s50414267/...
)


def subtype_of(stem: str, label: int, otherwise: str = "") -> str:
    """``normal``, ``bacteria`` or ``virus`` from a file's name; `otherwise` where the name does not say."""
    found = re.search("bacteria|virus", stem.lower())
    return "normal" if label == 0 else found[0] if found else otherwise


def class_names(manifest: pd.DataFrame) -> pd.Series:
    """What labels 0 and 1 are called: the name of the class folder, or of all that are not normal."""
    return manifest.groupby("label").class_name.agg(lambda names: " or ".join(sorted(set(names))))


def patient_of(path: str) -> str:
    """The patient from a file's path below the data folder, without its ending.

    ``person12_virus_3`` is patient ``person12_virus``: the two subtypes are numbered apart. ``IM-0115-0001`` is
    ``IM-0115`` and ``NORMAL2-IM-0115-0001`` is ``NORMAL2-IM-0115``. Names of NIH ChestX-ray14, CheXpert and MIMIC-CXR
    are known as well. Any other file is a patient of its own.
    """
    found = re.search(PATIENT, path, re.IGNORECASE)
    return found[1] if found else path


def _bare(path: str) -> str:
    """`path` without its ending; ``1.2.840.113``, a usual name of DICOM, has none."""
    name, _, ending = path.rpartition(".")
    return name if f".{ending.lower()}" in FORMATS else path


def _subfolders(folder: Path) -> dict[str, Path]:
    """Sub-folders by lower-case name; hidden ones and ``__MACOSX`` left out."""
    found: dict[str, Path] = {}
    try:
        for path in sorted(folder.iterdir()):
            if path.is_dir() and not _is_junk(path.name):
                other = found.setdefault(path.name.lower(), path)
                if other != path:
                    raise Problem(f"{display_path(folder)} holds both {other.name}/ and {path.name}/: merge them into one.")
    except OSError as error:
        remedy = "make it readable, or name another folder (CHEST_XRAY_DIR; in 10_external.ipynb, FOLDER)"
        raise Problem(f"{display_path(folder)} can't be listed ({error.strerror}): {remedy}.") from None
    return found


def _is_junk(folder: str) -> bool:
    """Left by an operating system or by Jupyter: ``__MACOSX``, ``.Trash-1000``, ``.ipynb_checkpoints``, ..."""
    return folder.startswith((".", "__"))


def _images(folder: Path) -> list[Path]:
    found = images.listed(folder, FORMATS)
    return [path for path in found if not any(map(_is_junk, path.relative_to(folder).parts[:-1]))]


def _parts(folder: Path) -> dict[str, Path]:
    """The folders train, val (where there is one) and test, by these names."""
    there = "set CHEST_XRAY_DIR to the folder that holds train/ and test/"
    if not folder.is_dir():
        raise Problem(f"The data folder {display_path(folder)} does not exist: {there}, or run 01_download.ipynb.")
    found = _subfolders(folder)
    for part in ("train", "test"):
        if part not in found:
            remedy = f"{there}, or empty it and run 01_download.ipynb to fetch the data set"
            raise Problem(f"{display_path(folder)} has no {part}/ folder: {remedy}.")
    return {name: path for name, path in found.items() if name in ("train", "val", "test")}


def _labels(folder: Path, names: set[str]) -> dict[str, int]:
    """The label of each class folder, by lower-case name: normal is 0, any other 1."""
    if len(names) < 2 or "normal" not in names:
        there = f"{display_path(folder)} has the class folders {', '.join(sorted(names)) or '(none)'}"
        raise Problem(f"{there}: two at least are needed, one of them called normal.")
    return {name: int(name != "normal") for name in sorted(names)}


def class_folders(folder: Path) -> list[tuple[Path, int]]:
    """The sub-folders of `folder`, each with its label: 0 for that called normal, in any letter case, 1 for others.

    A Problem where it can't be listed, or two are called the same.
    """
    return [(place, int(name != "normal")) for name, place in sorted(_subfolders(folder).items())]


def _metadata(folder: Path, paths: pd.Series) -> pd.DataFrame:
    """``patient`` and ``subtype`` by path, as ``metadata.csv`` in the data folder says; missing where it does not."""
    file, columns = folder / "metadata.csv", ["path", "patient", "subtype", "age"]
    if not file.exists():
        return pd.DataFrame(columns=["patient"])
    remedy = f"correct it (columns {', '.join(columns)}, the last two if you like; a row a file), and {AGAIN}"
    try:
        table = pd.read_csv(file, dtype=str, keep_default_na=False, encoding="utf-8-sig").fillna("")
    except OSError as error:
        raise Problem(f"{display_path(file)} can't be read ({error.strerror}): make it readable, and {AGAIN}.") from None
    except ValueError as error:
        lack = str(error).strip().rpartition("error: ")[2]
        raise Problem(
            f"{display_path(file)} is no table in UTF-8 with commas between its columns ({lack}): {remedy}."
        ) from None
    if not {"path", "patient"} <= set(table) <= set(columns):
        raise Problem(f"{display_path(file)} has the columns {', '.join(table)}: {remedy}.")
    table = table.apply(lambda column: column.str.strip())
    for wrong, what in (
        (table.path.duplicated(), "has two rows for"),
        (table.patient == "", "names no patient for"),
        (~table.path.isin(paths), "has a row for a file that is not in train/, val/ or test/ (ending included):"),
    ):
        if wrong.any():
            raise Problem(f"{display_path(file)} {what} {table.path[wrong].iloc[0]}: {remedy}.")
    table["subtype"] = table.subtype.str.lower() if "subtype" in table else ""
    return table.set_index("path")[["patient", "subtype"]].replace("", np.nan)


def warn_of_leaks(manifest: pd.DataFrame) -> None:
    """Print how many files of the train folder count as a patient of their own because their names say nothing."""
    train = manifest[manifest.folder == "train"]
    unknown = int((train.path.map(_bare) == train.patient).sum())
    if unknown:
        print(
            f"WARNING: {unknown:,} of the {len(train):,} files in train/ don't say whose they are; each counts as a "
            "patient of its own.\nFilms of one patient may be on both sides of the split, which flatters all figures.\n"
            f"Put a metadata.csv with the columns path and patient beside train/ and test/, and {AGAIN}."
        )


def _examine(path: Path, name: str, folder: Path) -> dict | str:
    """What one file of the data folder is, or in one clause what is wrong with it."""
    try:
        if path.is_symlink() and not path.exists():
            return f"{name} is a link to a file that is not there"
        if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
            return f"{name} is a link to a file outside the data folder"
        content = path.read_bytes()
    except OSError as error:
        return f"{name} can't be read ({error.strerror})"
    if not content:
        return f"{name} is empty (0 bytes)"
    try:
        with Image.open(io.BytesIO(content)) as picture:
            said, frames = FORMATS.get(path.suffix.lower(), "DICOM"), getattr(picture, "n_frames", 1)
            (width, height), patient = picture.size, patient_of(_bare(name))
            found = {"mode": picture.mode, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            if picture.format != said:
                return f"{name} is a {picture.format} picture under the name of a {said}"
            if frames > 1:
                return f"{name} holds {frames} pictures"
            if min(width, height) < SMALLEST:
                return f"{name} is only {width}x{height} pixels"
            picture.draft("L", (SMALLEST, SMALLEST))  # reads every byte, but computes few pixels
            picture.load()
            if lost := images.lost_bits(picture, content):
                return f"{name} {lost}"
            if images.lies_on_its_side(picture):
                width, height = height, width
            if said == "DICOM":
                found["mode"] = picture.header.PhotometricInterpretation  # type: ignore[attr-defined]
                header = picture.header  # type: ignore[attr-defined]
                known = str(header.get("PatientID", "") or "").strip()  # not for everyone to read
                patient = hashlib.sha256(known.encode()).hexdigest()[:12] if known else patient
    except Problem as problem:
        return f"{name} {str(problem).partition(':')[0]}"
    except UnidentifiedImageError:
        return f"{name} is not a picture"
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        return f"{name} has more than {Image.MAX_IMAGE_PIXELS:,} pixels"
    except Exception as error:  # Pillow and pydicom raise nearly anything on a file that is not in order
        return f"{name} is damaged ({(str(error) or type(error).__name__).splitlines()[0][:100]})"
    return {"patient": patient, "width": width, "height": height, **found}


def survey(folder: Path) -> pd.DataFrame:
    """Read every image of the data set once, and describe it in a table.

    `folder` is the data folder, with ``train/`` and ``test/`` in it.

    Returns
    -------
    DataFrame
        One row an image, sorted by path; columns ``path`` (posix, below `folder`), ``folder``, ``class_name``,
        ``label`` (0 normal, 1 any other class), ``subtype`` (from the file's name; where there are three or more class
        folders and the name does not say, that of the folder), ``patient`` (`patient_of`; of DICOM, a hash of its
        PatientID), ``width``, ``height`` (pixels, of the upright picture where EXIF says that it lies on its side),
        ``mode`` (Pillow's; of DICOM, its photometric interpretation), ``bytes``, ``sha256``. Where ``metadata.csv``
        names the patient or the subtype of a file, that holds.

    Raises
    ------
    Problem
        A folder is missing or empty, there are not two classes, ``metadata.csv`` is not in order, or a file is not a
        whole picture of the kind its name says. A folder may be a link to another disk, a file may not: it would change
        without a trace.
    """
    parts, rows = _parts(folder), []
    classes = {part: _subfolders(path) for part, path in parts.items()}
    labels = _labels(folder, set().union(*classes.values()))
    for part, places in classes.items():
        for class_name, label in labels.items():
            place = places.get(class_name, parts[part] / class_name)
            files = _images(place) if class_name in places else []
            if not files and part != "val":
                lack = f"{display_path(parts[part])}/{place.name} has no {', '.join(FORMATS)} image"
                raise Problem(f"{lack}: put the images of this class there, or run 01_download.ipynb anew.")
            otherwise = class_name if len(labels) > 2 else ""
            rows += [(path, part, place.name, label, subtype_of(path.stem, label, otherwise)) for path in files]
    table = pd.DataFrame(rows, columns=["file", "folder", "class_name", "label", "subtype"])
    table["path"] = [file.relative_to(folder).as_posix() for file in table.file]
    for name in table.path:
        if (shown_name := os.fsencode(name).decode("utf-8", "backslashreplace")) != name:
            raise Problem(f"{shown_name} in {display_path(folder)} has a name that is not UTF-8: rename it, and {AGAIN}.")
    told = _metadata(folder, table.path)
    with images.quiet(), ThreadPoolExecutor(os.cpu_count()) as pool:
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        found = list(pool.map(lambda file, path: _examine(file, path, folder), table.file, table.path))
    if broken := [what for what in found if isinstance(what, str)]:
        named = "; ".join(broken[:3]) + (f", and {len(broken) - 3} more" if len(broken) > 3 else "")
        them = "it" if len(broken) == 1 else "them"
        raise Problem(f"{named}, in {display_path(folder)}: replace or delete {them}, and {AGAIN}.")
    table = table.join(pd.DataFrame(found)).set_index("path")
    table.update(told)
    table.loc[table.label == 0, "subtype"] = "normal"
    table = table.reset_index()[COLUMNS].sort_values("path", ignore_index=True)
    warn_of_leaks(table)
    return table


def describe(manifest: pd.DataFrame, folder: Path) -> dict:
    """Name the data set: ``{"name": ..., "synthetic": ..., "images": ...}``.

    One drawn picture (they carry a comment that says so) makes the whole set synthetic.
    """

    def drawn(path: str) -> bool:
        with Image.open(folder / path) as picture:
            comment = picture.info.get("comment", b"")  # text in a PNG
            return COMMENT in (comment if isinstance(comment, str) else comment.decode("latin-1"))

    with images.quiet():
        synthetic = any(map(drawn, manifest.path))
    fitting = manifest.path.str.contains(r"/(?:person\d+_(?:bacteria|virus)_|(?:NORMAL2-)?IM-\d)").mean()
    sizes = (manifest.width.astype(str) + "x" + manifest.height.astype(str)).unique()
    copy = f", copy resized to {sizes[0]} pixels" if len(sizes) == 1 else ""
    name = COMMENT if synthetic else HANDLE + copy if fitting > 0.9 else f"folder {folder.name}"
    return {"name": name, "synthetic": synthetic, "images": len(manifest)}


def check(manifest: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Hold the data folder against the manifest (of `survey`), by name and size of each file.

    Returns
    -------
    DataFrame
        `manifest` as it is. Where the environment variable ``CXR_ANY_COPY`` is set (on Colab and Kaggle, which have the
        full-size files while the committed results come from a smaller copy) and every file has another size, the
        same rows with the sizes and fingerprints of the files that are there.

    Raises
    ------
    Problem
        A file of the manifest is gone, or has another size.
    """
    sizes = pd.Series([_size(folder / path) for path in manifest.path], manifest.index, object)
    differing = sizes != manifest.bytes
    if not differing.any():
        return manifest
    missing = sizes.isna()
    if os.environ.get("CXR_ANY_COPY") and not missing.any():
        print(
            "These files are another copy of the X-rays than the one that 01_manifest.csv describes; "
            "reading them once. Figures can differ a little from the committed ones."
        )
        there = survey(folder).set_index("path").loc[manifest.path].reset_index()
        if (there.label.to_numpy() == manifest.label.to_numpy()).all():
            return there
    at = (missing if missing.any() else differing).idxmax()
    state = "is not" if missing[at] else f"has another size ({sizes[at]:,} bytes, not {manifest.bytes[at]:,})"
    raise Problem(
        f"{manifest.path[at]} {state} in {display_path(folder)}, against 01_manifest.csv: set CHEST_XRAY_DIR to the folder "
        "that 01 used, or run 01_download.ipynb and all after it again."
    )


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def neighbours(patient: pd.Series, size: int) -> pd.Series:
    """The block of each patient: `size` consecutive numbers of one kind of name, such as ``IM-0120`` to ``IM-0129``.

    Numbers were given out as films came in, so neighbours are likely to be of one week, one room and one technician. A
    patient without a number is a block of its own. Takes and returns text, with the same index.
    """
    parts = patient.str.extract(r"^(.*?)(\d{1,18})(\D*)$")
    number = parts[1].astype("Int64") // size * size
    return (parts[0] + number.astype("string") + parts[2]).astype(object).where(parts[1].notna(), patient)


def split(manifest: pd.DataFrame, seed: int = 0, folds: int = 7) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Cut validation from the train folder by patient; test is the official test folder, whole.

    Patients with neighbouring numbers go together, up to ten of them (`neighbours`), so that validation is a little
    further from training than the next child in the same room. Left out are the images of the official ``val/`` (16 of
    them can't steer a training), second copies of one image in train, and train images that a test patient or a
    byte-identical test image would give away.

    `manifest` comes from `survey`; the same `seed` gives the same split. Validation is one of `folds` folds: 7 makes it
    about 14% of the train folder.

    Returns
    -------
    table : DataFrame
        ``path``, ``label``, ``subtype``, ``patient``, ``split`` (train, val, test), sorted by path.
    left_out : DataFrame
        ``path`` and ``reason`` of every image of the manifest that is in no split.

    Raises
    ------
    Problem
        The same picture stands under both classes, there are too few patients to cut a validation split from, or
        `seed` or `folds` is out of range.
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
    reasons[manifest.folder == "val"] = "official val folder, too small to use"
    reasons[pool.index[pool.duplicated("sha256")]] = "second copy of an image in train"
    reasons[pool.index[pool.sha256.isin(test.sha256)]] = "same picture as one in test"
    known = pool.sha256[pool.patient.isin(test.patient)]
    reasons[pool.index[pool.sha256.isin(known)]] = "patient is in test"  # a copy under another name as well
    pool = pool[reasons[pool.index] == ""]
    warn_of_leaks(manifest)

    strata = pool.label.astype(str) + pool.subtype
    fewest = pool.groupby("label").patient.nunique().reindex([0, 1], fill_value=0).min()
    if fewest < 2:
        raise Problem(
            "The train folder has fewer than 2 patients of a class (01_manifest.csv): add images of more patients, or "
            "name the patient of each file in metadata.csv, and run 01 again."
        )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        cut = StratifiedGroupKFold(min(folds, fewest), shuffle=True, random_state=seed)
        blocks = neighbours(pool.patient, min(10, max(1, fewest // (10 * folds))))
        train, val = next(cut.split(pool, strata, blocks))
    table = manifest.assign(split=manifest.folder.where(manifest.folder == "test", ""))
    table.loc[pool.index[train], "split"] = "train"
    table.loc[pool.index[val], "split"] = "val"
    for part, rows in table[table.split != ""].groupby("split"):
        if rows.label.nunique() < 2:
            where = "test" if part == "test" else "train"
            lack = f"The {part} split has one class only: add patients of the other class to the {where} folder"
            raise Problem(f"{lack}, or choose another SPLIT_SEED in 02_explore.ipynb.")
    left_out = manifest.assign(reason=reasons).loc[reasons != "", ["path", "reason"]].reset_index(drop=True)
    table = table.loc[table.split != "", ["path", "label", "subtype", "patient", "split"]].reset_index(drop=True)
    return table, left_out


def flow(manifest: pd.DataFrame, table: pd.DataFrame, left_out: pd.DataFrame) -> dict[str, dict]:
    """How many images and patients reach each split, and why the others do not.

    Takes what `survey` and `split` return. The result has the places ``all``, ``train folder``, ``val folder``, ``test
    folder`` (the folders as downloaded; one that is not there is left out), ``train``, ``val``, ``test`` (the splits),
    each a dict: ``images``, ``patients``, ``normal`` and ``pneumonia`` (images of class 0 and 1), and, of folders only,
    ``left_out`` (images by reason).
    """

    def count(rows: pd.DataFrame) -> dict:
        ill = int((rows.label == 1).sum())
        people = int(rows.patient.nunique())
        return {"images": len(rows), "patients": people, "normal": len(rows) - ill, "pneumonia": ill}

    reason = manifest.path.map(left_out.set_index("path").reason)
    places = {"all": count(manifest)}
    for folder in ("val", "train", "test"):
        rows = manifest.folder == folder
        if rows.any():
            why = {str(why): int(n) for why, n in reason[rows].dropna().value_counts().items()}
            places[f"{folder} folder"] = count(manifest[rows]) | {"left_out": why}
    return places | {part: count(table[table.split == part]) for part in ("train", "val", "test")}


class Dataset:
    """The X-rays behind ``01_manifest.csv`` and ``02_split.csv``: train and validation at once, test under seal.

    `step` is that of the notebook that reads; it learns the name of the data set. A Problem as of `download.ensure` and
    `check`.

    ``folder`` is the data folder, ``manifest`` what `check` returns, ``table`` is ``02_split.csv`` with ``class_name``
    and ``sha256`` of each film, ``names`` says what labels 0 and 1 are called, and ``synthetic``, whether the films are
    drawn.
    """

    def __init__(self, step: Step):
        manifest, split = step.read("01_manifest.csv"), step.read("02_split.csv")
        self.folder = download.ensure()
        self.manifest = check(manifest, self.folder)
        step.dataset = describe(self.manifest, self.folder)
        self.table = split.merge(self.manifest[["path", "class_name", "sha256"]], on="path")
        self.names, self._step = class_names(self.manifest), step
        self.synthetic: bool = step.dataset["synthetic"]

    def rows(self, *parts: str) -> pd.DataFrame:
        """The films of these splits, numbered from 0."""
        return self.table[self.table.split.isin(parts)].reset_index(drop=True)

    def part(self, name: str, size: int) -> Part:
        """The films of ``"train"`` or ``"val"``, `size` x `size` pixels.

        A Problem where the test split is asked for, or as of `images.load`.
        """
        if name not in ("train", "val"):
            remedy = "ask for it with Dataset.test(...), which writes a line into the ledger first"
            raise Problem(f"The {name} split is sealed: {remedy}.")
        table = self.rows(name)
        return Part(table, images.load(table, self.folder, size))

    def pixels(self, size: int, *parts: str) -> str:
        """Fingerprint of the pictures of these splits: twelve hexadecimal digits."""
        wanted = self.rows(*parts)[["path", "sha256"]].to_csv(index=False)
        return hashlib.sha256(f"{images.DECODER} {size} {wanted}".encode()).hexdigest()[:12]

    def test(self, size: int | list[int], networks: dict[str, str], why: str) -> TestPart:
        """The official test folder, after a line in the ledger of this notebook.

        `size` is the side of the pictures, in pixels; of a list, ``pictures`` is a dict by size. `networks` has the
        fingerprint of the weights (`training.weights_fingerprint`) of all that are about to be scored, by name, and
        `why` goes into the ledger. A Problem as of `chain.add_to_ledger` and `images.load`.
        """
        table, sizes = self.rows("test"), [size] if isinstance(size, int) else size

        def load() -> np.ndarray | dict[int, np.ndarray]:
            by_size = {one: images.load(table, self.folder, one) for one in sizes}
            return by_size[size] if isinstance(size, int) else by_size

        pixels = " ".join(self.pixels(one, "test") for one in sizes)
        return TestPart(table, load, self._step, pixels, networks, why)
