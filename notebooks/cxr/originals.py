"""What the original files of the data set tell before a picture is decoded, for copies that were resized since.

A copy of one size says nothing of width, height or JPEG quality, by which the originals give their class away. Two
small tables in ``cxr/tables`` keep what the headers of all 5,856 originals on Kaggle said; `measured` has made them.
"""

from pathlib import Path

import pandas as pd

from .project.kaggle.archive import HANDLE
from .shortcuts import baselines

TABLES = Path(__file__).with_name("tables")
FILES, CLUES = TABLES / "originals_files.csv", TABLES / "originals_clues.csv"
SIDE, DENSITY = 100, 0.01  # steps of the first table: pixels, and bytes per pixel
SOURCE = f"# Headers of the 5,856 originals of {HANDLE} (Kermany et al. 2018, CC BY 4.0), by cxr/originals.py"


def measured(metadata: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Both tables of ``cxr/tables`` from the headers of all files.

    Parameters
    ----------
    metadata : DataFrame, one row a file
        ``split`` (train, val, test), ``class`` (``NORMAL`` is label 0), ``width`` and ``height`` (pixels),
        ``file_size`` (bytes), ``estimated_quality`` (of the JPEG, 1 to 100), ``mode`` (``L`` is gray).

    Returns
    -------
    files : DataFrame
        How many ``films`` there are by ``folder``, ``class_name``, ``label``, and ``width``, ``height`` and
        ``bytes_per_pixel``, these rounded to steps of `SIDE` and `DENSITY`.
    clues : DataFrame
        What `shortcuts.baselines` reaches with each clue alone, and with all, one a row: ``clue``, ``train_auc``,
        ``auc`` (on test), ``accuracy``, ``balanced_accuracy``.

    Raises
    ------
    Problem
        Train or test has one class only.
    """
    names = {"split": "folder", "class": "class_name", "file_size": "bytes"}
    manifest = metadata.rename(columns=names).assign(label=(metadata["class"].str.lower() != "normal").astype(int))
    facts = manifest[["width", "height"]].assign(aspect=manifest.width / manifest.height)
    facts["bytes_per_pixel"] = manifest.bytes / (manifest.width * manifest.height)
    facts["jpeg_quality"], facts["color"] = manifest.estimated_quality, (manifest["mode"] != "L").astype(int)
    steps = {"width": SIDE, "height": SIDE, "bytes_per_pixel": DENSITY}
    rounded = {name: ((facts[name] / step).round() * step).round(2) for name, step in steps.items()}
    files = manifest[["folder", "class_name", "label"]].assign(**rounded).astype({"width": int, "height": int})
    counted = files.groupby([*files]).size().rename("films").reset_index()
    return counted, pd.DataFrame(baselines(facts, manifest)["rows"])


def write(metadata: pd.DataFrame) -> None:
    """Put what `measured` finds into ``cxr/tables``, below a line that says where it comes from."""
    TABLES.mkdir(exist_ok=True)
    for path, table in zip((FILES, CLUES), measured(metadata)):
        path.write_text(SOURCE + "\n" + table.to_csv(index=False, lineterminator="\n"), encoding="utf-8")


def hidden(dataset: dict) -> bool:
    """Whether `dataset` (of `data.describe`) is a copy of these X-rays whose files were all resized to one size."""
    return dataset["name"].startswith(f"{HANDLE}, copy resized")


def files(manifest: pd.DataFrame, dataset: dict) -> tuple[pd.DataFrame, str]:
    """What is known of width, height and compression, and whose files these are.

    Of a resized copy (`hidden`) the first table of `measured`; of any other data set its own files, each with
    ``films`` 1. `manifest` is a table as `data.survey` returns it.
    """
    if hidden(dataset):
        return pd.read_csv(FILES, comment="#"), "the original files"
    density = manifest.bytes / (manifest.width * manifest.height)
    return manifest.assign(bytes_per_pixel=density, films=1), "these files"


def clues(finding: dict, dataset: dict) -> tuple[dict, str]:
    """What the files alone tell, as `shortcuts.baselines` says it, and whose files these are.

    `finding` is what it says of the files at hand; of a resized copy (`hidden`) the originals' table comes instead.
    """
    if not hidden(dataset):
        return finding, "from the file"
    rows = pd.read_csv(CLUES, comment="#").to_dict("records")
    return finding | {"rows": rows, "invisible": []}, "from the original file"
