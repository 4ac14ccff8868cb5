"""How far an answer can be believed: figures of 05 and 08."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from .style import BLUE, DOTTED, GRAY, GREEN, VERMILION, grid, intervals, name_rows, outline


def roc(bands: dict[str, tuple[str, pd.DataFrame]], points: dict[str, dict], whole: bool = False) -> Figure:
    """ROC and precision-recall curves side by side, with their 95% bands and the operating points.

    Parameters
    ----------
    bands : dict of name to (color, table as `metrics.bands` returns it)
        The first one gets its band.
    points : dict of name to figures as `metrics.measure` returns them
    whole : bool
        Show the whole of both axes, and not the corners only.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(6.6, 3.9))
    for axis, what, steps in ((left, "sensitivity", "steps-post"), (right, "precision", "steps-pre")):
        for name, (color, table) in bands.items():
            axis.plot(table["at"], table[what], color=color, linewidth=2, label=name, drawstyle=steps)
        color, table = next(iter(bands.values()))
        bounds = table[f"{what}_low"], table[f"{what}_high"]
        axis.fill_between(table["at"], *bounds, color=color, alpha=0.15, linewidth=0)
    for (name, own), marker in zip(points.items(), "os^D"):
        style = {"marker": marker, "linestyle": "", "color": "black", "markersize": 7, "zorder": 5}
        left.plot(1 - own["specificity"], own["sensitivity"], label=name, **style)
        right.plot(own["sensitivity"], own["ppv"], **style)
    left.plot([0, 1], [0, 1], **DOTTED)
    start, end = (-0.01, 1.01) if whole else (0.5, 0.5)
    low = min(0.6, *(table.precision.min() for _, table in bands.values())) - 0.01
    left.set(title="ROC", xlim=(-0.01, end), ylim=(start, 1.01), ylabel="sensitivity")
    left.set_xlabel("1 - specificity\n(share of normal films called ill)")
    right.set(title="Precision and recall", xlim=(start, 1.01), ylim=(low, 1.01), ylabel="precision (PPV)")
    right.set_xlabel("sensitivity\n(share of pneumonia films found)")
    figure.legend(*left.get_legend_handles_labels(), frameon=False, loc="outside lower center", ncols=2)
    return figure


def confusion(counts: np.ndarray, names: list[str], title: str = "") -> Figure:
    """Confusion matrix: each cell the count and the share of its true class.

    `counts` has the shape (classes, classes): images by label (rows) and by answer (columns); normal comes first.
    """
    shares = counts / counts.sum(axis=1, keepdims=True)
    text = np.array([f"{n}\n{share:.1%}" for n, share in zip(counts.flat, shares.flat)]).reshape(shares.shape)
    figure, axis = plt.subplots(figsize=(1.15 * len(names) + 1.6, len(names) + 1.2))
    style = {"annot_kws": {"fontsize": 12}, "linewidths": 2, "xticklabels": names, "yticklabels": names}
    sns.heatmap(shares, annot=text, fmt="", cmap="Blues", vmin=0, vmax=1, cbar=False, square=True, ax=axis, **style)
    axis.set(xlabel="the model says", ylabel="the label says", title=title)
    axis.tick_params(length=0)
    return figure


def reliability(tables: dict[str, pd.DataFrame], figures: dict[str, dict]) -> Figure:
    """Probability given against share found to be ill, one panel a state of the network; the bars count the images.

    By title of the panel: `tables` as `calibration.reliability`, `figures` as `calibration.measure` returns them.
    """
    figure, axes = plt.subplots(1, len(tables), figsize=(6.6, 3.5), sharey=True, squeeze=False)
    scores = "Brier {brier:.3f}, ECE {ece:.3f}\nintercept {intercept:.2f}, slope {slope:.2f}"
    for axis, (title, table) in zip(axes.flat, tables.items()):
        height, bounds = 0.25 * table.images / table.images.max(), [table.found - table.low, table.high - table.found]
        axis.plot([0, 1], [0, 1], **DOTTED)
        axis.bar(table.foretold, height, width=0.03, color=GRAY, alpha=0.35)
        axis.errorbar(table.foretold, table.found, yerr=bounds, fmt="o", color=VERMILION, capsize=3)
        axis.text(0.03, 0.97, scores.format(**figures[title]), transform=axis.transAxes, fontsize=10, va="top")
        axis.set(title=title, xlabel="mean probability given", xlim=(-0.03, 1.03), ylim=(-0.02, 1.25))
        axis.set_yticks(np.linspace(0, 1, 6))
    axes[0, 0].set_ylabel("share with pneumonia")
    return figure


