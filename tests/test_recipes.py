"""CONTRIBUTING's recipes, followed in a copy of the project: they work, and touch no more files than they say."""

import json
import os
import re
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest

from cxr.paths import ROOT

PARTS = ("notebooks", "results", "tools", "tests", "docs", "README.md", "pyproject.toml", "Makefile")


def contents(folder):
    skipped = {"results", "__pycache__", ".cache"}
    files = [path for path in folder.rglob("*") if path.is_file() and not skipped & set(path.parts)]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture
def project(tmp_path):
    """A copy of the project: `edit` one of its files, run `python` in it, and which files are `touched`."""
    tree = tmp_path / "project"
    tree.mkdir()
    for name in PARTS:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tree / name)
    before = contents(tree)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("CXR_", "CHEST_"))}
    environment |= {"PYTHONDONTWRITEBYTECODE": "1", "CHEST_XRAY_DIR": str(tmp_path / "films")}
    environment |= {"PYTHONPATH": os.pathsep.join(str(tree / name) for name in ("notebooks", "tools", "tests"))}

    def edit(name, old, new):
        text = (tree / name).read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{old} stands {text.count(old)} times in {name}"
        (tree / name).write_text(text.replace(old, new), encoding="utf-8")

    def python(*arguments):
        command = [sys.executable, *map(str, arguments)]
        done = subprocess.run(command, cwd=tree, text=True, env=environment, capture_output=True)
        assert not done.returncode, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    def touched():
        now = contents(tree)
        return {name for name in {*before, *now} if before.get(name) != now.get(name)}

    return SimpleNamespace(tree=tree, edit=edit, python=python, touched=touched)


def promised(title):
    """The files that a recipe says it touches: ``**title** (two files: `a`, `b`)``."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    count, files = re.search(rf"\*\*{title}\*\* \((one|two) files?: (.+?)\)", text).groups()
    found = set(re.findall(r"`([^`]+)`", files))
    assert len(found) == ["one", "two"].index(count) + 1
    return found


def test_a_metric(project):
    source = "notebooks/cxr/metrics.py"
    project.edit(source, 'NAMES = "', 'NAMES = "youden ')
    project.edit(
        source,
        '        "f1": 2 * tp /',
        '        "youden": tp / (tp + fn) + tn / (tn + fp) - 1,\n        "f1": 2 * tp /',
    )
    said = project.python(
        "-c",
        "import numpy as np; from cxr import chain, metrics\n"
        "from sklearn.metrics import balanced_accuracy_score as balanced\n"
        "rng = np.random.default_rng(0); y_true, y_score = rng.integers(0, 2, 80), rng.random(80)\n"
        "found = metrics.measure(y_true, y_score, 0.4)['youden']\n"
        "assert abs(found - balanced(y_true, y_score >= 0.4, adjusted=True)) < 1e-9\n"
        "assert np.allclose(metrics.spread(y_true, y_score, 0.4, np.ones((3, 80)))['youden'], found)\n"
        "print(chain.stale(chain.notebooks()['05']))",
    )
    assert said.strip() == "True", "and 05 is known to be of older code"
    assert project.touched() == promised("A metric")


def test_a_sampler(project):
    added = (
        "class ByLabel(Batches):\n"
        '    """First the one class, then the other."""\n\n'
        "    def order(self, epoch):\n"
        "        order = np.argsort(self.labels, kind='stable')\n"
        "        return order[: len(self) * self.size].reshape(-1, self.size).astype('int32')\n\n\n"
    )
    source = (project.tree / "notebooks/cxr/training.py").read_text(encoding="utf-8")
    after = re.search(r"^class Batches\b.*?\n\n\n(?=\S)", source, re.DOTALL | re.MULTILINE)[0]
    project.edit("notebooks/cxr/training.py", after, after + added)
    page = project.tree / "notebooks/04_train.ipynb"
    page.write_text(
        page.read_text(encoding="utf-8").replace("training.Batches(", "training.ByLabel("), encoding="utf-8"
    )
    project.python(
        "-c",
        "import numpy as np; from cxr import keys, training\n"
        "pictures, labels = np.zeros((4, 8, 8), 'uint8'), np.array([1, 0, 1, 0])\n"
        "batches = training.ByLabel(pictures, labels, np.ones(4, 'float32'), 2, 0)\n"
        "seen = [batch[1].numpy().tolist() for batch in batches.epochs(0, 1)]\n"
        "assert seen == [[0, 0], [1, 1]], seen\n"
        "assert keys.code_hash(training.ByLabel) != keys.code_hash(training.Batches), 'of checkpoints'",
    )
    assert project.touched() == promised("A sampler")


def test_a_backbone(project):
    name = "notebooks/07_transfer.ipynb"
    project.edit(name, "keras.applications.MobileNetV2(\\n", "keras.applications.DenseNet121(\\n")
    project.edit(name, " alpha=WIDTH,", "")
    project.edit(name, 'NAME = \\"MobileNetV2\\"', 'NAME = \\"DenseNet121\\"')
    project.python(
        "-c",
        "from cxr import chain\n"
        "from cxr.backend import keras\n"
        "known = {'keras': keras, 'layers': keras.layers, 'IMAGE_SIZE': 96, 'WIDTH': 0.25, 'imagenet': None}\n"
        f"page = chain.code_cells(chain.ROOT / '{name}')\n"
        "exec(next(cell for cell in page if cell.startswith('NAME = ')), known)\n"
        "assert known['backbone']().name == 'densenet121' and known['with_answer'](known['backbone']()).built",
    )
    assert project.touched() == promised("A backbone")


HEADER = """# 11 · Count: how many films have an answer?

