"""The chain: each notebook is a step that reads the artifacts of the steps before it and writes its own.

An artifact carries the number of the notebook that makes it (``02_split.csv`` comes from ``02_explore.ipynb``).
Beside its artifacts a step leaves ``NN_lineage.json``: the sha256 of every file it read and wrote. A later step
follows these back to the start before it reads anything, so it never runs on a half-finished or older chain.
"""

import ast
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from .project import ROOT, Problem, results_dir, shown

# Columns that stay text on reading whatever is in them: else patients 007 and 7 become one, and 1e5 a number.
TEXT = ("path", "folder", "class_name", "subtype", "patient", "mode", "sha256", "split", "reason")
CARD = "MODEL_CARD.md"  # the one artifact that carries no number, because it is known by this name
PARTS = ("dataset", "reads", "writes")  # of a lineage record


def _sha256(path: Path) -> str:
    try:
        with open(path, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise Problem(f"{shown(path)} can't be read ({error.strerror}): make it readable, or delete it and run "
                      f"{_notebook(path.name[:2])} again.") from None


def _notebook(number: str) -> str:
    """File name of the notebook with this number: "02" -> "02_explore.ipynb"."""
    found = sorted((ROOT / "notebooks").glob(f"{number}_*.ipynb"))
    return found[0].name if found else f"notebook {number}"


def _load_json(path: Path, maker: str) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Problem(f"{shown(path)} is missing: run {maker} to its end, it writes it.") from None
    except ValueError:
        raise Problem(f"{shown(path)} is not readable JSON: run {maker} again, it writes it anew.") from None
    except OSError as error:
        raise Problem(f"{shown(path)} can't be read ({error.strerror}): make it readable, or delete it and run "
                      f"{maker} again.") from None


def _imported(path: Path) -> set[str]:
    """Modules of this package that a module imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            found |= {node.module} if node.module else {alias.name for alias in node.names}
    return found


def sources(notebook: Path) -> str:
    """Fingerprint of the code behind a notebook's outputs.

    That is its code cells, but for the one that fetches the project on Colab, and every module of this package that
    they lead to, without comments and docstrings. Where it differs from the one in a lineage record, the artifacts
    and the outputs come from older code.

    Parameters
    ----------
    notebook : Path

    Returns
    -------
    str
        Hexadecimal sha256.
    """
    cells = ["".join(cell["source"]) for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]
             if cell["cell_type"] == "code"]
    cells = [cell for cell in cells if "google.colab" not in cell]
    package, modules = Path(__file__).parent, set()
    waiting = set(re.findall(r"^from cxr\.(\w+) import", "\n".join(cells), re.MULTILINE))
    for names in re.findall(r"^from cxr import (.+)", "\n".join(cells), re.MULTILINE):
        waiting |= set(re.findall(r"\w+", names.partition("#")[0]))
    while waiting:
        name = waiting.pop()
        modules.add(name)
        waiting |= _imported(package / f"{name}.py") - modules
    digest = hashlib.sha256("\0".join(cells).encode())
    for name in sorted(modules):
        digest.update(f"\0{name}\0{_code(package / f'{name}.py')}".encode())
    return digest.hexdigest()


def _code(path: Path) -> str:
    """A module's text without docstrings, empty lines, and lines that are a comment."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            first = node.body[0]
            lines[first.lineno - 1:first.end_lineno] = [""] * (first.end_lineno - first.lineno + 1)
    return "\n".join(line for line in lines if line.strip() and not line.lstrip().startswith("#"))


def check(name: str) -> dict:
    """Follow an artifact back to the start of the chain.

    Parameters
    ----------
    name : str
        File name in the results folder, such as ``"02_split.csv"``.

    Returns
    -------
    dict
        The lineage record of the step that wrote `name`.

    Raises
    ------
    Problem
        `name` is missing, was changed after it was written, or was made from an input that has changed since.
    """
    path, maker = results_dir() / name, _notebook(name[:2])
    if not path.exists():
        raise Problem(f"{shown(path)} is missing: run {maker} first, it makes it.")
    record = results_dir() / f"{name[:2]}_lineage.json"
    lineage = _load_json(record, maker)
    if not (isinstance(lineage, dict) and all(isinstance(lineage.get(part), dict) for part in PARTS)):
        raise Problem(f"{shown(record)} does not say what {maker} read and wrote: run {maker} again.")
    if lineage["writes"].get(name) != _sha256(path):
        raise Problem(f"{shown(path)} is not what {maker} last finished writing (it was edited, or the run was "
                      f"cut short): run {maker} again.")
    for source, sha256 in lineage["reads"].items():
        check(source)
        if _sha256(results_dir() / source) != sha256:
            raise Problem(f"{shown(path)} was made from an older {source}: run {maker} again.")
    return lineage


class Step:
    """One notebook's reading and writing in the results folder.

    Parameters
    ----------
    name : str
        The notebook's file name without ending, such as ``"02_explore"``.

    Attributes
    ----------
    dataset : dict
        What the images are: ``name``, ``synthetic``, ``images``. Step 01 sets it, later steps read it.
    """

    def __init__(self, name: str):
        self.name, self.number = name, name[:2]
        self.reads: dict[str, str] = {}
        self.writes: dict[str, str] = {}
        self.dataset: dict = {}

    def path(self, name: str) -> Path:
        """The checked path of an earlier step's artifact; it is noted as one that this step read."""
        self.dataset = check(name)["dataset"]
        path = results_dir() / name
        self.reads[name] = _sha256(path)
        return path

    def read(self, name: str) -> pd.DataFrame | dict:
        """Read an earlier step's ``.csv`` as a DataFrame (empty text stays empty text) or ``.json`` as a dict."""
        path = self.path(name)
        if path.suffix == ".csv":
            return pd.read_csv(path, keep_default_na=False, dtype=dict.fromkeys(TEXT, str))
        return _load_json(path, _notebook(name[:2]))

    def keep(self, name: str, **columns: str) -> pd.DataFrame | None:
        """Take over a table that an earlier run of this step wrote, from the same images and the same inputs.

        For an artifact that takes an hour and is not made anew each time.

        Parameters
        ----------
        name : str
            File name of a ``.csv``.
        **columns : str
            Values that these columns must have in every row, such as a fingerprint of the settings.

        Returns
        -------
        DataFrame; None where there is no such table, or not from these inputs and settings.
        """
        path, record = results_dir() / name, results_dir() / f"{self.number}_lineage.json"
        if not (path.exists() and record.exists()):
            return None
        lineage = _load_json(record, _notebook(self.number))
        sha256 = _sha256(path)
        if (lineage.get("dataset"), lineage.get("reads"), lineage.get("writes", {}).get(name)) != (
                self.dataset, self.reads, sha256):
            return None
        table = pd.read_csv(path, keep_default_na=False, dtype=dict.fromkeys((*TEXT, *columns), str))
        if not all(column in table and (table[column] == value).all() for column, value in columns.items()):
            return None
        self.writes[name] = sha256
        return table

    def write(self, name: str, content: pd.DataFrame | dict | str | bytes | Callable[[Path], object]) -> None:
        """Write an artifact whole or not at all: under a temporary name first, then renamed.

        Parameters
        ----------
        name : str
            File name; it starts with this step's number, but for the model card.
        content : DataFrame, dict, str, bytes, Figure, or a function that writes to the path it is given
            A figure of synthetic images is marked as such before it is saved.

        Raises
        ------
        Problem
            The results folder can't be written.
        """
        assert name.startswith(self.number + "_") or name == CARD, f"{name} does not carry the number of {self.name}"
        folder = results_dir()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".unfinished_", dir=folder) as scratch:
                unfinished = Path(scratch) / name
                self._save(unfinished, content)
                sha256 = _sha256(unfinished)
                os.replace(unfinished, folder / name)
                self.writes[name] = sha256
        except OSError as error:
            reason = error.strerror or str(error).replace(str(folder), shown(folder))
            raise Problem(f"{shown(folder / name)} can't be written ({reason}): free the disk or make the "
                          "folder writable, or set CXR_RESULTS_DIR to another folder.") from error

    def _save(self, path: Path, content) -> None:
        if isinstance(content, pd.DataFrame):
            content.to_csv(path, index=False, lineterminator="\n", float_format="%.6g")
        elif isinstance(content, dict):
            path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        elif isinstance(content, str):
            path.write_text(content, encoding="utf-8")
        elif isinstance(content, bytes):
            path.write_bytes(content)
        elif hasattr(content, "savefig"):
            if self.dataset.get("synthetic"):
                content.text(0.5, 0.5, "SYNTHETIC", fontsize=min(40, 7 * content.get_figwidth()), color="crimson",
                             alpha=0.25, rotation=20, ha="center", va="center", weight="bold")
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
        record = {"notebook": self.name, "sources": sources(notebook) if notebook.exists() else "",
                  "dataset": self.dataset, "reads": self.reads, "writes": dict(self.writes)}
        self.write(f"{self.number}_lineage.json", record)
        for name in record["writes"]:
            size = (results_dir() / name).stat().st_size
            print(f"{shown(results_dir())}/{name:<36} {max(size // 1024, 1):>6,} kB")
