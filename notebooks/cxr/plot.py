"""Figures in one style: blue is normal, vermilion is pneumonia (Okabe & Ito's colours, safe for colour-blind readers).

Each function returns a Matplotlib figure; nothing is saved or shown here.
"""

import textwrap

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from .clues import WORDS
from .data import class_names

BLUE, VERMILION, GREEN, GRAY = "#0072B2", "#D55E00", "#009E73", "#767676"
BY_LABEL = {0: BLUE, 1: VERMILION}


def use_style() -> None:
    """Set the style of all figures of a notebook: white ground, small frames, type that is legible on GitHub."""
    sns.set_theme(context="notebook", style="ticks", palette=[BLUE, VERMILION, GREEN, GRAY], rc={
        "figure.dpi": 80, "savefig.dpi": 80, "figure.facecolor": "white", "savefig.facecolor": "white",
        "axes.spines.top": False, "axes.spines.right": False, "axes.titlelocation": "left", "axes.titlesize": 12,
        "axes.titleweight": "bold", "axes.labelsize": 11, "xtick.labelsize": 10, "ytick.labelsize": 10,
        "figure.constrained_layout.use": True})


def grid(pictures, titles=(), columns: int = 6, rows: list[str] = (), side: float = 1.7,
         colors: list[str] = ()) -> Figure:
    """X-rays side by side.

    Parameters
    ----------
    pictures : sequence of arrays, each of shape (height, width), 0 black to 255 white
    titles : sequence of str, one a picture, or none
    columns : int
    rows : list of str
        A name for each row, at its left.
    side : float
        Of one picture, inches.
    colors : sequence of str
        Of the titles, one a picture, or none for black.
    """
    high = -(-len(pictures) // columns)
    figure, axes = plt.subplots(high, columns, figsize=(side * columns, (side + 0.25 * bool(len(titles))) * high),
                                squeeze=False)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        sns.despine(ax=axis, left=True, bottom=True)
    for i, (axis, picture) in enumerate(zip(axes.flat, pictures)):
        axis.imshow(picture, cmap="gray", vmin=0, vmax=255, aspect="auto")
        if len(titles):
            axis.set_title(titles[i], fontsize=9, loc="center", fontweight="normal",
                           color=colors[i] if len(colors) else "black")
    for axis, name in zip(axes[:, 0], rows):
        axis.set_ylabel(name, fontsize=11)
    return figure


def class_balance(table: pd.DataFrame, group: str = "folder") -> Figure:
    """Images of each class in each part: one bar a class, the count at its end.

    Parameters
    ----------
    table : DataFrame with the columns ``label``, ``class_name`` and `group`
    group : str
        Column to part by.
    """
    counts = table.groupby([group, "label", "class_name"]).size().reset_index(name="images")
    parts = [part for part in ("train", "val", "test") if part in set(counts[group])]
    figure, axes = plt.subplots(len(parts), 1, figsize=(7.5, 1.1 * len(parts) + 0.4), sharex=True, squeeze=False)
    for axis, part in zip(axes.flat, parts):
        rows = counts[counts[group] == part].sort_values("label", ascending=False)
        bars = axis.barh(rows.class_name, rows.images, color=[BY_LABEL[label] for label in rows.label])
        share = rows.images / rows.images.sum()
        axis.bar_label(bars, [f" {n:,}  ({s:.1%})" for n, s in zip(rows.images, share)], fontsize=10)
        axis.set_title(f"{part}: {rows.images.sum():,} images")
        axis.spines["bottom"].set_visible(False)
        axis.set_xticks([])
    axes.flat[0].set_xlim(0, counts.images.max() * 1.2)
    return figure


def sizes(manifest: pd.DataFrame) -> Figure:
    """Width against height, and bytes a pixel, by class: what a file tells without its picture."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.4, 3.8))
    names = class_names(manifest)
    per_pixel = manifest.bytes / (manifest.width * manifest.height)
    for label in (1, 0):  # the smaller class on top
        rows = manifest.label == label
        left.scatter(manifest.width[rows], manifest.height[rows], s=8, alpha=0.4, color=BY_LABEL[label],
                     label=names[label], linewidths=0)
    for (label, folder), values in per_pixel.groupby([manifest.label, manifest.folder]):
        if folder != "val":
            sns.kdeplot(values, ax=right, color=BY_LABEL[label], linestyle="-" if folder == "train" else "--",
                        label=f"{names[label]}, {folder}", warn_singular=False)
    left.set(xlabel="width (pixels)", ylabel="height (pixels)", title="Size of the picture")
    left.legend(frameon=False, markerscale=3)
    if len(manifest[["width", "height"]].drop_duplicates()) == 1:
        left.text(0.5, 0.6, "every image has the same size:\nthis copy of the data was resized,\nand says nothing of "
                  "the originals", transform=left.transAxes, ha="center", fontsize=10, color=GRAY)
        left.get_legend().remove()
    right.set(xlabel="bytes in the file for each pixel", yticks=[], ylabel="", title="How the file was compressed")
    right.legend(frameon=False, fontsize=9)
    return figure


def densities(values: pd.Series, label: pd.Series, part: pd.Series, names: pd.Series, xlabel: str) -> Figure:
    """How a number is spread in each class, one panel for train and one for test.

    Parameters
    ----------
    values, label, part : Series, one row an image
    names : Series
        Class name by label.
    xlabel : str
    """
    figure, axes = plt.subplots(1, 2, figsize=(9.4, 2.9), sharex=True)
    for axis, which in zip(axes, ("train", "test")):
        for number, color in BY_LABEL.items():
            sns.kdeplot(values[(label == number) & (part == which)], ax=axis, color=color, fill=True, alpha=0.25,
                        label=names[number], warn_singular=False)
        axis.set(title=f"{which} folder", xlabel=xlabel, ylabel="", yticks=[])
    axes[0].legend(frameon=False)
    return figure


def curves(history: pd.DataFrame, best: int) -> Figure:
    """Loss, accuracy and AUC of training and validation over the epochs, the epoch that was kept marked.

    Parameters
    ----------
    history : DataFrame with ``epoch``, ``loss``, ``accuracy``, ``auc`` and the same with ``val_`` before them
    best : int
        The epoch whose weights were kept.
    """
    figure, axes = plt.subplots(1, 3, figsize=(9.4, 3.2))
    for axis, name in zip(axes, ("loss", "accuracy", "auc")):
        for column, color, text in ((name, GRAY, "training"), (f"val_{name}", GREEN, "validation")):
            axis.plot(history.epoch, history[column], color=color, linewidth=2, label=text)
        axis.axvline(best, color="black", linestyle=":", linewidth=1)
        axis.set(title={"auc": "AUC"}.get(name, name.capitalize()), xlabel="epoch")
        axis.xaxis.get_major_locator().set_params(integer=True)
    low = min(np.percentile(history[c], 10) for c in ("accuracy", "val_accuracy"))
    axes[1].set_ylim(max(0.4, low - 0.05), 1.005)
    low = min(np.percentile(history[c], 10) for c in ("auc", "val_auc"))
    axes[2].set_ylim(max(0.4, low - 0.03), 1.003)
    axes[0].legend(frameon=False)
    axes[0].annotate("kept", (best, axes[0].get_ylim()[1]), xytext=(3, -10), textcoords="offset points", fontsize=9)
    return figure


def confusion(counts: np.ndarray, names: list[str], title: str = "") -> Figure:
    """Confusion matrix: each cell the count and the share of its true class.

    Parameters
    ----------
    counts : ndarray of int, shape (classes, classes)
        Images by label (rows) and by answer (columns).
    names : the classes' names, normal first
    title : str
    """
    shares = counts / counts.sum(axis=1, keepdims=True)
    text = np.array([[f"{n}\n{s:.1%}" for n, s in zip(*row)] for row in zip(counts, shares)])
    figure, axis = plt.subplots(figsize=(4.8, 4))
    sns.heatmap(shares, annot=text, fmt="", cmap="Blues", vmin=0, vmax=1, cbar=False, square=True, ax=axis,
                annot_kws={"fontsize": 14}, linewidths=2, xticklabels=names, yticklabels=names)
    axis.set(xlabel="the model says", ylabel="the label says", title=title)
    axis.tick_params(length=0)
    return figure


def refusals(table: pd.DataFrame, welcome: list[str]) -> Figure:
    """Share of pictures that the gate refuses, one bar a kind; those that it should let through in another colour.

    Parameters
    ----------
    table : DataFrame with ``pictures``, ``count``, ``refused``
    welcome : list of str
        Kinds that should pass.
    """
    figure, axis = plt.subplots(figsize=(7.5, 0.36 * len(table) + 0.9))
    colors = [GREEN if name in welcome else GRAY for name in table.pictures]
    bars = axis.barh(range(len(table)), table.refused, color=colors, height=0.65)
    axis.bar_label(bars, [f" {share:.1%}" for share in table.refused], fontsize=10)
    axis.set_yticks(range(len(table)), [f"{name} ({count})" for name, count in zip(
        table.pictures, table["count"])])
    axis.set(ylim=(len(table) - 0.5, -0.5), xlim=(0, 1.12), xlabel="refused; green: should pass, gray: should not")
    axis.xaxis.set_major_formatter("{x:.0%}")
    axis.tick_params(axis="y", length=0)
    return figure


def apart(table: pd.DataFrame) -> Figure:
    """How well each fact tells the films of two places apart, one mark a class.

    Parameters
    ----------
    table : DataFrame with ``fact``, ``normal``, ``other``: AUCs, 0.5 for no difference
    """
    figure, axis = plt.subplots(figsize=(7.5, 0.33 * len(table) + 1))
    order = table.assign(most=(table[["normal", "other"]] - 0.5).abs().max(axis=1)).sort_values("most")
    axis.axvline(0.5, color=GRAY, linestyle=":", linewidth=1)
    for column, color, name in (("normal", BLUE, "normal films"), ("other", VERMILION, "the others")):
        axis.scatter(order[column], range(len(order)), color=color, s=45, label=name, zorder=3)
    axis.set_yticks(range(len(order)), [WORDS.get(fact, fact) for fact in order.fact])
    axis.set(xlim=(-0.02, 1.02), xlabel="AUC, home against away: 0.5 no difference, right of it more of it there")
    axis.grid(axis="y", color="#eeeeee", zorder=0)
    axis.tick_params(axis="y", length=0)
    axis.legend(frameon=False, fontsize=9)
    return figure


def by_class(table: pd.DataFrame) -> Figure:
    """AUC and F1 of each class against the rest: a mark a seed, a line their mean, one colour a network.

    Parameters
    ----------
    table : DataFrame with ``network``, ``kind``, ``auc``, ``f1``
    """
    kinds, networks = (list(dict.fromkeys(table[column])) for column in ("kind", "network"))
    figure, axes = plt.subplots(1, 2, figsize=(9.4, 0.5 * len(kinds) + 1.5), sharey=True)
    for axis, what in zip(axes, ("auc", "f1")):
        for i, (network, color) in enumerate(zip(networks, (VERMILION, BLUE, GREEN, GRAY))):
            for y, kind in enumerate(kinds):
                own = table[(table.network == network) & (table.kind == kind)][what]
                at = y + 0.3 * (i - (len(networks) - 1) / 2)
                axis.scatter(own, [at] * len(own), s=35, color=color, alpha=0.7, linewidths=0,
                             label=network if y == 0 else None)
                axis.plot([own.mean()] * 2, [at - 0.12, at + 0.12], color=color, linewidth=3)
                axis.annotate(f"{own.mean():.3f}", (own.max(), at), xytext=(7, -4), textcoords="offset points",
                              fontsize=9, color=color)
        low = table[what].min()
        axis.set(title={"auc": "AUC", "f1": "F1"}[what] + ", each against the rest",
                 xlim=(max(0, low - 0.05), 1 + 0.15 * (1 - low)))
        axis.tick_params(axis="y", length=0)
    axes[0].set_yticks(range(len(kinds)), kinds)
    axes[0].set_ylim(len(kinds) - 0.5, -0.5)
    axes[0].legend(frameon=False, fontsize=9, loc="upper left")
    return figure


def _points(axis, points: dict, x: str, y: str) -> None:
    """Operating points, each with its name beside it."""
    for (name, figures), marker in zip(points.items(), "os^D"):
        at = (1 - figures["specificity"] if x == "false" else figures["sensitivity"], figures[y])
        axis.plot(*at, marker, color="black", markersize=7, label=name, zorder=5)


def roc(bands: dict[str, tuple[str, pd.DataFrame]], points: dict, whole: bool = False) -> Figure:
    """ROC and precision-recall curves side by side, with their 95% bands and the operating points.

    Parameters
    ----------
    bands : dict of name to (color, table as `evaluate.bands` returns it)
        The first one gets its band.
    points : dict of name to figures as `evaluate.measure` returns them
    whole : bool
        Show the whole of both axes, and not the corners only.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.4, 4.9))
    for i, (name, (color, table)) in enumerate(bands.items()):
        for axis, what in ((left, "sensitivity"), (right, "precision")):
            axis.plot(table["at"], table[what], color=color, linewidth=2, label=name if axis is left else None,
                      drawstyle="steps-post" if axis is left else "steps-pre")
            if i == 0:
                axis.fill_between(table["at"], table[f"{what}_low"], table[f"{what}_high"], color=color, alpha=0.15,
                                  linewidth=0)
    _points(left, points, "false", "sensitivity")
    _points(right, points, "true", "ppv")
    left.plot([0, 1], [0, 1], color=GRAY, linestyle=":", linewidth=1)
    left.set(xlabel="1 - specificity: healthy children called ill", ylabel="sensitivity: ill children found",
             title="ROC", xlim=(-0.01, 1.01 if whole else 0.5), ylim=(-0.01 if whole else 0.5, 1.01))
    low = min(0.6, *(table.precision.min() for _, table in bands.values()))
    right.set(xlabel="sensitivity: ill children found", ylabel="precision: of those called ill, how many are",
              title="Precision and recall", xlim=(-0.01 if whole else 0.5, 1.01), ylim=(low - 0.01, 1.01))
    left.legend(frameon=False, loc="lower right", fontsize=9)
    return figure


