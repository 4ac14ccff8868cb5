"""Where things are: each ``*_dir`` has a default in the project and a variable that moves it; and `Problem`."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class Problem(Exception):
    """Something the reader can mend: a sentence names the file or setting, and the remedy; no traceback."""

    def _render_traceback_(self):
        return [f"Problem: {self}"]


def command(main: Callable[[], object]) -> None:
    """Run what a make target calls; a `Problem` ends it with one sentence."""
    try:
        main()
    except Problem as problem:
        sys.exit(f"Stopped: {problem}")


def resolve(path: str | os.PathLike) -> Path:
    """A path as written by a reader: a relative one starts at the top folder."""
    return ROOT / Path(path).expanduser()


def _folder(variable: str, default: str) -> Path:
    return resolve(os.environ.get(variable) or default)


def data_dir() -> Path:
    return _folder("CHEST_XRAY_DIR", "chest_xray/sample" if (cache_dir() / "sample/chosen").exists() else "chest_xray")


def use_sample(sample: bool) -> None:
    """Take the sample from now on, in all notebooks, or the full set again."""
    if sample and os.environ.get("CHEST_XRAY_DIR"):
        raise Problem("SAMPLE is True, but CHEST_XRAY_DIR names other X-rays: unset it, or set SAMPLE = False.")
    chosen = cache_dir() / "sample/chosen"
    if sample:
        chosen.parent.mkdir(parents=True, exist_ok=True)
        chosen.touch()
    else:
        chosen.unlink(missing_ok=True)


def results_dir() -> Path:
    sample = (data_dir() / "sample.json").is_file()
    return _folder("CXR_RESULTS_DIR", str(cache_dir() / "sample" / "results") if sample else "results")


def cache_dir() -> Path:
    return _folder("CXR_CACHE_DIR", ".cache")


def checkpoint_dir() -> Path:
    return _folder("CXR_CHECKPOINT_DIR", str(cache_dir() / "checkpoints"))


def external_dir() -> Path | None:
    return resolve(os.environ["CXR_EXTERNAL_DIR"]) if os.environ.get("CXR_EXTERNAL_DIR") else None


def adults_dir() -> Path | None:
    return resolve(os.environ["CXR_ADULTS_DIR"]) if os.environ.get("CXR_ADULTS_DIR") else None


@contextmanager
def atomic_write(target: Path, flush: bool = False) -> Iterator[Path]:
    """A path beside `target`, renamed to it when the block ends; with `flush` its bytes are on the disk before."""
    unfinished = target.with_name(f".unfinished_{os.getpid()}_{target.name}")
    try:
        yield unfinished
        if flush:
            with open(unfinished, "rb+") as stream:
                os.fsync(stream)
        os.replace(unfinished, target)
    finally:
        unfinished.unlink(missing_ok=True)


def display_path(path: str | os.PathLike) -> str:
    """`path` as a committed notebook may show it: below the project where it lies there, else its last part."""
    path = Path(path)
    try:
        return path.resolve().relative_to(ROOT).as_posix()
    except ValueError:
        return f".../{path.name}"
