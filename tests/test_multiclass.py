"""Figures of several classes against scikit-learn's: as 08 writes them out in its cells."""

import ast

import nbformat
import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sklearn_metrics

from cxr import metrics
from cxr.paths import ROOT, Problem

NAMES = ["normal", "bacteria", "virus"]


@pytest.fixture(scope="module")
def page():
    """The figures that 08 defines, in its own cells."""
    known = {"np": np, "pd": pd}
    known |= {name: getattr(sklearn_metrics, name) for name in ("f1_score", "roc_auc_score")}
    path = next((ROOT / "notebooks").glob("08_*.ipynb"))
    for cell in nbformat.read(path, as_version=4).cells:
        for node in ast.parse(cell.source).body if cell.cell_type == "code" else ():
            if getattr(node, "name", "") in ("macro_auc", "ill_auc", "measure"):
                exec(ast.unparse(node), known)
    return known


@pytest.fixture(scope="module")
def scored():
    """200 images, and answers that are right more often than not."""
    rng = np.random.default_rng(0)
    code = rng.integers(0, 3, 200)
    score = rng.dirichlet(np.ones(3), 200) + 0.5 * np.eye(3)[code]
    return code, score / score.sum(axis=1, keepdims=True)


def test_figures_of_08_are_those_of_scikit_learn(page, scored):
    code, score = scored
    found = page["measure"](code, {"it": score}).loc["it"]
    called, sick = score.argmax(axis=1), code > 0
    assert found["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(code, called))
    assert found["macro_auc"] == pytest.approx(sklearn_metrics.roc_auc_score(code, score, multi_class="ovr"))
    share = score[sick, 2] / score[sick, 1:].sum(axis=1)
    assert found["ill_auc"] == pytest.approx(sklearn_metrics.roc_auc_score(code[sick] == 2, share))


def test_08_takes_four_kinds(page):
    code, score = np.arange(40) % 4, np.random.default_rng(0).dirichlet(np.ones(4), 40)
    found = page["measure"](code, {"all": score}).loc["all"]
    assert found.macro_auc == pytest.approx(sklearn_metrics.roc_auc_score(code, score, multi_class="ovr"))


def table_of(subtypes, split="train val test", folder="PNEUMONIA"):
    rows = [(name, int(name != "normal"), folder, part) for part in split.split() for name in subtypes]
    return pd.DataFrame(rows, columns=["subtype", "label", "class_name", "split"])


def test_classes_are_numbered_normal_first_and_too_few_are_named():
    code, names = metrics.class_codes(table_of(["virus", "normal", "bacteria"]))
    assert names == NAMES and list(code[:3]) == [2, 0, 1]
    table = pd.concat([table_of(["normal", "virus"]), table_of([""], folder="COVID").assign(label=1)])
    assert metrics.class_codes(table)[1] == ["normal", "covid", "virus"], "named by the folder where the name is silent"
    with pytest.raises(Problem, match=r"2 kinds only \(normal, pneumonia\).*class folders"):
        metrics.class_codes(table_of(["normal", ""]))
    with pytest.raises(Problem, match="val split has no virus image"):
        metrics.class_codes(table[(table.split != "val") | (table.subtype != "virus")])
