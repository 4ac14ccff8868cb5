"""What README and the notebooks repeat from elsewhere: the figures in ``results/``, the address on GitHub.

``python -m cxr.publish figures`` writes the figures into README; ``python -m cxr.publish badges owner/name`` points
every link to GitHub and Colab at that repository.
"""

import os
import re
import sys
from pathlib import Path

import pandas as pd

from .card import plus_minus
from .chain import Step
from .project import ROOT, Problem

START, END = "<!-- figures: written by `make figures` from results/05_metrics.json -->", "<!-- end of figures -->"
SPEED, SPEED_END = "<!-- speed: written by `make figures` from benchmarks/speed.csv -->", "<!-- end of speed -->"
NAMES = {"accuracy": "accuracy", "auc": "AUC", "sensitivity": "sensitivity", "specificity": "specificity",
         "average_precision": "average precision", "ppv": "PPV", "npv": "NPV", "f1": "F1"}


def figures() -> str:
    """README's table of results, from ``results/05_metrics.json`` and ``results/04_run.json``.

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
    test = facts["test"]
    chosen, seeds, interval = test["at_chosen_threshold"], test["seeds"], test["intervals_95"]
    rows = [f"| {title} | **{plus_minus(seeds['mean'][name], seeds['sd'][name])}** | {chosen[name]:.3f} "
            f"({interval[name][0]:.3f} to {interval[name][1]:.3f}) | {test['ensemble'][name]:.3f} "
            f"| {test['plain'][name]:.3f} |" for name, title in NAMES.items()]
    beside = [f"| {row['answer']} | {row['accuracy']:.3f} | {'' if row['auc'] is None else format(row['auc'], '.3f')} "
              f"| {row['protocol']} |" for row in test["beside"]]
    own = f"| **this network, mean of {seeds['count']} seeds** | **{seeds['mean']['accuracy']:.3f}** "
    own += f"| **{seeds['mean']['auc']:.3f}** | from scratch, threshold from validation |"
    plain, bedside = facts["validation"]["as_it_is"], {row["use"]: row for row in test["at_bedside"]}
    only, minded = test["against_plain"]["mcnemar"], max(test["robustness"], key=lambda row: row["flipped"])
    return "\n".join([
        f"| official test folder, {facts['images']['test']} images | mean ± SD of {seeds['count']} seeds "
        f"| the kept network, seed {facts['seed']} (95% interval) | ensemble of the {seeds['count']} | plain CNN |",
        "|---|---|---|---|---|", *rows, "",
        f"{facts['parameters']:,} parameters, at most {run['epochs']} epochs, trained from scratch on "
        f"{facts['images']['train']:,} images of *{facts['data_set']}*; each network judged at its own threshold, "
        f"chosen {facts['thresholds_how']} (the kept one: {chosen['threshold']:.3f}). The kept network is the *median* "
        f"seed by validation under stress. Intervals: {facts['intervals_how']}. On validation its AUC is "
        f"{plain['auc']:.3f}, under stress {facts['validation']['stressed']['auc']:.3f}.", "",
        f"| the same {facts['images']['test']} films | accuracy | AUC | protocol |",
        "|---|---|---|---|", own, *beside, "",
        f"Against the plain CNN: {only['only_this_right']} films only this network gets right, "
        f"{only['only_other_right']} only the plain one does (McNemar's exact p = {only['p']:.2g}, films taken for "
        f"independent). As a screening tool (threshold {bedside['screening']['threshold']:.3f}): sensitivity "
        f"{bedside['screening']['sensitivity']:.3f}, specificity {bedside['screening']['specificity']:.3f}; for triage "
        f"({bedside['triage']['threshold']:.3f}): {bedside['triage']['sensitivity']:.3f} and "
        f"{bedside['triage']['specificity']:.3f}. Of all single changes to a film, *{minded['change']}* flips most "
        f"decisions: {minded['flipped']:.1%}. All of it, with calibration, decision curve and subgroups, is in "
        "[05 Evaluate](notebooks/05_evaluate.ipynb) and the [model card](results/MODEL_CARD.md)."])


def speed() -> str:
    """README's table of speeds, from ``benchmarks/speed.csv``.

    Raises
    ------
    Problem
        The benchmark was not run.
    """
    path = ROOT / "benchmarks" / "speed.csv"
    if not path.exists():
        raise Problem("benchmarks/speed.csv is missing: run make benchmark FILES=folder-of-full-size-X-rays.")
    rows = pd.read_csv(path, dtype=str, keep_default_na=False)
    return "\n".join(["| what | usual way | this project | median of pairs | range |", "|---|---|---|---|---|",
                      *(f"| {row.what} | {row.usual} | {row.ours} | {row.ratio} | {row.range} |"
                        for row in rows.itertuples())])


def _replace(path: Path, text: str) -> None:
    if text != path.read_text(encoding="utf-8"):
        unfinished = path.with_name(f".unfinished_{os.getpid()}_{path.name}")
        unfinished.write_text(text, encoding="utf-8")
        os.replace(unfinished, path)
        print(f"{path.relative_to(ROOT).as_posix()} rewritten")


def write_figures() -> None:
    """Put `figures` and `speed` into README, each between its two marks."""
    path = ROOT / "README.md"
    text = path.read_text(encoding="utf-8")
    for start, end, table in ((START, END, figures()), (SPEED, SPEED_END, speed())):
        text = re.sub(f"{re.escape(start)}.*?{re.escape(end)}", lambda _, own=f"{start}\n{table}\n{end}": own, text,
                      flags=re.DOTALL)
    _replace(path, text)


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