def flow(places: dict[str, dict]) -> Figure:
    """Flow of images from the download to each split, with exclusions, as STARD and CLAIM ask for.

    Parameters
    ----------
    places : dict as `data.flow` returns it
    """
    at = {"all": (0.42, 0.9), "val folder": (0.1, 0.52), "train folder": (0.42, 0.52), "test folder": (0.82, 0.52),
          "train": (0.27, 0.1), "val": (0.57, 0.1), "test": (0.82, 0.1)}
    arrows = [("all", "val folder"), ("all", "train folder"), ("all", "test folder"), ("train folder", "train"),
              ("train folder", "val"), ("test folder", "test")]
    colors = {"train": GRAY, "val": GREEN, "test": VERMILION}
    names = {"all": "downloaded", "train": "training", "val": "validation", "test": "test"}
    figure, axis = plt.subplots(figsize=(9.4, 4.8))
    axis.set(xlim=(0, 1), ylim=(0, 1))
    axis.axis("off")
    for start, end in arrows:
        if start in places and end in places:
            axis.annotate("", at[end], at[start], zorder=1, arrowprops={
                "arrowstyle": "-|>", "color": GRAY, "shrinkA": 34, "shrinkB": 44 if start == "all" else 36})
    for place, count in places.items():
        lines = [names.get(place, place), f"{count['images']:,} images, {count['patients']:,} patients",
                 f"{count['normal']:,} normal, {count['pneumonia']:,} pneumonia"]
        lines += [f"left out: {n:,} ({why})" for why, n in count.get("left_out", {}).items()]
        text = "\n".join(textwrap.fill(line, 32) for line in lines)
        axis.text(*at[place], text, ha="center", va="center", fontsize=9.5, linespacing=1.4, zorder=2, bbox={
            "boxstyle": "round,pad=0.5", "facecolor": "white", "edgecolor": colors.get(place, "black"),
            "linewidth": 2 if place in colors else 1})
    return figure


