"""The chain: each notebook is a step that reads the artifacts of the steps before it and writes its own.

An artifact carries the number of the notebook that makes it (``02_split.csv`` comes from ``02_explore.ipynb``).
Beside its artifacts a step leaves ``NN_lineage.json``: the sha256 of every file it read and wrote. A later step
follows these back to the start before it reads anything, so it never runs on a half-finished or older chain.
"""

import hashlib
import json
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from . import fingerprint
from .paths import ROOT, Problem, atomic_write, display_path, results_dir

# Columns that stay text on reading whatever is in them: else patients 007 and 7 become one, and 1e5 a number.
TEXT = ("path", "folder", "class_name", "subtype", "patient", "mode", "sha256", "split", "reason")
CARD = "MODEL_CARD.md"  # the one artifact that carries no number, because it is known by this name
PARTS = ("dataset", "reads", "writes")  # of a lineage record


def _read(path: Path, parse: Callable):
    """What `parse` makes of an artifact's open file."""
    what, run = display_path(path), f"run {_maker(path.name)}"
    try:
        with open(path, "rb") as stream:
            return parse(stream)
    except FileNotFoundError:
        raise Problem(f"{what} is missing: {run} to its end, it writes it.") from None
    except ValueError:
        raise Problem(f"{what} is not readable JSON: {run} again, it writes it anew.") from None
    except OSError as why:
        raise Problem(
            f"{what} can't be read ({why.strerror}): make it readable, or delete it and {run} again."
        ) from None


def file_sha256(path: Path) -> str:
    """Fingerprint of a file; a Problem where it can't be read."""
    return _read(path, lambda stream: hashlib.file_digest(stream, "sha256").hexdigest())


def _load_table(path: Path, *text: str) -> pd.DataFrame:
    return pd.read_csv(path, keep_default_na=False, dtype=dict.fromkeys((*TEXT, *text), str))


def _kilobytes(path: Path) -> str:
    return f"{max(path.stat().st_size // 1024, 1):,}\N{NO-BREAK SPACE}kB"


def _maker(name: str) -> str:
    """File name of the notebook that makes an artifact: "02_split.csv" -> "02_explore.ipynb"."""
    return getattr(fingerprint.notebooks().get(name[:2]), "name", f"notebook {name[:2]}")


def check(name: str) -> dict:
    """Follow the artifact `name` back to the start of the chain; returns the lineage record of the step that wrote it.
    A `Problem` if it is missing, was changed after it was written, or was made from an input that has changed since.
    """
    path, record, maker = results_dir() / name, results_dir() / f"{name[:2]}_lineage.json", _maker(name)
    if not path.exists():
        raise Problem(f"{display_path(path)} is missing: run {maker} first, it makes it.")
    lineage = _read(record, json.load)
    if not (isinstance(lineage, dict) and all(isinstance(lineage.get(part), dict) for part in PARTS)):
        raise Problem(f"{display_path(record)} does not say what {maker} read and wrote: run {maker} again.")
    if lineage["writes"].get(name) != file_sha256(path):
        changed = f"{display_path(path)} is not what {maker} last finished writing"
        raise Problem(f"{changed} (it was edited, or the run was cut short): run {maker} again.")
    for source, sha256 in lineage["reads"].items():
        check(source)
        if file_sha256(results_dir() / source) != sha256:
            raise Problem(f"{display_path(path)} was made from an older {source}: run {maker} again.")
    return lineage


class Step:
    """What the notebook called `name`, such as ``"02_explore"``, reads and writes in the results folder."""

    def __init__(self, name: str):
        self.name, self.number, self.reads, self.writes = name, name[:2], dict[str, str](), dict[str, str]()
        self.dataset: dict = {}  # what the images are: name, synthetic, images; 01 sets it, later steps read it

    def path(self, name: str) -> Path:
        """The checked path of an earlier step's artifact; it is noted as one that this step read."""
        self.dataset = check(name)["dataset"]
        self.reads[name] = file_sha256(results_dir() / name)
        return results_dir() / name

    def read(self, name: str) -> Any:
        """Read an earlier step's ``.csv`` as a DataFrame (empty text stays empty text) or ``.json`` as a dict."""
        path = self.path(name)
        return _load_table(path) if path.suffix == ".csv" else _read(path, json.load)

    def keep(self, name: str, **columns: str) -> pd.DataFrame | None:
        """The table `name` of an earlier run from the same images and inputs, with these values all down, or None."""
        path, record = results_dir() / name, results_dir() / f"{self.number}_lineage.json"
        there = path.exists() and record.exists()
        lineage, sha256 = (_read(record, json.load), file_sha256(path)) if there else ({}, "")
        before = (lineage.get("dataset"), lineage.get("reads"), lineage.get("writes", {}).get(name))
        table = _load_table(path, *columns) if before == (self.dataset, self.reads, sha256) else None
        fits = table is not None and all(x in table and (table[x] == value).all() for x, value in columns.items())
        self.writes |= {name: sha256} if fits else {}
        return table if fits else None

    def write(self, name: str, content: pd.DataFrame | dict | str | bytes | Callable[[Path], object]) -> None:
        """Write an artifact whole or not at all; a `Problem` where the results folder can't be written.
        `content` may also be a Figure, which is marked where the images are synthetic, or a function of the path.
        """
        assert name.startswith(self.number + "_") or name == CARD, f"{name} does not carry the number of {self.name}"
        folder = results_dir()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with atomic_write(folder / name) as unfinished:
                self._save(unfinished, content)
                sha256 = file_sha256(unfinished)
            self.writes[name] = sha256
        except OSError as error:
            reason = error.strerror or str(error).replace(str(folder), display_path(folder))
            remedy = "free the disk or make the folder writable, or set CXR_RESULTS_DIR to another folder"
            raise Problem(f"{display_path(folder / name)} can't be written ({reason}): {remedy}.") from error

    def _save(self, path: Path, content) -> None:
        if isinstance(content, dict):
            content = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        if isinstance(content, str):
            path.write_text(content, encoding="utf-8")
        elif isinstance(content, bytes):
            path.write_bytes(content)
        elif isinstance(content, pd.DataFrame):
            content.to_csv(path, index=False, lineterminator="\n", float_format="%.6g")
        elif hasattr(content, "savefig"):
            if self.dataset.get("synthetic"):
                mark = dict(fontsize=min(40, 7 * content.get_figwidth()), color="crimson", weight="bold")
                content.text(0.5, 0.5, "SYNTHETIC", alpha=0.25, rotation=20, ha="center", va="center", **mark)
            content.savefig(path, dpi=150, bbox_inches="tight", facecolor="white", metadata={"Software": None})
        else:
            content(path)

    def written(self, name: str) -> Path:
        """Where an artifact that this step wrote lies."""
        assert name in self.writes, f"{self.name} has not written {name}"
        return results_dir() / name

    def done(self) -> None:
        """Close the step: write its lineage, and list what it wrote."""
        notebook = ROOT / "notebooks" / f"{self.name}.ipynb"
        code, writes = fingerprint.code(notebook) if notebook.exists() else {}, dict(self.writes)
        record = dict(notebook=self.name, code=code, dataset=self.dataset, reads=self.reads, writes=writes)
        self.write(f"{self.number}_lineage.json", record)
        sizes = [f"{name}\N{NO-BREAK SPACE}({_kilobytes(results_dir() / name)})" for name in writes]
        said = f"{display_path(results_dir())}/: {', '.join(sizes)}"
        print(textwrap.fill(said, 88, break_long_words=False, break_on_hyphens=False))
