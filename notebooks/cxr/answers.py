"""The three files that ``make predict`` leaves, written as it goes, and what of an earlier run is kept.

Beside the table (``predictions.csv``) lie the same rows with the facts of the run (``.json``) and a page to look at
(``.html``). Each is whole after every chunk: the next rows replace what stands below the last one.
"""

import csv
import hashlib
import io
import json
import os
import re
import time
from collections.abc import Sequence
from pathlib import Path

from . import page
from .paths import Problem, atomic_write, display_path

COLUMNS = ["file", "answer", "probability", "agreement", "typicality", "reason"]
STAMP = ["bytes", "modified"]  # of a file, in the JSON: by these it is known as unchanged
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "'")  # beginnings that get an apostrophe before them in the table
ROWS, LINE, BELOW = ',\n "rows": [\n', ",\n", "\n ],\n"  # of the JSON: above the rows, between two, below them
SAME = {  # facts that must be those of the earlier run for its answers to be kept, and what these are if not
    "folder_sha256": "of another folder",
    "networks": "of other networks",
    "fingerprint": "of other networks, or of an older version of this program",
    "anyway": "that were asked for with another choice of --anyway",
}
CARD = re.compile(r'<article id="(f[0-9a-f]+)".*</article>')


def key(row: dict) -> str:
    """The id of a row's card, which changes when the file does."""
    said = json.dumps([row["file"], *(row[name] for name in STAMP)])
    return f"f{hashlib.sha256(said.encode()).hexdigest()[:16]}"


def _cell(value) -> str:
    if isinstance(value, str):
        return f"'{value}" if value.startswith(FORMULA) else value
    return "" if value is None else f"{value:.6g}"


