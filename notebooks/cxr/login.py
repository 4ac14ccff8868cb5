"""A Kaggle login, looked for where Kaggle's own tools look, and never printed."""

import json
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from . import cloud, project
from .project import Problem, shown

TOKENS = "https://www.kaggle.com/settings"
VARIABLES = ("KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_API_TOKEN")


@dataclass(frozen=True)
class Login:
    """A Kaggle login: where it came from, and the variables that hand it to a child process."""

    source: str
    variables: dict = field(repr=False)


def credentials() -> Login | None:
    """Look for a Kaggle login, never printing it.

    Returns
    -------
    Login or None
        From ``kaggle.json`` in the project folder, ``KAGGLE_API_TOKEN``, ``KAGGLE_USERNAME`` and
        ``KAGGLE_KEY``, the files that Kaggle's own tools use, or the secrets of Colab. A file
        that still has the values of ``kaggle.json.example`` counts as none.

    Raises
    ------
    Problem
        If a login file cannot be read as one.
    """
    env, home = os.environ, Path.home()
    settings = [Path(env["KAGGLE_CONFIG_DIR"])] if env.get("KAGGLE_CONFIG_DIR") else []
    settings += [home / ".kaggle", Path(env.get("XDG_CONFIG_HOME") or home / ".config") / "kaggle"]
    if login := _login_in(project.ROOT / "kaggle.json"):
        return login
    if env.get("KAGGLE_API_TOKEN"):
        return Login("KAGGLE_API_TOKEN", {"KAGGLE_API_TOKEN": env["KAGGLE_API_TOKEN"]})
    if env.get("KAGGLE_USERNAME") and env.get("KAGGLE_KEY"):
        pair = {name: env[name] for name in ("KAGGLE_USERNAME", "KAGGLE_KEY")}
        return Login("KAGGLE_USERNAME and KAGGLE_KEY", pair)
    for name in ("access_token", "access_token.txt", "kaggle.json"):
        for folder in settings:
            if login := _login_in(folder / name):
                return login
    return _login_in_colab()


def _login_in(file: Path) -> Login | None:
    if not file.is_file():
        return None
    name = _named(file)
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
        raise Problem(f"{name} is not a Kaggle login with a username and a key: replace it by a new one from "
                      f"{TOKENS}, or delete it.")
    if user == "your-kaggle-username" or key == "your-kaggle-api-key":
        print(f"{name} still holds the values of kaggle.json.example, so it is not used as a login.")
        return None
    return Login(name, {"KAGGLE_USERNAME": user, "KAGGLE_KEY": key})


def _named(file: Path) -> str:
    """A login file as its reader knows it, without the home folder."""
    if file.parent == Path(os.environ.get("KAGGLE_CONFIG_DIR") or os.devnull):
        return f"KAGGLE_CONFIG_DIR/{file.name}"
    if file.parent != project.ROOT and file.is_relative_to(Path.home()):
        return f"~/{file.relative_to(Path.home()).as_posix()}"
    return shown(file)


def _login_in_colab() -> Login | None:
    if not cloud.on_colab():
        return None
    try:
        from google.colab import userdata
    except ImportError:
        return None
    for names in (("KAGGLE_API_TOKEN",), ("KAGGLE_USERNAME", "KAGGLE_KEY")):
        try:
            values = {name: (userdata.get(name) or "").strip() for name in names}
        except Exception:  # each missing or refused secret raises a class of Colab's own
            continue
        if all(values.values()):
            return Login("the secrets of Colab", values)
    return None
