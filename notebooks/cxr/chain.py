"""The chain: each notebook is a step that reads artifacts of the steps before it and writes its own.

``02_split.csv`` comes from ``02_explore.ipynb``. ``NN_lineage.json`` has a hash of a step's code and the sha256 of each
file that it read and wrote; a later step follows these back to the start. The test folder opens through `TestPart`.
"""

import hashlib
import json
import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from . import keys
from .paths import ROOT, Problem, atomic_write, display_path, results_dir

# Columns that stay text on reading: else patients 007 and 7 become one, and 1e5 a number.
TEXT = ("path", "folder", "class_name", "subtype", "patient", "mode", "sha256", "split", "reason")
LEDGER = ["when", "code", "notebook", "data_set", "images", "pixels", "networks", "why"]


def notebooks(folder: Path = ROOT / "notebooks") -> dict[str, Path]:
    """The notebooks by number, in order: ``NN_name.ipynb``, then ``appendix/AN_name.ipynb``."""
    found = [*sorted(folder.glob("[0-9][0-9]_*.ipynb")), *sorted(folder.glob("appendix/A[0-9]_*.ipynb"))]
    return {path.name[:2]: path for path in found}


def code_cells(notebook: Path, tag: str = "") -> list[str]:
    """The code cells of a notebook, or those with this tag."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    tagged = [one for one in cells if not tag or tag in one["metadata"].get("tags", [])]
    return ["".join(one["source"]) for one in tagged if one["cell_type"] == "code"]


def code_of(notebook: Path) -> str:
    """12 hex digits of a notebook's cells, without the setup cell, words and prints, and of the modules they import."""
    cells = [cell for cell in code_cells(notebook) if "colab.prepare" not in cell]
    source = "\n".join(re.sub(r"^( *)[%!].*", r"\1pass", cell, flags=re.M) for cell in cells)
    counting = [line for line in keys.statements(source) if not line.startswith(("print(", "display(", "Markdown("))]
    return keys.short_hash({"cells": "\n".join(counting)} | keys.with_imports(keys.imported(source)))


def _maker(name: str) -> str:
    """File name of the notebook that makes an artifact: "02_split.csv" -> "02_explore.ipynb"."""
    return getattr(notebooks().get(name[:2]), "name", f"notebook {name[:2]}")


def _read(path: Path, parse: Callable):
    what, run = display_path(path), f"run {_maker(path.name)}"
    try:
        with open(path, "rb") as stream:
            return parse(stream)
    except FileNotFoundError:
        raise Problem(f"{what} is missing: {run} to its end, it writes it.") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", "not JSON")
        raise Problem(f"{what} can't be read ({reason}): delete it and {run} again.") from None


@lru_cache(4096)
def _sha256(path: Path, inode: int, mtime_ns: int, size: int) -> str:
    return _read(path, lambda stream: hashlib.file_digest(stream, "sha256").hexdigest())


def file_sha256(path: Path) -> str:
    """sha256 of a file, computed once for each state of it."""
    stat = _read(path, lambda _: path.stat())
    return _sha256(path, stat.st_ino, stat.st_mtime_ns, stat.st_size)


def load_table(path: Path) -> pd.DataFrame:
    """A CSV as it was written: empty text stays empty text, and the columns of `TEXT` are text."""
    return pd.read_csv(path, keep_default_na=False, dtype=dict.fromkeys(TEXT, str))


def record(number: str) -> dict:
    path = results_dir() / f"{number}_lineage.json"
    found = _read(path, json.load)
    if not all(isinstance(found.get(part), dict) for part in ("dataset", "reads", "writes")):
        raise Problem(f"{display_path(path)} is not a record: run {_maker(path.name)} again, it writes it.")
    return found


def stale(notebook: Path) -> bool:
    """Whether a notebook's results come from other code than today's, unless `make same` accepted that."""
    found, now = record(notebook.name[:2]), code_of(notebook)
    return now not in (found.get("code"), found.get("accepted", {}).get("code"))