[← 10 External](10_external.ipynb) · [Project](../README.md) · **11 Count**
&nbsp; [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/chest-xray-notebooks/blob/main/notebooks/11_count.ipynb)

| | |
|---|---|
| **reads** | `results/05_predictions.csv` |
| **writes** | `results/11_count.csv` |
| **takes** | a second |
| **GPU** | not needed |

The network gives each film a number between 0 and 1. Here we count those at or above `LEAST`. Not a diagnostic device.
"""
CELLS = (
    "LEAST = 0.5  # the probability from which on a film counts",
    "from cxr.chain import Step\nstep = Step('11_count')\nanswers = step.read('05_predictions.csv')",
    "count = (answers.probability >= LEAST).groupby(answers.split).sum().reset_index()\n"
    "step.write('11_count.csv', count)\nstep.done()",
)


def test_a_notebook(project, tmp_path):
    """It reads what 05 wrote; runner, README's table and tests find it by its number."""
    tenth = json.loads((project.tree / "notebooks/10_external.ipynb").read_text(encoding="utf-8"))
    setup = next("".join(cell["source"]) for cell in tenth["cells"] if cell["cell_type"] == "code")
    cells = [{"cell_type": "markdown", "id": "cell-0", "metadata": {}, "source": HEADER}]
    for i, source in enumerate((setup, *CELLS), 1):
        metadata = {"tags": ["parameters"]} if source == CELLS[0] else {}
        code = {"cell_type": "code", "outputs": [], "execution_count": None}
        cells.append(code | {"id": f"cell-{i}", "metadata": metadata, "source": source})
    path = project.tree / "notebooks/11_count.ipynb"
    path.write_text(json.dumps(tenth | {"cells": cells}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    last = re.search(r"\n\| \[10 External\].+\n", (project.tree / "docs/chain.md").read_text(encoding="utf-8"))[0]
    row = "| [11 Count](../notebooks/11_count.ipynb) | how many? | `05_predictions.csv` | `11_count.csv` |\n"
    project.edit("docs/chain.md", last, f"{last}{row}")
    for kind in ("train/NORMAL", "train/ill", "test/NORMAL", "test/ill"):
        (tmp_path / "films" / kind).mkdir(parents=True)
        shutil.copy(ROOT / "chest_xray/sample/sample.json", tmp_path / "films" / kind / "a.jpeg")
    assert "11_count.ipynb done in" in project.python("tools/run.py", "--notebooks", "11")
    assert (project.tree / "results/11_count.csv").exists()
    project.python("tools/report.py")
    assert "| [11&nbsp;Count](notebooks/11_count.ipynb) | how many films" in (project.tree / "README.md").read_text()
    files = [f"tests/test_{name}.py" for name in ("notebooks", "readme")]
    choice = ["-c", "pyproject.toml", "-n", "0", "-k", "11_count or numbered or has_a_row or in_the_table"]
    said = project.python("-m", "pytest", "--rootdir", project.tree, *choice, *files)
    assert re.search(r"\b1[0-9] passed", said) and "failed" not in said, said
    assert project.touched() - {"README.md"} == promised("A notebook")