def reliability(tables: dict[str, pd.DataFrame], figures: dict[str, dict]) -> Figure:
    """Foretold against found share of pneumonia, one panel a state of the network; the bars count the images.

    Parameters
    ----------
    tables : dict of title to table as `clinical.reliability` returns it
    figures : dict of title to what `clinical.calibration` returned
    """
    figure, axes = plt.subplots(1, len(tables), figsize=(9.4, 4.4), sharey=True, squeeze=False)
    for axis, (title, table) in zip(axes.flat, tables.items()):
        axis.plot([0, 1], [0, 1], color=GRAY, linestyle=":", linewidth=1)
        axis.bar(table.foretold, 0.25 * table.images / table.images.max(), width=0.03, color=GRAY, alpha=0.35)
        axis.errorbar(table.foretold, table.found, yerr=[table.found - table.low, table.high - table.found], fmt="o",
                      color=VERMILION, capsize=3)
        one = figures[title]
        axis.text(0, 1.02, f"Brier {one['brier']:.3f} · ECE {one['ece']:.3f} · intercept {one['intercept']:.2f} · "
                  f"slope {one['slope']:.2f}", transform=axis.transAxes, fontsize=9, color=GRAY)
        axis.set(xlabel="foretold: mean probability", xlim=(-0.03, 1.03), ylim=(-0.02, 1.03))
        axis.set_title(title, pad=18)
    axes[0, 0].set_ylabel("found: share with pneumonia")
    return figure


