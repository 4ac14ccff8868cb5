"""The data set as tables: survey the folder, name what is broken, and split by patient.

A data folder holds ``train/`` and ``test/`` (and perhaps ``val/``), each with one folder for normal X-rays and one
or more for other classes, under any name and in any letter case. The question of most notebooks is normal or not;
that of 08 is which.
"""

import hashlib
import io
import numbers
import os
import re
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
from PIL import Image, UnidentifiedImageError
from sklearn.model_selection import StratifiedGroupKFold

from .archive import HANDLE
from .images import lies_on_its_side, quiet
from .practice import COMMENT
from .project import Problem, shown

FORMATS = {".jpeg": "JPEG", ".jpg": "JPEG", ".png": "PNG"}
SMALLEST = 32  # pixels; below this no rib can be seen
COLUMNS = ["path", "folder", "class_name", "label", "subtype", "patient", "width", "height", "mode", "bytes", "sha256"]


def subtype_of(stem: str, label: int, otherwise: str = "") -> str:
    """``normal``, ``bacteria`` or ``virus`` from a file's name; `otherwise` where the name does not say."""
    if label == 0:
        return "normal"
    found = re.search(r"bacteria|virus", stem.lower())
    return found[0] if found else otherwise


def class_names(manifest: pd.DataFrame) -> pd.Series:
    """What labels 0 and 1 are called: the name of the class folder, or of all that are not normal."""
    return manifest.groupby("label").class_name.agg(lambda names: " or ".join(sorted(set(names))))


def patient_of(path: str) -> str:
    """The patient from a file's path below the data folder, without its ending.

    ``person12_virus_3`` is patient ``person12_virus``: the two subtypes are numbered apart. ``IM-0115-0001`` is
    ``IM-0115`` and ``NORMAL2-IM-0115-0001`` is ``NORMAL2-IM-0115``. Any other file is a patient of its own.
    """
    name = path.rpartition("/")[2]
    found = re.match(r"person\d+_(bacteria|virus)|(NORMAL2-)?IM-\d+", name, re.IGNORECASE)
    return found[0] if found else path


def _subfolders(folder: Path) -> dict[str, Path]:
    """Sub-folders by lower-case name; hidden ones and ``__MACOSX`` left out."""
    found = {}
    try:
        for path in sorted(folder.iterdir()):
            if path.is_dir() and not _is_junk(path.name):
                other = found.setdefault(path.name.lower(), path)
                if other != path:
                    raise Problem(f"{shown(folder)} holds both {other.name}/ and {path.name}/: merge them into one.")
    except OSError as error:
        raise Problem(f"{shown(folder)} can't be listed ({error.strerror}): make it readable, or name "
                      "another folder (CHEST_XRAY_DIR; in 10_external.ipynb, FOLDER).") from None
    return found


def _is_junk(folder: str) -> bool:
    """Left by an operating system or by Jupyter: ``__MACOSX``, ``.Trash-1000``, ``.ipynb_checkpoints``, ..."""
    return folder.startswith((".", "__"))


def _images(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*"))
            if path.suffix.lower() in FORMATS and not path.name.startswith(".")
            and not any(map(_is_junk, path.relative_to(folder).parts[:-1]))]


def _classes(folder: Path) -> dict[str, int]:
    """Class folders by lower-case name with their labels: normal is 0, any other 1."""
    if not folder.is_dir():
        raise Problem(f"The data folder {shown(folder)} does not exist: set CHEST_XRAY_DIR to the folder that holds "
                      "train/ and test/, or run 01_download.ipynb.")
    parts = _subfolders(folder)
    for part in ("train", "test"):
        if part not in parts:
            raise Problem(f"{shown(folder)} has no {part}/ folder: set CHEST_XRAY_DIR to the folder that holds train/ "
                          "and test/, or empty it and run 01_download.ipynb to fetch the data set.")
    return _labels(folder, {name for part in ("train", "val", "test") if part in parts
                            for name in _subfolders(parts[part])})


