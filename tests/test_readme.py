"""README and the pages behind it: short, with links that lead somewhere, true to results, notebooks and Makefile."""

import fnmatch
import re
import subprocess

import numpy as np
import pytest
from PIL import Image

import report
from cxr import chain
from cxr.paths import ROOT, Problem

PAGES = ["README.md", "CONTRIBUTING.md", "chest_xray/README.md"]
PAGES += [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "docs").rglob("*.md"))]
SOURCES = ["https://doi.org/10.17632/rscbjbr9sj.2", "https://doi.org/10.1016/j.cell.2018.02.010", "V7 Labs"]
SOURCES += ["https://github.com/ml-workgroup/covid-19-image-repository"]


def read(page):
    return (ROOT / page).read_text(encoding="utf-8")


def without_code(text):
    """A page without comments and code, in which nothing is a link."""
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def words(text):
    """How many words a page has, without link targets, comments and code blocks; alternative texts count."""
    text = re.sub(r"\]\([^)]*\)", "] ", without_code(text))
    text = re.sub(r"<[^>]*?(?:alt=\"([^\"]*)\"[^>]*)?>", r" \1 ", text)
    return sum(bool(re.search(r"\w", word)) for word in text.split())


def targets(text):
    """Where the links and pictures of a page lead, in Markdown and in HTML."""
    text = re.sub(r"`[^`\n]*`", "", without_code(text))
    return re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r"(?:src|srcset|href)=\"([^\"\s]+)\"", text)


def anchors(text):
    """The anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", without_code(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_readme_is_short_and_cites_its_sources():
    assert words(read("README.md")) <= 900
    assert not [source for source in SOURCES if source not in read("README.md")]


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere_and_pictures_say_what_they_show(page):
    for target in targets(read(page)):
        inside = re.search(r"github(?:\.com)?/[\w.-]+/[\w.-]+/(?:blob|tree)/main/(.*)", target)
        if target.startswith(("http://", "https://")):
            assert not inside or (ROOT / inside[1]).exists(), target
            continue
        name, _, anchor = target.partition("#")
        path = (ROOT / page).parent / name if name else ROOT / page
        assert path.exists() and path.resolve().is_relative_to(ROOT.resolve()), target
        assert not anchor or anchor in anchors(path.read_text(encoding="utf-8")), target
    alternatives = re.findall(r"!\[([^\]]*)\]\(|<img\b[^>]*\balt=\"([^\"]+)\"", without_code(read(page)))
    assert all(len("".join(one).split()) >= 3 for one in alternatives), alternatives


@pytest.mark.parametrize("page", report.PAGES)
def test_pages_quote_the_results_exactly(page, monkeypatch):
    monkeypatch.delenv("CXR_RESULTS_DIR", raising=False)
    assert report.filled(page, report.figures()) == read(page), "run `make figures`"


def test_the_model_card_follows_from_the_results_and_says_what_had_been_seen(monkeypatch):
    monkeypatch.delenv("CXR_RESULTS_DIR", raising=False)
    values = report.figures()
    card = report.fill("model_card.md.j2", **values)
    assert card == read("results/MODEL_CARD.md") and "The test folder is not unseen by its authors." in card
    card = report.fill("model_card.md.j2", **values | {"kermany": False, "opened": 1})
    assert "scored on the test folder 1 time by" in card and not re.search("children|Kermany|Guangzhou", card)
    del values["metrics"]["test"]["seeds"]["sd"]
    with pytest.raises(Problem, match=r"templates/model_card\.md\.j2 asks for .* 'sd'.*: run the notebook"):
        report.fill("model_card.md.j2", **values)


def test_a_phone_is_shown_the_same_strip_in_two_rows():
    wide, narrow = (Image.open(ROOT / file).convert("RGB") for file in report.STRIP)
    assert np.array_equal(np.asarray(report.stacked(wide)), np.asarray(narrow)), "run `make figures`"
    assert all(file in read("README.md") for file in report.STRIP)


@pytest.mark.parametrize("page, to", [("README.md", ""), ("docs/chain.md", "../")])
def test_every_notebook_has_a_row_in_readme_and_in_the_chain(page, to):
    for number, path in chain.notebooks().items():
        name = path.relative_to(ROOT / "notebooks").as_posix()
        if number.isdigit() or page == "docs/chain.md":
            row = rf"^\| \[{number}(?: |&nbsp;).+\]\({re.escape(to)}notebooks/{re.escape(name)}\) \|"
            assert re.search(row, read(page), re.MULTILINE), name


def test_every_artifact_stands_in_the_table_of_the_chain():
    row = r"^\| \[([0-9A]\d) .+\]\(\.\./notebooks/.+\) \| .+ \| .+ \| (.+) \|$"
    rows = dict(re.findall(row, read("docs/chain.md"), re.MULTILINE))
    assert set(rows) == set(chain.notebooks())
    for number, text in rows.items():
        patterns = re.findall(r"`([^`]+)`", text) + ["MODEL_CARD.md"]
        written = chain.record(number)["writes"]
        missing = [name for name in written if not any(fnmatch.fnmatch(name, pattern) for pattern in patterns)]
        assert not missing, missing


def test_every_command_is_there_and_on_the_page_of_commands():
    there = set(re.search(r"^\.PHONY: (.+)$", read("Makefile"), re.MULTILINE)[1].split())
    assert len(there) <= 9 and there == set(re.findall(r"^([a-z]+):", read("Makefile"), re.MULTILINE))
    named = {page: set(re.findall(r"`make ([a-z]+)|^make ([a-z]+)", read(page), re.MULTILINE)) for page in PAGES}
    named = {page: {one or other for one, other in found} for page, found in named.items()}
    assert set.union(*named.values()) <= there and there - {"help"} <= named["docs/chain.md"]
    said = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {f"make {target}" for target in there - {"help"}} <= set(re.findall(r"^make [a-z]+", said, re.MULTILINE))


@pytest.mark.parametrize("text", ["~/a b", "price$x.png", "it's", "$(HOME)"])
def test_make_hands_on_what_a_user_wrote_letter_by_letter(text, tmp_path):
    """A path with a dollar, a tilde, a blank or a quote reaches the program as it is."""
    (tmp_path / "Makefile").write_text(read("Makefile") + '\nshow:\n\t@printf "%s" "$$FILES_"\n')
    done = subprocess.run(
        ["make", "--no-print-directory", "show", f"FILES={text}"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout == text
