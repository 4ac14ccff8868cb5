"""May it answer, and does it hold elsewhere? Figures of 09 and 10, in large type, one panel above the other."""

import textwrap
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from ..shortcuts import WORDS
from .style import BLUE, BY_LABEL, DOTTED, GRAY, GREEN, VERMILION, name_rows, outline

WIDE, TYPE = 5.8, 12  # inches; points, so that it can be read on a telephone
BANDS = {"surely healthy": BLUE, "healthy": "#8FC1E3", "ill": "#F0B07F", "surely ill": VERMILION}
BESIDE: dict = {"frameon": False, "fontsize": TYPE, "loc": "lower left", "bbox_to_anchor": (0, 1)}
BESIDE |= {"borderaxespad": 0.2, "handlelength": 1, "handletextpad": 0.4, "columnspacing": 1}
SHORT = {
    "validation films": "validation films",
    "validation films, JPEG quality 50": "… saved again as JPEG 50",
    "validation films, half resolution": "… at half resolution",
    "validation films, cropped by 5%": "… 5% cut off at each side",
    "validation films, gamma 0.7": "… brighter (gamma 0.7)",
    "validation films, gamma 1.4": "… darker (gamma 1.4)",
    "adults, as they are": "adults",
    "adults, cropped by 10%": "… 10% cut off at each side",
    "adults, JPEG quality 50": "… saved again as JPEG 50",
    "adults, half resolution": "… at half resolution",
    "adults, disguised": "… disguised as a child's",
}  # names of rows, each below the one that it goes on from


def _panels(count: int, height: float, **options) -> tuple[Figure, list[Axes]]:
    """Panels one above the other, with type of size `TYPE`; `height` in inches, `options` as of plt.subplots."""
    figure, axes = plt.subplots(count, 1, figsize=(WIDE, height), squeeze=False, **options)
    for axis in axes.flat:
        axis.tick_params(labelsize=TYPE)
        for label in (axis.xaxis.label, axis.yaxis.label, axis.title):
            label.set_size(TYPE)
    return figure, [*axes.flat]


