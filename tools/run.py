"""Run the notebooks without a browser: ``make run`` is this module.

On real X-rays the executed notebooks and ``results/`` are rewritten in place. Where there are none, the chain runs on a
drawn practice set below the cache folder, and nothing of the project's own is touched. With other parameters, or under
a name (``SET``, ``TRIAL``), a run is a trial, with a folder of its own in the cache folder (`trials`).
"""

import argparse
import ast
import os
import re
import sys
import time
from pathlib import Path

import nbformat

import report
from cxr import chain, download, fingerprint
from cxr.paths import ROOT, Problem, atomic_write, cache_dir, display_path, results_dir

CORE = ("01", "02", "03", "04", "05")  # what is run where no notebook is named
QUICK: dict[str, dict] = {  # parameters of a run on a tiny drawn set, to see that the chain holds
    "02": {"BODY_EPOCHS": 1},
    "03": {"LUNG_EPOCHS": 1, "STRESS_DRAWS": 2, "SWAP_DRAWS": 1},
    "04": {"EPOCHS": 2, "SEEDS": 2, "ABLATION_SEEDS": 1, "ABLATION_EPOCHS": 1},
    "05": {"RESAMPLES": 200},
    "06": {"RESAMPLES": 200},
    "07": {"BACKBONES": "MobileNetV2 0.35", "SEEDS": 2, "TUNING_EPOCHS": 2, "IMAGE_SIZE": 96, "RESAMPLES": 200},
    "08": {"SEEDS": 2, "EPOCHS": 1, "TUNING_EPOCHS": 1, "RESAMPLES": 200},
    "10": {"RESAMPLES": 200, "LABELLED": [8], "DRAWS": 2},
}
QUICK["07"] |= {"BATCH_SIZE": 4, "TUNING_RATE": 1e-6}
BLANK = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}  # metadata of a committed notebook
EXAMPLE = 'as in SET="SEEDS=1 EPOCHS=12"'


def choose(wanted: str) -> list[Path]:
    """The notebooks to run, in order: ``"04 05"``, numbers or names apart by spaces or commas, ``"all"``, or `CORE`.

    Raises a `Problem` where there is no notebook of that number.
    """
    there = fingerprint.notebooks()
    numbers = [word[:2].zfill(2) for word in wanted.replace(",", " ").split()] or list(CORE)
    if wanted.strip() == "all":
        numbers = list(there)
    if unknown := [number for number in numbers if number not in there]:
        choice = f"choose from {' '.join(there)}, or all"
        raise Problem(f"NOTEBOOKS names {', '.join(unknown)}, which is not in notebooks/: {choice}.")
    return [there[number] for number in sorted(set(numbers))]


