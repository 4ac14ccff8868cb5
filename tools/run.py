"""Run the notebooks without a browser: ``make run``.

In place on the X-rays, into ``.cache/sample/`` on the sample, into ``.cache/set/`` with other parameters (``SET``).
"""

import argparse
import ast
import json
import os
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path

import nbformat

from cxr import chain, download
from cxr.paths import ROOT, Problem, atomic_write, cache_dir, command, display_path, results_dir

CORE = ("01", "02", "03", "04", "05")  # what is run where no notebook is named
SAMPLE = {  # parameters on the sample: quick, and still more than one seed
    "02": {"BODY_EPOCHS": 5},
    "03": {"LUNG_EPOCHS": 2, "STRESS_DRAWS": 2, "SWAP_DRAWS": 1},
    "04": {"SEEDS": 2, "EPOCHS": 7, "PATIENCE": 7},
    "05": {"BODIES": 3, "RESAMPLES": 300},
    "07": {"SEEDS": 1, "WIDTH": 0.35, "TUNING_EPOCHS": 2, "RESAMPLES": 500},
    "08": {"SEEDS": 1, "EPOCHS": 6, "RESAMPLES": 500},
    "A2": {"SEEDS": 1, "EPOCHS": 6, "GROUP_EPOCHS": 3, "LEFT_OUT": 1, "RESAMPLES": 500},
    "A3": {"BODIES": 2, "RESAMPLES": 500},
}
SPEC = {"display_name": "Python 3", "language": "python", "name": "python3"}
KERNEL = {  # this very Python, whatever kernels are installed, with figures in the notebook
    **SPEC,
    "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}", "--IPKernelApp.log_level=40"],
    "env": {"MPLBACKEND": "module://matplotlib_inline.backend_inline"},
}


def choose(wanted: str, default: tuple[str, ...] = CORE) -> list[Path]:
    """The notebooks to run, in order: ``"04, 05 A1"``, ``"all"``, or `default` for ``""``."""
    there = chain.notebooks()
    words = list(there) if wanted.strip() == "all" else wanted.replace(",", " ").split() or default
    numbers = [re.split("[_.]", word)[0].upper().zfill(2) for word in words]
    if unknown := [number for number in numbers if number not in there]:
        raise Problem(f"NOTEBOOKS names {', '.join(unknown)}: choose from {' '.join(there)}, or all.")
    return [path for number, path in there.items() if number in numbers]


def parameters(notebook: Path) -> dict[str, object]:
    """The parameters of a notebook and their values, from its cell tagged ``parameters``."""
    nodes = ast.parse("\n".join(chain.code_cells(notebook, "parameters"))).body
    return {node.targets[0].id: ast.literal_eval(node.value) for node in nodes if isinstance(node, ast.Assign)}


def settings(wanted: str, notebooks: list[Path]) -> dict[str, object]:
    """Parameters of `notebooks` from ``"SEEDS=1 EPOCHS=12"``; one that is text is taken as it stands."""
    known = {name: value for path in notebooks for name, value in parameters(path).items()}
    found = {}
    for word in wanted.split():
        name, _, value = word.partition("=")
        if name not in known:
            pages = " ".join(path.name[:2] for path in notebooks)
            raise Problem(f"SET names {name}, no parameter of {pages}: choose from {', '.join(sorted(known))}.")
        try:
            found[name] = value if isinstance(known[name], str) else ast.literal_eval(value)
        except (ValueError, SyntaxError):
            raise Problem(f"SET gives {name} the value {value!r}: write a number.") from None
    return found