def verdicts(pictures, table: pd.DataFrame, fields, maps, names: Sequence[str], note: str = "") -> Figure:
    """What was said of each picture: the answer with its heat map and the lungs' outline, or why there is none.

    Parameters
    ----------
    pictures, fields, maps : ndarray, shape (pictures, size, size)
        The films (0 to 255), where their lungs are (bool), and what speaks for the answer (0 to 1; all 0 for no map).
    table : DataFrame, one row a picture
        As `predict.Reader` returns it.
    names : sequence of str
        What labels 0 and 1 are called.
    note : str
        Whose the films are, below them all.
    """
    columns = 3
    high = -(-len(pictures) // columns)
    figure, axes = plt.subplots(high, columns, figsize=(WIDE, 2.65 * high), squeeze=False)
    for axis in axes.flat[len(pictures) :]:
        axis.remove()
    for axis, film, row, field, heat in zip(axes.flat, pictures, table.itertuples(), fields, maps):
        axis.imshow(film, cmap="gray", vmin=0, vmax=255)
        told = row.probability == row.probability
        color, title, below = GRAY, str(row.answer), row.reason.partition(":")[0]
        if told:
            color = BY_LABEL[int(row.answer == names[1])]
            title, below = f"{row.answer} {row.probability:.2f}", f"typicality {row.typicality:.2f}"
            if heat.any():
                axis.imshow(heat, cmap="inferno", alpha=0.45, vmin=0, vmax=1)
            outline(axis, field)
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set(visible=True, color=color, linewidth=2.5 if told else 0.8)
        axis.set_title(title, color=color if told else "black", fontsize=TYPE)
        axis.set_xlabel(textwrap.fill(below, 22), fontsize=11, loc="left")
    if note:
        figure.supxlabel(note, fontsize=10, x=0.01, ha="left", color=GRAY)
    return figure


def would_say(pictures, table: pd.DataFrame, threshold: float, note: str = "") -> Figure:
    """What the network says of each film, whether the gate lets it pass or not, and below it the gate's reason.

    `pictures` are of shape (films, size, size); `table`, one row each, has ``probability`` and ``reason``; a film is
    called ill from `threshold` on. `note` says whose they are.
    """
    word = np.where(table.probability >= threshold, "ill", "healthy")
    said = pd.DataFrame({"answer": [f"{one} ({p:.2f})" for one, p in zip(word, table.probability)]})
    said = said.assign(probability=np.nan, typicality=np.nan, reason=[*table.reason.replace("", "passes the gate")])
    nothing = np.zeros(np.shape(pictures))
    return verdicts(pictures, said, nothing > 0, nothing, ("", ""), note)


def refusals(table: pd.DataFrame, welcome: Sequence[str]) -> Figure:
    """The mistakes of the gate, in two panels of one scale: what it declines though it should answer, and the reverse.

    `table` has ``pictures``, ``count``, ``refused`` (share, 0 to 1), and `welcome` names those that should get an
    answer.
    """
    should = table.pictures.isin(welcome)
    parts = [
        ("should get an answer, and gets none", table[should], table.refused[should], GREEN),
        ("should get none, and gets an answer", table[~should], 1 - table.refused[~should], "black"),
    ]
    options = {"sharex": True, "height_ratios": [len(part) + 1 for _, part, _, _ in parts]}
    figure, axes = _panels(2, 0.3 * len(table) + 1.5, **options)
    for axis, (title, part, wrong, color) in zip(axes, parts):
        bars = axis.barh(range(len(part)), wrong, color=color, height=0.6)
        said = [f" {round(share * of) or 'none'} of {of}" for share, of in zip(wrong, part["count"])]
        axis.bar_label(bars, said, fontsize=TYPE)
        axis.set_title(title)
        name_rows(axis, part.pictures.replace(SHORT), 0.6, 0.6)
    axes[0].tick_params(axis="x", length=0)
    most = max(wrong.max() if len(wrong) else 0 for _, _, wrong, _ in parts)
    axes[1].set(xlim=(0, 1.6 * max(most, 0.05)), xlabel="share of the pictures")
    axes[1].xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    axes[1].xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    return figure


def apart(table: pd.DataFrame) -> Figure:
    """How well each fact tells the films of two places apart, one mark a class, or one for all where none is known.

    `table` has ``fact``, ``all``, ``normal``, ``other``: AUCs, 0.5 for no difference, NaN where there is none.
    """
    marks = {"normal": (BLUE, "normal films"), "other": (VERMILION, "the others"), "all": ("black", "all films")}
    shown = [side for side in ("normal", "other") if table[side].notna().any()]
    shown = shown if len(shown) == 2 else [*shown, "all"]
    order = table.assign(most=(table[shown] - 0.5).abs().max(axis=1)).sort_values("most", ascending=False)
    figure, (axis,) = _panels(1, 0.3 * len(table) + 1.6)
    axis.axvline(0.5, **DOTTED)
    for side in shown:
        axis.scatter(order[side], range(len(order)), color=marks[side][0], s=60, label=marks[side][1], zorder=3)
    name_rows(axis, order.fact.replace(WORDS))
    axis.set(xlim=(-0.02, 1.02), xlabel="AUC\n(0: always less of it there; 1: always more)")
    axis.grid(axis="y", color="#eeeeee", zorder=0)
    if len(shown) > 1:
        axis.legend(ncols=3, **BESIDE)
    return figure


def answers(groups: dict[str, np.ndarray], threshold: float) -> Figure:
    """What the network says of each group of films: shares of sure and unsure answers, one bar a group.

    `groups` maps a name to probabilities; an empty group is left out. Sure is within a third of the way from 0, or 1,
    to the `threshold`.
    """
    groups = {name: np.asarray(said) for name, said in groups.items() if len(said)}
    edges = [threshold / 3, threshold, 1 - (1 - threshold) / 3]
    shares = np.array([np.bincount(np.digitize(said, edges), minlength=4) / len(said) for said in groups.values()])
    figure, (axis,) = _panels(1, 0.6 * len(groups) + 1.5)
    left = np.zeros(len(groups))
    for (name, color), share in zip(BANDS.items(), shares.T):
        axis.barh(range(len(groups)), share, left=left, color=color, height=0.65, label=name)
        for y, value in enumerate(share):
            if value > 0.11:
                ink = "white" if color in (BLUE, VERMILION) else "black"
                axis.text(left[y] + value / 2, y, f"{value:.0%}", ha="center", va="center", color=ink, fontsize=TYPE)
        left += share
    name_rows(axis, [f"{name}\n({len(said)} films)" for name, said in groups.items()])
    axis.set(xlim=(0, 1), xlabel="share of the films")
    axis.xaxis.set_major_formatter(PercentFormatter(1))
    axis.legend(ncols=2, **BESIDE)
    return figure


def operating(bands: dict[str, pd.DataFrame], points: dict[str, dict]) -> Figure:
    """ROC curves, each with the point at which it is used, in the corner where good ones lie; the first with its band.

    By name of the curve: `bands` as `metrics.bands` returns them (the 95% band is drawn of the first one only),
    `points` figures as of `metrics.measure`.
    """
    figure, (axis,) = _panels(1, 5.2)
    for (name, table), color, marker in zip(bands.items(), (GREEN, "black", GRAY), "os^"):
        own = points[name]
        label = f"{name}: AUC {own['auc']:.3f}"
        axis.plot(table["at"], table.sensitivity, linewidth=2, drawstyle="steps-post", color=color, label=label)
        at = 1 - own["specificity"], own["sensitivity"]
        axis.plot(*at, marker=marker, color=color, markersize=10, markeredgecolor="white", zorder=5)
    first = next(iter(bands.values()))
    axis.fill_between(first["at"], first.sensitivity_low, first.sensitivity_high, color=GREEN, alpha=0.15, linewidth=0)
    axis.plot([0, 1], [0, 1], **DOTTED)
    good = all(table.sensitivity[table["at"] >= 0.3].min() > 0.9 for table in bands.values())
    reach = max([0.3, *(1.2 * (1 - own["specificity"]) for own in points.values())]) if good else 1.01
    lowest = min([0.7, *(own["sensitivity"] - 0.05 for own in points.values())]) if good else -0.01
    axis.set(xlim=(-0.01, min(reach, 1.01)), ylim=(lowest, 1.01))
    axis.set(xlabel="1 - specificity: share of the healthy called ill", ylabel="sensitivity: share of the ill found")
    axis.legend(frameon=False, loc="lower right", fontsize=TYPE)
    return figure


def learning(table: pd.DataFrame) -> Figure:
    """Accuracy and AUC against the number of labelled films of its own, with 95% intervals, one line a way.

    `table` as `adapt.learn` returns it.
    """
    figure, axes = _panels(2, 6.4, sharex=True)
    counts = sorted(table.films.unique())
    for axis, name, title in zip(axes, ("accuracy", "auc"), ("accuracy", "AUC")):
        for shift, (way, own), color in zip((-0.08, 0, 0.08), table.groupby("way", sort=False), (GRAY, GREEN, "black")):
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