def check(name: str, checked: set[str] | None = None) -> dict:
    """The lineage record behind the artifact `name`; a `Problem` if it, or anything it was made from, changed since."""
    checked, path = set() if checked is None else checked, results_dir() / name
    what, again = display_path(path), f"run {_maker(name)} again"
    sha256, lineage = file_sha256(path), record(name[:2])
    if lineage["writes"].get(name) != sha256:
        raise Problem(f"{what} was edited since its notebook last finished writing, or that was cut short: {again}.")
    for source, sha256 in lineage["reads"].items():
        if source not in checked:
            check(source, checked)
        if file_sha256(results_dir() / source) != sha256:
            raise Problem(f"{what} was made from an older {source}: {again}.")
    checked.add(name)
    return lineage


class Step:
    """What the notebook `name`, such as ``"02_explore"``, reads and writes; ``dataset`` says what the images are."""

    def __init__(self, name: str):
        self.name, self.number, self.dataset = name, name[:2], {}
        self.reads, self.earlier_reads, self.writes = dict[str, str](), dict[str, str](), dict[str, str]()
        self._closing: list[Callable[[], None]] = []
        notebook = notebooks().get(self.number)
        self.code = code_of(notebook) if notebook and notebook.stem == name else ""

    def path(self, name: str) -> Path:
        """The checked path of an earlier step's artifact, noted as read."""
        assert name[:2] != self.number, f"{name} is of this step: Step.earlier reads what an earlier run left"
        self.dataset = check(name)["dataset"]
        self.reads[name] = file_sha256(results_dir() / name)
        return results_dir() / name

    def earlier(self, name: str) -> Path | None:
        """Where an earlier run left an artifact of this or a later step; noted also if None."""
        path = next(filter(Path.is_file, (results_dir() / name, ROOT / "results" / name)), None)
        self.earlier_reads[name] = file_sha256(path) if path else "not there"
        return path

    def read(self, name: str):
        """An earlier step's ``.csv`` as a DataFrame, or ``.json`` as a dict."""
        path = self.path(name)
        return load_table(path) if path.suffix == ".csv" else _read(path, json.load)

    def write(self, name: str, content: pd.DataFrame | dict | str | bytes | Callable[[Path], object]) -> None:
        """Write an artifact whole or not at all; `content` may also be a Figure, or a function of the path."""
        assert name.startswith(self.number + "_"), f"{name} does not carry the number of {self.name}"
        path = results_dir() / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as unfinished:
                self._save(unfinished, content)
            self.writes[name] = file_sha256(path)
        except OSError as error:
            reason = error.strerror or str(error).replace(str(path.parent), display_path(path.parent))
            remedy = "free the disk, or set CXR_RESULTS_DIR to another folder that is writable"
            raise Problem(f"{display_path(path)} can't be written ({reason}): {remedy}.") from error

    def _save(self, path: Path, content) -> None:
        content = json.dumps(content, indent=1, ensure_ascii=False) + "\n" if isinstance(content, dict) else content
        if isinstance(content, str):
            path.write_text(content, encoding="utf-8", newline="\n")
        elif isinstance(content, bytes):
            path.write_bytes(content)
        elif isinstance(content, pd.DataFrame):
            content.to_csv(path, index=False, lineterminator="\n", float_format="%.6g")
        elif hasattr(content, "savefig"):
            if self.dataset.get("sample"):
                content.text(0, 1, "SAMPLE", fontsize=11, color="crimson", weight="bold", ha="left", va="top")
            content.savefig(path, dpi=150, bbox_inches="tight", facecolor="white", metadata={"Software": None})
        else:
            content(path)

    def done(self) -> None:
        """Close the step: write its lineage, and list what it wrote."""
        for close in self._closing:
            close()
        lineage, writes = {"notebook": self.name, "code": self.code, "dataset": self.dataset}, dict(self.writes)
        earlier = {"earlier": self.earlier_reads} if self.earlier_reads else {}
        self.write(f"{self.number}_lineage.json", lineage | {"reads": self.reads} | earlier | {"writes": writes})
        print(textwrap.fill(f"{display_path(results_dir())}/: {', '.join(writes)}", 88, break_on_hyphens=False))


