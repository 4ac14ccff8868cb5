"""What README and the notebooks repeat from elsewhere: the figures in ``results/``, the address on GitHub.

``python -m cxr.publish figures`` writes the figures into README; ``python -m cxr.publish badges owner/name`` points
every link to GitHub and Colab at that repository.
"""

import re
import sys
from pathlib import Path

import pandas as pd

from .card import plus_minus
from .chain import Step
from .project import ROOT, Problem, whole

START, END = "<!-- figures: written by `make figures` from results/05_metrics.json -->", "<!-- end of figures -->"
BEYOND, BEYOND_END = "<!-- beyond: written by `make figures` from results/ -->", "<!-- end of beyond -->"
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
    kept = step.read("04_seeds.csv").set_index("seed").loc[run["kept_seed"]]
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
        f"{plain['auc']:.3f}, under stress {facts['validation']['stressed']['auc']:.3f}, under changes that nothing is "
        f"trained on {kept.unpractised_auc:.3f} (plain CNN {run['plain']['unpractised_auc']:.3f}).", "",
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


def beyond() -> str:
    """README's table of the notebooks beyond the first five, from their JSON files.

    Raises
    ------
    Problem
        One of them was not run, or its results are stale.
    """
    step = Step("00_publish")
    moved, kinds, gate, away = (step.read(name) for name in ("07_metrics.json", "08_metrics.json", "09_gate.json",
                                                             "10_external.json"))
    explained, sealed = step.read("06_explain.json"), step.read("05_metrics.json")["images"]["test"]

    def spread(facts: dict, name: str) -> str:
        return plus_minus(facts["mean"][name], facts["sd"][name])

    inside = {name: f"{row['mean']:.0%}" for name, row in explained["inside"].items()}
    rows = [("06", "Explain", "06_explain", "attention inside the lungs, validation films",
             f"{inside['this network']}; plain CNN {inside['plain CNN']}; spread evenly {inside['spread evenly']}"),
            ("07", "Transfer", "07_transfer", f"{moved['backbone']}, {moved['seeds']['count']} seeds",
             f"accuracy {spread(moved['seeds'], 'accuracy')}, AUC {spread(moved['seeds'], 'auc')}, sensitivity "
             f"{spread(moved['seeds'], 'sensitivity')}, specificity {spread(moved['seeds'], 'specificity')}")]
    for which, title in (("small", "from scratch"), ("backbone", kinds["backbone"])):
        own = kinds["test"][which]
        rows.append(("08", "Subtypes", "08_subtypes", f"{', '.join(kinds['kinds'])}: {title}, {kinds['seeds']} seeds",
                     f"accuracy {spread(own, 'accuracy')}, macro F1 {spread(own, 'macro_f1')}, macro AUC "
                     f"{spread(own, 'macro_auc')}"))
    rows.append(("09", "Predict", "09_predict", "the gate says \"cannot tell\"",
                 f"of {gate['refused_of_test']:.1%} of the {sealed} films, of {gate['refused_of_strange']:.1%} of "
                 f"pictures of other things, of {gate['refused_of_altered']:.1%} of films altered beyond use"))
    own = [*away["figures"].items()][-1]
    rows.append(("10", "External", "10_external", f"{own[0]} ({away['films']} films)"
                 + (": validation films, other framing and exposure" if away["what_if"] else ""),
                 f"AUC {own[1]['value']['auc']:.3f}, the gate refuses {away['refused']:.1%}"))
    return "\n".join(["| notebook | what | on the test folder, if not said otherwise |", "|---|---|---|",
                      *(f"| [{number} {title}](notebooks/{file}.ipynb) | {what} | {found} |"
                        for number, title, file, what, found in rows)])


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
        with whole(path) as unfinished:
            unfinished.write_text(text, encoding="utf-8")
        print(f"{path.relative_to(ROOT).as_posix()} rewritten")


def write_figures() -> None:
    """Put `figures`, `beyond` and `speed` into README, each between its two marks."""
    path = ROOT / "README.md"
    text = path.read_text(encoding="utf-8")
    for start, end, table in ((START, END, figures()), (BEYOND, BEYOND_END, beyond()),
                              (SPEED, SPEED_END, speed())):
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