def decision(tables: dict[str, pd.DataFrame]) -> Figure:
    """Decision curves: net benefit of the network with its 95% band, of treating all and of treating none.

    Parameters
    ----------
    tables : dict of title to DataFrame as `clinical.net_benefit` returns it, with ``low`` and ``high``
    """
    figure, axes = plt.subplots(1, len(tables), figsize=(9.4, 3.8), squeeze=False)
    for axis, (title, table) in zip(axes.flat, tables.items()):
        axis.fill_between(table["at"], table.low, table.high, color=VERMILION, alpha=0.15, linewidth=0)
        top = max(table.network.max(), table.treat_all.max())
        for name, color in (("network", VERMILION), ("treat_all", BLUE), ("treat_none", GRAY)):
            axis.plot(table["at"], table[name], color=color, linewidth=2, label=name.replace("_", " "))
        axis.set(xlabel="treat from this probability on", title=title, ylim=(-0.12 * top, 1.1 * top), xlim=(0, 1))
    axes[0, 0].set_ylabel("net benefit")
    axes[0, -1].legend(frameon=False, loc="upper right", fontsize=10)
    return figure


def subgroups(table: pd.DataFrame) -> Figure:
    """Sensitivity, specificity and AUC of each group with its 95% interval.

    Parameters
    ----------
    table : DataFrame as `evaluate.subgroups` returns it
    """
    figure, axes = plt.subplots(1, 3, figsize=(9.4, 0.34 * len(table) + 1), sharey=True)
    low = np.nanmin(table[[f"{name}_low" for name in ("sensitivity", "specificity", "auc")]].to_numpy())
    for axis, name in zip(axes, ("sensitivity", "specificity", "auc")):
        axis.axvline(table[name].iloc[0], color=GRAY, linestyle=":", linewidth=1)
        for y, row in enumerate(table.itertuples()):
            value, bounds = getattr(row, name), (getattr(row, f"{name}_low"), getattr(row, f"{name}_high"))
            if not np.isnan(value):
                axis.plot(bounds, [y, y], color=GRAY, linewidth=2)
                axis.scatter(value, y, s=45, color=VERMILION if y else "black", zorder=3)
        axis.set(title={"auc": "AUC"}.get(name, name), xlim=(max(0, low - 0.03), 1.01))
        axis.tick_params(axis="y", length=0)
    axes[0].set_yticks(range(len(table)), [f"{row.group} ({row.images})" for row in table.itertuples()])
    axes[0].set_ylim(len(table) - 0.5, -0.5)
    return figure


