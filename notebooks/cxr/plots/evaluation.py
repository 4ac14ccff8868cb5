"""How far an answer can be believed: figures of 05, 08, 09 and 10."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

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
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.4, 4.9))
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
    left.set(title="ROC", xlim=(-0.01, end), ylim=(start, 1.01))
    left.set(xlabel="1 - specificity: healthy children called ill", ylabel="sensitivity: ill children found")
    right.set(title="Precision and recall", xlim=(start, 1.01), ylim=(low, 1.01))
    right.set(xlabel="sensitivity: ill children found", ylabel="precision: of those called ill, how many are")
    left.legend(frameon=False, loc="lower right", fontsize=9)
    return figure


def confusion(counts: np.ndarray, names: list[str], title: str = "") -> Figure:
    """Confusion matrix: each cell the count and the share of its true class.

    `counts` has the shape (classes, classes): images by label (rows) and by answer (columns); normal comes first.
    """
    shares = counts / counts.sum(axis=1, keepdims=True)
    text = np.array([f"{n}\n{share:.1%}" for n, share in zip(counts.flat, shares.flat)]).reshape(shares.shape)
    figure, axis = plt.subplots(figsize=(4.8, 4))
    style = {"annot_kws": {"fontsize": 14}, "linewidths": 2, "xticklabels": names, "yticklabels": names}
    sns.heatmap(shares, annot=text, fmt="", cmap="Blues", vmin=0, vmax=1, cbar=False, square=True, ax=axis, **style)
    axis.set(xlabel="the model says", ylabel="the label says", title=title)
    axis.tick_params(length=0)
    return figure


def reliability(tables: dict[str, pd.DataFrame], figures: dict[str, dict]) -> Figure:
    """Foretold against found share of pneumonia, one panel a state of the network; the bars count the images.

    By title of the panel: `tables` as `calibration.reliability`, `figures` as `calibration.calibration` returns them.
    """
    figure, axes = plt.subplots(1, len(tables), figsize=(9.4, 4.4), sharey=True, squeeze=False)
    scores = "Brier {brier:.3f} · ECE {ece:.3f} · intercept {intercept:.2f} · slope {slope:.2f}"
    for axis, (title, table) in zip(axes.flat, tables.items()):
        height, bounds = 0.25 * table.images / table.images.max(), [table.found - table.low, table.high - table.found]
        axis.plot([0, 1], [0, 1], **DOTTED)
        axis.bar(table.foretold, height, width=0.03, color=GRAY, alpha=0.35)
        axis.errorbar(table.foretold, table.found, yerr=bounds, fmt="o", color=VERMILION, capsize=3)
        axis.text(0, 1.02, scores.format(**figures[title]), transform=axis.transAxes, fontsize=9, color=GRAY)
        axis.set(xlabel="foretold: mean probability", xlim=(-0.03, 1.03), ylim=(-0.02, 1.03))
        axis.set_title(title, pad=18)
    axes[0, 0].set_ylabel("found: share with pneumonia")
    return figure


def decision(tables: dict[str, pd.DataFrame]) -> Figure:
    """Decision curves: net benefit of the network with its 95% band, of treating all and of treating none.

    `tables` maps a title to what `calibration.net_benefit` returns, with ``low`` and ``high``.
    """
    figure, axes = plt.subplots(1, len(tables), figsize=(9.4, 3.8), squeeze=False)
    for axis, (title, table) in zip(axes.flat, tables.items()):
        axis.fill_between(table["at"], table.low, table.high, color=VERMILION, alpha=0.15, linewidth=0)
        for name, color in (("network", VERMILION), ("treat_all", BLUE), ("treat_none", GRAY)):
            axis.plot(table["at"], table[name], color=color, linewidth=2, label=name.replace("_", " "))
        top = table[["network", "treat_all"]].max(axis=None)
        axis.set(xlabel="treat from this probability on", title=title, ylim=(-0.12 * top, 1.1 * top), xlim=(0, 1))
    axes[0, 0].set_ylabel("net benefit")
    axes[0, -1].legend(frameon=False, loc="upper right", fontsize=10)
    return figure


def subgroups(table: pd.DataFrame) -> Figure:
    """Sensitivity, specificity and AUC of each group with its 95% interval, from what `metrics.subgroups` returns."""
    figure, axes = plt.subplots(1, 3, figsize=(9.4, 0.34 * len(table) + 1), sharey=True)
    low = table[["sensitivity_low", "specificity_low", "auc_low"]].min(axis=None)
    colors = ["black", *[VERMILION] * (len(table) - 1)]
    for axis, name, title in zip(axes, ("sensitivity", "specificity", "auc"), ("sensitivity", "specificity", "AUC")):
        axis.axvline(table[name].iloc[0], **DOTTED)
        intervals(axis, table[name], table[f"{name}_low"], table[f"{name}_high"], colors, GRAY)
        axis.set(title=title, xlim=(max(0, low - 0.03), 1.01))
        name_rows(axis, table.group + table.images.map(" ({})".format))
    return figure


def robustness(table: pd.DataFrame) -> Figure:
    """What a change of the picture does: share of decisions that flip, and AUC lost with its 95% interval.

    `table` has ``change``, ``flipped``, ``auc_lost``, ``auc_lost_low``, ``auc_lost_high``.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.4, 0.32 * len(table) + 1), sharey=True)
    bars = left.barh(range(len(table)), table.flipped, color=BLUE, height=0.6)
    left.bar_label(bars, table.flipped.map(" {:.1%}".format), fontsize=9)
    left.set(title="decisions that flip", xlim=(0, max(0.05, table.flipped.max() * 1.2)))
    left.xaxis.set_major_formatter("{x:.0%}")
    right.axvline(0, **DOTTED)
    intervals(right, table.auc_lost, table.auc_lost_low, table.auc_lost_high, VERMILION, GRAY, size=40)
    right.set_title("AUC lost (95% interval)")
    for axis in (left, right):
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
    wide = len(cells)
    figure, axes = plt.subplots(1, wide + 1, figsize=(9.4, 3.9), width_ratios=[*[1] * wide, 1.1])
    colors = LinearSegmentedColormap.from_list("answer", [BLUE, "white", VERMILION])
    lungs_at, body_at = (np.bincount(label, minlength=2) for label in (lungs_label, body_label))
    for axis, (name, odds) in zip(axes, cells.items()):
        axis.imshow(odds[down][:, right], cmap=colors, vmin=-5, vmax=5, aspect="auto", interpolation="nearest")
        axis.axhline(lungs_at[0] - 0.5, color="black", linewidth=1)
        axis.axvline(body_at[0] - 0.5, color="black", linewidth=1)
        middle = [[(count[0] - 1) / 2, count[0] + (count[1] - 1) / 2] for count in (body_at, lungs_at)]
        axis.set_xticks(middle[0], ["normal\nbody", "sick\nbody"])
        axis.set_yticks(middle[1], ["normal lungs", "sick lungs"] if axis is axes[0] else [], rotation=90, va="center")
        axis.tick_params(length=0)
        axis.set_title(name)
    names, left = list(figures), np.zeros(len(figures))
    for part, color in (("lungs", GREEN), ("both", "#DDDDDD"), ("body", GRAY)):
        share = np.array([figures[name][part]["value"] for name in names])
        axes[-1].barh(range(len(names)), share, left=left, color=color, height=0.5, label=part)
        for y, (start, value) in enumerate(zip(left, share)):
            if value > 0.08:
                ink = "black" if part == "both" else "white"
                axes[-1].text(start + value / 2, y, f"{value:.0%}", ha="center", va="center", color=ink, fontsize=10)
        left += share
    axes[-1].set(xlim=(0, 1), title="what the answer\ngoes with")
    axes[-1].xaxis.set_major_formatter(PercentFormatter(1))
    name_rows(axes[-1], [name.replace(" ", "\n", 1) for name in names], 0.6, 1.0)
    axes[-1].legend(frameon=False, fontsize=9, loc="lower center", ncols=3, columnspacing=1, handlelength=1)
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


def refusals(table: pd.DataFrame, welcome: list[str]) -> Figure:
    """Share of pictures that the gate refuses, one bar a kind; those in `welcome`, which should pass, in green.

    `table` has ``pictures``, ``count``, ``refused``.
    """
    figure, axis = plt.subplots(figsize=(7.5, 0.36 * len(table) + 0.9))
    colors = [GREEN if name in welcome else GRAY for name in table.pictures]
    bars = axis.barh(range(len(table)), table.refused, color=colors, height=0.65)
    axis.bar_label(bars, table.refused.map(" {:.1%}".format), fontsize=10)
    axis.set(xlim=(0, 1.12), xlabel="refused; green: should pass, gray: should not")
    axis.xaxis.set_major_formatter("{x:.0%}")
    name_rows(axis, table.pictures + table["count"].map(" ({})".format))
    return figure
