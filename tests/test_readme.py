"""README and the pages behind it: short enough, with links and anchors that lead somewhere, and words for pictures."""

import fnmatch
import re

import numpy as np
import pytest
from PIL import Image

import report
from contract import ARTIFACTS
from cxr import fingerprint
from cxr.paths import ROOT

WORDS = 900  # at most, in README
PAGES = ["README.md", "CONTRIBUTING.md", "benchmarks/README.md", "docs/chain.md", "docs/honesty.md"]
SOURCES = {  # cited by README and must stay so
    "X-rays": "https://doi.org/10.17632/rscbjbr9sj.2",
    "their article": "https://doi.org/10.1016/j.cell.2018.02.010",
    "films of adults": "https://github.com/ml-workgroup/covid-19-image-repository",
    "lung masks": "V7 Labs: |V7 Labs, ",
    "VGG16": "https://doi.org/10.3390/app8101715",
    "AutoML Vision": "https://doi.org/10.1038/s41597-022-01795-2",
}


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


def test_readme_is_read_in_a_minute():
    assert words(read("README.md")) <= WORDS


def test_words_are_counted_as_a_reader_sees_them():
    text = "One [two three](https://four.five) <!-- no --> **six**, | 7 |\n```\nmake run\n```\n![eight](a/b.png) – ±\n"
    assert words(text + '<img src="a.png" alt="nine ten">') == 8
    assert words("") == 0


def test_pages_are_all_there_is():
    found = {path.relative_to(ROOT).as_posix() for path in [*ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md")]}
    assert found | {"README.md", "CONTRIBUTING.md"} == set(PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_links_and_anchors_lead_somewhere(page):
    found = targets(read(page))
    assert found
    for target in found:
        if target.startswith(("http://", "https://")):
            inside = re.search(r"github(?:\.com)?/[\w.-]+/[\w.-]+/(?:blob|tree)/main/(.*)", target)
            assert not inside or (ROOT / inside[1]).exists(), target
            continue
        name, _, anchor = target.partition("#")
        path = (ROOT / page).parent / name if name else ROOT / page
        assert path.exists() and path.resolve().is_relative_to(ROOT.resolve()), target
        assert not anchor or anchor in anchors(path.read_text(encoding="utf-8")), target


def test_what_leads_nowhere_is_found():
    assert targets("[a](b.md#c) `[no](no.md)` [![d](e.png)](f.md)\n```\n[no](no.md)\n```\n") == [
        "b.md#c",
        "e.png",
        "f.md",
    ]
    assert anchors("# What is, and what's not\n## `make` it\n") == {"what-is-and-whats-not", "make-it"}


@pytest.mark.parametrize("page", PAGES)
def test_every_picture_says_what_it_is(page):
    text = without_code(read(page))
    said = re.findall(r"!\[([^\]]*)\]\(", text)
    for tag in re.findall(r"<img\b[^>]*>", text):
        said += re.findall(r"\balt=\"([^\"]+)\"", tag) or [""]
    assert all(len(alt.split()) >= 3 for alt in said), said


@pytest.mark.parametrize("page", PAGES)
def test_no_line_ends_before_or_after_a_plus_minus(page):
    assert not re.search(r"\d ± | ± \d", read(page)), "a ± between figures has U+00A0 on both sides"


def test_readme_keeps_its_order():
    text = read("README.md")
    order = [
        "# Chest X-ray notebooks",
        f'src="{report.STRIP[0]}"',
        report.MARKS["headline"],
        "](notebooks/01_download.ipynb)",
        "https://colab.research.google.com/github/",
        "\ngit clone https://github.com/",
        "\nmake run ",
        "\nmake test ",
        report.MARKS["notebooks"],
        "\n## Limits",
        "\n## Licence and citation",
    ]
    place = 0
    for part in order:
        assert part in text[place:], f"{part} is missing, or stands too early"
        place = text.index(part, place)
    table = text.partition(report.MARKS["headline"])[2].partition("<!-- end")[0]
    rows = [line.split("|")[1:-1] for line in table.splitlines() if line.startswith("|")]
    assert [len(row) for row in rows] == 6 * [4] and [row[0].strip() for row in rows[2:]] == [
        "accuracy",
        "AUC",
        "sensitivity",
        "specificity",
    ]
    assert len(re.findall("^- ", text.partition("\n## Limits")[2].partition("\n## ")[0], re.MULTILINE)) == 5


@pytest.mark.parametrize("source", SOURCES)
def test_readme_cites(source):
    assert any(part in read("README.md") for part in SOURCES[source].split("|"))


def test_a_phone_is_shown_the_same_strip_in_two_rows():
    wide, narrow = (Image.open(ROOT / file).convert("RGB") for file in report.STRIP)
    assert np.array_equal(np.asarray(report.stacked(wide)), np.asarray(narrow)), "run `make figures`"
    assert f'<source media="(max-width: 767px)" srcset="{report.STRIP[1]}"><img src="{report.STRIP[0]}"' in read(
        "README.md"
    )


def test_the_type_of_the_strip_is_legible_on_every_screen():
    em = 9 / 72 * 150  # pixels: `plots.same_lungs` writes 9 points, `Step.write` 150 dots an inch
    wide, narrow = (Image.open(ROOT / file).width for file in report.STRIP)
    for width, screen in ((narrow, 390), (wide, 768)):  # the narrowest that is shown it; margins of 16
        assert em * (screen - 32) / width >= 9


def test_a_strip_is_parted_where_it_is_white():
    strip = np.zeros((4, 30, 3), np.uint8)
    strip[:, [2, 17, 29]] = 255
    page = np.asarray(report.stacked(Image.fromarray(strip)))
    assert page.shape == (8, 17, 3)
    assert (page[:4, :17] == strip[:, :17]).all() and (page[4:, :13] == strip[:, 17:]).all()
    assert (page[4:, 13:] == 255).all()


def test_every_artifact_stands_in_the_table_of_the_chain():
    rows = dict(
        re.findall(r"^\| \[(\d\d) .+\]\(\.\./notebooks/.+\) \| .+ \| .+ \| (.+) \|$", read("docs/chain.md"), re.M)
    )
    assert set(rows) == set(fingerprint.notebooks())
    for number, names in ARTIFACTS.items():
        said = re.findall(r"`([^`]+)`", rows[number])
        missing = [name for name in names if not any(fnmatch.fnmatch(name, pattern) for pattern in said)]
        assert not missing, missing


def test_every_command_stands_on_the_page_of_commands():
    there = set(re.search(r"^\.PHONY: (.+)$", read("Makefile"), re.MULTILINE)[1].split())
    named = set(re.findall(r"`make ([a-z]+)", read("docs/chain.md")))
    assert there - {"help", "setup"} == named and "| `make` | lists all commands |" in read("docs/chain.md")
