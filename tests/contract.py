"""What the notebooks promise: which artifacts each of them writes, and by what their figures are checked."""

import pytest
from sklearn import metrics as sklearn_metrics

import run
from cxr import fingerprint

NOTEBOOKS = list(fingerprint.notebooks().values())
BEYOND = [number for number in fingerprint.notebooks() if number not in run.CORE]
TINY_AND_COMMITTED = [pytest.param("tiny", marks=pytest.mark.chain), "committed"]  # which of two results folders
MANIFEST = ["path", "folder", "class_name", "label", "subtype", "patient", "width", "height", "mode", "bytes", "sha256"]
ARTIFACTS = {
    "01": ["01_manifest.csv"],
    "02": [
        "02_split.csv",
        "02_left_out.csv",
        "02_audit.json",
        "02_samples.png",
        "02_class_balance.png",
        "02_sizes.png",
        "02_audit_baselines.png",
        "02_audit_letters.png",
        "02_audit_shift.png",
        "02_audit_gallery.png",
        "02_body.keras",
        "02_body.png",
    ],
    "03": [
        "03_augmentation.json",
        "03_lungs.keras",
        "03_lungs.csv",
        "03_lungs.png",
        "03_transplants.png",
        "03_augmentation.png",
    ],
    "04": [
        "04_xray_classification_model.keras",
        "04_ensemble.keras",
        "04_plain.keras",
        "04_seeds.csv",
        "04_plain_seeds.csv",
        "04_val_predictions.csv",
        "04_history.csv",
        "04_run.json",
        "04_timing.json",
        "04_loss_accuracy_plot.png",
        "04_ablation.csv",
        "04_ablation.png",
    ],
    "05": [
        "05_metrics.json",
        "05_predictions.csv",
        "05_seed_predictions.csv",
        "05_test_ledger.csv",
        "05_test_scores.csv",
        "05_classification_report.csv",
        "05_subgroups.csv",
        "05_robustness.csv",
        "05_flow.png",
        "05_seeds.png",
        "05_swap.png",
        "05_same_lungs.png",
        "05_roc.png",
        "05_confusion_matrix.png",
        "05_calibration.png",
        "05_decision_curve.png",
        "05_subgroups.png",
        "05_robustness.png",
        "MODEL_CARD.md",
    ],
    "06": ["06_attention.csv", "06_explain.json", "06_gradcam.png", "06_attention.png"],
    "07": [
        "07_backbones.csv",
        "07_seeds.csv",
        "07_val_predictions.csv",
        "07_transfer.keras",
        "07_run.json",
        "07_seed_predictions.csv",
        "07_metrics.json",
        "07_test_ledger.csv",
        "07_test_scores.csv",
        "07_timing.json",
        "07_backbones.png",
        "07_seeds.png",
    ],
    "08": [
        "08_seeds.csv",
        "08_subtypes.keras",
        "08_predictions.csv",
        "08_metrics.json",
        "08_test_ledger.csv",
        "08_test_scores.csv",
        "08_timing.json",
        "08_confusion.png",
        "08_classes.png",
    ],
    "09": [
        "09_gate.keras",
        "09_gate.json",
        "09_gate.csv",
        "09_gate.png",
        "09_predictions.csv",
        "09_predictions.png",
        "09_test_ledger.csv",
        "09_test_scores.csv",
    ],
    "10": [
        "10_external.json",
        "10_predictions.csv",
        "10_shift.csv",
        "10_learning.csv",
        "10_answers.png",
        "10_shift.png",
        "10_roc.png",
        "10_calibration.png",
        "10_learning.png",
    ],
}


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
