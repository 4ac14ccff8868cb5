"""CONTRIBUTING's recipes, followed in a copy of the project: they work, and touch no more files than they say."""

import json
import os
import re
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import report
import run
from cxr.paths import ROOT

CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
PARTS = ("notebooks", "results", "tests", "docs", "benchmarks", "README.md", "CONTRIBUTING.md", "pyproject.toml")
PARTS += ("requirements.txt",)


def contents(folder):
    skipped = ("results", "__pycache__", ".cache", ".ruff_cache")
    files = [path for path in folder.rglob("*") if path.is_file() and not set(skipped) & set(path.parts)]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture
def project(tmp_path):
    """A copy of the project: `edit` one of its files, `python` in notebooks/, and which files are `touched`."""
    tree, ignore = tmp_path / "project", shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
    tree.mkdir()
    for name in PARTS:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tree / name, **({"ignore": ignore} if (ROOT / name).is_dir() else {}))
    before = contents(tree)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("CXR_", "CHEST_"))}
    environment |= {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": f"{tree / 'notebooks'}{os.pathsep}{tree / 'tests'}"}

    def edit(name, old, new):
        text = (tree / name).read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{old} stands {text.count(old)} times in {name}"
        (tree / name).write_text(text.replace(old, new), encoding="utf-8")

    def python(*arguments, **variables):
        done = subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=tree / "notebooks",
            text=True,
            env=environment | variables,
            capture_output=True,
        )
        assert not done.returncode, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    def touched():
        now = contents(tree)
        return {name for name in {*before, *now} if before.get(name) != now.get(name)}

    return SimpleNamespace(tree=tree, edit=edit, python=python, touched=touched)


def promised(title):
    """The files that a recipe says it touches: ``**title** (2 files: `a`, `b`)``."""
    found = re.search(rf"\*\*{title}\*\* \((no|one|two|three|four|five|six) files?(?:: (.+?))?\)", CONTRIBUTING)
    assert found, f"CONTRIBUTING.md has no recipe for {title}"
    files = re.findall(r"`([^`]+)`", found[2] or "")
    assert len(files) == ["no", "one", "two", "three", "four", "five", "six"].index(found[1])
    return set(files)


def test_a_backbone(project):
    source = (project.tree / "notebooks/cxr/backbones.py").read_text(encoding="utf-8")
    row = re.search(r'    "MobileNet 0\.75": Backbone\(.*?\),\n(?=    ")', source, re.DOTALL)[0]
    another = row.replace("0.75", "0.25").replace("7_5", "2_5")
    project.edit("notebooks/cxr/backbones.py", row, row + another)
    said = project.python(
        "-c",
        "from cxr import backbones\n"
        "name, = backbones.choose('MobileNet 0.25')\n"
        "assert name in backbones.choose('all') and name not in backbones.choose('small')\n"
        "print(*[backbones.raw(one, 96).count_params() for one in (name, 'MobileNet 0.75')])",
    )
    small, large = map(int, said.split()[-2:])
    assert 0 < small < large
    assert project.touched() == promised("A backbone")


def test_a_metric(project):
    project.edit("notebooks/cxr/metrics.py", ' f1 mcc".split()', ' f1 mcc youden".split()')
    project.edit(
        "notebooks/cxr/metrics.py",
        '        "f1": 2 * tp /',
        '        "youden": tp / (tp + fn) + tn / (tn + fp) - 1,\n        "f1": 2 * tp /',
    )
    project.edit(
        "tests/contract.py",
        '        "mcc": sklearn_metrics',
        '        "youden": sklearn_metrics.balanced_accuracy_score(label, called, adjusted=True),\n'
        '        "mcc": sklearn_metrics',
    )
    said = project.python(
        "-c",
        "import numpy as np, contract\n"
        "from cxr import metrics\n"
        "rng = np.random.default_rng(0)\n"
        "label, said = rng.integers(0, 2, 80), rng.random(80)\n"
        "found = metrics.measure(label, said, 0.4)\n"
        "expected = contract.by_scikit_learn(label, said, 0.4)\n"
        "assert all(abs(found[name] - expected[name]) < 1e-9 for name in expected)\n"
        "spread = metrics.spread(label, said, 0.4, np.ones((3, 80)))\n"
        "assert np.allclose(spread['youden'], found['youden'])\n"
        "from cxr.project import fingerprint\n"
        "print(*fingerprint.stale(fingerprint.notebooks()['05']), sep='; ')",
    )
    assert "metrics.py, NAMES" in said and "metrics.py, _rates" in said, "and make stale says so"
    assert project.touched() == promised("A metric")


SURVEY = "import sys; from pathlib import Path; from cxr import data; print(data.survey(Path(sys.argv[1])).to_json())"


@pytest.mark.parametrize("table", [False, True], ids=["class folders", "with metadata.csv"])
def test_a_data_source(project, tmp_path, table):
    rng, films = np.random.default_rng(0), tmp_path / "films"
    names = [
        f"{split}/{kind}/{split}{i}_{view}.png"
        for split in ("train", "test")
        for kind in ("normal", "tuberculosis")
        for i in range(3)
        for view in "ab"
    ]
    for name in names:
        (films / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (120, 100), np.uint8)).save(films / name)
    if table:
        rows = [f"{name},{name.rpartition('_')[0].replace('/', ' ')}" for name in names]
        (films / "metadata.csv").write_text("\n".join(["path,patient", *rows, ""]))
    *warned, survey = project.python("-c", SURVEY, films).splitlines()
    found = json.loads(survey)
    assert set(found["class_name"].values()) == {"normal", "tuberculosis"} and len(found["path"]) == 24
    assert len(set(found["patient"].values())) == (12 if table else 24), "else each file is a patient"
    assert ("metadata.csv" in " ".join(warned)) != table
    assert project.touched() == promised("A data source")