def tidy(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Take out what changes from run to run, and join the pieces of a stream."""
    notebook.metadata = nbformat.from_dict({"kernelspec": SPEC, "language_info": {"name": "python"}})
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({"tags": cell.metadata["tags"]} if cell.metadata.get("tags") else {})
        outputs = []
        for output in cell.get("outputs", []):
            if outputs and output.output_type == "stream" and outputs[-1].get("name") == output.name:
                outputs[-1].text += output.text
            else:
                outputs.append(output)
        if cell.cell_type == "code":
            cell.outputs = outputs
        for output in outputs:
            if "text" in output:  # how long Keras took for an epoch
                output.text = re.sub(r" - \d+m?s( - \d+m?s/step)?(?= - |\n)", "", output.text)
    return notebook


def execute(notebook: Path, output: Path, chosen: dict | None = None, quiet: bool = False) -> None:
    """Run a notebook, with `chosen` parameters where it has them, and write it only when it has reached its end."""
    import papermill
    from nbclient.exceptions import DeadKernelError

    folder = notebook.parent.parent if notebook.parent.name == "appendix" else notebook.parent
    known = parameters(notebook)
    own = {name: value for name, value in (chosen or {}).items() if name in known}
    options = {"kernel_name": "this-python", "language": "python", "cwd": folder, "progress_bar": False}
    options |= {} if quiet else {"stdout_file": sys.stdout, "stderr_file": sys.stderr}
    output.parent.mkdir(parents=True, exist_ok=True)
    kept = os.environ.get("JUPYTER_PATH", "")
    with tempfile.TemporaryDirectory() as kernels, atomic_write(output) as unfinished:
        spec = Path(kernels, "kernels", "this-python", "kernel.json")
        spec.parent.mkdir(parents=True)
        spec.write_text(json.dumps(KERNEL), encoding="utf-8")
        os.environ["JUPYTER_PATH"] = f"{kernels}{os.pathsep}{kept}"
        try:
            papermill.execute_notebook(notebook, unfinished, own, **options)
        except papermill.PapermillExecutionError as error:
            where = f"{notebook.name} stopped in cell {error.exec_count} with {error.ename}: {error.evalue}"
            raise Problem(error.evalue if error.ename == "Problem" else f"{where} (run it in Jupyter).") from None
        except DeadKernelError:
            cause = "most likely for lack of memory: set a smaller BATCH_SIZE and run it again"
            raise Problem(f"The Python that ran {notebook.name} died, {cause}.") from None
        finally:
            os.environ["JUPYTER_PATH"] = kept
        nbformat.write(tidy(nbformat.read(unfinished, as_version=4)), unfinished)


def scratch(folder: Path, notebooks: list[Path]) -> Path:
    """Lead results into `folder`, which starts from copies of earlier notebooks' results."""
    if sealed := [path.name[:2] for path in notebooks if "dataset.test(" in "\n".join(chain.code_cells(path))]:
        raise Problem(f"NOTEBOOKS names {', '.join(sealed)}; SET would score the test folder: leave them out.")
    earlier = [path for path in results_dir().glob("*_*.*") if path.name[:2] < notebooks[0].name[:2]]
    os.environ["CXR_RESULTS_DIR"] = str(folder / "results")
    results_dir().mkdir(parents=True, exist_ok=True)
    for path in earlier:
        shutil.copy2(path, results_dir() / path.name)
    return folder / "notebooks"


def closing(sample: bool) -> str:
    """What a run of 01 to 05 found, in two lines."""
    read = chain.Step("00_closing").read
    facts = read("05_metrics.json")
    films = f"{facts['flow']['test']['images']} {'films that play the test' if sample else 'test films'}"
    plain, ours = facts["test"]["one_rule"]["plain_seeds"]["mean"], facts["test"]["seeds"]["mean"]
    conflict = [read(f"04_{name}.csv").conflict_auc.mean() for name in ("plain_seeds", "seeds")]
    gains = [facts["test"]["one_rule"]["seeds_against_plain"][name]["interval"] for name in ("accuracy", "auc")]
    opening = "W"
    if conflict[0] < conflict[1] and min(low for low, _ in gains) <= 0:  # ours is not better by both
        worse = min(high for _, high in gains) < 0
        opening = f"The usual figure{' prefers the wrong network' if worse else 's do not tell them apart'}: w"
    return (
        f"A plain CNN and this network on {films}: accuracy {plain['accuracy']:.3f} and "
        f"{ours['accuracy']:.3f}, AUC {plain['auc']:.3f} and {ours['auc']:.3f}.\n"
        f"{opening}ith the lungs in a body of the other "
        f"class, the AUC on validation is {conflict[0]:.2f} and {conflict[1]:.2f}."
    )


def main(arguments: list[str] | None = None) -> None:
    """The command behind ``make run``."""
    parser = argparse.ArgumentParser(prog="make run", description=str(__doc__).splitlines()[0])
    parser.add_argument("--notebooks", default="", help='such as "04 05", or all; without it 01 to 05')
    parser.add_argument("--download", action="store_true", help="fetch the X-rays first if they are not there")
    parser.add_argument("--set", default="", help='parameters, such as "SEEDS=1 EPOCHS=12"')
    options = parser.parse_args(arguments)
    output = ROOT / "notebooks"
    folder = (download.ensure(sample=False) if options.download else download.find()) or ROOT / "chest_xray" / "sample"
    os.environ["CHEST_XRAY_DIR"], sample = str(folder.resolve()), (folder / "sample.json").exists()
    notebooks = choose(options.notebooks, CORE[:4] if options.set.strip() and not sample else CORE)
    wanted = settings(options.set, notebooks)
    if sample:
        output = cache_dir() / "sample" / "notebooks"
        print("This runs on the sample: about 1,000 small films of the train folder.")
    elif wanted:  # the committed notebooks show what their own parameters give
        output = scratch(cache_dir() / "set", notebooks)
    for count, notebook in enumerate(notebooks, 1):
        print(f"\n--- {count}/{len(notebooks)}  {notebook.name}", flush=True)
        started = time.perf_counter()
        own = (SAMPLE.get(notebook.name[:2], {}) if sample else {}) | wanted
        execute(notebook, output / notebook.relative_to(ROOT / "notebooks"), own)
        print(f"--- {notebook.name} done in {time.perf_counter() - started:.0f} s", flush=True)
    print(f"\n{closing(sample)}" if notebooks[-1].name.startswith("05") else "")
    print(f"Executed notebooks: {display_path(output)}/   artifacts: {display_path(results_dir())}/")
    if sample:
        print("Next: `make run DOWNLOAD=1` fetches all films (1.2 GB) and does it in full.")


if __name__ == "__main__":
    try:
        command(main)
    except KeyboardInterrupt:
        sys.exit("\nStopped by you: what was finished is kept; `make run` starts again.")
