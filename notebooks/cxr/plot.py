"""Figures in one style: blue is normal, vermilion is pneumonia (Okabe & Ito's colours, safe for colour-blind readers).

Each function returns a Matplotlib figure; nothing is saved or shown here.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from .clues import WORDS

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
    names = manifest.groupby("label").class_name.first()
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


def confusion(metrics: dict, names: tuple[str, str], title: str = "") -> Figure:
    """Confusion matrix: each cell the count and the share of its true class.

    Parameters
    ----------
    metrics : dict with ``true_negatives``, ``false_positives``, ``false_negatives``, ``true_positives``
    names : the classes' names, normal first
    title : str
    """
    counts = np.array([[metrics["true_negatives"], metrics["false_positives"]],
                       [metrics["false_negatives"], metrics["true_positives"]]])
    shares = counts / counts.sum(axis=1, keepdims=True)
    text = np.array([[f"{n}\n{s:.1%}" for n, s in zip(*row)] for row in zip(counts, shares)])
    figure, axis = plt.subplots(figsize=(4.8, 4))
    sns.heatmap(shares, annot=text, fmt="", cmap="Blues", vmin=0, vmax=1, cbar=False, square=True, ax=axis,
                annot_kws={"fontsize": 14}, linewidths=2, xticklabels=names, yticklabels=names)
    axis.set(xlabel="the model says", ylabel="the label says", title=title)
    axis.tick_params(length=0)
    return figure


def roc(curves: dict, points: dict, title: str = "") -> Figure:
    """ROC curves, each with its name at the curve, and operating points.

    Parameters
    ----------
    curves : dict of name to (false positive rates, true positive rates)
    points : dict of name to (sensitivity, specificity)
    title : str
    """
    figure, axis = plt.subplots(figsize=(6, 5.2))
    for (name, (false, true)), color in zip(curves.items(), (VERMILION, GRAY, BLUE, GREEN)):
        axis.plot(false, true, color=color, linewidth=2, label=name)
    axis.plot([0, 1], [0, 1], color=GRAY, linestyle=":", linewidth=1)
    axis.text(0.62, 0.56, "guessing", rotation=41, color=GRAY, fontsize=9)
    for (name, (sensitivity, specificity)), marker in zip(points.items(), "os^D"):
        axis.plot(1 - specificity, sensitivity, marker, color="black", markersize=7, label=name)
    axis.set(xlabel="1 - specificity: healthy children called ill", ylabel="sensitivity: ill children found",
             title=title, xlim=(-0.01, 1), ylim=(0, 1.01), aspect="equal")
    axis.legend(frameon=False, loc="lower right", fontsize=10)
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
    names = manifest.groupby("label").class_name.first()
    for axis, (part, label) in zip(axes, [("train", 0), ("train", 1), ("test", 0), ("test", 1)]):
        rows = (manifest.folder == part) & (manifest.label == label)
        for chosen, color in ((rows & ~inside, BY_LABEL[label]), (rows & inside, "black")):
            axis.scatter(facts.letter_left[chosen], facts.letter_top[chosen], s=8e3 * facts.letter_size[chosen] ** 2,
                         color=color, alpha=min(0.7, 0.1 + 60 / rows.sum()), linewidths=0)
        axis.set(title=f"{names[label].lower()}, {part}", xlim=(-0.02, 0.32), ylim=(0.67, -0.02),
                 xlabel="from the left")
    axes[0].set_ylabel("from the top")
    return figure
