"""By what the figures of the notebooks are checked, and where both kinds of results lie."""

import os

import pytest
from sklearn import metrics as sklearn_metrics

from cxr import chain

NOTEBOOKS = list(chain.notebooks().values())
RUN = [path for path in NOTEBOOKS if path.parent.name != "appendix" or "APPENDIX" in os.environ]  # on drawn films
TINY_AND_COMMITTED = [pytest.param("tiny", marks=pytest.mark.chain), "committed"]  # which of two results folders
OF_APPENDIX = TINY_AND_COMMITTED[len(RUN) < len(NOTEBOOKS) :]
MANIFEST = ["path", "folder", "class_name", "label", "subtype", "patient", "width", "height", "mode", "bytes", "sha256"]


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


def by_scikit_learn(label, probability, threshold):
    """The figures of 05_metrics.json, by scikit-learn alone."""
    called = probability >= threshold
    return {
        "accuracy": sklearn_metrics.accuracy_score(label, called),
        "auc": sklearn_metrics.roc_auc_score(label, probability),
        "balanced_accuracy": sklearn_metrics.balanced_accuracy_score(label, called),
        "average_precision": sklearn_metrics.average_precision_score(label, probability),
        "sensitivity": sklearn_metrics.recall_score(label, called),
        "specificity": sklearn_metrics.recall_score(label, called, pos_label=0),
        "ppv": sklearn_metrics.precision_score(label, called, zero_division=0),
        "npv": sklearn_metrics.precision_score(label, called, pos_label=0, zero_division=0),
        "f1": sklearn_metrics.f1_score(label, called),
        "mcc": sklearn_metrics.matthews_corrcoef(label, called),
    }