def decision(tables: dict[str, pd.DataFrame]) -> Figure:
    """Decision curves: net benefit of the network with its 95% band, of treating all and of treating none.

    `tables` maps a title to what `calibration.net_benefit` returns, with ``low`` and ``high``. The axis ends at 80%:
    beyond, one false alarm more or less moves the curve.
    """
    figure, axes = plt.subplots(1, len(tables), figsize=(6.6, 3.0), squeeze=False)
    for axis, (title, table) in zip(axes.flat, tables.items()):
        axis.fill_between(table["at"], table.low, table.high, color=GREEN, alpha=0.15, linewidth=0)
        for name, color in (("network", GREEN), ("treat_all", "black"), ("treat_none", GRAY)):
            axis.plot(table["at"], table[name], color=color, linewidth=2, label=name.replace("_", " "))
        top = table[["network", "treat_all"]].max(axis=None)
        axis.set(title=title, ylim=(-0.12 * top, 1.1 * top), xlim=(0, 0.8))
        axis.xaxis.set_major_formatter(PercentFormatter(1))
    axes[0, 0].set_ylabel("net benefit")
    figure.supxlabel("treat from this probability on", fontsize=11)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), frameon=False, loc="outside upper center", ncols=3)
    return figure


def subgroups(table: pd.DataFrame) -> Figure:
    """Sensitivity, specificity and AUC of each group with its 95% interval, from what `metrics.subgroups` returns.

    Each of the three has a scale of its own, which ends at 1.
    """
    figure, axes = plt.subplots(1, 3, figsize=(6.6, 0.27 * len(table) + 0.9), sharey=True)
    colors = ["black", *[GREEN] * (len(table) - 1)]
    for axis, name, title in zip(axes, ("sensitivity", "specificity", "auc"), ("sensitivity", "specificity", "AUC")):
        axis.axvline(table[name].iloc[0], **DOTTED)
        intervals(axis, table[name], table[f"{name}_low"], table[f"{name}_high"], colors, GRAY, size=35)
        low = min(0.95, table[f"{name}_low"].min())
        step = next(step for step in (0.02, 0.05, 0.1, 0.2, 0.5) if 1 - low <= 2.5 * step)
        axis.set(title=title, xlim=(max(-0.02, low - 0.1 * (1 - low)), 1 + 0.05 * (1 - low)))
        axis.set_xticks([at for at in (1 - 2 * step, 1 - step, 1) if at >= axis.get_xlim()[0]])
        name_rows(axis, table.group + table.images.map(" ({})".format))
    return figure


