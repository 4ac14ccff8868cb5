"""The notebooks as committed: their anatomy, their outputs, and what a page may cost a reader."""

import re

import nbformat
import pytest
from test_readme import targets, words

import run
from contract import NOTEBOOKS, RUN, code_cells
from cxr import chain
from cxr.paths import ROOT

CELLS = {"01": 20, "02": 32, "03": 28, "04": 28, "05": 34, "06": 22, "07": 20, "08": 28, "09": 27, "10": 22}  # at most
WORDS = {"02": 1500, "03": 1320, "04": 1350, "05": 1500, "07": 1250, "08": 1250, "09": 1370}  # else 1,200
LINES = 175  # of code, at most, without blank ones
FILLERS = r"\banew\b|\bthe ill\b|no child meets|which is kind|only just did|and their rows|its picture:|of once\b"


def load(path):
    nb = nbformat.read(path, as_version=4)
    nb.path, nb.number = path, path.name[:2]
    nb.prose = "\n\n".join(cell.source for cell in nb.cells if cell.cell_type == "markdown")
    return nb


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return load(request.param)


PAGES = [path for path in NOTEBOOKS if path.name[:2] in CELLS]  # not the appendix


@pytest.fixture(params=PAGES, ids=lambda path: path.stem)
def page(request):
    return load(request.param)


# --- all of them ---


def test_they_are_numbered_without_a_gap():
    numbers = list(chain.notebooks())
    main = [number for number in numbers if number.isdigit()]
    assert main == [f"{number:02}" for number in range(1, len(main) + 1)] and main[:5] == list(run.CORE)
    assert numbers[len(main) :] == [number for number in ("A1", "A2", "A3", "A4") if number in numbers]


def test_opens_with_question_links_badge_and_table(notebook):
    first = notebook.cells[0].source
    assert first.startswith(f"# {notebook.number} · ") and "?" in first.splitlines()[0]
    assert "colab.research.google.com/github/" in first and f"{notebook.path.name})" in first
    rows = dict(re.findall(r"^\| \*\*(\w+)\*\* \| (.+) \|$", first, re.MULTILINE))
    assert {"reads", "writes", "takes", "GPU"} <= set(rows)
    written = chain.record(notebook.number)["writes"]
    named = re.findall(r"`(?:results/)?([0-9A][0-9]_[^`*]+)`", rows["writes"])
    assert set(named) <= set(written), "the first cell names a file that is not written"


def test_the_next_and_the_last_notebook_are_a_click_away(notebook):
    place = NOTEBOOKS.index(notebook.path)
    for other in NOTEBOOKS[max(0, place - 1) : place] + NOTEBOOKS[place + 1 : place + 2]:
        if other.parent == notebook.path.parent and other.name[:2] in (*CELLS, notebook.number):
            assert f"]({other.name})" in notebook.cells[0].source.partition("|")[0], other.name


def test_links_lead_to_files_that_exist(notebook):
    for target in targets(notebook.prose):
        path = target.partition("#")[0]
        assert target.startswith("http") or not path or (notebook.path.parent / path).exists(), target


def test_code_fits_the_page(notebook):
    for cell in code_cells(notebook):
        assert len(cell.source.splitlines()) <= 25 and max(map(len, cell.source.splitlines())) <= 88, cell.source
    assert notebook.path.stat().st_size <= 1_000_000


def test_settings_stand_in_one_cell_each_with_a_comment(notebook):
    tagged = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1 and run.parameters(notebook.path)
    for line in tagged[0].source.splitlines():
        assert re.match(r"[A-Z_]+ = .+ # \S", line), line


def test_the_first_code_cell_is_the_same_everywhere():
    firsts = {code_cells(load(path))[0].source for path in NOTEBOOKS if path.parent.name != "appendix"}
    assert len(firsts) == 1 and "colab.prepare" in firsts.pop()


def test_is_executed_top_to_bottom_without_error_or_noise(notebook):
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for output in (output for cell in cells for output in cell.outputs):
        assert output.output_type != "error" and output.get("name") != "stderr", output.get("text", "")[:300]