HEADER = """# 11 · Count: how many films have an answer?

[← 10 External](10_external.ipynb) · [Project](../README.md) · **11 Count**
&nbsp; [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/{}/blob/main/notebooks/11_count.ipynb)

| | |
|---|---|
| **reads** | `results/05_predictions.csv` |
| **writes** | `results/11_count.csv` |
| **takes** | a second |
| **GPU** | not needed |

The network gives each film a number between 0 and 1, and from some number on we call it ill. How many films would
that be, if the number were one half? Here we take the answers that 05 has left, of validation and of test, count
those at or above `LEAST`, and keep the counts in a table, one row a split. Nothing is scored anew, and no threshold is
chosen by it. The counts are of films, not of patients.
"""
CELLS = (
    "LEAST = 0.5  # the probability from which on a film counts",
    "from cxr.chain import Step\nstep = Step('11_count')",
    "answers = step.read('05_predictions.csv')",
    "enough = (answers.probability >= LEAST).astype(int)\ncount = enough.groupby(answers.split).sum().reset_index()",
    "step.write('11_count.csv', count)\nstep.done()",
    f"## What we learned\n\n{report.LEARNED}\n",
)


def eleventh(tree):
    """A notebook that reads what 05 wrote, in the form of the others."""
    first = json.loads((tree / "notebooks/10_external.ipynb").read_text(encoding="utf-8"))
    address = re.search(r"colab/?.*?github/([\w.-]+/[\w.-]+)/blob", "".join(first["cells"][0]["source"]))[1]
    begin = next(cell for cell in first["cells"] if cell["cell_type"] == "code")
    sources = [HEADER.format(address), "".join(begin["source"]), *CELLS]
    cells = [
        {
            "cell_type": "markdown" if source.startswith("#") else "code",
            "id": f"cell-{i}",
            "source": source,
            "metadata": {"tags": ["parameters"]} if source == CELLS[0] else {},
        }
        for i, source in enumerate(sources)
    ]
    for cell in cells:
        cell |= {"outputs": [], "execution_count": None} if cell["cell_type"] == "code" else {}
    path = tree / "notebooks/11_count.ipynb"
    path.write_text(json.dumps(first | {"cells": cells}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def test_an_eleventh_notebook(project, tmp_path):
    eleventh(project.tree)
    row = "| [11 Count](../notebooks/11_count.ipynb) | how many? | `05_*` | `11_count.csv` |"
    last = "\n| [10 External](../notebooks/10_external.ipynb) |"
    project.edit("docs/chain.md", last, f"\n{row}{last}")
    template = "notebooks/cxr/project/templates/readme_notebooks.md.j2"
    project.edit(template, '{% call row("10") %}', '{% call row("11") %}as many{% endcall %}\n{% call row("10") %}')
    project.edit("notebooks/10_external.ipynb", "**10 External**", "**10 External** · [11 Count →](11_count.ipynb)")
    taught = project.tree / "notebooks/cxr/project/templates/learned_11.md.j2"
    taught.write_text(
        '{% for row in read("11_count.csv").itertuples() %}\n- {{ row.split }}: {{ row.probability }} films.\n'
        "{% endfor %}\n- The split of 02 is kept.\n",
        encoding="utf-8",
    )
    project.edit("tests/contract.py", '    "10": [', '    "11": ["11_count.csv"],\n    "10": [')
    for kind in ("train/NORMAL", "train/ill", "test/NORMAL", "test/ill"):
        (tmp_path / "films" / kind).mkdir(parents=True)
    done = project.python("-m", "cxr.project.run", "--notebooks", "11", CHEST_XRAY_DIR=str(tmp_path / "films"))
    assert "11_count.ipynb done in" in done and (project.tree / "results/11_count.csv").exists()
    assert "11" in project.python("-c", "from cxr.project import run; print(*run.choose('all')[-1:])")
    assert "LEAST" in project.python("-c", "from cxr.project import run; print(run.settings('LEAST=0.9'))")
    project.python("-m", "cxr.project.report")
    answered = "\n| [11&nbsp;Count](notebooks/11_count.ipynb) | how many films have an answer? | as many |\n"
    assert answered in (project.tree / "README.md").read_text(encoding="utf-8")
    files = [project.tree / "tests" / f"test_{name}.py" for name in ("notebooks", "project", "readme")]
    choice = ["-c", project.tree / "pyproject.toml", "-n", "0", "-k", "11_count or numbered or row or artifact"]
    said = project.python("-m", "pytest", "--rootdir", project.tree, *choice, *files)
    assert re.search(r"\b1[0-9] passed", said) and "failed" not in said, said
    assert project.touched() == promised("An eleventh notebook") | {"README.md"}  # which `make figures` wrote
    assert "11" not in run.CORE
