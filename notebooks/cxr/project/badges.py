"""Where this copy of the project lies on GitHub: in links of README and docs/, badges and first cells of notebooks.

``python -m cxr.project.badges owner/name`` writes it, with nothing installed but Python. A GitHub workflow runs it in
each copy. Until then the first cell fetches nothing, because there is no telling from where.
"""

import json
import re
import sys
from pathlib import Path

from .paths import ROOT, Problem, command, shown, whole

UNKNOWN = """\
    assert os.path.isdir("cxr-project"), (
        "This copy does not know its own address yet: "
        "run `make badges REPO=owner/name`, or open it from your fork.")
"""
FETCH = """\
    !git clone -q --depth 1 https://github.com/{} cxr-project
    fetched = os.path.isdir("cxr-project")
    assert fetched, "Switch the internet on (Kaggle: Settings), and run this again."
"""


def rewrite(path: Path, text: str) -> None:
    """Write `text` to a file of the project if it says something else, and say so."""
    if text != path.read_text(encoding="utf-8"):
        with whole(path) as unfinished:
            unfinished.write_text(text, encoding="utf-8")
        print(f"{shown(path)} rewritten")


def write(repository: str = "") -> None:
    """Point README, docs/ and all notebooks at `repository`, ``owner/name``.

    Raises
    ------
    Problem
        `repository` is not of that form.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise Problem(f"REPO is {repository!r}: give owner/name, as in make badges REPO=jane/chest-xray-notebooks.")
    readme = ROOT / "README.md"
    found = re.search(r"github\.com/([\w.-]+/[\w.-]+?)(?:\.git)?[)/\s]", readme.read_text(encoding="utf-8"))
    if not found:
        raise Problem("README.md has no link to github.com/owner/name: put one back, so that it can be replaced.")
    for path in [readme, *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "notebooks").glob("*.ipynb"))]:
        text = path.read_text(encoding="utf-8").replace(found[1], repository)
        for old, new in zip(UNKNOWN.splitlines(), FETCH.format(repository).splitlines()):
            text = text.replace(json.dumps(old)[:-1], json.dumps(new)[:-1])
        rewrite(path, text.replace(f"cd {found[1].split('/')[1]}\n", f"cd {repository.split('/')[1]}\n"))


if __name__ == "__main__":
    command(lambda: write(*sys.argv[1:2]))
