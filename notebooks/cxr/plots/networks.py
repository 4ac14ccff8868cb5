"""How networks were trained, and how they compare: figures of 04, 05, 07 and 08."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from .style import BLUE, DOTTED, GRAY, GREEN, VERMILION, intervals, name_rows, say


def curves(history: pd.DataFrame, best: int, name: str) -> Figure:
    """Loss, accuracy and AUC of training and validation over the epochs, the epoch that was kept, `best`, marked.

    `history` has ``epoch``, ``loss``, ``accuracy``, ``auc``, and the last three with ``val_`` before them; `name` says
    whose they are.
    """
    figure, axes = plt.subplots(1, 3, figsize=(9.4, 3.2))
    for axis, figure_name, title in zip(axes, ("loss", "accuracy", "auc"), ("Loss", "Accuracy", "AUC")):
        axis.plot(history.epoch, history[figure_name], color=GRAY, linewidth=2, label="training")
        axis.plot(history.epoch, history[f"val_{figure_name}"], color=GREEN, linewidth=2, label="validation")
        axis.axvline(best, **DOTTED | {"color": "black"})
        axis.set(title=f"{title}, {name}" if title == "Loss" else title, xlabel="epoch")
        axis.xaxis.get_major_locator().set_params(integer=True)
    axes[0].legend(frameon=False)
    say(axes[0], "kept", best, axes[0].get_ylim()[1], (3, -10))
    return figure


def ablation(table: pd.DataFrame) -> Figure:
    """Validation AUC of every row: with the lungs in a body of the other class; as it is, stressed, held-out changes.

    Each mark is a seed, each line their mean. `table` has one row a training: ``row`` (its name), ``conflict_auc``,
    ``val_auc``, ``stress_auc``, ``heldout_auc``.
    """
    names = table.row.unique()
    panels = [
        ("lungs in a body\nof the other class", [("conflict_auc", "", VERMILION)]),
        ("lungs in\ntheir own body", [("val_auc", "as\nit is", GRAY), ("stress_auc", "stres-\nsed", BLUE)]),
    ]
    panels[1][1].append(("heldout_auc", "not prac-\ntised", GREEN))
    size = (9.4, 0.42 * len(names) + 1.3)
    figure, axes = plt.subplots(1, 2, figsize=size, width_ratios=[1, 2], sharey=True)
    for axis, (title, columns) in zip(axes, panels):
        low = table[[column for column, *_ in columns]].min(axis=None)
        low = low - 0.05 * (1 - low)
        for i, (column, word, color) in enumerate(columns):
            own = table.groupby("row", sort=False)[column]
            at = 1 + (1 - low) * (0.04 + 0.17 * i if len(columns) > 1 else 0.04)
            axis.scatter(table[column], own.ngroup(), s=32, color=color, alpha=0.6, linewidths=0, zorder=2)
            for y, mean in enumerate(own.mean()):
                axis.plot([mean, mean], [y - 0.33, y + 0.33], color=color, linewidth=2.5, zorder=3)
                axis.text(at, y, f"{mean:.3f}", va="center", fontsize=10, color=color)
            axis.text(at, -0.7, word, fontsize=9, color=color, va="bottom")
        axis.set(xlim=(low, 1.0), xlabel="validation AUC")
        axis.set_title(title, pad=10)
        axis.grid(axis="y", color="#eeeeee", zorder=0)
        name_rows(axis, names, 0.6, 0.6)
    return figure


def seed_points(
    table: pd.DataFrame, others: pd.DataFrame, name: str = "this network", plain: pd.DataFrame | None = None
) -> Figure:
    """Accuracy and AUC on test of every seed (dots), their mean (line), and the answers they are held against.

    `table` has ``accuracy`` and ``auc``, one row a seed of the network called `name`; `plain`, if there is one, the
    same of the plain CNN; `others` has ``answer``, ``accuracy``, ``auc`` (NaN where none was published).
    """
    columns = ["accuracy", "auc"]
    trained = {name: (table, VERMILION)} | ({} if plain is None else {"plain CNN": (plain, BLUE)})
    rows = [*(f"{who}, {len(own)} seeds" for who, (own, _) in trained.items()), *others.answer]
    lowest = pd.concat([own[columns] for own, _ in trained.values()] + [others[columns]]).min(axis=None)
    low, first = min(0.85, lowest - 0.05), len(trained)
    figure, axes = plt.subplots(1, 2, figsize=(9.4, 0.36 * len(rows) + 0.94), sharey=True)
    for axis, what, title in zip(axes, columns, ("accuracy", "AUC")):
        means, ends = list[float](), list[float]()
        for y, (own, color) in enumerate(trained.values()):
            means.append(own[what].mean())
            ends.append(own[what].max())
            axis.scatter(own[what], [y] * len(own), color=color, s=45, alpha=0.7)
            axis.plot([means[y]] * 2, [y - 0.35, y + 0.35], color=color, linewidth=3)
        axis.axvline(means[0], **DOTTED | {"color": VERMILION}, zorder=0)
        axis.scatter(others[what], np.arange(len(others)) + first, color="black", s=35)
        for y, (value, end) in enumerate(zip([*means, *others[what]], [*ends, *others[what]])):
            say(axis, f"{value:.3f}", end, y)
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
