"""Inside a stand-in machine: run one notebook as a reader would, from its first cell to its last.

Called by ``simulate.py`` with the Python of that machine. The outputs are written also where a cell fails or the kernel
dies; what went wrong stands in the last line of the error stream.
"""

import argparse
import os
import re
import signal
import sys
import threading
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError


def edited(notebook: nbformat.NotebookNode, values: dict[str, str]) -> nbformat.NotebookNode:
    """Set ``NAME = value`` where a cell has it at the start of a line, as a reader does by hand."""
    for name, value in values.items():
        pattern = re.compile(rf"^{name} = [^#\n]*", re.MULTILINE)
        cells = [cell for cell in notebook.cells if cell.cell_type == "code" and pattern.search(cell.source)]
        assert len(cells) == 1, f"{name} stands in {len(cells)} cells"
        cells[0].source = pattern.sub(f"{name} = {value}  ", cells[0].source)
    return notebook


def kill_when(client: NotebookClient, folder: Path, pattern: str) -> None:
    """End the kernel by SIGKILL as soon as `folder` holds a file that fits `pattern`."""
    while not any(folder.glob(pattern)):
        time.sleep(0.01)
    os.kill(client.km.provisioner.pid, signal.SIGKILL)


def main() -> str | None:
    parser = argparse.ArgumentParser()
    parser.add_argument("notebook", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--cwd", required=True)
    parser.add_argument("--set", action="append", default=[], help="NAME=value in a cell of the notebook")
    parser.add_argument("--kill-when", nargs=2, metavar=("FOLDER", "PATTERN"))
    options = parser.parse_args()
    notebook = edited(nbformat.read(options.notebook, as_version=4), dict(pair.split("=", 1) for pair in options.set))
    client = NotebookClient(
        notebook, timeout=1200, kernel_name="python3", resources={"metadata": {"path": options.cwd}}
    )
    if options.kill_when:
        folder, pattern = options.kill_when
        threading.Thread(target=kill_when, args=(client, Path(folder), pattern), daemon=True).start()
    try:
        client.execute()
    except (CellExecutionError, DeadKernelError) as error:
        return f"{type(error).__name__}: {str(error).strip().splitlines()[-1]}"
    finally:
        nbformat.write(notebook, options.output)


if __name__ == "__main__":
    sys.exit(main())