def robustness(table: pd.DataFrame) -> Figure:
    """What a change of the picture does: share of decisions that flip, and AUC lost with its 95% interval.

    `table` has ``change``, ``flipped``, ``auc_lost``, ``auc_lost_low``, ``auc_lost_high``.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(6.6, 0.27 * len(table) + 0.9), sharey=True)
    bars = left.barh(range(len(table)), table.flipped, color=GRAY, height=0.6)
    left.bar_label(bars, table.flipped.map(" {:.1%}".format), fontsize=10)
    left.set(title="decisions that flip", xlim=(0, max(0.05, table.flipped.max() * 1.35)))
    left.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    right.axvline(0, **DOTTED)
    intervals(right, table.auc_lost, table.auc_lost_low, table.auc_lost_high, "black", GRAY, size=35)
    right.set_title("AUC lost")
    for axis in (left, right):
        axis.xaxis.set_major_locator(MaxNLocator(4))
        name_rows(axis, table.change, 0.6, 0.6)
    return figure


def swap(cells: dict[str, np.ndarray], lungs_label, body_label, figures: dict[str, dict]) -> Figure:
    """Do the lungs decide, or the body? The answer to every pair of them, and beside it the shares of the variance.

    Rows are lungs, columns bodies, the normal ones first: a network that reads lungs has two bands one above the other,
    one that reads bodies two bands side by side.

    Parameters
    ----------
    cells : dict of name to ndarray, shape (lungs, bodies)
        Log-odds of each network less those of its threshold: above 0 it says pneumonia.
    lungs_label, body_label : ndarray of 0 and 1
    figures : dict of name to what `swaps.measure` returns
    """
    lungs_label, body_label = np.asarray(lungs_label, int), np.asarray(body_label, int)
    down, right = (np.argsort(label, kind="stable") for label in (lungs_label, body_label))
    figure, named = plt.subplot_mosaic([[*cells], ["shares"] * len(cells)], figsize=(6.6, 4.2), height_ratios=[3, 1.1])
    axes = [*named.values()]
    colors = LinearSegmentedColormap.from_list("answer", [BLUE, "white", VERMILION])
    lungs_at, body_at = (np.bincount(label, minlength=2) for label in (lungs_label, body_label))
    for axis, (name, odds) in zip(axes, cells.items()):
        style: dict = {"cmap": colors, "vmin": -5, "vmax": 5, "aspect": "auto", "interpolation": "nearest"}
        square = axis.imshow(odds[down][:, right], **style)
        axis.axhline(lungs_at[0] - 0.5, color="black", linewidth=1)
        axis.axvline(body_at[0] - 0.5, color="black", linewidth=1)
        middle = [[(count[0] - 1) / 2, count[0] + (count[1] - 1) / 2] for count in (body_at, lungs_at)]
        axis.set_xticks(middle[0], ["normal body", "sick body"])
        axis.set_yticks(middle[1], ["normal lungs", "sick lungs"] if axis is axes[0] else [], rotation=90, va="center")
        axis.tick_params(length=0)
        axis.set_title(name)
    key = figure.colorbar(square, ax=axes[:-1], ticks=[-4.5, 0, 4.5], aspect=14, pad=0.02)
    key.ax.set_yticklabels(["normal", "threshold", "pneumonia"], fontsize=10)
    key.ax.tick_params(length=0)
    key.outline.set_visible(False)
    names, left = list(figures), np.zeros(len(figures))
    for part, color in (("lungs", GREEN), ("both", "#DDDDDD"), ("body", GRAY)):
        share = np.array([figures[name][part]["value"] for name in names])
        axes[-1].barh(range(len(names)), share, left=left, color=color, height=0.5, label=part)
        for y, (start, value) in enumerate(zip(left, share)):
            if value > 0.08:
                ink = "black" if part == "both" else "white"
                axes[-1].text(start + value / 2, y, f"{value:.0%}", ha="center", va="center", color=ink, fontsize=10)
        left += share
    axes[-1].set(xlim=(0, 1), title="what the answer goes with")
    axes[-1].xaxis.set_major_formatter(PercentFormatter(1))
    name_rows(axes[-1], names, 0.4, 0.4)
    figure.legend(*axes[-1].get_legend_handles_labels(), frameon=False, loc="outside lower center", ncols=3)
    return figure


def same_lungs(pictures, fields, titles: list[str], said: dict[str, list[tuple[float, bool]]]) -> Figure:
    """The same lungs in two bodies, and under each film what some networks say of it.

    Parameters
    ----------
    pictures, fields : arrays of shape (images, size, size)
        The films, and their lungs (bool), drawn as a line.
    titles : list of str, one a film
    said : dict of name of a network to a (probability, called pneumonia) for each film
    """
    count = len(pictures)
    figure = grid(pictures, titles, columns=count, side=9.4 / count)
    for i, (axis, field) in enumerate(zip(figure.axes, fields)):
        outline(axis, field)
        axis.title.set_fontsize(10)
        for line, (name, answers) in enumerate(said.items()):
            probability, called = answers[i]
            words = f"{name}: {'pneumonia' if called else 'normal'} ({probability:.2f})"
            color = VERMILION if called else BLUE
            axis.text(0, -0.07 - 0.09 * line, words, transform=axis.transAxes, fontsize=9, color=color, va="center")
    return figure
