"""How far an answer can be believed: figures that more than one page shows, or that take more than a cell."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from ..calibration import logit
from .style import BLUE, DOTTED, GRAY, GREEN, VERMILION, grid, name_rows, outline


def confusion(counts: np.ndarray, names: list[str], title: str = "") -> Figure:
    """Confusion matrix: each cell the count and the share of its true class; rows by label, columns by answer."""
    shares = counts / counts.sum(axis=1, keepdims=True)
    text = np.array([f"{n}\n{share:.1%}" for n, share in zip(counts.flat, shares.flat)]).reshape(shares.shape)
    figure, axis = plt.subplots(figsize=(1.15 * len(names) + 1.6, len(names) + 1.2))
    style = {"annot_kws": {"fontsize": 12}, "linewidths": 2, "xticklabels": names, "yticklabels": names}
    sns.heatmap(shares, annot=text, fmt="", cmap="Blues", vmin=0, vmax=1, cbar=False, square=True, ax=axis, **style)
    axis.set(xlabel="the model says", ylabel="the label says", title=title)
    axis.tick_params(length=0)
    return figure


def exam(results, colors=(GRAY, GREEN)) -> Figure:
    """The AUC of networks, by name, in each kind of version of the validation films (`metrics.auc_by_kind`): bars."""
    axis = pd.DataFrame(results).plot.bar(rot=0, width=0.8, figsize=(7, 2.8), color=[*colors])
    axis.axhline(0.5, color="black", linestyle=":")
    axis.set(ylabel="AUC (dotted: guessing)", ylim=(0, 1.02))
    for bars in axis.containers:
        axis.bar_label(bars, fmt="%.3f", padding=-13, color="white", fontsize=10 if len(axis.containers) < 3 else 8)
    axis.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=len(axis.containers), frameon=False)
    return axis.figure


def reliability(tables: dict[str, pd.DataFrame], figures: dict[str, dict]) -> Figure:
    """`calibration.reliability` (a panel a title; the bars count the images) and `calibration.measure`."""
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


def swap(odds: dict, columns: dict, limits, owners, lenders, figures: dict[str, dict]) -> Figure:
    """Answers to all pairs of lungs and body, against the threshold, and below what `swaps.measure` makes of them."""
    lungs_label, body_label = owners.label.to_numpy(), lenders.label.to_numpy()
    cells = {name: odds[name] - logit(limits[column]) for name, column in columns.items()}
    figure, named = plt.subplot_mosaic([[*cells], ["shares"] * len(cells)], figsize=(6.6, 5.4), height_ratios=[4, 1.1])
    *axes, bars = named.values()
    colors = LinearSegmentedColormap.from_list("answer", [BLUE, "white", VERMILION])
    down, right = (np.argsort(label, kind="stable") for label in (lungs_label, body_label))
    lungs_at, body_at = (np.bincount(label, minlength=2) for label in (lungs_label, body_label))
    for axis, (name, cell) in zip(axes, cells.items()):
        square = axis.imshow(cell[down][:, right], colors, vmin=-5, vmax=5, aspect="auto", interpolation="nearest")
        axis.axhline(lungs_at[0] - 0.5, color="black", linewidth=1)
        axis.axvline(body_at[0] - 0.5, color="black", linewidth=1)
        middle = [[(count[0] - 1) / 2, count[0] + (count[1] - 1) / 2] for count in (body_at, lungs_at)]
        axis.set_xticks(middle[0], ["normal body", "sick body"])
        axis.set_yticks(middle[1], ["normal lungs", "sick lungs"] if axis is axes[0] else [], rotation=90, va="center")
        axis.tick_params(length=0)
        axis.set_title(name)
    key = figure.colorbar(square, ax=axes, ticks=[-4.5, 0, 4.5], aspect=14, pad=0.02)
    key.ax.set_yticklabels(["normal", "threshold", "pneumonia"], fontsize=10)
    left = np.zeros(len(figures))
    for part, color, word in (("lungs", GREEN, "lungs"), ("both", "#DDDDDD", "only together"), ("body", GRAY, "body")):
        share = np.array([own[part]["value"] for own in figures.values()])
        drawn = bars.barh(range(len(left)), share, left=left, color=color, height=0.5, label=word)
        texts = [f"{value:.0%}" if value > 0.08 else "" for value in share]
        bars.bar_label(drawn, texts, label_type="center", fontsize=10, color="black" if part == "both" else "white")
        left += share
    bars.set(xlim=(0, 1), title="what the answer goes with")
    bars.xaxis.set_major_formatter(PercentFormatter(1))
    name_rows(bars, list(figures), 0.4, 0.4)
    figure.legend(*bars.get_legend_handles_labels(), frameon=False, loc="outside lower center", ncols=3)
    return figure


def same_lungs(pictures, fields, scores: pd.DataFrame, columns: dict, limits) -> Figure:
    """The films of `swaps.in_both_bodies`, and below each what networks answer, by the name of their column."""
    titles = ["sick lungs, own body", "in a normal body", "normal lungs, own body", "in a sick body"]
    figure = grid(pictures, titles, columns=4, side=2.35)
    for i, (axis, field) in enumerate(zip(figure.axes, fields)):
        outline(axis, field)
        axis.title.set_fontsize(10)
        for line, (name, column) in enumerate(columns.items()):
            score = scores[column].iloc[i]
            text, color = ("pneumonia", VERMILION) if score >= limits[column] else ("normal", BLUE)
            style = {"transform": axis.transAxes, "fontsize": 9, "color": color, "va": "center"}
            axis.text(0, -0.07 - 0.09 * line, f"{name}: {text} ({score:.2f})", **style)
    return figure
