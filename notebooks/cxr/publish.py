"""What README and the notebooks repeat from elsewhere: the figures in ``results/``, the address on GitHub.

``python -m cxr.publish figures`` writes the figures into README; ``python -m cxr.publish badges owner/name`` points
every link to GitHub and Colab at that repository.
"""

import os
import re
import sys
from pathlib import Path

from .chain import Step
from .project import ROOT, Problem

START, END = "<!-- figures: written by `make figures` from results/05_metrics.json -->", "<!-- end of figures -->"
NAMES = {"accuracy": "accuracy", "auc": "AUC", "sensitivity": "sensitivity", "specificity": "specificity",
         "precision": "precision", "f1": "F1"}


def figures() -> str:
    """README's table of results, from ``results/05_metrics.json``.

    Raises
    ------
    Problem
        The results are missing, stale, or come from the practice set.
    """
    step = Step("00_readme")
    facts, run = step.read("05_metrics.json"), step.read("04_run.json")
    if facts["synthetic"]:
        raise Problem("results/05_metrics.json comes from the SYNTHETIC practice set: run the notebooks on the real "
                      "X-rays before README quotes it.")
    chosen, half, interval = (facts["test"][key] for key in ("at_chosen_threshold", "at_0.5", "intervals_95"))
    rows = [f"| {title} | **{chosen[name]:.3f}** | {interval[name][0]:.3f} to {interval[name][1]:.3f} "
            f"| {half[name]:.3f} |" for name, title in NAMES.items()]
    plain = facts["validation"]["at_chosen_threshold"]
    return "\n".join([
        f"| official test folder, {facts['images']['test']} images "
        f"| at the chosen threshold, {chosen['threshold']:.3f} | 95% interval | at 0.5 |",
        "|---|---|---|---|", *rows, "",
        f"One network of {facts['parameters']:,} parameters, one seed ({facts['seed']}), {run['epochs_run']} epochs, "
        f"trained from scratch on {facts['images']['train']:,} images of *{facts['data_set']}*. Intervals: "
        f"{facts['test']['intervals_how']}. On validation the same network has an AUC of {plain['auc']:.3f}."])


def _replace(path: Path, text: str) -> None:
    if text != path.read_text(encoding="utf-8"):
        unfinished = path.with_name(f".unfinished_{os.getpid()}_{path.name}")
        unfinished.write_text(text, encoding="utf-8")
        os.replace(unfinished, path)
        print(f"{path.relative_to(ROOT).as_posix()} rewritten")


def write_figures() -> None:
    """Put `figures` into README, between its two marks."""
    path = ROOT / "README.md"
    text = path.read_text(encoding="utf-8")
    _replace(path, re.sub(f"{re.escape(START)}.*?{re.escape(END)}", lambda _: f"{START}\n{figures()}\n{END}", text,
                          flags=re.DOTALL))


def write_badges(repository: str) -> None:
    """Point README and all notebooks at `repository`, ``owner/name``.

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
    for path in [readme, *sorted((ROOT / "notebooks").glob("*.ipynb"))]:
        text = path.read_text(encoding="utf-8").replace(found[1], repository)
        _replace(path, text.replace(f"cd {found[1].split('/')[1]}\n", f"cd {repository.split('/')[1]}\n"))


if __name__ == "__main__":
    try:
        write_figures() if sys.argv[1:2] == ["figures"] else write_badges(*sys.argv[2:3])
    except Problem as problem:
        sys.exit(f"Stopped: {problem}")
