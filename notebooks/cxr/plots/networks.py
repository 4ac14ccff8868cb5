"""How networks were trained, and how they compare: figures of 04, 05, 07 and 08."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from .style import BLUE, DOTTED, GRAY, GREEN, VERMILION, intervals, name_rows, say


def curves(history: pd.DataFrame, best: int) -> Figure:
    """Loss, accuracy and AUC of training and validation over the epochs, the epoch that was kept, `best`, marked.

    `history` has ``epoch``, ``loss``, ``accuracy``, ``auc``, and the last three with ``val_`` before them.
    """
    figure, axes = plt.subplots(1, 3, figsize=(9.4, 3.2))
    for axis, name, title in zip(axes, ("loss", "accuracy", "auc"), ("Loss", "Accuracy", "AUC")):
        axis.plot(history.epoch, history[name], color=GRAY, linewidth=2, label="training")
        axis.plot(history.epoch, history[f"val_{name}"], color=GREEN, linewidth=2, label="validation")
        axis.axvline(best, **DOTTED | {"color": "black"})
        axis.set(title=title, xlabel="epoch")
        axis.xaxis.get_major_locator().set_params(integer=True)
    for axis, name, room, top in ((axes[1], "accuracy", 0.05, 1.005), (axes[2], "auc", 0.03, 1.003)):
        low = history[[name, f"val_{name}"]].quantile(0.1).min()
        axis.set_ylim(max(0.4, low - room), top)
    axes[0].legend(frameon=False)
    say(axes[0], "kept", best, axes[0].get_ylim()[1], (3, -10))
    return figure


def ablation(table: pd.DataFrame) -> Figure:
    """Validation AUC of every row: as it is, under stress, there where clues mislead, and under held-out changes.

    Each mark is a seed, each line their mean. `table` has one row a training: ``row`` (its name), ``val_auc``,
    ``stress_auc``, ``bias_conflicting_auc``, ``heldout_auc``.
    """
    columns = ["val_auc", "stress_auc", "bias_conflicting_auc", "heldout_auc"]
    titles = ["as it is", "stressed", "clues\nmislead", "not\npractised"]
    names = table.row.unique()
    low = table[columns].min(axis=None) - 0.01
    figure, axis = plt.subplots(figsize=(9.4, 0.42 * len(names) + 1.1))
    for i, (column, title, color) in enumerate(zip(columns, titles, (GRAY, BLUE, VERMILION, GREEN))):
        own, at = table.groupby("row", sort=False)[column], 1 + (1 - low) / 8 * (0.2 + i)
        axis.scatter(table[column], own.ngroup(), s=32, color=color, alpha=0.6, linewidths=0, zorder=2)
        for y, mean in enumerate(own.mean()):
            axis.plot([mean, mean], [y - 0.33, y + 0.33], color=color, linewidth=2.5, zorder=3)
            axis.text(at, y, f"{mean:.3f}", va="center", fontsize=10, color=color)
        axis.text(at, -0.75, title, fontsize=9, color=color, va="bottom")
    axis.set(xlim=(low, 1.0), xlabel="validation AUC; marks: seeds, lines: means")
    axis.grid(axis="y", color="#eeeeee", zorder=0)
    name_rows(axis, names, 0.6, 0.6)
    return figure


def seed_points(table: pd.DataFrame, others: pd.DataFrame, name: str = "this network") -> Figure:
    """Accuracy and AUC on test of every seed (dots), their mean (line), and the answers they are held against.

    `table` has ``accuracy`` and ``auc``, one row a seed of the network called `name`; `others` has ``answer``,
    ``accuracy``, ``auc`` (NaN where none was published).
    """
    columns = ["accuracy", "auc"]
    rows = [f"{name}, {len(table)} seeds", *others.answer]
    low = min(0.85, pd.concat([table, others])[columns].min(axis=None) - 0.05)
    figure, axes = plt.subplots(1, 2, figsize=(9.4, 0.36 * len(others) + 1.3), sharey=True)
    for axis, what, title in zip(axes, columns, ("accuracy", "AUC")):
        mean = table[what].mean()
        axis.scatter(table[what], [0] * len(table), color=VERMILION, s=45, alpha=0.7)
        axis.plot([mean, mean], [-0.35, 0.35], color=VERMILION, linewidth=3)
        axis.axvline(mean, **DOTTED | {"color": VERMILION}, zorder=0)
        axis.scatter(others[what], np.arange(len(others)) + 1, color="black", s=35)
        for y, value in enumerate([mean, *others[what]]):
            say(axis, f"{value:.3f}", value, y)
        axis.set(title=title, xlim=(low, 1 + 0.11 * (1 - low)))
        name_rows(axis, rows, 0.7, 0.6)
    return figure


def sizes_and_scores(table: pd.DataFrame, small: dict) -> Figure:
    """AUC on test, a line a network, the smallest on top: backbones with their 95% intervals, and the small network.

    `table` has ``backbone``, ``parameters``, ``auc``, ``auc_low``, ``auc_high``; `small` has the last four of them, its
    bounds being its worst and best seed.
    """
    own = pd.DataFrame([small]).assign(backbone="small network of 04")
    table = pd.concat([own, table]).sort_values("parameters", kind="stable")
    colors = [VERMILION if name == "small network of 04" else BLUE for name in table.backbone]
    figure, axis = plt.subplots(figsize=(7.5, 0.8 + 0.5 * len(table)))
    intervals(axis, table.auc, table.auc_low, table.auc_high, colors, [(color, 0.4) for color in colors], 3, 55)
    for y, value in enumerate(table.auc):
        say(axis, f"{value:.3f}", value, y, (0, 7), ha="center")
    axis.set_yticks(range(len(table)), table.backbone + (table.parameters / 1e6).map(", {:.2f} M".format))
    axis.set(xlabel="AUC on test", ylim=(len(table) - 0.5, -0.7))
    return figure


def by_class(table: pd.DataFrame) -> Figure:
    """AUC and F1 of each class against the rest: a mark a seed, a line their mean, one colour a network.

    `table` has ``network``, ``kind``, ``auc``, ``f1``.
    """
    kinds, networks = table.kind.unique(), table.network.unique()
    figure, axes = plt.subplots(1, 2, figsize=(9.4, 0.5 * len(kinds) + 1.5), sharey=True)
    for axis, what, title in zip(axes, ("auc", "f1"), ("AUC", "F1")):
        for i, (network, color) in enumerate(zip(networks, (VERMILION, BLUE, GREEN, GRAY))):
            for y, kind in enumerate(kinds):
                own = table[what][(table.network == network) & (table.kind == kind)]
                at, mean = y + 0.3 * (i - (len(networks) - 1) / 2), own.mean()
                name = network if y == 0 else None
                axis.scatter(own, [at] * len(own), s=35, color=color, alpha=0.7, linewidths=0, label=name)
                axis.plot([mean, mean], [at - 0.12, at + 0.12], color=color, linewidth=3)
                say(axis, f"{mean:.3f}", own.max(), at, (7, -4), color=color)
        low = table[what].min()
        axis.set(title=f"{title}, each against the rest", xlim=(max(0, low - 0.05), 1 + 0.15 * (1 - low)))
        name_rows(axis, kinds)
    axes[0].legend(frameon=False, fontsize=9, loc="upper left")
    return figure
