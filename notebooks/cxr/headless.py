"""Run the notebooks without a browser: ``make run`` is this module.

On real X-rays the executed notebooks and ``results/`` are rewritten in place. Where there are none, the chain runs on a
drawn practice set below the cache folder, and nothing of the project's own is touched.
"""

import argparse
import ast
import os
import re
import sys
import time
from pathlib import Path

import nbformat

from . import card, chain, download, practice
from .project import ROOT, Problem, cache_dir, results_dir, shown, whole

CORE = ("01", "02", "03", "04", "05")


def choose(wanted: str) -> list[Path]:
    """The notebooks to run, in order.

    Parameters
    ----------
    wanted : str
        Numbers or names apart by spaces or commas (``"04 05"``), ``"all"``, or empty for 01 to 05.

    Raises
    ------
    Problem
        There is no notebook of that number.
    """
    there = {path.name[:2]: path for path in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))}
    numbers = [word[:2].zfill(2) for word in wanted.replace(",", " ").split()] or list(CORE)
    if wanted.strip() == "all":
        numbers = list(there)
    unknown = [number for number in numbers if number not in there]
    if unknown:
        raise Problem(f"NOTEBOOKS names {', '.join(unknown)}, which is not in notebooks/: choose from "
                      f"{' '.join(there)}, or all.")
    return [there[number] for number in sorted(set(numbers))]


