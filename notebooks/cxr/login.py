"""A Kaggle login, looked for where Kaggle's own tools look, and never printed."""

import json
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from . import colab, paths
from .paths import Problem, display_path

TOKENS = "https://www.kaggle.com/settings"
KINDS = (("KAGGLE_API_TOKEN",), ("KAGGLE_USERNAME", "KAGGLE_KEY"))  # the variables of each kind of login
VARIABLES = KINDS[0] + KINDS[1]


@dataclass(frozen=True)
class Login:
    """A Kaggle login: where it came from, and the variables that hand it to a child process."""

    source: str
    variables: dict = field(repr=False)


def credentials() -> Login | None:
    """Look for a Kaggle login, never printing it.

    In this order: ``kaggle.json`` in the project folder, the variables of `KINDS`, the files that Kaggle's own tools
    use, the secrets of Colab. A file that still has the values of ``kaggle.json.example`` counts as none, one that
    cannot be read as a login is a `Problem`.
    """
    settings, home = os.environ.get("KAGGLE_CONFIG_DIR"), Path.home()
    folders = [Path(settings)] if settings else []
    folders += [home / ".kaggle", Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config") / "kaggle"]
    if login := _login_in(paths.ROOT / "kaggle.json") or _named_as(os.environ.get):
        return login
    for name in ("access_token", "access_token.txt", "kaggle.json"):
        for folder in folders:
            if login := _login_in(folder / name):
                return login
    return _login_in_colab()


def _named_as(get: Callable[[str], str | None], source: str = "") -> Login | None:
    """The login that `get` finds under the names of Kaggle's variables."""
    for names in KINDS:
        values = {name: get(name) for name in names}
        if all(values.values()):
            return Login(source or " and ".join(names), values)
    return None


def _login_in(file: Path) -> Login | None:
    if not file.is_file():
        return None
    name = _shown(file)
    if os.name == "posix" and file.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
        print(f"{name} can be read by other users of this machine: run chmod 600 on it.")
    try:
        text = file.read_text(encoding="utf-8-sig").strip()
        if file.name != "kaggle.json":
            return Login(name, {"KAGGLE_API_TOKEN": text}) if text else None
        user, key = (json.loads(text)[part].strip() for part in ("username", "key"))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        user = key = ""
    if not user or not key:
        lack = f"{name} is not a Kaggle login with a username and a key"
        raise Problem(f"{lack}: replace it by a new one from {TOKENS}, or delete it.")
    if user == "your-kaggle-username" or key == "your-kaggle-api-key":
        print(f"{name} still holds the values of kaggle.json.example, so it is not used as a login.")
        return None
    return Login(name, {"KAGGLE_USERNAME": user, "KAGGLE_KEY": key})


def _shown(file: Path) -> str:
    """A login file as its reader knows it, without the home folder."""
    if file.parent == Path(os.environ.get("KAGGLE_CONFIG_DIR") or os.devnull):
        return f"KAGGLE_CONFIG_DIR/{file.name}"
    if file.parent != paths.ROOT and file.is_relative_to(Path.home()):
        return f"~/{file.relative_to(Path.home()).as_posix()}"
    return display_path(file)


def _login_in_colab() -> Login | None:
    if not colab.on_colab():
        return None
    try:
        from google.colab import userdata
    except ImportError:
        return None

    def secret(name: str) -> str:
        try:
            return (userdata.get(name) or "").strip()
        except Exception:  # each missing or refused secret raises a class of Colab's own
            return ""

    return _named_as(secret, "the secrets of Colab")
