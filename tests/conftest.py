"""A tiny data set, drawn on the fly, and all notebooks run on it once for all tests."""

import multiprocessing
import re
import shutil
from concurrent.futures import ProcessPoolExecutor

import nbformat
import pytest
from filelock import FileLock

import run
from contract import RUN
from cxr.paths import ROOT
from drawn import QUICK, draw, noise_weights

ASIDE = {"08", "09", "10"}  # run beside 05 to 07, which take as long; 09 reads what 05 has written by then
CHAIN = {"finished", "chain_copy"}  # fixtures that need all notebooks to be run, which takes minutes


def pytest_collection_modifyitems(items):
    """Mark each test that needs the notebooks' run, so that ``-m "not chain"`` leaves them out.

    One file of them comes first, so that its worker runs the notebooks; the others come last, so that nobody waits.
    """
    for item in items:
        if CHAIN & set(item.fixturenames):
            item.add_marker("chain")
    waiting = {item.path for item in items if item.get_closest_marker("chain")}
    items.sort(key=lambda item: 0 if item.path.stem == "test_run" else 1 + (item.path in waiting))


@pytest.fixture(scope="session")
def shared(tmp_path_factory, worker_id):
    """Makes a folder once for all workers: `shared(name, make)` calls ``make(folder)`` in the first that asks."""
    top = tmp_path_factory.getbasetemp() if worker_id == "master" else tmp_path_factory.getbasetemp().parent

    def once(name, make):
        folder, done = top / name, top / f"{name} is there"
        with FileLock(top / f"{name}.lock"):
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)
                make(folder)
                done.touch()
        return folder

    return once


@pytest.fixture(scope="session")
def tiny(shared):
    """72 drawn X-rays with real-style names: train, val and test, patients with several images, duplicates."""
    return shared("tiny data", lambda folder: draw(folder / "chest_xray", images=72)) / "chest_xray"


SOLUTION = """
try:
    exec(compile({source!r}, "a solution", "exec"), globals())
except Exception:
    import traceback
    open({failed!r}, "w").write(traceback.format_exc())
"""


def with_solutions(notebook, copy):
    """A copy of a notebook that runs the solutions of its exercises at its end; what fails there is written down."""
    page, solutions = nbformat.read(notebook, as_version=4), ROOT / f"docs/solutions/{notebook.name[:2]}.md"
    failed = str(copy.parents[copy.parent.name == "appendix"] / f"{notebook.name[:2]}_failed.txt")
    text = solutions.read_text(encoding="utf-8") if solutions.exists() else ""
    for source in re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        page.cells.append(nbformat.v4.new_code_cell(SOLUTION.format(source=source, failed=failed)))
    nbformat.write(page, copy)


def run_pages(pages, folder):
    """Run notebooks with their solutions, in order: into ``folder/notebooks``."""
    for notebook in pages:
        place = notebook.relative_to(ROOT / "notebooks")
        with_solutions(notebook, folder / "pages" / place)
        own = QUICK.get(notebook.name[:2], {})
        run.execute(folder / "pages" / place, folder / "notebooks" / place, own, quiet=True)


@pytest.fixture(scope="session")
def finished(tiny, shared):
    """A folder with ``results``, ``cache``, ``weights`` and the executed ``notebooks``, after all have run on `tiny`.

    After 04, two run at a time. "ImageNet" is a network that has met noise alone.
    """

    def make(folder):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("CHEST_XRAY_DIR", str(tiny))
            patch.setenv("CXR_RESULTS_DIR", str(folder / "results"))
            patch.setenv("CXR_CACHE_DIR", str(folder / "cache"))
            patch.setenv("KERAS_WEIGHTS_DIR", str(noise_weights(folder / "weights")))
            for variable in ("CXR_EXTERNAL_DIR", "CXR_ADULTS_DIR"):
                patch.delenv(variable, raising=False)
            (folder / "pages/appendix").mkdir(parents=True)
            (folder / "pages/cxr").symlink_to(ROOT / "notebooks/cxr")
            run_pages(RUN[:4], folder)
            aside = [page for page in RUN if page.name[:2] in ASIDE]
            others = [page for page in RUN[4:] if page not in aside]
            with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
                list(pool.map(run_pages, (aside, others), (folder, folder)))

    return shared("finished run", make)


@pytest.fixture
def chain_copy(finished, tiny, tmp_path, monkeypatch):
    """The finished results in a folder of the test's own, with the environment set to it."""
    shutil.copytree(finished / "results", tmp_path / "results")
    monkeypatch.setenv("CHEST_XRAY_DIR", str(tiny))
    monkeypatch.setenv("CXR_RESULTS_DIR", str(tmp_path / "results"))
    monkeypatch.setenv("CXR_CACHE_DIR", str(finished / "cache"))
    monkeypatch.setenv("KERAS_WEIGHTS_DIR", str(finished / "weights"))
    return tmp_path