def test_outputs_come_from_the_code_as_it_is(notebook):
    assert not chain.stale(notebook.path), f"{notebook.path.name} was run with older code: make run, or make same"


def test_carries_no_widget_runner_metadata_or_machine_path(notebook):
    text = re.sub(r'"image/png": "[^"]*"', "", notebook.path.read_text(encoding="utf-8"))
    assert "widgets" not in notebook.metadata and "papermill" not in text and "injected-parameters" not in text
    for trace in ("/home/", "/root", "/tmp", "/Users/", str(ROOT), "SYNTHETIC", "SAMPLE: "):
        assert trace not in text, f"{trace} in {notebook.path.name}"


# --- the pages that are written for a reader ---


def shows(cell):
    return bool(cell.outputs)


def lines(nb):
    return sum(bool(line.strip()) for cell in code_cells(nb) for line in cell.source.splitlines())


def figures(nb):
    return [
        i for i, cell in enumerate(nb.cells) for out in cell.get("outputs", []) if "image/png" in out.get("data", {})
    ]


def test_a_page_is_short_and_no_device(page):
    assert "ot a diagnostic device" in page.prose
    assert len(page.cells) <= CELLS[page.number]
    assert words(page.prose) <= WORDS.get(page.number, 1200), words(page.prose)
    assert lines(page) <= LINES


def test_most_code_shows_something_and_the_first_figure_comes_early(page):
    cells = code_cells(page)
    assert sum(not shows(cell) for cell in cells) <= 0.4 * len(cells)
    assert figures(page)[0] < 10, "the surprise stands up front"


def test_the_first_page_trains_a_network():
    cells = load(NOTEBOOKS[0]).cells
    assert next(i for i, cell in enumerate(cells) if cell.cell_type == "code" and ".fit(" in cell.source) < 20


def test_prose_says_something(page):
    for cell in page.cells[1:]:
        text = cell.source.strip()
        assert cell.cell_type != "markdown" or words(text) >= 8 or text.startswith("#"), f"only parts two cells: {text}"
    assert not re.search(FILLERS, page.prose, re.IGNORECASE), re.search(FILLERS, page.prose, re.IGNORECASE)[0]


def test_tables_are_in_words(page):
    for output in (output for cell in code_cells(page) for output in cell.outputs):
        if "DataFrame" in (html := "".join(output.get("data", {}).get("text/html", ""))) or "<table" in html:
            headings = re.findall(r"<th[^>]*>([^<]*)</th>", html)
            assert not [one for one in headings if re.search(r"[a-z]_[a-z]", one)], headings


def test_artifacts_are_written_in_one_cell(page):
    writing = [cell for cell in code_cells(page) if "step.write(" in cell.source]
    assert len(writing) <= 2 and any("step.done()" in cell.source for cell in page.cells[-4:])


def test_ends_with_takeaways_and_exercises_that_are_solved(page):
    takeaways, exercises = page.cells[-2:]
    assert takeaways.cell_type == "code" and "Markdown(f" in takeaways.source
    text = "".join("".join(output.get("data", {}).get("text/markdown", "")) for output in takeaways.outputs)
    assert words(text) >= 30 and len(re.findall(r"\d", text)) >= 3, "three to five sentences, in numbers"
    solutions = (ROOT / f"docs/solutions/{page.number}.md").read_text(encoding="utf-8")
    assert exercises.cell_type == "markdown" and f"solutions/{page.number}.md" in exercises.source
    assert 2 <= len(re.findall(r"^```python$", solutions, re.MULTILINE)) <= 4


@pytest.mark.parametrize("number", [path.name[:2] for path in RUN])
def test_solutions_run_after_the_cells_of_their_page(finished, number):
    failed = finished / f"pages/{number}_failed.txt"
    assert not failed.exists(), failed.read_text()


def test_the_main_line_is_short():
    pages = [load(path) for path in PAGES]
    assert sum(len(page.cells) for page in pages) <= sum(CELLS.values())
    assert sum(words(page.prose) for page in pages) <= 12000
    assert sum(map(lines, pages)) <= 1250
