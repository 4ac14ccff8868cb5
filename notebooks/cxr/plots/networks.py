"""How networks were trained, and how they compare: figures of 04, 05 and 07."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .style import GRAY, GREEN, name_rows


def seed_points(
    table: pd.DataFrame, others: pd.DataFrame, name: str = "this network", plain: pd.DataFrame | None = None
) -> Figure:
    """Accuracy and AUC on test of every seed (dots), their mean (line), and the answers they are held against."""
    columns = ["accuracy", "auc"]
    trained = {name: (table, GREEN)} | ({} if plain is None else {"plain CNN": (plain, GRAY)})
    rows = [*(f"{who}, {len(own)} seeds" for who, (own, _) in trained.items()), *others.answer]
    lowest = pd.concat([own[columns] for own, _ in trained.values()] + [others[columns]]).min(axis=None)
    low, first = min(0.85, lowest - 0.05), len(trained)
    figure, axes = plt.subplots(1, 2, figsize=(6.6, 0.3 * len(rows) + 0.8), sharey=True)
    for axis, what, title in zip(axes, columns, ("accuracy", "AUC")):
        means = [own[what].mean() for own, _ in trained.values()]
        for y, (own, color) in enumerate(trained.values()):
            axis.scatter(own[what], [y] * len(own), color=color, s=35, alpha=0.6, linewidths=0)
            axis.plot([means[y]] * 2, [y - 0.35, y + 0.35], color=color, linewidth=2.5)
        axis.scatter(others[what], np.arange(len(others)) + first, color="black", s=30)
        for y, value in enumerate([*means, *others[what]]):
            if value == value:
                axis.text(1 + 0.06 * (1 - low), y, f"{value:.3f}", va="center", fontsize=10)
        axis.set(title=title, xlim=(low, 1 + 0.02 * (1 - low)))
        axis.xaxis.set_major_locator(MaxNLocator(3))
        axis.grid(axis="y", color="#eeeeee", zorder=0)
        name_rows(axis, rows, 0.7, 0.6)
    return figure