def tidy(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Take out what changes from run to run and tells a reader nothing: timings, counters of the runner, versions."""
    notebook.metadata = nbformat.from_dict({
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"}})
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
        if cell.cell_type != "code":
            continue
        merged = []
        for output in cell.outputs:  # a stream arrives in pieces, which GitHub would show apart
            last = merged[-1] if merged else {}
            if output.output_type == "stream" and last.get("name") == output.name:
                last.text += output.text
            else:
                merged.append(output)
        cell.outputs = merged
    return notebook


def execute(notebook: Path, output: Path, parameters: dict | None = None) -> None:
    """Run one notebook from top to bottom, and write it with its outputs only when it has reached its end.

    Parameters
    ----------
    notebook, output : Path
        They may be the same file.
    parameters : dict, optional
        Values in place of those in the cell tagged ``parameters``.

    Raises
    ------
    Problem
        The notebook stopped; the sentence is the notebook's own where it has one.
    """
    import papermill

    try:
        with whole(output) as unfinished:
            papermill.execute_notebook(notebook, unfinished, parameters or {}, kernel_name="python3", language="python",
                                       cwd=ROOT / "notebooks", progress_bar=False, stdout_file=sys.stdout,
                                       stderr_file=sys.stderr, extra_arguments=["--IPKernelApp.log_level=40"])
            result = tidy(nbformat.read(unfinished, as_version=4))
            nbformat.write(result, unfinished)
    except papermill.PapermillExecutionError as error:
        if error.ename == "Problem":
            raise Problem(error.evalue) from None
        raise Problem(f"{notebook.name} stopped in cell {error.exec_count} with {error.ename}: {error.evalue} "
                      f"(open it in Jupyter and run that cell to see where).") from error


def run(notebooks: list[Path], output: Path, parameters: dict[str, dict] | None = None) -> None:
    """Run notebooks in order, a heading before each, into the folder `output`.

    Parameters
    ----------
    parameters : dict, optional
        By notebook number: ``{"04": {"EPOCHS": 2}}``.
    """
    output.mkdir(parents=True, exist_ok=True)
    for count, notebook in enumerate(notebooks, 1):
        print(f"\n--- {count}/{len(notebooks)}  {notebook.name}", flush=True)
        started = time.perf_counter()
        execute(notebook, output / notebook.name, (parameters or {}).get(notebook.name[:2]))
        print(f"--- {notebook.name} done in {time.perf_counter() - started:.0f} s", flush=True)


def _parameters(notebook: Path) -> dict[str, str]:
    """Names in the cell tagged ``parameters``, each with the first character of its value: a quote where it is text."""
    source = "\n".join(cell.source for cell in nbformat.read(notebook, as_version=4).cells
                       if "parameters" in cell.metadata.get("tags", []))
    return dict(re.findall(r"^(\w+) = (.)", source, re.MULTILINE))


def settings(wanted: str) -> dict[str, object]:
    """Parameters from the command line: ``"SEEDS=1 EPOCHS=12"``; one that is text is taken as it stands.

    Raises
    ------
    Problem
        A word is not of the form NAME=value, or no notebook has such a parameter.
    """
    known, found = {}, {}
    for path in choose("all"):
        known |= _parameters(path)
    for word in wanted.split():
        name, _, value = word.partition("=")
        if name not in known:
            raise Problem(f"SET names {name}, which is no parameter of a notebook: choose from "
                          f"{', '.join(sorted(known))}, as in SET=\"SEEDS=1 EPOCHS=12\".")
        if known[name] == '"':
            found[name] = value
            continue
        try:
            found[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            raise Problem(f"SET gives {name} the value {value!r}: write a number, as in SET=\"SEEDS=1 EPOCHS=12\"."
                          ) from None
    return found


def _own(notebook: Path, chosen: dict) -> dict:
    """Those of the `chosen` parameters that this notebook has."""
    known = _parameters(notebook)
    return {name: value for name, value in chosen.items() if name in known}


def _summary() -> str:
    metrics = chain.Step("00_summary").read("05_metrics.json")
    seeds = metrics["test"]["seeds"]
    figures = ", ".join(f"{title} {card.plus_minus(seeds['mean'][name], seeds['sd'][name])}" for name, title in (
        ("accuracy", "accuracy"), ("auc", "AUC"), ("sensitivity", "sensitivity"), ("specificity", "specificity")))
    return f"{metrics['data_set']}: {metrics['images']['test']} test images, mean of {seeds['count']} seeds: {figures}"


def main(arguments: list[str] | None = None) -> None:
    """The command behind ``make run``."""
    parser = argparse.ArgumentParser(prog="make run", description=__doc__.splitlines()[0])
    parser.add_argument("--notebooks", default="", help='such as "04 05", or all; without it 01 to 05')
    parser.add_argument("--download", action="store_true", help="fetch the real X-rays first if they are not there")
    parser.add_argument("--set", default="", help='parameters, such as "SEEDS=1 EPOCHS=12"')
    options = parser.parse_args(arguments)
    notebooks, output = choose(options.notebooks), ROOT / "notebooks"
    chosen = settings(options.set)
    if chosen:  # the committed notebooks show what their own parameters give
        output = cache_dir() / "notebooks"
    folder = download.ensure() if options.download else download.find()
    if folder is None:
        scratch = cache_dir() / "practice"
        print("No X-rays in chest_xray/ and CHEST_XRAY_DIR is not set: running on the SYNTHETIC practice set, in\n"
              f"{shown(scratch)}/. Its figures say nothing about real X-rays. `make run DOWNLOAD=1` fetches those.")
        folder, output = practice.draw(scratch / "chest_xray"), scratch / "notebooks"
        os.environ["CXR_RESULTS_DIR"] = str(scratch / "results")
        chosen = {"SEEDS": 2} | chosen
    os.environ["CHEST_XRAY_DIR"] = str(Path(folder).resolve())
    run(notebooks, output, {notebook.name[:2]: _own(notebook, chosen) for notebook in notebooks})
    if notebooks[-1].name.startswith("05"):
        print(f"\n{_summary()}")
    print(f"Executed notebooks: {shown(output)}/   artifacts: {shown(results_dir())}/")


if __name__ == "__main__":
    try:
        main()
    except Problem as problem:
        sys.exit(f"\nStopped: {problem}")
    except KeyboardInterrupt:
        sys.exit("\nStopped by you: what was finished is kept, and nothing is half-written; `make run` starts again.")