def tidy(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Take out what changes from run to run and tells a reader nothing: timings, counters of the runner, versions."""
    notebook.metadata = nbformat.from_dict(BLANK)
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
        if cell.cell_type != "code":
            continue
        merged: list[nbformat.NotebookNode] = []
        for output in cell.outputs:  # a stream arrives in pieces, which GitHub would show apart
            if merged and output.output_type == "stream" and merged[-1].get("name") == output.name:
                merged[-1].text += output.text
            else:
                merged.append(output)
        cell.outputs = merged
    return notebook


def execute(
    notebook: Path, output: Path, parameters: dict | None = None, folder: Path = ROOT / "notebooks", quiet: bool = False
) -> None:
    """Run one notebook from top to bottom, and write it with its outputs only when it has reached its end.

    `notebook` and `output` may be the same file; `parameters` replace values in the cell tagged ``parameters``;
    `folder`, where it runs, is that of the package it imports; `quiet` passes on nothing of what it prints.

    Raises a `Problem` where the notebook stopped; the sentence is the notebook's own where it has one.
    """
    import papermill

    options = dict(kernel_name="python3", language="python", cwd=folder, progress_bar=False)
    options["extra_arguments"] = ["--IPKernelApp.log_level=40"]
    if not quiet:
        options |= dict(stdout_file=sys.stdout, stderr_file=sys.stderr)
    try:
        with atomic_write(output) as unfinished:
            papermill.execute_notebook(notebook, unfinished, parameters or {}, **options)
            nbformat.write(tidy(nbformat.read(unfinished, as_version=4)), unfinished)
    except papermill.PapermillExecutionError as error:
        if error.ename == "Problem":
            raise Problem(error.evalue) from None
        where = f"{notebook.name} stopped in cell {error.exec_count} with {error.ename}: {error.evalue}"
        raise Problem(f"{where} (open it in Jupyter and run that cell to see where).") from error


def run(notebooks: list[Path], output: Path, parameters: dict[str, dict] | None = None) -> None:
    """Run notebooks in order, a heading before each, into the folder `output`.

    `parameters` are by notebook number: ``{"04": {"EPOCHS": 2}}``.
    """
    output.mkdir(parents=True, exist_ok=True)
    for count, notebook in enumerate(notebooks, 1):
        print(f"\n--- {count}/{len(notebooks)}  {notebook.name}", flush=True)
        started = time.perf_counter()
        execute(notebook, output / notebook.name, (parameters or {}).get(notebook.name[:2]))
        print(f"--- {notebook.name} done in {time.perf_counter() - started:.0f} s", flush=True)


def _parameters(notebook: Path) -> dict[str, str]:
    """Names in the cell tagged ``parameters``, each with the first character of its value: a quote where it is text."""
    source = "\n".join(fingerprint.cells(notebook, "parameters"))
    return dict(re.findall(r"^(\w+) = (.)", source, re.MULTILINE))


def settings(wanted: str) -> dict[str, object]:
    """Parameters from the command line: ``"SEEDS=1 EPOCHS=12"``; one that is text is taken as it stands.

    Raises a `Problem` where a word is not of the form NAME=value, or no notebook has such a parameter.
    """
    known: dict[str, str] = {}
    found: dict[str, object] = {}
    for path in choose("all"):
        known |= _parameters(path)
    for word in wanted.split():
        name, _, value = word.partition("=")
        if name not in known:
            choice = f"choose from {', '.join(sorted(known))}, {EXAMPLE}"
            raise Problem(f"SET names {name}, which is no parameter of a notebook: {choice}.")
        try:
            found[name] = value if known[name] == '"' else ast.literal_eval(value)
        except (ValueError, SyntaxError):
            raise Problem(f"SET gives {name} the value {value!r}: write a number, {EXAMPLE}.") from None
    return found


def own(notebook: Path, chosen: dict) -> dict:
    """Those of the `chosen` parameters that this notebook has."""
    known = _parameters(notebook)
    return {name: value for name, value in chosen.items() if name in known}


def _summary() -> str:
    metrics = chain.Step("00_summary").read("05_metrics.json")
    seeds, names = metrics["test"]["seeds"], ("accuracy", "auc", "sensitivity", "specificity")
    means = [f"{report.NAMES[name]} {report.plus_minus(seeds['mean'][name], seeds['sd'][name])}" for name in names]
    of_what = f"{metrics['data_set']}: {metrics['images']['test']} test images, mean of {seeds['count']} seeds"
    return f"{of_what}: {', '.join(means)}"


def main(arguments: list[str] | None = None) -> None:
    """The command behind ``make run``."""
    parser = argparse.ArgumentParser(prog="make run", description=str(__doc__).splitlines()[0])
    parser.add_argument("--notebooks", default="", help='such as "04 05", or all; without it 01 to 05')
    parser.add_argument("--download", action="store_true", help="fetch the real X-rays first if they are not there")
    parser.add_argument("--set", default="", help='parameters, such as "SEEDS=1 EPOCHS=12"')
    options = parser.parse_args(arguments)
    notebooks, output = choose(options.notebooks), ROOT / "notebooks"
    chosen = settings(options.set)
    folder = download.ensure() if options.download else download.find()
    if folder is None:
        raise Problem("No X-rays in chest_xray/: run `make run DOWNLOAD=1`, or set CHEST_XRAY_DIR.")
    if chosen:  # the committed notebooks show what their own parameters give
        output = cache_dir() / "notebooks"
        os.environ["CXR_RESULTS_DIR"] = str(cache_dir() / "results")
    os.environ["CHEST_XRAY_DIR"] = str(Path(folder).resolve())
    run(notebooks, output, {notebook.name[:2]: own(notebook, chosen) for notebook in notebooks})
    if notebooks[-1].name.startswith("05"):
        print(f"\n{_summary()}")
    print(f"Executed notebooks: {display_path(output)}/   artifacts: {display_path(results_dir())}/")


if __name__ == "__main__":
    try:
        main()
    except Problem as problem:
        sys.exit(f"\nStopped: {problem}")
    except KeyboardInterrupt:
        sys.exit("\nStopped by you: what was finished is kept, and nothing is half-written; `make run` starts again.")
