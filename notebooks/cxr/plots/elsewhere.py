"""Another hospital: figures of 10, one panel above the other, so that they can be read on a telephone."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from ..shortcuts import WORDS
from .style import BLUE, DOTTED, GRAY, VERMILION, name_rows

WIDE = 6.2  # inches
BANDS = {"surely healthy": BLUE, "healthy": "#8FC1E3", "ill": "#F0B07F", "surely ill": VERMILION}
BESIDE: dict = {"frameon": False, "fontsize": 10, "loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.2}


def apart(table: pd.DataFrame) -> Figure:
    """How well each fact tells the films of two places apart, one mark a class, or one for all where none is known.

    `table` has ``fact``, ``all``, ``normal``, ``other``: AUCs, 0.5 for no difference, NaN where there is none.
    """
    marks = {"normal": (BLUE, "normal films"), "other": (VERMILION, "the others"), "all": ("black", "all films")}
    shown = [side for side in ("normal", "other") if table[side].notna().any()]
    shown = shown if len(shown) == 2 else [*shown, "all"]
    order = table.assign(most=(table[shown] - 0.5).abs().max(axis=1)).sort_values("most")
    figure, axis = plt.subplots(figsize=(WIDE, 0.33 * len(table) + 1.2))
    axis.axvline(0.5, **DOTTED)
    for side in shown:
        axis.scatter(order[side], range(len(order)), color=marks[side][0], s=50, label=marks[side][1], zorder=3)
    axis.set_yticks(range(len(order)), order.fact.replace(WORDS))
    axis.set(xlim=(-0.02, 1.02), xlabel="AUC: left of 0.5 less of it there, right more")
    axis.grid(axis="y", color="#eeeeee", zorder=0)
    axis.tick_params(axis="y", length=0)
    axis.legend(ncols=3, handletextpad=0.1, **BESIDE)
    return figure


def answers(groups: dict[str, np.ndarray], threshold: float) -> Figure:
    """What the network says of each group of films: shares of sure and unsure answers, one bar a group.

    `groups` maps a name to probabilities; an empty group is left out. Sure is within a third of the way from 0, or 1,
    to the `threshold`.
    """
    groups = {name: np.asarray(said) for name, said in groups.items() if len(said)}
    edges = [threshold / 3, threshold, 1 - (1 - threshold) / 3]
    shares = np.array([np.bincount(np.digitize(said, edges), minlength=4) / len(said) for said in groups.values()])
    figure, axis = plt.subplots(figsize=(WIDE, 0.5 * len(groups) + 1.3))
    left = np.zeros(len(groups))
    for (name, color), share in zip(BANDS.items(), shares.T):
        axis.barh(range(len(groups)), share, left=left, color=color, height=0.65, label=name)
        for y, value in enumerate(share):
            if value > 0.09:
                ink = "white" if color in (BLUE, VERMILION) else "black"
                axis.text(left[y] + value / 2, y, f"{value:.0%}", ha="center", va="center", color=ink, fontsize=10)
        left += share
    name_rows(axis, [f"{name}\n({len(said)} films)" for name, said in groups.items()])
    axis.set(xlim=(0, 1), xlabel="share of the films")
    axis.xaxis.set_major_formatter(PercentFormatter(1))
    axis.legend(ncols=4, columnspacing=1, handlelength=1, handletextpad=0.4, **BESIDE)
    return figure


def operating(bands: dict[str, tuple[str, pd.DataFrame]], points: dict[str, dict]) -> Figure:
    """ROC curves with their operating points, and the corner where good ones lie; the first curve with its 95% band.

    `bands` maps a name to a colour and what `metrics.bands` returns, `points` to figures as of `metrics.measure`.
    """
    figure, axis = plt.subplots(figsize=(WIDE, 5))
    for name, (color, table) in bands.items():
        axis.plot(table["at"], table.sensitivity, color=color, linewidth=2, label=name, drawstyle="steps-post")
    color, table = next(iter(bands.values()))
    axis.fill_between(table["at"], table.sensitivity_low, table.sensitivity_high, color=color, alpha=0.15, linewidth=0)
    for (name, own), marker in zip(points.items(), "os^D"):
        style: dict = {"marker": marker, "linestyle": "", "color": "black", "markersize": 7, "zorder": 5}
        axis.plot(1 - own["specificity"], own["sensitivity"], label=name, **style)
    axis.plot([0, 1], [0, 1], **DOTTED)
    good = all(table.sensitivity[table["at"] >= 0.3].min() > 0.9 for _, table in bands.values())
    reach = max([0.3, *(1.2 * (1 - own["specificity"]) for own in points.values())]) if good else 1.01
    lowest = min([0.7, *(own["sensitivity"] - 0.05 for own in points.values())]) if good else -0.01
    axis.set(xlim=(-0.01, min(reach, 1.01)), ylim=(lowest, 1.01))
    axis.set(xlabel="1 - specificity: healthy called ill", ylabel="sensitivity: ill found")
    axis.legend(frameon=False, loc="lower right", fontsize=10)
    return figure


def foretold(tables: dict[str, pd.DataFrame], figures: dict[str, dict]) -> Figure:
    """Foretold against found share of pneumonia, one panel a state of the network; beside each dot its films.

    By title of the panel: `tables` as `external.foretold` returns them, `figures` as `calibration.measure`.
    """
    figure, axes = plt.subplots(len(tables), 1, figsize=(WIDE, 3.3 * len(tables)), sharex=True, squeeze=False)
    for axis, (title, table) in zip(axes.flat, tables.items()):
        bounds = [(table.found - table.low).clip(0), (table.high - table.found).clip(0)]
        axis.plot([0, 1], [0, 1], **DOTTED)
        axis.errorbar(table.foretold, table.found, yerr=bounds, fmt="o", color=VERMILION, capsize=3)
        for row in table.itertuples():
            shift, side = ((8, "left"), (-8, "right"))[row.foretold > 0.7]
            at = (row.foretold, row.found)
            axis.annotate(
                f"{row.images}", at, (shift, -4), textcoords="offset points", ha=side, fontsize=10, color=GRAY
            )
        axis.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.05), ylabel="found: share ill")
        axis.set_title(f"{title}: Brier {figures[title]['brier']:.3f}")
    axes[-1, 0].set_xlabel("foretold: mean probability (gray: films)")
    return figure


def learning(table: pd.DataFrame) -> Figure:
    """Accuracy and AUC against the number of labelled films of its own, with intervals over draws, one line a way.

    `table` as `adapt.learn` returns it.
    """
    figure, axes = plt.subplots(2, 1, figsize=(WIDE, 6.2), sharex=True)
    counts = sorted(table.films.unique())
    for axis, name, title in zip(axes, ("accuracy", "auc"), ("accuracy", "AUC")):
        for shift, (way, own), color in zip(
            (-0.06, 0, 0.06), table.groupby("way", sort=False), (GRAY, BLUE, VERMILION)
        ):
            own = own.sort_values("films")
            at = own.films.map(counts.index) + shift
            bounds = [(own[name] - own[f"{name}_low"]).clip(0), (own[f"{name}_high"] - own[name]).clip(0)]
            axis.errorbar(at, own[name], yerr=bounds, fmt="o-", color=color, linewidth=1.8, capsize=3, label=way)
        axis.set_ylabel(title)
        axis.set_xticks(range(len(counts)), counts)
        low, high = table[f"{name}_low"].min(), table[f"{name}_high"].max()
        axis.set_ylim(min(low - 0.01, high - 0.04), min(high + 0.01, 1.003))  # small differences stay small
        axis.margins(x=0.06)
    axes[1].set_xlabel("labelled films of that hospital")
    axes[0].legend(ncols=1, **BESIDE)
    return figure