def robustness(table: pd.DataFrame) -> Figure:
    """What a change of the picture does: share of decisions that flip, and AUC lost with its 95% interval.

    Parameters
    ----------
    table : DataFrame with ``change``, ``flipped``, ``auc_lost``, ``auc_lost_low``, ``auc_lost_high``
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.4, 0.32 * len(table) + 1), sharey=True)
    y = np.arange(len(table))
    left.barh(y, table.flipped, color=BLUE, height=0.6)
    for at, share in zip(y, table.flipped):
        left.text(share, at, f" {share:.1%}", va="center", fontsize=9)
    right.axvline(0, color=GRAY, linestyle=":", linewidth=1)
    right.hlines(y, table.auc_lost_low, table.auc_lost_high, color=GRAY, linewidth=2)
    right.scatter(table.auc_lost, y, color=VERMILION, s=40, zorder=3)
    left.set_yticks(y, table.change)
    left.set(title="decisions that flip", ylim=(len(table) - 0.4, -0.6), xlim=(0, max(0.05, table.flipped.max() * 1.2)))
    left.xaxis.set_major_formatter("{x:.0%}")
    right.set(title="AUC lost (95% interval)")
    for axis in (left, right):
        axis.tick_params(axis="y", length=0)
    return figure


def seed_points(table: pd.DataFrame, others: pd.DataFrame, name: str = "this network") -> Figure:
    """Accuracy and AUC on test of every seed (dots), their mean (line), and the answers they are held against.

    Parameters
    ----------
    table : DataFrame with ``accuracy`` and ``auc``, one row a seed
    others : DataFrame with ``answer``, ``accuracy``, ``auc`` (NaN where none was published)
    name : str
        Of the network.
    """
    figure, axes = plt.subplots(1, 2, figsize=(9.4, 0.36 * len(others) + 1.3), sharey=True)
    low = min(0.85, np.nanmin([*table[["accuracy", "auc"]].min(), *others[["accuracy", "auc"]].min()]) - 0.05)
    for axis, what in zip(axes, ("accuracy", "auc")):
        axis.scatter(table[what], [0] * len(table), color=VERMILION, s=45, alpha=0.7)
        axis.plot([table[what].mean()] * 2, [-0.35, 0.35], color=VERMILION, linewidth=3)
        axis.axvline(table[what].mean(), color=VERMILION, linestyle=":", linewidth=1, zorder=0)
        axis.scatter(others[what], np.arange(len(others)) + 1, color="black", s=35)
        for y, value in enumerate([table[what].mean(), *others[what]]):
            if not np.isnan(value):
                axis.annotate(f"{value:.3f}", (value, y), xytext=(9, -4), textcoords="offset points", fontsize=9)
        axis.set(title={"auc": "AUC"}.get(what, what), xlim=(low, 1 + 0.11 * (1 - low)))
        axis.tick_params(axis="y", length=0)
    axes[0].set_yticks(range(len(others) + 1), [f"{name}, {len(table)} seeds", *others.answer])
    axes[0].set_ylim(len(others) + 0.6, -0.7)
    return figure


def sizes_and_scores(table: pd.DataFrame, small: dict) -> Figure:
    """AUC on test, a line a network, the smallest on top: backbones with their 95% intervals, and the small network.

    Parameters
    ----------
    table : DataFrame with ``backbone``, ``parameters``, ``auc``, ``auc_low``, ``auc_high``
    small : dict with ``parameters``, ``auc``, ``auc_low``, ``auc_high``; these two are its worst and best seed
    """
    marks = sorted([{**small, "backbone": "small network of 04"}, *table.to_dict("records")],
                   key=lambda row: row["parameters"])
    figure, axis = plt.subplots(figsize=(7.5, 0.8 + 0.5 * len(marks)))
    for y, row in enumerate(marks):
        color = VERMILION if row["backbone"] == "small network of 04" else BLUE
        axis.plot([row["auc_low"], row["auc_high"]], [y, y], color=color, alpha=0.4, linewidth=3)
        axis.scatter(row["auc"], y, s=55, color=color, zorder=3)
        axis.annotate(f"{row['auc']:.3f}", (row["auc"], y), xytext=(0, 7), textcoords="offset points", fontsize=9,
                      ha="center")
    axis.set_yticks(range(len(marks)), [f"{row['backbone']}, {row['parameters'] / 1e6:.2f} M" for row in marks])
    axis.set(xlabel="AUC on test", ylim=(len(marks) - 0.5, -0.7))
    return figure


def ablation(table: pd.DataFrame) -> Figure:
    """Validation AUC of every row: as it is, under stress, there where clues mislead, and under unpractised changes.

    Each mark is a seed, each line their mean.

    Parameters
    ----------
    table : DataFrame with ``row``, ``val_auc``, ``stress_auc``, ``misled_auc``, ``unpractised_auc``, one row a training
    """
    names = list(dict.fromkeys(table.row))
    series = {"val_auc": (GRAY, "as it is"), "stress_auc": (BLUE, "stressed"),
              "misled_auc": (VERMILION, "clues, mislead"),
              "unpractised_auc": (GREEN, "not, practised")}
    low = table[list(series)].to_numpy().min() - 0.01
    step = (1 - low) / 8
    figure, axis = plt.subplots(figsize=(9.4, 0.42 * len(names) + 1.1))
    for y, name in enumerate(names):
        own = table[table.row == name]
        for i, (column, (color, title)) in enumerate(series.items()):
            axis.scatter(own[column], [y] * len(own), s=32, color=color, alpha=0.6, linewidths=0, zorder=2)
            axis.plot([own[column].mean()] * 2, [y - 0.33, y + 0.33], color=color, linewidth=2.5, zorder=3)
            at = 1 + step * (0.2 + i)
            axis.text(at, y, f"{own[column].mean():.3f}", va="center", fontsize=10, color=color, clip_on=False)
            if y == 0:
                axis.text(at, -0.75, "\n".join(title.split(", ")), fontsize=9, color=color, va="bottom", clip_on=False)
    axis.set_yticks(range(len(names)), names)
    axis.set(ylim=(len(names) - 0.4, -0.6), xlim=(low, 1.0), xlabel="validation AUC; marks: seeds, lines: means")
    axis.grid(axis="y", color="#eeeeee", zorder=0)
    axis.tick_params(axis="y", length=0)
    return figure


def _outline(axis, field: np.ndarray) -> None:
    if field.any() and not field.all():
        axis.contour(field, [0.5], colors="#E69F00", linewidths=1.2)


def outlines(pictures, fields, columns: int = 6, titles: list[str] = ()) -> Figure:
    """X-rays with a field drawn on each as a line.

    Parameters
    ----------
    pictures : ndarray, shape (images, size, size)
    fields : ndarray of bool, the same shape
    columns : int
    titles : list of str, one a picture, or none
    """
    figure = grid(pictures, titles, columns=columns, side=1.5)
    for axis, field in zip(figure.axes, fields):
        _outline(axis, field)
    return figure


def heat(pictures, maps: dict[str, np.ndarray], fields, titles: list[str]) -> Figure:
    """X-rays in the first row, and below each a row of heat maps laid over them, with the field as a line.

    Parameters
    ----------
    pictures : ndarray, shape (images, size, size)
    maps : dict of row name to ndarray, shape (images, size, size), 0 or more
    fields : ndarray of bool, shape (images, size, size)
    titles : list of str, one a picture
    """
    count = len(pictures)
    rows = ["film", *maps]
    figure = grid([*pictures] * len(rows), [*titles, *[""] * (count * len(maps))], columns=count, rows=rows,
                  side=7.2 / max(count, 4))
    axes = np.array(figure.axes).reshape(len(rows), count)
    for line, own in zip(axes[1:], maps.values()):
        for axis, one, field in zip(line, own, fields):
            axis.imshow(one / max(one.max(), 1e-9), cmap="inferno", alpha=0.55, vmin=0, vmax=1, aspect="auto")
            _outline(axis, field)
    for axis in axes[0]:
        axis.title.set_fontsize(8)
    return figure


def attention(inside: dict[str, dict], ratio: dict[str, dict]) -> Figure:
    """Share of attention inside the lungs, and how much more the lungs matter than the corners, with 95% intervals.

    Parameters
    ----------
    inside, ratio : dict of name to ``{"mean", "low", "high"}``
    """
    figure, axes = plt.subplots(1, 2, figsize=(9.4, 0.5 * max(len(inside), len(ratio)) + 1.2))
    for axis, rows, title in ((axes[0], inside, "attention inside the lungs"),
                              (axes[1], ratio, "lungs covered / corners covered")):
        for y, (name, row) in enumerate(rows.items()):
            color = VERMILION if name.startswith("this") else GRAY
            axis.plot([row["low"], row["high"]], [y, y], color=color, linewidth=2.5)
            axis.scatter(row["mean"], y, color=color, s=55, zorder=3)
            axis.annotate(f"{row['mean']:.2f}", (row["mean"], y), xytext=(0, 8), textcoords="offset points",
                          fontsize=10, ha="center")
        axis.set_yticks(range(len(rows)), list(rows))
        axis.set(title=title, ylim=(len(rows) - 0.5, -0.7), xlim=(0, 1.2 * max(row["high"] for row in rows.values())))
        axis.tick_params(axis="y", length=0)
    axes[1].axvline(1, color=GRAY, linestyle=":", linewidth=1)
    return figure


def baselines(findings: dict[str, dict]) -> Figure:
    """AUC of every clue, on train (ring) and on test (dot), with the share of test that it gets right.

    Parameters
    ----------
    findings : dict of title to what `audit.baselines` returned
    """
    low = min(row["auc"] or 0.5 for finding in findings.values() for row in finding["rows"])
    low = min(0.4, np.floor(10 * low) / 10)
    high = [len(finding["rows"]) for finding in findings.values()]
    figure, axes = plt.subplots(len(high), 1, figsize=(8.6, 0.3 * sum(high) + len(high)), sharex=True,
                                squeeze=False, height_ratios=high)
    for axis, (title, finding) in zip(axes.flat, findings.items()):
        for y, row in enumerate(finding["rows"]):
            if row["auc"] is None:
                axis.text(0.5, y, "  can't be seen in this copy", va="center", fontsize=9, color=GRAY, style="italic")
                continue
            axis.plot([row["train_auc"], row["auc"]], [y, y], color=GRAY, linewidth=1, zorder=1)
            axis.scatter(row["train_auc"], y, s=55, facecolor="white", edgecolor=BLUE, linewidth=2)
            axis.scatter(row["auc"], y, s=60, color=VERMILION)
            axis.text(1.015, y, f"{row['accuracy']:.1%}", va="center", fontsize=10)
        axis.set_yticks(range(len(finding["rows"])), [WORDS.get(row["clue"], row["clue"]) for row in finding["rows"]])
        axis.set(title=title, ylim=(len(finding["rows"]) - 0.4, -0.6))
        axis.axvline(0.5, color=GRAY, linestyle=":", linewidth=1)
        axis.tick_params(axis="y", length=0)
    axes[0, 0].text(1.015, -0.9, "test right", fontsize=9, color=GRAY)
    axes[-1, 0].set(xlabel="AUC: ring on train, dot on test (0.5 is guessing)", xlim=(low, 1.09),
                    xticks=np.arange(low, 1.01, 0.1))
    return figure


def shift(finding: dict, other: str) -> Figure:
    """AUCs of `audit.shift` as a table of colors: what tells the folders apart, what tells the classes apart.

    Parameters
    ----------
    finding : dict as `audit.shift` returns it
    other : str
        Name of class 1.
    """
    table = pd.DataFrame(finding["rows"]).set_index("fact").astype(float)
    figure, axes = plt.subplots(1, 2, figsize=(8.6, 0.33 * len(table) + 1), sharey=True)
    for axis, columns, names, title in (
            (axes[0], ["normal", "other"], ["normal films", f"{other} films"], "test against train"),
            (axes[1], ["train", "test"], ["in train", "in test"], f"{other} against normal")):
        sns.heatmap(table[columns], vmin=0.1, vmax=0.9, cmap="RdBu_r", annot=True, fmt=".2f", cbar=False, ax=axis,
                    linewidths=1.5, annot_kws={"fontsize": 10})
        axis.set(title=title, ylabel="", xticklabels=names)
        axis.tick_params(length=0)
    axes[0].set_yticklabels([WORDS.get(fact, fact) for fact in table.index], rotation=0)
    return figure


def letters(facts: pd.DataFrame, manifest: pd.DataFrame, inside: pd.Series) -> Figure:
    """Where the letter stands, and how large it is, by class and folder; films `inside` the hard block in black."""
    figure, axes = plt.subplots(1, 4, figsize=(9.4, 3.0), sharex=True, sharey=True)
    names = class_names(manifest)
    for axis, (part, label) in zip(axes, [("train", 0), ("train", 1), ("test", 0), ("test", 1)]):
        rows = (manifest.folder == part) & (manifest.label == label)
        for chosen, color in ((rows & ~inside, BY_LABEL[label]), (rows & inside, "black")):
            axis.scatter(facts.letter_left[chosen], facts.letter_top[chosen], s=8e3 * facts.letter_size[chosen] ** 2,
                         color=color, alpha=min(0.7, 0.1 + 60 / rows.sum()), linewidths=0)
        axis.set(title=f"{names[label].lower()}, {part}", xlim=(-0.02, 0.32), ylim=(0.67, -0.02),
                 xlabel="from the left")
    axes[0].set_ylabel("from the top")
    return figure
