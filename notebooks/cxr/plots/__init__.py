"""Figures in one style, set on import; each function returns a Matplotlib figure, and nothing is saved or shown."""

# ruff: noqa: F401 (notebooks say plots.roc, whatever the module)

from .elsewhere import verdicts
from .evaluation import confusion, exam, reliability, same_lungs, swap
from .heatmaps import heat
from .style import BLUE, BY_LABEL, GRAY, GREEN, VERMILION, grid, outline, summary, use_style

use_style()