def ledger(number: str, data_set: str = "") -> pd.DataFrame:
    """The test ledger of a notebook, or its lines of one data set."""
    path = results_dir() / f"{number}_test_ledger.csv"
    if not path.exists():
        return pd.DataFrame(columns=LEDGER)
    try:
        found = pd.read_csv(path, dtype=str, keep_default_na=False)[LEDGER]
    except (OSError, ValueError, KeyError) as error:
        raise Problem(f"{display_path(path)} can't be read ({error}): git checkout it, or move it away.") from None
    return found[found.data_set == data_set].reset_index(drop=True) if data_set else found


def add_to_ledger(step: Step, images: int, pixels: str, networks: dict[str, str], why: str) -> None:
    """Note that `networks` (name: hash of the weights) are about to be scored on `pixels`, unless a line says so."""
    if not why.strip():
        raise Problem(f"WHY in the parameters of {step.name}.ipynb is empty: say why the test folder is scored.")
    lines, named = ledger(step.number), [f"{name}:{weights[:12]}" for name, weights in networks.items()]
    known = {one for line in lines.networks[lines.pixels == pixels] for one in line.split("; ")}
    if fresh := [one.rpartition(":")[0] for one in named if one not in known]:
        when, data_set = datetime.now(UTC).strftime("%Y-%m-%dT%H:%MZ"), step.dataset.get("name", "")
        why = f"{why} (new: {', '.join(fresh)})" if len(lines) else why
        lines.loc[len(lines)] = [when, step.code, step.name, data_set, images, pixels, "; ".join(named), why]
    step.write(f"{step.number}_test_ledger.csv", lines)


@dataclass
class Part:
    """The X-rays of one split: ``table`` (a row a film) and ``pictures`` (uint8, shape (images, size, size))."""

    table: pd.DataFrame
    pictures: np.ndarray

    @property
    def label(self) -> np.ndarray:
        """0 normal, 1 any other class; float32, shape (images,)."""
        return self.table.label.to_numpy("float32")


class TestPart(Part):
    """The official test folder, opened; ``NN_test_scores.csv`` keeps the answers, in columns ``name @key``."""

    __test__ = False  # for pytest

    def __init__(self, table: pd.DataFrame, load: Callable, step: Step, pixels: str, networks: dict, why: str):
        add_to_ledger(step, len(table), pixels, networks, why)  # the line comes first
        self.ledger = ledger(step.number, step.dataset.get("name", ""))
        self._step, self._name, self._used = step, f"{step.number}_test_scores.csv", {"path"}
        self._scores, path = table[["path"]].copy(), results_dir() / self._name
        if path.exists() and (known := load_table(path)).path.tolist() == table.path.tolist():
            self._scores = known
        step._closing.append(self._close)
        super().__init__(table, load())

    def _close(self) -> None:
        self._step.write(self._name, self._scores[[name for name in self._scores if name in self._used]])

    def answers(self, name: str, ask: Callable[[], np.ndarray], *depends) -> np.ndarray:
        """What `ask` returns, shape (images, ...), kept under a key of what it `depends` on: values, networks, code."""
        values, code = [], []
        for one in depends:
            is_code = callable(one) and not hasattr(one, "get_weights") or hasattr(one, "__file__")
            (code if is_code else values).append(one)
        key = keys.cache_key(*values, code=code)
        columns = [column for column in self._scores if re.fullmatch(rf"{re.escape(name)}( \d+)? @{key}", column)]
        if not columns:
            found = np.asarray(ask())
            columns = [f"{name} @{key}"] if found.ndim == 1 else [f"{name} {i} @{key}" for i in range(found.shape[1])]
            new = pd.DataFrame(found.reshape(len(found), -1), columns=columns)
            self._scores = pd.concat([self._scores, new], axis=1)
            self._step.write(self._name, self._scores)
        self._used |= set(columns)
        found = self._scores[columns].to_numpy()
        return found[:, 0] if columns == [f"{name} @{key}"] else found

    def scores(self, name: str, network, pictures: np.ndarray | None = None, batch_size: int = 128) -> np.ndarray:
        """Probability of pneumonia by `network`, of other `pictures` of the same films if given."""
        from .metrics import predict

        pictures = self.pictures if pictures is None else pictures
        return self.answers(name, lambda: predict(network, pictures, batch_size), network, pictures, predict)