def _labels(folder: Path, names: set[str]) -> dict[str, int]:
    if len(names) < 2 or "normal" not in names:
        raise Problem(f"{shown(folder)} has the class folders {', '.join(sorted(names)) or '(none)'}: two at least are "
                      "needed, one of them called normal.")
    return {name: int(name != "normal") for name in sorted(names)}


def class_folders(folder: Path) -> list[tuple[Path, int]]:
    """The class folders in `folder`, each with its label: 0 for that called normal, in any letter case, 1 for others.

    Raises
    ------
    Problem
        It can't be listed, two are called the same, fewer than two are there, or none is called normal.
    """
    found = _subfolders(folder)
    return [(found[name], label) for name, label in _labels(folder, set(found)).items()]


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
            kind, frames, mode, (width, height) = (picture.format, getattr(picture, "n_frames", 1), picture.mode,
                                                   picture.size)
            if kind != FORMATS[path.suffix.lower()]:
                return f"{name} is a {kind} picture under the name of a {FORMATS[path.suffix.lower()]}"
            if frames > 1:
                return f"{name} holds {frames} pictures"
            if min(width, height) < SMALLEST:
                return f"{name} is only {width}x{height} pixels"
            picture.draft("L", (SMALLEST, SMALLEST))  # reads every byte, but computes few pixels
            picture.load()
            if lies_on_its_side(picture):
                width, height = height, width
    except UnidentifiedImageError:
        return f"{name} is not a picture"
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        return f"{name} has more than {Image.MAX_IMAGE_PIXELS:,} pixels"
    except (OSError, SyntaxError, ValueError) as error:
        return f"{name} is damaged ({error})"
    return {"width": width, "height": height, "mode": mode, "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest()}


def survey(folder: Path) -> pd.DataFrame:
    """Read every image of the data set once, and describe it in a table.

    Parameters
    ----------
    folder : Path
        Data folder, with ``train/`` and ``test/`` in it.

    Returns
    -------
    DataFrame
        One row an image, sorted by path; columns ``path`` (posix, below `folder`), ``folder``, ``class_name``,
        ``label`` (0 normal, 1 any other class), ``subtype`` (from the file's name; where there are three or more class
        folders and the name does not say, that of the folder), ``patient``, ``width``, ``height`` (pixels, of the
        upright picture where EXIF says that it lies on its side), ``mode`` (Pillow's), ``bytes``, ``sha256``.

    Raises
    ------
    Problem
        A folder is missing or empty, there are not two classes, or a file is not a whole picture of the kind its
        name says. A folder may be a link to another disk, a file may not: it would change without a trace.
    """
    labels, rows = _classes(folder), []
    parts = {name: path for name, path in _subfolders(folder).items() if name in ("train", "val", "test")}
    for part, part_folder in parts.items():
        inside = _subfolders(part_folder)
        for class_name, label in labels.items():
            files = _images(inside[class_name]) if class_name in inside else []
            if not files and part != "val":
                raise Problem(f"{shown(part_folder)}/{inside.get(class_name, Path(class_name)).name} has no .jpeg, "
                              ".jpg or .png image: put the images of this class there, or run 01_download.ipynb anew.")
            rows += [(path, {"path": path.relative_to(folder).as_posix(), "folder": part,
                             "class_name": inside[class_name].name, "label": label,
                             "subtype": subtype_of(path.stem, label, class_name if len(labels) > 2 else ""),
                             "patient": patient_of(path.relative_to(folder).with_suffix("").as_posix())})
                     for path in files]
    for _, row in rows:
        if (name := os.fsencode(row["path"]).decode("utf-8", "backslashreplace")) != row["path"]:
            raise Problem(f"{name} in {shown(folder)} has a name that is not UTF-8: rename it, and run "
                          "01_download.ipynb again.")
    with quiet(), ThreadPoolExecutor(os.cpu_count()) as pool:
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        found = list(pool.map(lambda row: _examine(row[0], row[1]["path"], folder), rows))
    broken = [what for what in found if isinstance(what, str)]
    if broken:
        more = f", and {len(broken) - 3} more" if len(broken) > 3 else ""
        raise Problem(f"{'; '.join(broken[:3])}{more}, in {shown(folder)}: replace or delete "
                      f"{'it' if len(broken) == 1 else 'them'}, and run 01_download.ipynb again.")
    table = pd.DataFrame([{**row, **what} for (_, row), what in zip(rows, found)])
    return table[COLUMNS].sort_values("path", ignore_index=True)


def describe(manifest: pd.DataFrame, folder: Path) -> dict:
    """Name the data set: ``{"name": ..., "synthetic": ..., "images": ...}``.

    One drawn picture (they carry a comment that says so) makes the whole set synthetic.
    """
    def drawn(path: str) -> bool:
        with Image.open(folder / path) as picture:
            comment = picture.info.get("comment", b"")  # text in a PNG
            return COMMENT in (comment if isinstance(comment, str) else comment.decode("latin-1"))

    with quiet():
        synthetic = any(map(drawn, manifest.path))
    fitting = manifest.path.str.contains(r"/(?:person\d+_(?:bacteria|virus)_|(?:NORMAL2-)?IM-\d)").mean()
    if synthetic:
        name = COMMENT
    elif fitting > 0.9:
        sizes = manifest[["width", "height"]].drop_duplicates()
        name = HANDLE + (f", copy resized to {sizes.width.iloc[0]}x{sizes.height.iloc[0]} pixels"
                         if len(sizes) == 1 else "")
    else:
        name = f"folder {folder.name}"
    return {"name": name, "synthetic": synthetic, "images": len(manifest)}


def check(manifest: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Hold the data folder against the manifest, by name and size of each file.

    Parameters
    ----------
    manifest : DataFrame
        As `survey` returns it.
    folder : Path
        Data folder.

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
    sizes = {path: _size(folder / path) for path in manifest.path}
    differing = [path for path, size in zip(manifest.path, manifest.bytes) if sizes[path] != size]
    if not differing:
        return manifest
    missing = [path for path in differing if sizes[path] is None]
    if os.environ.get("CXR_ANY_COPY") and not missing:
        print("These files are another copy of the X-rays than the one that 01_manifest.csv describes; "
              "reading them once. Figures can differ a little from the committed ones.")
        there = survey(folder).set_index("path").loc[manifest.path].reset_index()
        if (there.label.to_numpy() == manifest.label.to_numpy()).all():
            return there
    path = (missing or differing)[0]
    state = ("is not in" if missing else f"has another size ({sizes[path]:,} bytes, not "
             f"{manifest.bytes[manifest.path == path].iloc[0]:,}) in")
    raise Problem(f"{path} {state} {shown(folder)}, against 01_manifest.csv: set CHEST_XRAY_DIR to the folder that 01 "
                  "used, or run 01_download.ipynb and all after it again.")


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def neighbours(patient: pd.Series, size: int) -> pd.Series:
    """The block of each patient: `size` consecutive numbers of one kind of name, such as ``IM-0120`` to ``IM-0129``.

    Numbers were given out as films came in, so neighbours are likely to be of one week, one room and one technician. A
    patient without a number is a block of its own.

    Parameters
    ----------
    patient : Series of str
    size : int
        Numbers a block, 1 or more.

    Returns
    -------
    Series of str, the index of `patient`
    """
    parts = patient.str.extract(r"^(.*?)(\d{1,18})(\D*)$")
    number = parts[1].astype("Int64") // size * size
    return (parts[0] + number.astype("string") + parts[2]).astype(object).where(parts[1].notna(), patient)


def split(manifest: pd.DataFrame, seed: int = 0, folds: int = 7) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Cut validation from the train folder by patient; test is the official test folder, whole.

    Patients with neighbouring numbers go together, up to ten of them (`neighbours`), so that validation is a little
    further from training than the next child in the same room.

    Left out are the images of the official ``val/`` (16 of them can't steer a training), second copies of one image
    in train, and train images that a test patient or a byte-identical test image would give away.

    Parameters
    ----------
    manifest : DataFrame
        As `survey` returns it.
    seed : int
        The same seed gives the same split.
    folds : int
        Validation is one fold of this many: 7 makes it about 14% of the train folder.

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
    for setting, value, least, most in (("SPLIT_SEED", seed, 0, 2 ** 32 - 1), ("FOLDS", folds, 2, len(manifest))):
        if not (isinstance(value, numbers.Integral) and least <= value <= most):
            raise Problem(f"{setting} in 02_explore.ipynb is {value!r}: set it to a whole number from {least} to "
                          f"{most:,}.")
    manifest = manifest.sort_values("path", ignore_index=True)
    for _, group in manifest[manifest.duplicated("sha256", keep=False)].groupby("sha256"):
        if group.label.nunique() > 1:
            one, other = group.drop_duplicates("label").path
            raise Problem(f"{one} and {other} are the same picture under two classes: "
                          "delete the wrong one and run 01_download.ipynb again.")
    test, pool = manifest[manifest.folder == "test"], manifest[manifest.folder == "train"]
    reasons = pd.Series("", index=manifest.index)
    reasons[manifest.folder == "val"] = "official val folder, too small to use"
    reasons[pool.index[pool.duplicated("sha256")]] = "second copy of an image in train"
    reasons[pool.index[pool.sha256.isin(test.sha256)]] = "same picture as one in test"
    known = pool.sha256[pool.patient.isin(test.patient)]
    reasons[pool.index[pool.sha256.isin(known)]] = "patient is in test"  # a copy under another name as well
    pool = pool[reasons[pool.index] == ""]

    strata = pool.label.astype(str) + pool.subtype
    fewest = pool.groupby("label").patient.nunique().reindex([0, 1], fill_value=0).min()
    if fewest < 2:
        raise Problem("The train folder has fewer than 2 patients of a class (01_manifest.csv): add images of more "
                      "patients, or name the files so that each patient's number is in them, and run 01 again.")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        cut = StratifiedGroupKFold(min(folds, fewest), shuffle=True, random_state=seed)
        blocks = neighbours(pool.patient, min(10, max(1, fewest // (10 * folds))))
        train, val = next(cut.split(pool, strata, blocks))
    table = manifest.assign(split="")
    table.loc[pool.index[train], "split"] = "train"
    table.loc[pool.index[val], "split"] = "val"
    table.loc[test.index, "split"] = "test"
    for part, rows in table[table.split != ""].groupby("split"):
        if rows.label.nunique() < 2:
            raise Problem(f"The {part} split has one class only: add patients of the other class to the "
                          f"{'test' if part == 'test' else 'train'} folder, or choose another SPLIT_SEED in "
                          "02_explore.ipynb.")
    left_out = manifest.assign(reason=reasons).loc[reasons != "", ["path", "reason"]].reset_index(drop=True)
    table = table.loc[table.split != "", ["path", "label", "subtype", "patient", "split"]].reset_index(drop=True)
    return table, left_out


def flow(manifest: pd.DataFrame, table: pd.DataFrame, left_out: pd.DataFrame) -> dict[str, dict]:
    """How many images and patients reach each split, and why the others do not.

    Parameters
    ----------
    manifest : DataFrame
        As `survey` returns it.
    table, left_out : DataFrame
        As `split` returns them.

    Returns
    -------
    dict of place to dict
        ``all``, ``train folder``, ``val folder``, ``test folder`` (the folders as downloaded), ``train``, ``val``,
        ``test`` (the splits): ``images``, ``patients``, ``normal`` and ``pneumonia`` (images of class 0 and 1), and
        ``left_out`` (images by reason; folders only). A folder that is not there is left out.
    """
    def count(rows: pd.DataFrame) -> dict:
        return {"images": len(rows), "patients": int(rows.patient.nunique()), "normal": int((rows.label == 0).sum()),
                "pneumonia": int((rows.label == 1).sum())}

    reason = manifest.path.map(left_out.set_index("path").reason)
    places = {"all": count(manifest)}
    for folder in ("val", "train", "test"):
        rows = manifest.folder == folder
        if rows.any():
            places[f"{folder} folder"] = count(manifest[rows]) | {
                "left_out": {str(why): int(n) for why, n in reason[rows].dropna().value_counts().items()}}
    return places | {part: count(table[table.split == part]) for part in ("train", "val", "test")}
