"""The notebooks as committed: their anatomy, their outputs, what they name."""

import inspect
import re
import statistics
from types import SimpleNamespace

import nbformat
import pytest
from test_readme import words

import report
import run
from conftest import CHAIN
from contract import ARTIFACTS, NOTEBOOKS, code_cells
from cxr import fingerprint
from cxr.paths import ROOT


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    nb = nbformat.read(request.param, as_version=4)
    nb.path = request.param
    return nb


# --- as committed ---------------------------------------------------------------------------------------------


def test_they_are_numbered_without_a_gap():
    numbers = list(fingerprint.notebooks())
    assert numbers == [f"{number:02}" for number in range(1, len(NOTEBOOKS) + 1)]
    assert numbers[: len(run.CORE)] == list(run.CORE)


def test_opens_with_question_links_badge_and_table(notebook):
    first, number = notebook.cells[0].source, notebook.path.name[:2]
    assert first.startswith(f"# {number} · ") and "?" in first.splitlines()[0]
    assert "colab.research.google.com/github/" in first and f"/notebooks/{notebook.path.name})" in first
    rows = dict(re.findall(r"^\| \*\*(\w+)\*\* \| (.+) \|$", first, re.MULTILINE))
    assert {"reads", "writes", "takes", "GPU"} <= set(rows)
    for row in rows.values():
        assert len(re.sub(r"\]\([^)]*\)", "]", row)) <= 200, f"one line is enough: {row}"
    named = re.findall(r"`(?:results/)?(\d\d_[^`*]+|MODEL_CARD\.md)`", rows["writes"])
    assert set(named) <= set(ARTIFACTS.get(number, named)), "the first cell names a file that is not written"


def test_the_next_and_the_last_notebook_are_a_click_away(notebook):
    place = NOTEBOOKS.index(notebook.path)
    for other in NOTEBOOKS[max(0, place - 1) : place] + NOTEBOOKS[place + 1 : place + 2]:
        assert f"]({other.name})" in notebook.cells[0].source.partition("|")[0], other.name


def test_prose_carries_the_code(notebook):
    prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    lines = [line for cell in code_cells(notebook) for line in cell.source.splitlines() if line.strip()]
    assert words(prose) >= 5 * len(lines), f"{words(prose)} words on {len(lines)} lines of code"


def test_no_line_of_code_runs_off_the_page(notebook):
    for cell in code_cells(notebook):
        for line in cell.source.splitlines():
            assert len(line) <= 88, f"wider than a page of 830 pixels: {line}"


def test_links_lead_to_files_that_exist(notebook):
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for target in re.findall(r"\]\((?!http)([^)#]+)\)", cell.source):
                assert (notebook.path.parent / target).exists(), target


def test_one_parameters_cell_each_line_with_a_comment(notebook):
    tagged = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    for line in tagged[0].source.splitlines():
        assert re.match(r"[A-Z_]+ = .+  # \S", line), line


def test_cells_are_small(notebook):
    lengths = [len(cell.source.splitlines()) for cell in code_cells(notebook)]
    assert statistics.median(lengths) <= 5 and max(lengths) <= 25
    assert notebook.path.stat().st_size <= 1_000_000


def test_is_executed_top_to_bottom_without_error_or_noise(notebook):
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for output in (output for cell in cells for output in cell.outputs):
        assert output.output_type != "error"
        assert output.get("name") != "stderr", output.text[:300]


def test_outputs_come_from_the_code_as_it_is(notebook):
    changed = fingerprint.stale(notebook.path)
    assert not changed, (
        f"{notebook.path.name} was run with older code ({'; '.join(changed)}): make restamp, or make render"
    )


def test_carries_no_widget_runner_metadata_or_machine_path(notebook):
    text = notebook.path.read_text(encoding="utf-8")
    assert "widgets" not in notebook.metadata and "papermill" not in text and "injected-parameters" not in text
    for trace in ("/home/", "/root", "/tmp", "/Users/", str(ROOT), "SYNTHETIC"):
        assert trace not in text, f"{trace} in {notebook.path.name}"


def test_ends_with_what_was_written_and_learned(notebook):
    assert any("step.done()" in cell.source for cell in notebook.cells[-3:])
    before, mark, said = notebook.cells[-1].source.partition(report.LEARNED)
    assert before == "## What we learned\n\n" and mark
    assert said.strip() == report.learned(notebook.path.name[:2]).strip(), "run `make figures`"
    assert len(re.findall(r"\d", said)) >= 3, "the takeaways are in numbers"
    assert 3 <= len(re.findall(r"^- ", said, re.MULTILINE)) <= 7


def test_no_takeaway_has_a_figure_of_its_own():
    for path in report.TEMPLATES.glob("learned_*.md.j2"):
        text = re.sub(r"\{[{%#].*?[}%#]\}|\]\([^)]*\)|`[^`]*`", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        figures = set(re.findall(r"\d*[.,]\d+%?|\d+%|\d{3,}", text)) - {".5", "0.5", "95%"}
        assert not figures, f"{path.name}: {figures} would not follow the results"


# --- the mark that leaves the chain out ------------------------------------------------------------------------


def needs_the_chain(item):
    """Whether a test asks for notebooks that were run whole: as an argument, or in its words where it is "tiny"."""
    definitions = item._fixtureinfo.name2fixturedefs.values()
    functions = [item.function, *(definition[-1].func for definition in definitions if definition)]
    asks = any(f'getfixturevalue("{name}")' in inspect.getsource(one) for one in functions for name in CHAIN)
    drawn = asks and "tiny" in getattr(item, "callspec", SimpleNamespace(params={})).params.values()
    return drawn or bool(CHAIN & set(item.fixturenames))


class Collected:
    def pytest_collection_finish(self, session):
        self.items = session.items


def test_the_mark_chain_is_on_exactly_those_that_need_it():
    seen = Collected()
    tests = [str(ROOT / "tests" / f"test_{name}.py") for name in ("run", "beyond", "trials", "notebooks")]
    assert pytest.main(["--collect-only", "-qq", "-n", "0", "-c", str(ROOT / "pyproject.toml"), *tests], [seen]) == 0
    marked = {item.nodeid: item.get_closest_marker("chain") is not None for item in seen.items}
    assert marked == {item.nodeid: needs_the_chain(item) for item in seen.items}
    assert 30 < sum(marked.values()) < len(marked) - 30