def _csv(rows: Sequence[dict]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows([_cell(row[name]) for name in COLUMNS] for row in rows)
    return stream.getvalue().encode("utf-8", "backslashreplace").decode()


def _json(rows: Sequence[dict]) -> str:
    return LINE.join(f"  {json.dumps(row)}" for row in rows)


def _head(facts: dict) -> str:
    return json.dumps(facts, indent=1).removesuffix("\n}") + ROWS


def _table(text: str) -> set[tuple[str, ...]]:
    """The rows of a table; not the last, where its end was not written."""
    rows = [tuple(row) for row in csv.reader(io.StringIO(text, newline=""))]
    return {*(rows if text.endswith("\n") else rows[:-1])}


def _read(path: Path) -> str:
    """What stands in a file, "" where there is none; a Problem where it can't be read."""
    try:
        return path.read_bytes().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise _unusable(path, error, "read") from None


def _unusable(path: Path, error: OSError, what: str = "written") -> Problem:
    remedy = "free the disk or make the place writable and start again, which goes on from here"
    return Problem(f"{display_path(path)} can't be {what} ({error.strerror}): {remedy}, or name another table with --to.")


def _earlier(text: str) -> tuple[dict, list[dict]]:
    """Facts and rows of a JSON that `Answers` wrote, even if its end was cut off; two empty ones if it is another."""
    head, mark, below = text.partition(ROWS)
    try:
        facts = json.loads(head + "}") if mark else {}
    except ValueError:
        return {}, []
    rows = []
    for line in below.splitlines():
        try:
            row = json.loads(line.strip().removesuffix(","))
        except ValueError:
            continue
        rows += [row] if isinstance(row, dict) and [*row] == COLUMNS + STAMP else []
    return (facts, rows) if isinstance(facts, dict) else ({}, [])


def stamp(path: Path) -> list[int | None]:
    """Size in bytes and time of the last change (ns) of a file; twice None where it can't be had."""
    try:
        found = path.stat()
    except OSError:
        return [None, None]
    return [found.st_size, found.st_mtime_ns]


def check(target: Path) -> None:
    """A Problem where `target` is no name of a table, or nothing can be written beside it."""
    if target.suffix.lower() != ".csv":
        raise Problem(f"{display_path(target)} is no name of a table: let --to end in .csv.")
    for path in (target, target.with_suffix(".json"), target.with_suffix(".html")):
        if path.is_dir():
            raise Problem(f"{display_path(path)} is a folder: name another table with --to.")
    probe = target.with_name(f".unfinished_{os.getpid()}_{target.name}")
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise _unusable(target, error) from None


class Answers:
    """The answers of one run, in three files that are whole at any time.

    Nothing that the reader had is lost: answers of an earlier run that are not kept (`SAME`; a file was changed or is
    gone; the table was edited, or is not from here) stay under another name, such as ``predictions (1).csv``.

    Parameters
    ----------
    target : Path
        The table; the others have its name with another ending.
    facts : dict
        What stands above the rows of the JSON, and on the page. It has the keys of `SAME`, ``folder``, ``names``,
        ``threshold``, ``temperature``, ``seeds``, ``kept_seed``, ``networks`` (sha256 by name) and ``passed_over``
        (``count``, ``first``).
    stamps : dict
        What `stamp` says of each file, by its name in the table, in the order of the finished table.

    A Problem where a file can't be read or written.
    """

    def __init__(self, target: Path, facts: dict, stamps: dict[str, list[int | None]]):
        self.table, self.data, self.page = (target.with_suffix(ending) for ending in (target.suffix, ".json", ".html"))
        self.facts, self.stamps = facts, stamps
        self.rows: dict[str, dict] = {}
        self.cards: dict[str, str] = {}
        self.said = self._take_over()
        self._write(finished=False)

    @property
    def missing(self) -> list[str]:
        """Names of the files that still have to be looked at."""
        return [name for name in self.stamps if name not in self.rows]

    def _take_over(self) -> str:
        """Keep the rows that still hold; says what became of others."""
        paths = (self.table, self.data, self.page)
        table, data, cards = (_read(path) for path in paths)
        if not (table or data or cards):
            return ""
        facts, rows = _earlier(data)
        why = next((words for name, words in SAME.items() if facts.get(name) != self.facts[name]), "")
        if not facts:
            why = "that did not come from here"
        elif not why:
            drawn = {match[1]: match[0] for match in map(CARD.fullmatch, cards.split("\n")) if match}
            now = {name: known for name, known in self.stamps.items() if None not in known}
            held = {row["file"]: row for row in rows if now.get(row["file"]) == [row[name] for name in STAMP]}
            self.rows = {name: row for name, row in held.items() if key(row) in drawn}
            self.cards = {name: drawn[key(row)] for name, row in self.rows.items()}
            known = _table(_csv(rows)) | {tuple(COLUMNS)}
            try:
                edited = not _table(table) <= known
            except csv.Error:
                edited = True
            if edited:
                why = "that were edited"
            elif any(row["probability"] is not None and row["file"] not in held for row in rows):
                why = "for files that were changed or are gone"
        return f"{self.table.name} had answers {why}: they are now in {self._set_aside()}." if why else ""

    def _set_aside(self) -> str:
        """Give the three files another name, the first that none of them has; returns that of the table."""
        paths, number = (self.table, self.data, self.page), 1
        while any(path.with_name(f"{path.stem} ({number}){path.suffix}").exists() for path in paths):
            number += 1
        for path in paths:
            aside = path.with_name(f"{path.stem} ({number}){path.suffix}")
            try:
                if path.exists():
                    os.rename(path, aside)
            except OSError as error:
                raise _unusable(aside, error) from None
        return f"{self.table.stem} ({number}){self.table.suffix}"

    @property
    def counts(self) -> dict:
        """How many files there are, were looked at, and have which answer; and when this was counted."""
        answers = [row["answer"] for row in self.rows.values() if row["probability"] is not None]
        found = {"files": len(self.stamps), "looked_at": len(self.rows), "answered": len(answers)}
        found["declined"] = len(self.rows) - len(answers)
        by_answer = {answer: answers.count(answer) for answer in sorted({*answers})}
        return found | {"by_answer": by_answer, "date": time.strftime("%Y-%m-%d %H:%M")}

    def _below(self, finished: bool) -> tuple[str, str, str]:
        """What stands below the rows of each file."""
        said = json.dumps({"finished": finished, "counts": self.counts}, indent=1).removeprefix("{\n")
        return page.tail(self.facts, self.counts), f"{BELOW}{said}\n", ""

    def _write(self, finished: bool) -> None:
        """All three anew, in the order of the files."""
        rows = [self.rows[name] for name in self.stamps if name in self.rows]
        cards = "".join(self.cards[row["file"]] + "\n" for row in rows)
        bodies = (
            page.head(self.facts, self.counts if finished else None) + cards,
            _head(self.facts) + _json(rows),
            ",".join(COLUMNS) + "\n" + _csv(rows),
        )
        self.ends = []
        for path, body, below in zip((self.page, self.data, self.table), bodies, self._below(finished)):
            try:
                with atomic_write(path) as unfinished:
                    unfinished.write_bytes((body + below).encode())
            except OSError as error:
                raise _unusable(path, error) from None
            self.ends.append(len(body.encode()))

    def add(self, rows: list[dict], cards: list[str]) -> None:
        """Write the answers of a chunk: `rows` have the columns of the table, `cards` are as `page.card` makes them."""
        first = not self.rows
        self.rows |= {row["file"]: row for row in rows}
        self.cards |= {row["file"]: card for row, card in zip(rows, cards)}
        bodies = ("".join(f"{card}\n" for card in cards), ("" if first else LINE) + _json(rows), _csv(rows))
        files = zip((self.page, self.data, self.table), bodies, self._below(finished=False))
        for i, (path, body, below) in enumerate(files):
            try:
                with open(path, "rb+") as stream:
                    stream.seek(self.ends[i])
                    stream.write((body + below).encode())
                    stream.truncate()
            except OSError as error:
                raise _unusable(path, error) from None
            self.ends[i] += len(body.encode())

    def close(self) -> None:
        """Write the three files a last time, in the order of the files, as finished if all were looked at."""
        self._write(finished=not self.missing)
