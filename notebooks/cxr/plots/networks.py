"""How networks were trained, and how they compare: figures of 04, 05, 07 and 08."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .style import BLUE, DOTTED, GRAY, GREEN, VERMILION, intervals, name_rows, say


def curves(history: pd.DataFrame, best: int, name: str) -> Figure:
    """Loss, accuracy and AUC of training and validation over the epochs, the epoch kept, `best`, marked."""
    figure, axes = plt.subplots(3, 1, figsize=(6.6, 5.6), sharex=True)
    for axis, figure_name, title in zip(axes, ("loss", "accuracy", "auc"), ("Loss", "Accuracy", "AUC")):
        axis.plot(history.epoch, history[figure_name], color=GRAY, linewidth=2, label="training")
        axis.plot(history.epoch, history[f"val_{figure_name}"], color=GREEN, linewidth=2, label="validation")
        axis.axvline(best, **DOTTED | {"color": "black"})
        axis.margins(y=0.08)
        axis.set_title(f"{title}, {name}")
    axes[-1].set(xlabel="epoch", xlim=(0.5, history.epoch.max() + 0.5))
    axes[-1].xaxis.get_major_locator().set_params(integer=True)
    axes[0].legend(frameon=False, loc="upper center")
    say(axes[0], f"epoch {best} is kept", best, axes[0].get_ylim()[1], (-4, -10), ha="right", fontsize=10)
    return figure


ROWS = {  # what a row of ``04_ablation.csv`` is called in a figure; docs/honesty.md says the same
    "plain CNN": "plain CNN",
    "plain CNN + Transplant": "plain CNN, lungs in other bodies",
    "this network": "this network, no changes",
    "+ CornerSwap": "+ corners of other films",
    "+ Flip, Framing": "+ mirrored, framed anew",
    "+ Contrast, Brightness, Sharpness": "+ contrast, brightness, sharpness",
    "+ Transplant: all": "+ lungs in other bodies: our recipe",
    "all + Erasing": "our recipe and holes",
    "all, maps not normalised": "our recipe, maps not normalised",
}


def ablation(table: pd.DataFrame) -> Figure:
    """Validation AUC of every `row` of ``04_ablation.csv``: each mark is a seed, each line their mean."""
    names = table.row.unique()
    in_own = [("val_auc", "plain", GRAY), ("stress_auc", "stress", BLUE), ("heldout_auc", "held out", GREEN)]
    in_other = [("conflict_auc", "", VERMILION)]
    panels = {"Lungs in a body of the other class": in_other, "Lungs in their own body": in_own}
    figure, axes = plt.subplots(2, 1, figsize=(6.6, 0.54 * len(names) + 1.8))
    for axis, (title, columns) in zip(axes, panels.items()):
        low = table[[column for column, *_ in columns]].min(axis=None)
        low = low - 0.05 * (1 - low)
        for i, (column, word, color) in enumerate(columns):
            own = table.groupby("row", sort=False)[column]
            at = 1 + (1 - low) * (0.04 + 0.24 * i)
            axis.scatter(table[column], own.ngroup(), s=28, color=color, alpha=0.6, linewidths=0, zorder=2)
            for y, mean in enumerate(own.mean()):
                axis.plot([mean, mean], [y - 0.33, y + 0.33], color=color, linewidth=2.5, zorder=3)
                axis.text(at, y, f"{mean:.3f}", va="center", fontsize=10, color=color)
            axis.text(at, -0.7, word, fontsize=10, color=color, va="bottom")
        axis.set(title=title, xlim=(low, 1 + 0.02 * (1 - low)))
        axis.xaxis.set_major_locator(MaxNLocator(4))
        axis.grid(axis="y", color="#eeeeee", zorder=0)
        name_rows(axis, [ROWS.get(name, name) for name in names], 0.6, 0.6)
    axes[-1].set_xlabel("validation AUC")
    return figure


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


def sizes_and_scores(table: pd.DataFrame, small: dict) -> Figure:
    """AUC on test with its 95% interval of backbones and of the small network, the smallest on top."""
    own = pd.DataFrame([small]).assign(backbone="small network of 04")
    table = pd.concat([own, table]).sort_values("parameters", kind="stable")
    colors = [VERMILION if name == "small network of 04" else GREEN for name in table.backbone]
    figure, axis = plt.subplots(figsize=(6.4, 1.4 + 0.55 * len(table)))
    intervals(axis, table.auc, table.auc_low, table.auc_high, colors, [(color, 0.4) for color in colors], 4, 65)
    for y, value in enumerate(table.auc):
        say(axis, f"{value:.3f}", value, y, (0, 8), ha="center", fontsize=11)
    words = table.backbone.str.replace("network of 04", "net of 04") + "\n"
    axis.set_yticks(range(len(table)), words + (table.parameters / 1e6).map("{:.2f} M parameters".format))
    axis.set(xlabel="AUC on test, with its 95% interval", ylim=(len(table) - 0.5, -0.7))
    figure.text(0, 1.01, "from scratch:\nthe seed that 04 keeps", color=VERMILION, fontsize=11, va="bottom")
    figure.text(0.46, 1.01, "backbones, fine-tuned:\nseed 0", color=GREEN, fontsize=11, va="bottom")
    axis.xaxis.set_major_locator(MaxNLocator(5))
    return figure


def by_class(table: pd.DataFrame) -> Figure:
    """AUC and F1 of each class (``kind``) against the rest: a mark a seed, a line their mean, one colour a network."""
    kinds, networks = table.kind.unique(), table.network.unique()
    figure, axes = plt.subplots(2, 1, figsize=(6.4, 1.5 * len(kinds) + 1.5))
    for axis, what, title in zip(axes, ("auc", "f1"), ("AUC", "F1")):
        for i, (network, color) in enumerate(zip(networks, (VERMILION, GREEN, GRAY, BLUE))):
            for y, kind in enumerate(kinds):
                own = table[what][(table.network == network) & (table.kind == kind)]
                at, mean = y + 0.34 * (i - (len(networks) - 1) / 2), own.mean()
                axis.scatter(own, [at] * len(own), s=50, color=color, alpha=0.7, linewidths=0)
                axis.plot([mean, mean], [at - 0.13, at + 0.13], color=color, linewidth=3)
                say(axis, f"{mean:.3f}", own.max(), at, (9, -4), color=color, fontsize=11)
                if y == 0 and axis is axes[0]:
                    say(axis, network, own.min(), at, (-9, -4), color=color, fontsize=11, ha="right")
        low = table[what].min()
        axis.set(xlim=(max(0, low - 0.05), 1 + 0.15 * (1 - low)))
        axis.set_title(f"{title}, each against the rest", fontsize=11)
        name_rows(axis, kinds)
        axis.tick_params(axis="y", labelsize=11)
    return figure
